"""Problems of any shape: those with more rows than columns are solved transposed and turned back,
and those without costs are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .types import Solution

Array = TypeVar("Array", NDArray[Any], Tensor)

TILE = (512, 64)  # rows and columns that are copied at a time


def solve(costs: Array, solve_wide: Callable[[Array], Solution]) -> Solution:
    """Answers to (B, n, m) costs by what answers (B, n, m) ones with 1 <= n <= m."""
    batch, n, m = costs.shape
    if 0 in costs.shape:
        return _nothing(costs)
    if n <= m:
        return solve_wide(costs)
    if isinstance(costs, Tensor):
        wide = solve_wide(costs.mT.contiguous())
        index = torch.full((batch, n), -1, dtype=torch.int64, device=costs.device)
        index.scatter_(1, wide.index, torch.arange(m, device=costs.device).expand(batch, m))
    else:
        wide = solve_wide(transposed(costs))
        index = inverse(wide.index, n)
    # The dual of a column is what it costs at the prices of the rows; the bound is one for both.
    return wide._replace(index=index, prices=-wide.duals, duals=-wide.prices)


def _nothing(costs: Array) -> Solution:
    """No costs, so no pairs."""
    batch, n, m = costs.shape
    device = costs.device if isinstance(costs, Tensor) else torch.device("cpu")
    cost, bound, prices, duals = (
        torch.zeros(shape, dtype=torch.float64, device=device)
        for shape in ((batch,), (batch,), (batch, m), (batch, n))
    )
    index = torch.full((batch, n), -1, dtype=torch.int64, device=device)
    converged = torch.ones(batch, dtype=torch.bool, device=device)
    fields = index, cost, bound, converged, prices, duals
    return Solution(*(fields if isinstance(costs, Tensor) else [z.numpy() for z in fields]))


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
    """Column of each of n rows (B, n), or -1, of the rows (B, m) of the columns."""
    batch, m = rows.shape
    index = np.empty((batch, n), np.int64)
    index.fill(-1)
    if batch > 1:
        rows = rows + n * np.arange(batch)[:, None]
    index.reshape(-1)[rows] = np.arange(m)
    return index
