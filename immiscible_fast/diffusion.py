"""``diffuse``: the forward process with assigned noise, which hands back the noise that it used."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import Unpack

from . import validation
from .choices import SCHEDULES
from .options import AssignOptions, check_options
from .pairing import assign_noise


class Diffused(NamedTuple):
    """A noised batch and the noise in it, both of the shape and dtype of the images."""

    x_t: Tensor
    noise: Tensor


def diffuse(
    x: Tensor,
    t: Tensor,
    schedule: Any,
    *,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    assign: bool = True,
    batched: bool = False,
    **options: Unpack[AssignOptions],
) -> Diffused:
    """Noise a batch of images with the noise that is nearest to them, and return both.

    Parameters
    ----------
    x : Tensor, shape (n, ...) or, with ``batched``, (B, n, ...)
        Images or latents, any float dtype.
    t : Tensor, shape (n,) or (B, n)
        For flow matching, times in [0, 1], floating point: 0 is the image, 1 is pure noise.
        For DDPM, integer timesteps, indices into the schedule.
    schedule : "flow", or Tensor of shape (T,), or an object with such an ``alphas_cumprod``
        - ``"flow"``: x_t = (1 - t) x + t noise. The velocity to learn is ``noise - x``.
        - alphas_cumprod: x_t = sqrt(a_t) x + sqrt(1 - a_t) noise (DDPM; a diffusers scheduler will
          do). The target to learn is ``noise``.
    noise : Tensor, optional
        Noise of the shape of ``x``; it is permuted, not modified.
    generator : torch.Generator, optional
        Draws the noise, on its own device, if ``noise`` is not given. One of the two is needed:
        the global random state is not touched.
    assign : bool
        False leaves the noise in the order in which it was drawn, for comparison.
    batched : bool
        Whether the first dimension numbers independent problems.
    **options
        Options of ``fast_assign``: ``metric``, ``method``, ``labels`` and so on.

    Returns
    -------
    Diffused
        Named tuple ``(x_t, noise)``. Compute the target from *this* noise: training against the
        noise as it was drawn is silently wrong.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it got and what it wants.

    Examples
    --------
    >>> import torch
    >>> x, t = torch.tensor([[0.0], [4.0]]), torch.tensor([0.5, 0.5])
    >>> x_t, noise = diffuse(x, t, "flow", noise=torch.tensor([[4.0], [2.0]]))
    >>> noise - x  # the velocity
    tensor([[2.],
            [0.]])

    References
    ----------
    J. Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020, eq. 4.
    Y. Lipman et al., "Flow Matching for Generative Modeling", ICLR 2023 (there, time runs
    backwards).
    """
    check_options("diffuse", options)
    images = validation.check_samples("x", x, batched)
    validation.check_flag("assign", assign)
    keep, add = _coefficients(images, t, schedule, 1 + batched)
    if noise is None:
        noise = _draw(images, generator)
    else:
        noise = validation.check_floating("noise", noise)
        if noise.shape != images.shape or noise.device != images.device:
            raise ValueError(
                f"noise must be like x, {tuple(images.shape)} on {images.device}, "
                f"got {tuple(noise.shape)} on {noise.device}"
            )
    if assign:
        noise = assign_noise(images, noise, batched=batched, **options)
    elif options:
        raise ValueError(f"assign=False leaves no use for {', '.join(options)}")
    noise = noise.to(images.dtype)
    return Diffused(keep * x + add * noise, noise)


def _draw(x: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        raise ValueError("noise or generator must be given, got neither")
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    drawn = torch.randn(x.shape, generator=generator, device=generator.device, dtype=torch.float32)
    return drawn.to(x.device, x.dtype)


def _coefficients(x: Tensor, t: object, schedule: Any, lead: int) -> tuple[Tensor, Tensor]:
    """Factors of x and of noise, shaped to broadcast, in the dtype of x; its first ``lead`` sizes
    are those of t."""
    times = validation.check_tensor("t", t)
    validation.check_data("t", times)
    times = times.to(x.device)
    if times.shape != x.shape[:lead]:
        raise ValueError(f"t must have shape {tuple(x.shape[:lead])}, got {tuple(times.shape)}")
    if isinstance(schedule, str):
        validation.check_choice("schedule", schedule, SCHEDULES)
        if not times.is_floating_point():
            raise TypeError(f"t must have a floating-point dtype for flow, got {times.dtype}")
        if _outside(times, 0, 1):
            raise ValueError("t must lie in [0, 1] for flow")
        keep, add = 1 - times, times
    else:
        alphas = getattr(schedule, "alphas_cumprod", schedule)
        alphas = validation.check_floating("schedule", alphas)
        validation.check_data("schedule", alphas)
        alphas = alphas.to(x.device)
        if alphas.ndim != 1 or alphas.numel() == 0:
            raise ValueError(f"schedule must have shape (T,), T >= 1, got {tuple(alphas.shape)}")
        if _outside(alphas, 0, 1):
            raise ValueError("schedule must lie in [0, 1], got values outside")
        if times.is_floating_point() or times.is_complex() or times.dtype == torch.bool:
            raise TypeError(f"t must hold integer timesteps for this schedule, got {times.dtype}")
        if _outside(times, 0, alphas.numel() - 1):
            raise ValueError(f"t must lie in [0, {alphas.numel()}), the length of the schedule")
        kept = alphas[times.long()]
        keep, add = kept.sqrt(), (1 - kept).sqrt()
    shape = times.shape + (1,) * (x.ndim - lead)
    return keep.to(x.dtype).reshape(shape), add.to(x.dtype).reshape(shape)


def _outside(values: Tensor, low: int, high: int) -> bool:
    """Whether any value is, or is NaN, where one may look."""
    return validation.may_look(values) and not bool(((values >= low) & (values <= high)).all())
