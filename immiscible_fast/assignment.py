"""``solve_assignment``: a cost matrix in, the assignment and its certificate out."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import validation
from .backends.solution import Solution

DEFAULT_TOL = 0.01


class Assignment(NamedTuple):
    """Answer of ``solve_assignment``; for a batch every field has a leading dimension B.

    With prices p, no assignment of n rows to m columns costs less than

        sum_i min_j (c_ij + p_j) - sum_j p_j + (m - n) min_j p_j     if n <= m, and
        (sum of the m smallest min_j (c_ij + p_j)) - sum_j p_j       if n > m,

    which is ``lower_bound``, computed in float64 from the costs as they were given.
    """

    index: Tensor  # type: ignore[assignment]  # (n,) int64, column of each row; -1: unmatched, where n > m
    cost: Tensor  # () float64, sum of the costs of the pairs
    lower_bound: Tensor  # () float64, no assignment costs less; -inf: no proof (method="scipy")
    converged: Tensor  # () bool, whether the method reached what was asked of it
    prices: Tensor  # (m,) float64, dual prices of the columns

    @property
    def gap(self) -> Tensor:
        """``cost - lower_bound``: the assignment is at most this far from the optimum."""
        return self.cost - self.lower_bound


def solve_assignment(cost: Tensor, *, method: str = "auto", tol: float = DEFAULT_TOL) -> Assignment:
    """Assign rows to columns at the least total cost, with a proof of how good the answer is.

    Parameters
    ----------
    cost : Tensor, shape (n, m) or (B, n, m)
        Float, integer or bool; ``inf`` forbids a pair. float16 and bfloat16 are solved in float32,
        integers and bools in float64. Every row is assigned if n <= m, else every column.
    method : str
        - ``"auto"``: the exact solver.
        - ``"exact"``: auction, then shortest augmenting paths from its prices: optimal in float64.
        - ``"auction"``: eps-scaling auction that stops at ``tol``.
        - ``"sinkhorn"``: annealed log-domain Sinkhorn, then the auction from its prices to ``tol``.
        - ``"scipy"``: ``scipy.optimize.linear_sum_assignment``, without prices or bound.
    tol : float
        For auction and sinkhorn, a bound on (cost - optimum) / min(n, m) in units of the standard
        deviation of the doubly centred costs.

    Returns
    -------
    Assignment
        Named tuple of ``index``, ``cost``, ``lower_bound``, ``converged`` and ``prices``, on the
        device of ``cost``. The problem is solved on the CPU.

    Raises
    ------
    TypeError
        If ``cost`` is no dense real tensor.
    ValueError
        If ``cost`` has another shape, contains NaN or -inf, or forbids every complete assignment.

    Examples
    --------
    >>> import torch
    >>> answer = solve_assignment(torch.tensor([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]]))
    >>> answer.index, float(answer.cost), float(answer.gap)
    (tensor([1, 0, 2]), 5.0, 0.0)

    References
    ----------
    D. P. Bertsekas, "The auction algorithm", Annals of Operations Research 14, 1988.
    R. Jonker, A. Volgenant, "A shortest augmenting path algorithm", Computing 38, 1987.
    """
    validation.check_choice("method", method, validation.METHODS)
    tol = validation.check_tolerance(tol)
    matrix = validation.check_tensor("cost", cost)
    if matrix.ndim not in (2, 3):
        raise ValueError(f"cost must have shape (n, m) or (B, n, m), got {tuple(matrix.shape)}")
    if matrix.is_complex():
        raise TypeError(f"cost must have a real dtype, got {matrix.dtype}")
    validation.check_data("cost", matrix)
    costs = as_solver_array(matrix)
    if matrix.ndim == 3:
        return _to_assignment(solve_any_shape(costs, method, tol), matrix.device)
    solution = solve_any_shape(costs[None], method, tol)
    return _to_assignment(Solution(*(field[0] for field in solution[:5])), matrix.device)


def as_solver_array(matrix: Tensor) -> NDArray[np.floating]:
    """The costs as a numpy array on the CPU, in float32 or float64; no copy where none is
    needed."""
    if matrix.dtype in (torch.float16, torch.bfloat16):
        matrix = matrix.to(torch.float32)
    elif matrix.dtype not in (torch.float32, torch.float64):
        matrix = matrix.to(torch.float64)
    if matrix.device.type != "cpu":
        warn_solved_on_cpu(matrix.device)
        matrix = matrix.cpu()
    array: NDArray[np.floating] = matrix.resolve_neg().numpy()
    return array


_WARNED: set[str] = set()


def warn_solved_on_cpu(device: torch.device) -> None:
    """Say once per kind of device that the tensors are copied to the CPU and back."""
    if device.type not in _WARNED:
        _WARNED.add(device.type)
        warnings.warn(
            f"immiscible_fast solves tensors on {device.type} on the CPU, and copies them there",
            stacklevel=3,
        )


def solve_wide(costs: NDArray[np.floating], method: str, tol: float) -> Solution:
    """Solve (B, n, m) costs with n <= m by the named method."""
    if costs.size == 0:
        batch, n, m = costs.shape
        nothing = np.zeros(batch)
        empty = np.empty((batch, n), np.int64)
        return Solution(empty, nothing, nothing, np.ones(batch, np.bool_), np.zeros((batch, m)))
    if method == "scipy":
        from .backends import reference

        return reference.solve(costs)
    from .backends import numba_cpu

    if method in ("auto", "exact"):
        return numba_cpu.solve(costs, exact=True, tol=tol)
    prices = None
    if method == "sinkhorn":
        from .backends import annealed_sinkhorn

        if np.isfinite(costs).all():
            prices = annealed_sinkhorn.column_prices(costs)
    return numba_cpu.solve(costs, exact=False, tol=tol, prices=prices)


def solve_any_shape(costs: NDArray[np.floating], method: str, tol: float) -> Solution:
    """Problems with more rows than columns are solved transposed, and turned back."""
    batch, n, m = costs.shape
    if n <= m:
        return solve_wide(costs, method, tol)
    wide = solve_wide(np.ascontiguousarray(costs.transpose(0, 2, 1)), method, tol)
    index = np.full((batch, n), -1, np.int64)
    np.put_along_axis(index, wide.index, np.arange(m)[None], axis=1)
    if m == 0:
        return wide._replace(index=index, prices=wide.prices[:, :0])
    # The dual of a column is the least that it costs with the prices of the rows.
    prices = -(costs + wide.prices[:, :, None]).min(1)
    least = np.sort((costs + prices[:, None, :]).min(2), axis=1)[:, :m]
    bound = np.where(np.isnan(prices[:, 0]), -np.inf, least.sum(1) - prices.sum(1))
    return wide._replace(index=index, prices=prices, lower_bound=bound)


def _to_assignment(solution: Solution, device: torch.device) -> Assignment:
    answer = Assignment(*(torch.from_numpy(np.asarray(field)) for field in solution[:5]))
    return answer if device.type == "cpu" else Assignment(*(field.to(device) for field in answer))
