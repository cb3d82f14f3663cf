"""Assignments that may leave out pairs dearer than a limit.

With K = min(n, m), a matching of k pairs is worth (cost of its pairs) + (K - k) limit. Clip the
costs at the limit and look for K pairs:

1. Any k disjoint pairs can be completed to K, for a clipped cost of at most that worth, since no
   clipped pair costs more than the limit.
2. K pairs, less those above the limit, are worth exactly their clipped cost.

So both have the same optimum, and 2. turns one solution into the other.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = TypeVar("Array", NDArray[Any], Tensor)


def clipped(costs: Array, limit: float) -> Array:
    """Costs (B, n, m) to solve; in float64, if their own type would round the limit, which could
    let a dearer pair in."""
    if limit == np.inf:
        return costs
    if isinstance(costs, Tensor):
        held = float(torch.tensor(limit, dtype=costs.dtype, device="cpu"))
        return (costs if held == limit else costs.to(torch.float64)).clamp(max=limit)
    with np.errstate(over="ignore"):
        held = float(costs.dtype.type(limit))
    wide = costs if held == limit else costs.astype(np.float64)
    lower: NDArray[Any] = np.minimum(wide, limit)
    return lower


def kept(costs: Array, index: Array, limit: float) -> Array:
    """The columns (B, n), and -1 for those whose pairs cost more than the limit."""
    if limit == np.inf or 0 in costs.shape:
        return index
    if isinstance(costs, Tensor):
        paid = costs.gather(2, index.clamp(min=0)[:, :, None])[:, :, 0]
        return torch.where(paid.to(torch.float64) <= limit, index, -1)
    taken = np.take_along_axis(costs, np.maximum(index, 0)[:, :, None], axis=2)[:, :, 0]
    return np.where(taken.astype(np.float64) <= limit, index, -1)
