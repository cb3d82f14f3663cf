"""Inner products of samples, of wide ones without a copy, and what products are made of."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# What a product is added to, times zero; a new one each time would take as long as a small product.
NOTHING = {d: torch.empty(1, dtype=d, device="cpu") for d in (torch.float32, torch.float64)}
SLICE = 256  # coordinates that are multiplied at a time, at least


def centred_product(x: Tensor, y: Tensor, dtype: torch.dtype, scale: float) -> Tensor:
    """``scale`` times the inner products of the samples less their means: x.y up to constants of a
    row or a column, which change no assignment."""
    return product(x, y, dtype, scale, mean(x, dtype), mean(y, dtype))


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
    cost = start
    if cost is None:
        cost = NOTHING[dtype] if x.is_cpu and dtype in NOTHING else x.new_empty(1, dtype=dtype)
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


def square_norms(x: Tensor, dtype: torch.dtype, shift: Tensor | None) -> Tensor:
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


def mean(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.mean(-2, keepdim=True, dtype=dtype)


def large_mean(x: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The mean sample, where (by some of the samples) its square is over 100 times the variance; on
    a GPU always, for to look would be to wait."""
    if x.device.type != "cpu":
        return mean(x, dtype)
    some = x[..., :: max(1, x.shape[-2] // 8), :].to(dtype)
    products = torch.matmul(some, some.mT).numpy()  # one pass for both, with numpy's short calls
    total = np.trace(products, axis1=-2, axis2=-1, dtype=np.float64)  # of squares ...
    offset = products.sum((-2, -1), dtype=np.float64)  # ... and the square of the sum of samples
    large = offset > 0.99 * some.shape[-2] * total
    limits = np.finfo(products.dtype)
    unsure = ~((limits.tiny < limits.eps * total) & (total < limits.max))  # squares out of range
    return mean(x, dtype) if (large | unsure).any() else None


def _slices(x: Tensor, y: Tensor) -> list[slice]:
    """Blocks of coordinates such that two blocks of samples are small beside the cost matrix."""
    width = max(SLICE, min(x.shape[-2], y.shape[-2]) // 8)
    return [slice(start, start + width) for start in range(0, max(1, x.shape[-1]), width)]


def _part(x: Tensor, part: slice, dtype: torch.dtype, shift: Tensor | None) -> Tensor:
    """A fresh (..., n, block) tensor of the shifted samples, or a view of unshifted ones."""
    block = x[..., part].to(dtype)
    return block if shift is None else block - shift[..., part]
