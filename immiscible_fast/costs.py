"""From samples to costs: the readable reference of each metric, as fast as torch's own products
allow, and what else the backends make costs of."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .validation import is_traced

NARROW = 128  # coordinates; so few are copied with their norms beside them, for one product
SLICE = 256  # coordinates that are multiplied at a time, at least


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


def working_dtype(x: Tensor, y: Tensor) -> torch.dtype:
    """Costs are computed in float64 if either input is, else in float32."""
    return torch.float64 if torch.float64 in (x.dtype, y.dtype) else torch.float32


def cost_matrix(x: Tensor, y: Tensor, metric: str) -> Tensor:
    """``pairwise_cost`` of checked (..., n, D) and (..., m, D) tensors."""
    dtype = working_dtype(x, y)
    if metric == "manhattan":
        return torch.cdist(x.to(dtype), y.to(dtype), p=1)
    if metric == "dot":
        return product(x, y, dtype, -1)
    if metric == "cosine":
        return product(normalized(x, dtype), normalized(y, dtype), dtype, -1).add_(1)
    shift = _large_mean(x, dtype) if x.shape[-2] > 0 else None
    if metric == "euclidean" and x.shape[-1] <= NARROW and x.device.type == "cpu":
        x, y = x.to(dtype), y.to(dtype)
        return torch.cdist(x, y) if shift is None else torch.cdist(x - shift, y - shift)
    square = _squared_distances(x, y, dtype, shift)
    return square.sqrt_() if metric == "euclidean" else square


def pair_costs(x: Tensor, noise: Tensor, metric: str) -> Tensor:
    """Cost (B, n) of each sample with its noise, both (B, n, D); see ``pairwise_cost``."""
    dtype = working_dtype(x, noise)
    if metric == "cosine":
        return 1 - (normalized(x, dtype) * normalized(noise, dtype)).sum(-1)
    x, noise = x.to(dtype), noise.to(dtype)
    if metric == "dot":
        return -(x * noise).sum(-1)
    if metric == "manhattan":
        return (x - noise).abs().sum(-1)
    square = (x - noise).square().sum(-1)
    return square.sqrt() if metric == "euclidean" else square


def weighted(x: Tensor, noise: Tensor, weights: Tensor, metric: str) -> tuple[Tensor, Tensor]:
    """Scale both so that the plain metric of the result orders pairs as the weighted one does.

    Weights count relative to the largest, which changes no assignment: equal ones change nothing.
    """
    if weights.numel() == 0:
        return x, noise
    largest = weights.max()
    relative = weights / torch.where(largest > 0, largest, torch.ones_like(largest))
    dtype = working_dtype(x, noise)
    scale = relative if metric == "manhattan" else relative.sqrt()
    scale = scale.to(device=x.device, dtype=dtype, non_blocking=True)
    return x.to(dtype) * scale, noise.to(dtype) * scale


def centred_product(x: Tensor, y: Tensor, dtype: torch.dtype, scale: float) -> Tensor:
    """``scale`` times the inner products of the samples less their means: x.y up to constants of a
    row or a column, which change no assignment."""
    return product(x, y, dtype, scale, _mean(x, dtype), _mean(y, dtype))


def product(
    x: Tensor,
    y: Tensor,
    dtype: torch.dtype,
    scale: float,
    shift_x: Tensor | None = None,
    shift_y: Tensor | None = None,
    start: Tensor | None = None,
) -> Tensor:
    """``start + scale * (x - shift_x) @ (y - shift_y).mT``, (..., n, m), without a copy of x or y.

    ``start`` broadcasts to the result; none is zero.
    """
    add = torch.addmm if x.ndim == 2 else torch.baddbmm
    beta = 0 if start is None else 1
    cost = x.new_empty(1, dtype=dtype) if start is None else start
    if x.dtype == y.dtype == dtype and shift_x is None and shift_y is None:
        return add(cost, x, y.mT, beta=beta, alpha=scale).contiguous()
    for part in _slices(x, y):
        a, b = _part(x, part, dtype, shift_x), _part(y, part, dtype, shift_y)
        if part.start:  # not the first: add to what is there
            (cost.addmm_ if x.ndim == 2 else cost.baddbmm_)(a, b.mT, alpha=scale)
        else:
            cost = add(cost, a, b.mT, beta=beta, alpha=scale)
    return cost.contiguous()


def normalized(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows of length one; a zero row stays zero, so that its cosine with anything is 0."""
    if x.numel() == 0:
        return x.to(dtype)
    largest = x.to(dtype).abs().amax(-1, keepdim=True)  # or squares would overflow, or vanish
    scaled = x.to(dtype) / largest.clamp(min=torch.finfo(dtype).tiny)
    return torch.nn.functional.normalize(scaled, dim=-1, eps=torch.finfo(dtype).tiny)


def _squared_distances(x: Tensor, y: Tensor, dtype: torch.dtype, shift: Tensor | None) -> Tensor:
    square_x, square_y = _square_norms(x, dtype, shift), _square_norms(y, dtype, shift)
    return product(x, y, dtype, -2, shift, shift, square_y.mT).add_(square_x).clamp_(min=0)


def _square_norms(x: Tensor, dtype: torch.dtype, shift: Tensor | None) -> Tensor:
    """Squared lengths (..., n, 1) of the shifted samples."""
    if x.dtype == dtype and shift is None:
        lengths: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return lengths.square_()
    norms = torch.zeros(*x.shape[:-1], 1, dtype=dtype, device=x.device)
    for part in _slices(x, x):
        norms += _square_sum(_part(x, part, dtype, shift))
    return norms


def _square_sum(x: Tensor) -> Tensor:
    return (x * x).sum(-1, keepdim=True)


def _mean(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.mean(-2, keepdim=True, dtype=dtype)


def _large_mean(x: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The mean sample, where (by some of the samples) its square is over 100 times the variance; on
    a GPU always, for to look would be to wait."""
    if x.device.type != "cpu":
        return _mean(x, dtype)
    some = x[..., :: max(1, x.shape[-2] // 8), :].to(dtype)
    products = torch.matmul(some, some.mT).numpy()  # one pass for both, with numpy's short calls
    total = np.trace(products, axis1=-2, axis2=-1, dtype=np.float64)  # of squares ...
    offset = products.sum((-2, -1), dtype=np.float64)  # ... and the square of the sum of samples
    large = offset > 0.99 * some.shape[-2] * total
    limits = np.finfo(products.dtype)
    unsure = ~((limits.tiny < limits.eps * total) & (total < limits.max))  # squares out of range
    return _mean(x, dtype) if (large | unsure).any() else None


def _slices(x: Tensor, y: Tensor) -> list[slice]:
    """Blocks of coordinates such that two blocks of samples are small beside the cost matrix."""
    width = max(SLICE, min(x.shape[-2], y.shape[-2]) // 8)
    return [slice(start, start + width) for start in range(0, max(1, x.shape[-1]), width)]


def _part(x: Tensor, part: slice, dtype: torch.dtype, shift: Tensor | None) -> Tensor:
    """A fresh (..., n, block) tensor of the shifted samples, or a view of unshifted ones."""
    block = x[..., part].to(dtype)
    return block if shift is None else block - shift[..., part]
