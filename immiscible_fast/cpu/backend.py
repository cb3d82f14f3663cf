"""The CPU solver: costs by torch, as arrays to the solver that the method names."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import validation
from ..costs import centred_product, cost_matrix, normalized, product, working_dtype
from ..devices import warn_solved_on_cpu
from ..rectangular import inverse, transposed
from ..types import Answer, LargeConstants, Solution

LARGE_CONSTANTS = 300.0  # times the standard deviation: float32 keeps four digits of what is left
EXACT = ("auto", "exact")
NEAR_OPTIMAL = ("auction", "sinkhorn")
QUANTISED_DTYPES = {torch.float32, torch.float16, torch.bfloat16}


def solve(cost: Tensor, method: str, tol: float) -> Answer:
    """Solve (n, m) or (B, n, m) costs of any real dtype and device; ``method`` as in
    ``solve_assignment``."""
    costs = as_solver_array(cost)
    batch = costs if costs.ndim == 3 else costs[None]
    answer = []
    for field in solve_any_shape(batch, method, tol)[:5]:
        shaped = field if costs.ndim == 3 else field.reshape(field.shape[1:])
        answer.append(torch.from_numpy(np.asarray(shaped, order="C")))
    if cost.device.type != "cpu":
        answer = [field.to(cost.device) for field in answer]
    return Answer(*answer)


def assign(
    x: Tensor,
    noise: Tensor,
    labels: Tensor | None,
    metric: str,
    method: str,
    tol: float,
    proven: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """(index (B, n) int64, converged (B,) bool, gap (B,) float64) of samples (B, n, D) and labels
    (B, n); the gap is infinite but where it is wanted to be ``proven``."""
    gap = np.zeros(x.shape[0]) if proven else None
    if labels is None:
        index = _assign(x, noise, metric, method, tol, gap)
    else:
        index = _assign_groups(x, noise, labels, metric, method, tol, gap)
    converged = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
    if gap is None:
        unknown = torch.full((x.shape[0],), torch.inf, dtype=torch.float64, device=x.device)
        return torch.from_numpy(index).to(x.device), converged, unknown
    return torch.from_numpy(index).to(x.device), converged, torch.from_numpy(gap).to(x.device)


def assign_plain(x: Tensor, noise: Tensor, metric: str, method: str, tol: float) -> Tensor:
    """The index (n,) of two plain tensors (n, ...), see ``validation.is_plain_pair``."""
    n = x.shape[0]
    index = _assign(x.reshape(1, n, -1), noise.reshape(1, n, -1), metric, method, tol)
    return torch.from_numpy(index[0])


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


def solve_wide(
    costs: NDArray[np.floating], method: str, tol: float, constants: float = np.inf
) -> Solution:
    """Solve (B, n, m) costs with n <= m by the named method, or raise ``LargeConstants``."""
    if costs.size == 0:
        batch, n, m = costs.shape
        nothing = np.zeros(batch)
        empty = np.empty((batch, n), np.int64)
        return Solution(
            *(empty, nothing, nothing.copy(), np.ones(batch, np.bool_)),
            *(np.zeros((batch, m)), np.zeros((batch, n))),
        )
    if method == "scipy":
        from .. import reference

        return reference.solve(costs)
    from . import solver as cpu_solver

    if method in EXACT:
        return cpu_solver.solve(costs, exact=True, tol=tol, constants=constants)
    prices = None
    if method == "sinkhorn" and costs.shape[1] == costs.shape[2]:
        from . import sinkhorn as annealed_sinkhorn

        if np.isfinite(costs).all():
            prices = annealed_sinkhorn.column_prices(costs)
    return cpu_solver.solve(costs, exact=False, tol=tol, prices=prices, constants=constants)


def exact_index(costs: NDArray[np.floating], constants: float = np.inf) -> NDArray[np.int64]:
    """The index (B, n) alone of an exact solve of (B, n, m) costs, or -1."""
    if costs.size == 0:
        return solve_any_shape(costs, "exact", 1.0).index
    return _numba_assign()(costs, constants)


@functools.cache
def _numba_assign() -> Callable[..., NDArray[np.int64]]:
    """``cpu_solver.assign``, which is imported when it is first wanted."""
    from .solver import assign

    return assign


def solve_any_shape(costs: NDArray[np.floating], method: str, tol: float) -> Solution:
    """Problems with more rows than columns are solved transposed, and turned back."""
    n, m = costs.shape[1:]
    if n <= m:
        return solve_wide(costs, method, tol)
    wide = solve_wide(transposed(costs), method, tol)
    index = inverse(wide.index, n)
    # The dual of a column is what it costs at the prices of the rows; the bound is one for both.
    return wide._replace(index=index, prices=-wide.duals, duals=-wide.prices)


def check_finite(x: Tensor, noise: Tensor) -> None:
    validation.check_values("x", x)
    validation.check_values("noise", noise)


def _assign(
    x: Tensor,
    noise: Tensor,
    metric: str,
    method: str,
    tol: float,
    gap: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """``fast_assign`` of checked (B, n, D) tensors: index (B, n); adds to ``gap`` (B,), if any."""
    if x.numel() == 0 or x.shape[1] == 1:
        return np.tile(np.arange(x.shape[1]), (x.shape[0], 1))
    centred = False
    constants = np.inf if metric in ("euclidean", "manhattan") else LARGE_CONSTANTS
    while True:
        try:
            cost = assignment_cost(x, noise, metric, method, tol, centred)
            array = as_solver_array(cost)
            if constants == np.inf and not array.max() < np.inf:  # which would forbid a pair
                raise ValueError("an overflow")
            if method in EXACT and gap is None:
                return exact_index(array, constants)
            solution = solve_wide(array, method, tol, constants)
            if gap is not None:
                gap += solution.cost - solution.lower_bound
            return solution.index
        except LargeConstants:
            centred, constants = True, np.inf
            del cost  # before there is another
        except ValueError as error:
            check_finite(x, noise)
            raise ValueError(f"x and noise are too large, their {metric} cost overflows") from error


def assignment_cost(
    x: Tensor,
    noise: Tensor,
    metric: str,
    method: str = "exact",
    tol: float = 0.0,
    centred: bool = False,
) -> Tensor:
    """A square cost matrix with the same optimal assignments as ``metric``. What is a product is
    centred if it has to be: (x - mean x).(e - mean e) is the doubly centred x.e. For a near-optimal
    method it may be rounded, by much less than ``tol`` allows.
    """
    if metric in ("euclidean", "manhattan"):
        return cost_matrix(x, noise, metric)
    dtype = working_dtype(x, noise)
    scale = -2.0 if metric == "sqeuclidean" else -1.0
    if metric == "cosine":
        x, noise = normalized(x, dtype), normalized(noise, dtype)
    if centred or method == "scipy":  # which cannot say that it would be better to be centred
        return centred_product(x, noise, dtype, scale)
    if method in NEAR_OPTIMAL and x.is_cpu and {x.dtype, noise.dtype} <= QUANTISED_DTYPES:
        from . import int8

        if int8.pays(x.shape[1], x.shape[2], tol):
            cost = int8.product(x, noise, scale, tol)
            if cost is not None:
                return cost
    return product(x, noise, dtype, scale)


def _assign_groups(
    x: Tensor,
    noise: Tensor,
    labels: Tensor,
    metric: str,
    method: str,
    tol: float,
    gap: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Assignment within equal labels (B, n): groups of one size are solved together, as one
    batch. Adds the gaps of the groups to ``gap`` (B,), if any."""
    batch, n = labels.shape
    index = np.tile(np.arange(n), batch)
    if index.size > 0:
        _, group = np.unique(labels.cpu().numpy(), return_inverse=True)
        problem = np.repeat(np.arange(batch), n)
        group = group.reshape(-1) + problem * (group.max() + 1)
        order = np.argsort(group, kind="stable")
        _, first, counts = np.unique(group[order], return_index=True, return_counts=True)
        x, noise = x.reshape(batch * n, -1), noise.reshape(batch * n, -1)
        for size in np.unique(counts):
            member = order[first[counts == size][:, None] + np.arange(size)]  # (groups, size)
            rows = torch.from_numpy(member.reshape(-1)).to(x.device)
            chosen, drawn = (z.index_select(0, rows).reshape(*member.shape, -1) for z in (x, noise))
            if size == 1:  # nothing is computed that would show what is not finite
                check_finite(chosen, drawn)
                continue
            gaps = np.zeros(len(member))
            local = _assign(chosen, drawn, metric, method, tol, None if gap is None else gaps)
            if gap is not None:
                np.add.at(gap, member[:, 0] // n, gaps)
            index[member] = np.take_along_axis(member, local, 1) % n
    return index.reshape(batch, n)
