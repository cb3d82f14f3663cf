"""Problems with more rows than columns are solved transposed: there, and back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .types import Assignment

TILE = (512, 64)  # rows and columns that are copied at a time


def solve(cost: Tensor, solve_wide: Callable[[Tensor], tuple[Assignment, Tensor]]) -> Assignment:
    """Answer to (n, m) or (B, n, m) costs by what answers (B, n, m) ones with 1 <= n <= m, and adds
    the duals (B, n) of the rows."""
    if cost.ndim == 2:
        batch = solve(cost.unsqueeze(0), solve_wide)
        return Assignment(*[field.squeeze(0) for field in batch])
    n, m = cost.shape[1:]
    if cost.numel() == 0:
        return _empty(cost)
    if n <= m:
        return solve_wide(cost)[0]
    wide, duals = solve_wide(_transposed(cost))
    # The dual of a column is what it costs at the prices of the rows; the bound is one for both.
    return wide._replace(index=_inverse(wide.index, n), prices=-duals)


def _empty(cost: Tensor) -> Assignment:
    batch, n, m = cost.shape
    nothing = torch.zeros(batch, dtype=torch.float64, device=cost.device)
    return Assignment(
        torch.full((batch, n), -1, dtype=torch.int64, device=cost.device),
        nothing,
        nothing.clone(),
        torch.ones(batch, dtype=torch.bool, device=cost.device),
        torch.zeros(batch, m, dtype=torch.float64, device=cost.device),
    )


def _transposed(cost: Tensor) -> Tensor:
    if cost.is_cpu and cost.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(transposed(cost.numpy()))
    return cost.mT.contiguous()


def _inverse(rows: Tensor, n: int) -> Tensor:
    batch, m = rows.shape
    index = torch.full((batch, n), -1, dtype=torch.int64, device=rows.device)
    return index.scatter_(1, rows, torch.arange(m, device=rows.device).expand(batch, m))


def transposed(costs: NDArray[np.floating]) -> NDArray[np.floating]:
    """(B, m, n) contiguous costs of (B, n, m) ones; what has to be copied goes tile by tile, so
    that caches hold what is read and what is written."""
    turned = costs.transpose(0, 2, 1)
    if turned.flags.c_contiguous:
        return turned
    _, m, n = turned.shape
    copy = np.empty(turned.shape, turned.dtype)
    height, width = TILE
    for j in range(0, m, width):
        for i in range(0, n, height):
            copy[:, j : j + width, i : i + height] = turned[:, j : j + width, i : i + height]
    return copy


def inverse(rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Column of each of n rows (B, n), or -1, of the rows (B, m) of the columns: as ``_inverse``,
    for those who want the index alone, in less time."""
    batch, m = rows.shape
    index = np.empty((batch, n), np.int64)
    index.fill(-1)
    if batch > 1:
        rows = rows + n * np.arange(batch)[:, None]
    index.reshape(-1)[rows] = np.arange(m)
    return index
