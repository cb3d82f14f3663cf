"""The columns of an exact solve, where pairs dearer than a limit may be left out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import validation
from .cpu.backend import as_solver_array, exact_index
from .devices import on_gpu


def columns(costs: NDArray[np.floating], maximize: bool, limit: float) -> NDArray[np.int64]:
    """Column of each row of (B, n, m) costs, (B, n), or -1; ``limit`` is what of the costs, or of
    their negatives if ``maximize``, is still paid.

    With K = min(n, m), a matching of k pairs is worth (cost of its pairs) + (K - k) limit. Clip the
    costs at the limit and look for K pairs:

    1. Any k disjoint pairs can be completed to K, for a clipped cost of at most that worth, since
       no clipped pair costs more than the limit.
    2. K pairs, less those above the limit, are worth exactly their clipped cost.

    So both have the same optimum, and 2. turns one solution into the other.
    """
    if maximize:
        costs = -costs
    if limit == np.inf or costs.size == 0:
        return exact_index(costs)
    with np.errstate(over="ignore"):
        representable = float(costs.dtype.type(limit)) == limit
    if not representable:  # a limit that is rounded could let a dearer pair in
        costs = costs.astype(np.float64)
    index = exact_index(np.minimum(costs, limit))
    paid = np.take_along_axis(costs, np.maximum(index, 0)[:, :, None], axis=2)[:, :, 0]
    return np.where(paid <= limit, index, -1)


def tensor_columns(cost: Tensor, maximize: bool, limit: float, check: bool) -> Tensor:
    """The same of a tensor of any real dtype and device, on that device. Costs that cannot be
    solved raise SciPy's errors; on a GPU only if ``check``, which waits for the answer."""
    if not on_gpu(cost):
        return torch.from_numpy(columns(as_solver_array(cost), maximize, limit)).to(cost.device)
    index, converged = _columns_on_gpu(cost, maximize, limit)
    if check and not bool(converged.all()):
        invalid = cost.isnan() | (cost == (-torch.inf if not maximize else torch.inf))
        raise ValueError(
            validation.INVALID_ENTRIES if bool(invalid.any()) else validation.INFEASIBLE
        )
    return index


def _columns_on_gpu(cost: Tensor, maximize: bool, limit: float) -> tuple[Tensor, Tensor]:
    """As ``columns``, with whether each problem of the batch could be solved, (B,)."""
    from .gpu.backend import solve

    if not cost.is_floating_point():
        cost = cost.to(torch.float64)
    elif cost.dtype.itemsize == 1:
        cost = cost.to(torch.float32)
    if maximize:
        cost = -cost
    if limit == np.inf or cost.numel() == 0:
        answer = solve(cost, "exact", 1.0)
        return answer.index, answer.converged
    if float(torch.tensor(limit, dtype=cost.dtype, device="cpu")) != limit:
        cost = cost.to(torch.float64)
    answer = solve(cost.clamp(max=limit), "exact", 1.0)
    paid = cost.gather(2, answer.index.clamp(min=0)[:, :, None])[:, :, 0]
    return torch.where(paid <= limit, answer.index, -1), answer.converged
