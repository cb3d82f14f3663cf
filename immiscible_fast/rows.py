"""Noise as rows of a tensor: drawn for images, and permuted."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_noise(x: Tensor, generator: torch.Generator, count: int | None = None) -> Tensor:
    """Gaussian noise like x; or ``count`` of it, in the place of its first size."""
    shape = x.shape if count is None else (count, *x.shape[1:])
    drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32)
    return drawn.to(x.device, x.dtype)


def permuted(noise: Tensor, index: Tensor) -> Tensor:
    """``noise[index]``, of each problem if there are several."""
    if index.ndim == 1:
        return noise[index]
    batch = torch.arange(noise.shape[0], device=noise.device)[:, None]
    return noise[batch, index]
