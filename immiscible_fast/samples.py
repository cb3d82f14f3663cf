"""Samples as rows of a tensor: flattened for a cost, drawn for images, permuted."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from .validation import is_traced


def outside_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """A context without autocast on the tensor's device; to enter one costs more than to ask."""
    device = tensor.device.type
    on = is_traced(tensor) or torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if on else nullcontext()


def flatten_samples(x: Tensor, y: Tensor, batched: bool) -> tuple[Tensor, Tensor]:
    """Both as (B, n, D) or (n, D), in the type they came in."""
    if x.ndim == 2 + batched:
        return x, y
    size = x.shape[1 + batched :].numel()
    return x.reshape(*x.shape[: 1 + batched], size), y.reshape(*y.shape[: 1 + batched], size)


def draw_noise(
    x: Tensor,
    generator: torch.Generator | None,
    count: int | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Gaussian noise like x, or ``count`` of it in the place of its first size, or of a type of its
    own; drawn on the device of the generator, or by torch's global one of that of x."""
    device = x.device if generator is None else generator.device
    dtype = dtype or x.dtype
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    shape = x.shape if count is None else (count, *x.shape[1:])
    drawn = torch.randn(shape, generator=generator, device=device, dtype=wide)
    return drawn.to(x.device, dtype)


def permuted(noise: Tensor, index: Tensor) -> Tensor:
    """``noise[index]``, of each problem if there are several."""
    if index.ndim == 1:
        return noise[index]
    batch = torch.arange(noise.shape[0], device=noise.device)[:, None]
    return noise[batch, index]
