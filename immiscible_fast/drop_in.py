"""The calls of other libraries, with their contracts: change the import and keep the code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import ops, validation
from .backends.cpu import as_solver_array, solve_any_shape
from .backends.select import on_gpu


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
    which ``solve_assignment`` does not.

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
    limit = validation.check_cost_limit(cost_limit, maximize)
    if isinstance(cost_matrix, Tensor):
        return _tensor_assignment(cost_matrix, maximize, limit)
    costs = np.asarray(cost_matrix)
    if costs.ndim != 2:
        raise ValueError(f"expected a matrix (2-D array), got a {costs.ndim} array")
    if costs.dtype.kind not in "fiub":
        raise TypeError(
            f"Cannot cast array data from {costs.dtype!r} to real numbers: "
            "expected a matrix containing numerical entries"
        )
    if costs.dtype not in (np.float32, np.float64):
        costs = costs.astype(np.float32 if costs.dtype == np.float16 else np.float64)
    costs = costs.astype(costs.dtype.newbyteorder("="), copy=False)
    index = _columns(costs[None], maximize, limit)[0]
    rows = np.flatnonzero(index >= 0)
    return rows, index[rows]


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
    limit = validation.check_cost_limit(cost_limit, maximize=False)
    matrix = _real_tensor("cost", cost)
    if matrix.ndim != 3:
        raise ValueError(f"cost must have shape (B, w, t), got {tuple(matrix.shape)}")
    if on_gpu(matrix):
        return _columns_on_gpu(matrix, False, limit)[0]
    index = _columns(as_solver_array(matrix), False, limit)
    return torch.from_numpy(index).to(matrix.device)


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
    if index.ndim != 2:
        raise ValueError(f"assignment must have shape (B, w), got {tuple(index.shape)}")
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise TypeError(f"assignment must have an integer dtype, got {index.dtype}")
    matched = index >= 0
    counts = matched.sum(1)
    if counts.numel() and bool((counts != counts[0]).any()):
        raise ValueError("assignment must match equally many workers in every problem")
    size = (index.shape[0], int(counts[0]) if counts.numel() else 0)
    return matched.nonzero()[:, 1].reshape(size), index[matched].to(torch.int64).reshape(size)


def _real_tensor(name: str, value: object) -> Tensor:
    tensor = validation.check_tensor(name, value)
    if tensor.is_complex():
        raise TypeError(f"{name} must have a real dtype, got {tensor.dtype}")
    validation.check_data(name, tensor)
    return tensor


def _tensor_assignment(cost: Tensor, maximize: bool, limit: float) -> tuple[Tensor, Tensor]:
    matrix = _real_tensor("cost_matrix", cost)
    if matrix.ndim not in (2, 3):
        raise ValueError(f"expected a matrix (2-D array), got a {matrix.ndim} array")
    batch = matrix if matrix.ndim == 3 else matrix[None]
    if on_gpu(batch):
        index, converged = _columns_on_gpu(batch, maximize, limit)
        if not bool(converged.all()):
            invalid = batch.isnan() | (batch == (torch.inf if maximize else -torch.inf))
            raise ValueError(
                validation.INVALID_ENTRIES if bool(invalid.any()) else validation.INFEASIBLE
            )
    else:
        index = torch.from_numpy(_columns(as_solver_array(batch), maximize, limit))
    rows, columns = _pairs(index, min(batch.shape[1:]))
    if matrix.ndim == 2:
        rows, columns = rows[0], columns[0]
        if limit < np.inf:
            rows, columns = rows[rows >= 0], columns[rows >= 0]
    return rows.to(matrix.device), columns.to(matrix.device)


def _columns_on_gpu(cost: Tensor, maximize: bool, limit: float) -> tuple[Tensor, Tensor]:
    """As ``_columns``, with whether each problem of the batch could be solved, (B,)."""
    if not cost.is_floating_point():
        cost = cost.to(torch.float64)
    elif cost.dtype.itemsize == 1:
        cost = cost.to(torch.float32)
    if maximize:
        cost = -cost
    if limit == np.inf or cost.numel() == 0:
        answer = ops.solve(cost, "exact", 1.0)
        return answer.index, answer.converged
    if float(torch.tensor(limit, dtype=cost.dtype, device="cpu")) != limit:
        cost = cost.to(torch.float64)
    answer = ops.solve(cost.clamp(max=limit), "exact", 1.0)
    paid = cost.gather(2, answer.index.clamp(min=0)[:, :, None])[:, :, 0]
    return torch.where(paid <= limit, answer.index, -1), answer.converged


def _columns(costs: NDArray[np.floating], maximize: bool, limit: float) -> NDArray[np.int64]:
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
        return solve_any_shape(costs, "exact", 1.0).index
    with np.errstate(over="ignore"):
        representable = float(costs.dtype.type(limit)) == limit
    if not representable:  # a limit that is rounded could let a dearer pair in
        costs = costs.astype(np.float64)
    index = solve_any_shape(np.minimum(costs, limit), "exact", 1.0).index
    paid = np.take_along_axis(costs, np.maximum(index, 0)[:, :, None], axis=2)[:, :, 0]
    return np.where(paid <= limit, index, -1)


def _pairs(index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Assigned rows in order and their columns, (B, count) each and -1 where there are fewer, of
    (B, n) columns or -1."""
    rows = torch.argsort((index < 0).to(torch.uint8), dim=1, stable=True)[:, :count]
    columns = index.gather(1, rows)
    return torch.where(columns < 0, -1, rows), columns
