"""``solve_assignment``: a cost matrix in, the assignment and its certificate out."""

from __future__ import annotations

from torch import Tensor

from .. import ops, validation
from ..choices import DEFAULT_TOL, METHODS, Method
from ..types import Assignment


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
        - ``"auto"``: "exact" on a CPU and, up to 256 columns, on a GPU; else "sinkhorn".
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
    tol = validation.check_positive("tol", tol)
    matrix = validation.check_real("cost", cost)
    validation.check_shape("cost", matrix, matrix.ndim in (2, 3), "(n, m) or (B, n, m)")
    validation.check_flag("check", check)
    answer = ops.solve(matrix, method, tol)
    if check and not bool(answer.converged.all()):
        invalid = bool((matrix.isnan() | matrix.isneginf()).any())
        if not invalid and bool(answer.cost.isfinite().all()):
            raise RuntimeError("cost is not solved: the call's budget of work was spent")
        raise validation.unsolvable(matrix)
    return answer
