"""The calls of other libraries, with their contracts: change the import and keep the code."""

from __future__ import annotations

import math
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from . import ops, validation

ARRAY, INFINITY = np.ndarray, math.inf  # looked up once
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))  # of this machine's byte order


@overload
def linear_sum_assignment(
    cost_matrix: Tensor, maximize: bool = False, *, cost_limit: float | None = None
) -> tuple[Tensor, Tensor]: ...


@overload
def linear_sum_assignment(
    cost_matrix: ArrayLike, maximize: bool = False, *, cost_limit: float | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...


def linear_sum_assignment(
    cost_matrix: Any, maximize: bool = False, *, cost_limit: float | None = None
) -> tuple[Any, Any]:
    """``scipy.optimize.linear_sum_assignment``, faster: numpy in, numpy out; torch in, torch out.

    Parameters
    ----------
    cost_matrix : array_like or Tensor, shape (n, m), or Tensor of shape (B, n, m)
        Real costs of any dtype; ``inf`` forbids a pair (``-inf``, if ``maximize``). float32 is
        solved as float32 is given, integers are exact up to 2^53.
    maximize : bool
        Look for the largest total instead of the smallest.
    cost_limit : float, optional
        Leave a pair unmatched rather than pay more than this, as in ``lap`` and ``lapx``: of all
        matchings, complete or not, the one returned has the least (cost of its pairs) +
        ``cost_limit`` x (min(n, m) - number of its pairs), and none of its pairs costs more than
        the limit. No matrix is infeasible then. If ``maximize``, it is a floor: the greatest such
        total, and no pair worth less. ``inf`` (``-inf``, if ``maximize``) is no limit at all.

    Returns
    -------
    row_ind, col_ind : int64 arrays, shape (min(n, m),), or (B, min(n, m)) for a batch
        Row ``row_ind[k]`` is assigned to column ``col_ind[k]``; sorted by row. Of several optimal
        assignments it need not be the one that SciPy returns. With ``cost_limit``, the matched
        pairs alone; in a batch, -1 in both fills the places that are left at the end.

    Raises
    ------
    ValueError
        In SciPy's words: if the matrix has other dimensions, contains NaN or ``-inf`` (``inf``, if
        ``maximize``), or forbids every complete assignment. If ``cost_limit`` is NaN, or infinite
        on the wrong side.
    TypeError
        If it is not of real numbers.

    Notes
    -----
    A tensor on a GPU is solved there; to raise as SciPy does, the call then waits for the answer,
    which ``solve_assignment`` does not. Under ``torch.compile`` it does not wait and raises nothing
    of the values; there, a ``cost_limit`` needs a batch, whose result has a size known beforehand.

    Examples
    --------
    >>> cost = np.array([[4, 1, 3], [2, 0, 5], [3, 2, 2]])
    >>> row_ind, col_ind = linear_sum_assignment(cost)
    >>> col_ind.tolist(), int(cost[row_ind, col_ind].sum())
    ([1, 0, 2], 5)
    >>> row_ind, col_ind = linear_sum_assignment(cost, cost_limit=1.5)  # 1 + 1.5 + 1.5 or 0 + 3
    >>> len(row_ind), int(cost[row_ind, col_ind].max())
    (1, 0)
    """
    limit = INFINITY if cost_limit is None else _check_cost_limit(cost_limit, maximize)
    costs = cost_matrix
    if type(costs) is not ARRAY:
        if isinstance(costs, Tensor):
            return _tensor_assignment(costs, maximize, limit)
        costs = np.asarray(costs)
    if costs.ndim != 2:
        _check_matrix(costs.ndim, (2,))
    if costs.dtype not in FLOATS:
        _check_numerical(costs)
        short = costs.dtype.kind == "f" and costs.dtype.itemsize <= 4
        costs = costs.astype(np.float32 if short else np.float64)
    if limit == INFINITY and costs.size:
        found: tuple[NDArray[np.int64], NDArray[np.int64]]
        found = ops.complete_pairs()(-costs if maximize else costs)
        return found
    return ops.array_pairs(costs, maximize, limit)


def batch_linear_assignment(cost: Tensor, *, cost_limit: float | None = None) -> Tensor:
    """``torch_linear_assignment.batch_linear_assignment``: a batch of workers and tasks.

    Parameters
    ----------
    cost : Tensor, shape (B, w, t)
        Real costs of w workers and t tasks, any dtype and device.
    cost_limit : float, optional
        Leave a worker without a task rather than pay more; see ``linear_sum_assignment``.

    Returns
    -------
    Tensor, shape (B, w), int64, on the device of ``cost``
        Task of each worker, or -1 for none: where there are fewer tasks than workers, or by
        ``cost_limit``.

    Raises
    ------
    TypeError, ValueError
        If ``cost`` is no dense real tensor of three dimensions, or its values are unusable (which
        is not looked for on a GPU: some assignment comes back).

    Examples
    --------
    >>> batch_linear_assignment(torch.tensor([[[8.0, 4.0], [5.0, 2.0], [9.0, 9.0]]]))
    tensor([[ 1,  0, -1]])
    """
    limit = _check_cost_limit(cost_limit, maximize=False)
    matrix = validation.check_real("cost", cost)
    validation.check_shape("cost", matrix, matrix.ndim == 3, "(B, w, t)")
    return ops.columns(matrix, False, limit, check=False)


def assignment_to_indices(assignment: Tensor) -> tuple[Tensor, Tensor]:
    """``torch_linear_assignment.assignment_to_indices``: from tasks of workers to SciPy's pairs.

    Parameters
    ----------
    assignment : Tensor, shape (B, w), integer
        Task of each worker, -1 for none, as ``batch_linear_assignment`` returns it.

    Returns
    -------
    row_ind, col_ind : Tensor, shape (B, k), int64
        The k assigned workers of each problem, in order, and their tasks.

    Raises
    ------
    ValueError
        If the problems have different numbers of assigned workers, or the shape is another.

    Examples
    --------
    >>> assignment_to_indices(torch.tensor([[1, 0, -1]]))
    (tensor([[0, 1]]), tensor([[1, 0]]))
    """
    index = validation.check_tensor("assignment", assignment)
    validation.check_data("assignment", index)
    validation.check_shape("assignment", index, index.ndim == 2, "(B, w)")
    validation.check_integers("assignment", index)
    matched = index >= 0
    counts = matched.sum(1)
    if counts.numel() and bool((counts != counts[0]).any()):
        raise ValueError(
            "assignment must match equally many workers in every problem, got "
            f"{int(counts.min())} to {int(counts.max())}"
        )
    size = (index.shape[0], int(counts[0]) if counts.numel() else 0)
    return matched.nonzero()[:, 1].reshape(size), index[matched].to(torch.int64).reshape(size)


def _tensor_assignment(cost: Tensor, maximize: bool, limit: float) -> tuple[Tensor, Tensor]:
    matrix = validation.check_real("cost_matrix", cost)
    _check_matrix(matrix.ndim, (2, 3))
    batch = matrix if matrix.ndim == 3 else matrix[None]
    index = ops.columns(batch, maximize, limit, check=not validation.is_traced(matrix))
    rows, columns = _pairs(index, min(batch.shape[1:]))
    if matrix.ndim == 2:
        rows, columns = rows[0], columns[0]
        if limit < np.inf:
            rows, columns = rows[rows >= 0], columns[rows >= 0]
    return rows, columns


def _pairs(index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Assigned rows in order and their columns, (B, count) each and -1 where there are fewer, of
    (B, n) columns or -1."""
    rows = torch.argsort((index < 0).to(torch.uint8), dim=1, stable=True)[:, :count]
    columns = index.gather(1, rows)
    return torch.where(columns < 0, -1, rows), columns


def _check_cost_limit(limit: object, maximize: bool) -> float:
    """The limit as a float, inf if there is none; of the negated costs, if ``maximize``."""
    if limit is None:
        return math.inf
    value = validation.check_number("cost_limit", limit, "a number or None")
    value = -value if maximize else value
    if not value > -math.inf:
        raise ValueError(
            f"cost_limit must not be NaN or {'inf' if maximize else '-inf'}, got {limit}"
        )
    return value


def _check_matrix(ndim: int, allowed: tuple[int, ...]) -> None:
    """In SciPy's words, as ``_check_numerical``."""
    if ndim not in allowed:
        raise ValueError(f"expected a matrix (2-D array), got a {ndim} array")


def _check_numerical(array: NDArray[Any]) -> None:
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"Cannot cast array data from {array.dtype!r} to real numbers: "
            "expected a matrix containing numerical entries"
        )
