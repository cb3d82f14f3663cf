"""``solve_assignment``: a cost matrix in, the assignment and its certificate out."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .. import ops, validation
from ..choices import METHODS, Method

DEFAULT_TOL = 0.01


class Assignment(NamedTuple):
    """Answer of ``solve_assignment``; for a batch every field has a leading dimension B.

    With prices p, no assignment of n rows to m columns costs less than

        sum_i min_j (c_ij + p_j) - sum_j p_j + (m - n) min_j p_j     if n <= m, and
        (sum of the m smallest min_j (c_ij + p_j)) - sum_j p_j       if n > m,

    from which ``lower_bound`` follows, from the costs as they were given (up to 2^53, if integers).
    Roundings are accounted for (but, on a GPU, those of costs so small beside the spread of the
    others that they underflow in its units), so that in exact arithmetic

        lower_bound <= optimum <= cost:

    the cost is the exact sum of the costs of the pairs, rounded up to a float64 (on a GPU, by a few
    units in the last place), and the bound is rounded down; either is infinite where float64
    overflows. ``gap == 0`` so is a proof that the assignment is optimal, not only to rounding; and
    of integers, so is a gap below one. Other costs
    may show an optimal assignment with a gap of a few units in the last place.
    """

    index: Tensor  # type: ignore[assignment]  # (n,) int64, column of each row; -1: unmatched, where n > m
    cost: Tensor  # () float64, sum of the costs of the pairs, rounded up
    lower_bound: Tensor  # () float64, no assignment costs less; -inf: no proof (method="scipy")
    converged: Tensor  # () bool, whether the method reached what was asked of it
    prices: Tensor  # (m,) float64, dual prices of the columns

    @property
    def gap(self) -> Tensor:
        """``cost - lower_bound``: the assignment is at most this far from the optimum."""
        return self.cost - self.lower_bound


def solve_assignment(
    cost: Tensor, *, method: Method = "auto", tol: float = DEFAULT_TOL, check: bool = False
) -> Assignment:
    """Assign rows to columns at the least total cost, with a proof of how good the answer is.

    Parameters
    ----------
    cost : Tensor, shape (n, m) or (B, n, m)
        Float, integer or bool; ``inf`` forbids a pair. float16 and bfloat16 are solved in float32,
        integers and bools in float64. Every row is assigned if n <= m, else every column.
    method : str
        - ``"auto"``: "exact" on a CPU and, up to 512 columns, on a GPU; else "sinkhorn".
        - ``"exact"``: auction, then shortest augmenting paths from its prices: optimal in float64.
        - ``"auction"``: eps-scaling auction that stops at ``tol``.
        - ``"sinkhorn"``: annealed log-domain Sinkhorn, then the auction from its prices to ``tol``.
          With fewer rows than columns (or more) it is "auction".
          On a GPU "exact" and both of these start from Sinkhorn's prices and end in shortest-path
          forests, all free rows at a time: what is not within ``tol`` then is solved exactly.
        - ``"scipy"``: ``scipy.optimize.linear_sum_assignment``, without prices or bound.
    tol : float
        For auction and sinkhorn, a bound on (cost - optimum) / min(n, m) in units of the standard
        deviation of the doubly centred costs.
    check : bool
        On a GPU, wait for the answer and raise what a CPU would. Without it the call never waits:
        costs that are unusable give some assignment, and ``converged`` is False.

    Returns
    -------
    Assignment
        Named tuple of ``index``, ``cost``, ``lower_bound``, ``converged`` and ``prices``, on the
        device of ``cost``.

    Raises
    ------
    TypeError
        If ``cost`` is no dense real tensor.
    ValueError
        If ``cost`` has another shape, contains NaN or -inf, or forbids every complete assignment
        (the last two on a GPU only if ``check``).
    RuntimeError
        If ``check`` and a GPU's budget of work did not suffice, which no known costs bring about.

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
    validation.check_choice("method", method, METHODS)
    if method == "streaming":
        raise ValueError("method must not be 'streaming' where there is a matrix: see fast_assign")
    tol = validation.check_tolerance(tol)
    matrix = validation.check_tensor("cost", cost)
    if matrix.ndim not in (2, 3):
        raise ValueError(f"cost must have shape (n, m) or (B, n, m), got {tuple(matrix.shape)}")
    if matrix.is_complex():
        raise TypeError(f"cost must have a real dtype, got {matrix.dtype}")
    validation.check_data("cost", matrix)
    validation.check_flag("check", check)
    answer = ops.solve(matrix, method, tol)
    if check and not bool(answer.converged.all()):
        invalid = bool((matrix.isnan() | matrix.isneginf()).any())
        if not invalid and bool(answer.cost.isfinite().all()):
            raise RuntimeError("cost is not solved: the call's budget of work was spent")
        raise ValueError(validation.INVALID_ENTRIES if invalid else validation.INFEASIBLE)
    return Assignment(*answer)
