"""denoising-diffusion-pytorch: the noise that corrupts an image is the one that its loss is about.

Its own ``immiscible=True`` permutes the noise on the way into x_t and computes the target from the
noise as it was drawn. Here the noise is paired before either sees it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..api.assign_noise import assign_noise
from .draws import paired_call


class AssignedNoise:
    """Mixin that gives a diffusion class noise that is assigned to the images of its batch.

    Put it first: ``class Diffusion(AssignedNoise, GaussianDiffusion): pass``. It suits each class
    of the package that has ``p_losses`` (2D, 1D, learned, weighted, continuous-time, v-param,
    classifier-free guidance, ...) and ``ElucidatedDiffusion``, which draws inside ``forward``.
    ``immiscible=True`` is neither needed nor in the way.

    Noise that is passed (``diffusion(images, noise=noise)``) is used as it is: pair it before, in a
    window of several batches, for one.

    Raises
    ------
    TypeError
        When a class is defined that names the mixin too late to have any effect.

    Examples
    --------
    For another pairing, override ``pair_noise``:

    >>> from immiscible_fast import assign_noise
    >>> class Euclidean(AssignedNoise):
    ...     def pair_noise(self, x, noise, labels=None):
    ...         return assign_noise(x, noise, labels=labels, metric="euclidean")
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        earlier = cls.__mro__[1 : cls.__mro__.index(AssignedNoise)]
        for base in earlier:
            if not issubclass(base, AssignedNoise):
                raise TypeError(
                    f"{cls.__name__} must name AssignedNoise before {base.__name__}, or it has no "
                    "effect"
                )

    def pair_noise(self, x: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """The noise to use for the images x, both (n, ...), from noise that was drawn for them.

        By default each noise is used once, within its class if there are ``classes``.
        """
        return assign_noise(x, noise, labels=labels)

    def p_losses(self, x_start: Tensor, t: Tensor, noise: Any = None, *args: Any, **kwargs: Any):  # type: ignore[no-untyped-def]
        if noise is None:
            drawn = torch.randn_like(x_start)
            noise = self.pair_noise(x_start, drawn, kwargs.get("classes"))
        if args:
            return super().p_losses(x_start, t, noise, *args, **kwargs)  # type: ignore[misc]
        return super().p_losses(x_start, t, noise=noise, **kwargs)  # type: ignore[misc]

    def forward(self, images: Tensor, *args: Any, **kwargs: Any) -> Any:
        if hasattr(super(), "p_losses"):
            return super().forward(images, *args, **kwargs)  # type: ignore[misc]
        forward = super().forward  # type: ignore[misc]
        return paired_call(
            forward, type(self).__name__, images, self.pair_noise, images, *args, **kwargs
        )

    def noise_assignment(self, x_start: Tensor, noise: Tensor) -> Tensor:
        """What ``immiscible=True`` calls in ``q_sample``, too late: leaves the order as it is."""
        return torch.arange(noise.shape[0], device=noise.device)
