"""``diffuse``: the forward process with assigned noise, which hands back the noise that it used."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import Unpack

from .. import validation
from ..choices import SCHEDULES, Schedule
from ..samples import draw_noise
from .assign_noise import assign_noise
from .options import AssignOptions, check_options
from .schedulers import Scheduler, forward_process


class Diffused(NamedTuple):
    """A noised batch and the noise in it, both of the shape and dtype of the images."""

    x_t: Tensor
    noise: Tensor


def diffuse(
    x: Tensor,
    t: Tensor,
    schedule: Schedule | Tensor | Scheduler,
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
        For DDPM, integer timesteps, indices into the schedule. For a scheduler, what its own
        ``add_noise`` takes: integer timesteps for DDPM's kin, values of ``scheduler.timesteps``
        for those that look them up (Euler, Heun, LMS, DPM-Solver, UniPC, EDM, flow matching).
    schedule : "flow", or Tensor of shape (T,), or a scheduler
        - ``"flow"``: x_t = (1 - t) x + t noise. The velocity to learn is ``noise - x``.
        - alphas_cumprod: x_t = sqrt(a_t) x + sqrt(1 - a_t) noise (DDPM). The target to learn is
          ``noise``.
        - A diffusers scheduler, or what is like one: x_t is what its ``add_noise(x, noise, t)`` or
          ``scale_noise(x, t, noise)`` returns.
    noise : Tensor, optional
        Noise of the shape of ``x``; it is permuted, not modified, and keeps its gradient.
    generator : torch.Generator, optional
        Draws the noise, on its own device, if ``noise`` is not given. One of the two is needed:
        the global random state is not touched.
    assign : bool
        False leaves the noise in the order in which it was drawn, for comparison.
    batched : bool
        Whether the first dimension numbers independent problems.
    **options
        Options of ``fast_assign``: ``metric``, ``method``, ``tol``, ``labels``, ``features``,
        ``mask``, ``check`` and ``process_group``.

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
    validation.check_generator(generator)
    noised = _forward(x, images, t, schedule, 1 + batched)
    source: Tensor | torch.Generator
    if noise is None:
        if generator is None:
            raise ValueError("noise or generator must be given, got neither")
        source = generator
    else:
        source = noise
        given = validation.check_floating("noise", noise)
        _check_like(given, images)
    if assign:
        used = assign_noise(images, source, batched=batched, **options)
    elif options:
        raise ValueError(f"assign=False leaves no use for {', '.join(options)}")
    else:
        used = draw_noise(images, source) if isinstance(source, torch.Generator) else source
    used = used.to(images.dtype)
    return Diffused(noised(used), used)


def _forward(
    x: Tensor, images: Tensor, t: object, schedule: object, lead: int
) -> Callable[[Tensor], Tensor]:
    """The function from noise to x_t; ``images`` are x without a gradient, and its first ``lead``
    sizes are those of t."""
    times = validation.check_tensor("t", t)
    validation.check_data("t", times)
    times = times.to(x.device)
    validation.check_shape("t", times, times.shape == x.shape[:lead], tuple(x.shape[:lead]))
    if isinstance(schedule, str):
        keep, add = _flow(times, schedule)
    elif isinstance(schedule, Tensor):
        keep, add = _ddpm(times, schedule)
    else:
        return forward_process(schedule, x, times, lead)
    shape = times.shape + (1,) * (x.ndim - lead)
    keep, add = (factor.to(images.dtype).reshape(shape) for factor in (keep, add))
    return lambda noise: keep * x + add * noise


def _flow(times: Tensor, schedule: str) -> tuple[Tensor, Tensor]:
    """Factors of x and of noise."""
    validation.check_choice("schedule", schedule, SCHEDULES)
    if not times.is_floating_point():
        raise TypeError(f"t must have a floating-point dtype for flow, got {times.dtype}")
    validation.check_range("t", times, 0, 1, "the times of flow")
    return 1 - times, times


def _ddpm(times: Tensor, schedule: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of x and of noise."""
    alphas = validation.check_floating("schedule", schedule)
    validation.check_data("schedule", alphas)
    alphas = alphas.to(times.device)
    fits = alphas.ndim == 1 and alphas.numel() > 0
    validation.check_shape("schedule", alphas, fits, "(T,), T >= 1")
    validation.check_range("schedule", alphas, 0, 1, "as alphas_cumprod do")
    validation.check_integers("t", times, "hold integer timesteps for this schedule")
    validation.check_range("t", times, 0, alphas.numel() - 1, "the indices into the schedule")
    kept = alphas[times.long()]
    return kept.sqrt(), (1 - kept).sqrt()


def _check_like(noise: Tensor, x: Tensor) -> None:
    if noise.shape != x.shape or noise.device != x.device:
        raise ValueError(
            f"noise must be like x, {tuple(x.shape)} on {x.device}, "
            f"got {tuple(noise.shape)} on {noise.device}"
        )
