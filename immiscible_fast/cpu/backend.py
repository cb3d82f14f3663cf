"""The CPU's backend: tensors of any device in, their costs as arrays to the solver, tensors out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import cost_limit, metrics, rectangular, validation
from ..devices import warn_solved_on_cpu
from ..products import product
from ..types import Assigned, Assignment, Solution
from .costs import LARGE_CONSTANTS, LargeConstants, assignment_cost, most_constants
from .groups import groups_by_size

EXACT = ("auto", "exact")
PLAIN_PRODUCTS = {  # of samples as they are
    name: definition.factor
    for name, definition in metrics.METRICS.items()
    if definition.factor is not None and definition.prepared is None
}


def solve(cost: Tensor, method: str, tol: float) -> Assignment:
    """Solve (n, m) or (B, n, m) costs of any real dtype and device; ``method`` as in
    ``solve_assignment``."""

    costs = as_solver_array(cost)
    batch = costs if costs.ndim == 3 else costs[None]
    found = rectangular.solve(batch, lambda wide: solve_arrays(wide, method, tol))
    answer = []
    for field in found[:5]:
        shaped = field if costs.ndim == 3 else field.reshape(field.shape[1:])
        answer.append(torch.from_numpy(np.asarray(shaped, order="C")))
    if not cost.is_cpu:
        answer = [field.to(cost.device) for field in answer]
    return Assignment(*answer)


def assign(
    x: Tensor,
    noise: Tensor,
    labels: Tensor | None,
    metric: str,
    method: str,
    tol: float,
    proven: bool = False,
) -> Assigned:
    """Match samples (B, n, D) within labels (B, n); the gap is infinite unless ``proven``."""
    gap = np.zeros(x.shape[0]) if proven else None
    if labels is None:
        index = _assign(x, noise, metric, method, tol, gap)
    else:
        index = _assign_groups(x, noise, labels, metric, method, tol, gap)
    converged = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
    if gap is None:
        gap = np.full(x.shape[0], np.inf)
    return Assigned(
        torch.from_numpy(index).to(x.device), converged, torch.from_numpy(gap).to(x.device)
    )


def assign_plain(x: Tensor, noise: Tensor, metric: str, method: str, tol: float) -> Tensor:
    """The index (n,) of two plain tensors (n, ...), see ``validation.is_plain_pair``."""
    n = x.shape[0]
    if x.ndim > 2:
        x, noise = x.reshape(n, -1), noise.reshape(n, -1)
    centred = False
    if method in EXACT and metric in PLAIN_PRODUCTS:  # as ``_assign``, by few calls of torch
        cost = product(x, noise, x.dtype, PLAIN_PRODUCTS[metric]).numpy()[None]
        try:
            return torch.from_numpy(exact_index(cost, LARGE_CONSTANTS)[0])
        except LargeConstants:
            centred = True
        except ValueError:  # which ``_assign`` explains
            pass
        del cost  # before there is another
    index = _assign(x[None], noise[None], metric, method, tol, centred=centred)
    return torch.from_numpy(index[0])


def columns(cost: Tensor, maximize: bool, limit: float, check: bool) -> Tensor:
    """Column (B, n) of each row of (B, n, m) costs, or -1; see ``cost_limit``. Costs that cannot be
    solved raise SciPy's errors, whether to ``check`` or not."""
    index = array_columns(as_solver_array(cost), maximize, limit)
    return torch.from_numpy(index).to(cost.device)


def array_columns(costs: NDArray[np.floating], maximize: bool, limit: float) -> NDArray[np.int64]:
    """``columns`` of an array, float32 or float64."""
    if maximize:
        costs = -costs
    if limit == np.inf:
        return exact_index(costs)
    return cost_limit.kept(costs, exact_index(cost_limit.clipped(costs, limit)), limit)


def array_pairs(
    costs: NDArray[np.floating], maximize: bool, limit: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of (n, m) costs, float32 or float64, in order, and their columns: those that have one,
    see ``cost_limit``."""
    index = array_columns(costs[None], maximize, limit)[0]
    rows = (index >= 0).nonzero()[0]
    return rows, index[rows]


@functools.cache
def complete_pairs() -> Callable[[NDArray[np.floating]], Any]:
    """``array_pairs`` to minimise costs without a limit, none of them empty; of small problems in
    less time."""
    from .solver import pairs

    return pairs


def cost_matrix(x: Tensor, y: Tensor, metric: str) -> Tensor:
    """``pairwise_cost`` of (B, n, D) and (B, m, D) samples."""
    return metrics.cost_matrix(x, y, metric)


def as_solver_array(matrix: Tensor) -> NDArray[np.floating]:
    """The costs as a numpy array on the CPU, in float32 or float64; no copy where none is
    needed."""
    if matrix.dtype not in (torch.float32, torch.float64):
        short = matrix.dtype in (torch.float16, torch.bfloat16)
        matrix = matrix.to(torch.float32 if short else torch.float64)
    if not matrix.is_cpu:
        warn_solved_on_cpu(matrix.device)
        matrix = matrix.cpu()
    array: NDArray[np.floating] = matrix.resolve_neg().numpy()
    return array


def solve_arrays(
    costs: NDArray[np.floating], method: str, tol: float, constants: float = np.inf
) -> Solution:
    """Solve (B, n, m) costs with 1 <= n <= m by the named method, or raise ``LargeConstants``."""
    if method == "scipy":
        from .. import reference

        return reference.solve(costs)
    from . import solver

    if method in EXACT:
        return solver.solve(costs, exact=True, tol=tol, constants=constants)
    prices = None
    if method == "sinkhorn" and costs.shape[1] == costs.shape[2]:
        from . import sinkhorn

        if np.isfinite(costs).all():
            prices = sinkhorn.column_prices(costs)
    return solver.solve(costs, exact=False, tol=tol, prices=prices, constants=constants)


def exact_index(costs: NDArray[np.floating], constants: float = np.inf) -> NDArray[np.int64]:
    """The index (B, n) alone of an exact solve of (B, n, m) costs, or -1."""
    if costs.size == 0:
        return np.full(costs.shape[:2], -1, np.int64)
    index: NDArray[np.int64] = _solver().assign(costs, constants)
    return index


@functools.cache
def _solver() -> Any:
    """``solver``, which is imported when it is first wanted."""
    from . import solver

    return solver


def _assign(
    x: Tensor,
    noise: Tensor,
    metric: str,
    method: str,
    tol: float,
    gap: NDArray[np.float64] | None = None,
    centred: bool = False,
) -> NDArray[np.int64]:
    """``fast_assign`` of checked (B, n, D) tensors: index (B, n); adds to ``gap`` (B,), if any.
    Products are ``centred`` at once, or where they have to be."""
    if x.numel() == 0 or x.shape[1] == 1:
        return np.tile(np.arange(x.shape[1]), (x.shape[0], 1))
    constants = np.inf if centred else most_constants(metric)
    while True:
        try:
            cost = assignment_cost(x, noise, metric, method, tol, centred)
            array = as_solver_array(cost)
            if constants == np.inf and not array.max() < np.inf:  # which would forbid a pair
                raise ValueError("an overflow")
            if method in EXACT and gap is None:
                return exact_index(array, constants)
            found = solve_arrays(array, method, tol, constants)
            if gap is not None:
                gap += found.cost - found.lower_bound
            index: NDArray[np.int64] = found.index
            return index
        except LargeConstants:
            centred, constants = True, np.inf
            del cost, array  # before there are others
        except ValueError as error:
            validation.check_finite(x, noise)
            raise validation.overflow(metric) from error


def _assign_groups(
    x: Tensor,
    noise: Tensor,
    labels: Tensor,
    metric: str,
    method: str,
    tol: float,
    gap: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """``_assign`` within equal labels (B, n); adds the gaps of the groups to ``gap`` (B,)."""
    batch, n = labels.shape
    index = np.tile(np.arange(n), batch)
    x, noise = x.flatten(0, 1), noise.flatten(0, 1)
    for member in groups_by_size(labels):
        rows = torch.from_numpy(member.reshape(-1)).to(x.device)
        chosen, drawn = (
            z.index_select(0, rows).reshape(*member.shape, z.shape[1]) for z in (x, noise)
        )
        if member.shape[1] == 1:  # nothing is computed that would show what is not finite
            validation.check_finite(chosen, drawn)
            continue
        gaps = np.zeros(len(member))
        local = _assign(chosen, drawn, metric, method, tol, None if gap is None else gaps)
        if gap is not None:
            np.add.at(gap, member[:, 0] // n, gaps)
        index[member] = np.take_along_axis(member, local, 1) % n
    return index.reshape(batch, n)
