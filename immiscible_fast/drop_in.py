"""The calls of other libraries, with their contracts: change the import and keep the code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import validation
from .assignment import as_solver_array, solve_any_shape


def linear_sum_assignment(cost_matrix: Any, maximize: bool = False) -> tuple[Any, Any]:
    """``scipy.optimize.linear_sum_assignment``, faster: numpy in, numpy out; torch in, torch out.

    Parameters
    ----------
    cost_matrix : array_like or Tensor, shape (n, m), or Tensor of shape (B, n, m)
        Real costs of any dtype; ``inf`` forbids a pair (``-inf``, if ``maximize``). float32 is
        solved as float32 is given, integers are exact up to 2^53.
    maximize : bool
        Look for the largest total instead of the smallest.

    Returns
    -------
    row_ind, col_ind : int64 arrays, shape (min(n, m),), or (B, min(n, m)) for a batch
        Row ``row_ind[k]`` is assigned to column ``col_ind[k]``; sorted by row. Of several optimal
        assignments it need not be the one that SciPy returns.

    Raises
    ------
    ValueError
        In SciPy's words: if the matrix has other dimensions, contains NaN or ``-inf`` (``inf``, if
        ``maximize``), or forbids every complete assignment.
    TypeError
        If it is not of real numbers.

    Examples
    --------
    >>> cost = np.array([[4, 1, 3], [2, 0, 5], [3, 2, 2]])
    >>> row_ind, col_ind = linear_sum_assignment(cost)
    >>> col_ind.tolist(), int(cost[row_ind, col_ind].sum())
    ([1, 0, 2], 5)
    """
    if isinstance(cost_matrix, Tensor):
        return _tensor_assignment(cost_matrix, maximize)
    costs = np.asarray(cost_matrix)
    if costs.ndim != 2:
        raise ValueError(f"expected a matrix (2-D array), got a {costs.ndim} array")
    if costs.dtype.kind not in "fiub":
        raise TypeError(f"expected a matrix containing numerical entries, got {costs.dtype}")
    if costs.dtype not in (np.float32, np.float64):
        costs = costs.astype(np.float32 if costs.dtype == np.float16 else np.float64)
    costs = costs.astype(costs.dtype.newbyteorder("="), copy=False)
    index = solve_any_shape((-costs if maximize else costs)[None], "exact", 1.0).index
    rows, columns = _pairs(index, min(costs.shape))
    return rows[0], columns[0]


def batch_linear_assignment(cost: Tensor) -> Tensor:
    """``torch_linear_assignment.batch_linear_assignment``: a batch of workers and tasks.

    Parameters
    ----------
    cost : Tensor, shape (B, w, t)
        Real costs of w workers and t tasks, any dtype and device.

    Returns
    -------
    Tensor, shape (B, w), int64, on the device of ``cost``
        Task of each worker, or -1 where there are fewer tasks than workers.

    Raises
    ------
    TypeError, ValueError
        If ``cost`` is no dense real tensor of three dimensions, or its values are unusable.

    Examples
    --------
    >>> batch_linear_assignment(torch.tensor([[[8.0, 4.0], [5.0, 2.0], [9.0, 9.0]]]))
    tensor([[ 1,  0, -1]])
    """
    matrix = _real_tensor("cost", cost)
    if matrix.ndim != 3:
        raise ValueError(f"cost must have shape (B, w, t), got {tuple(matrix.shape)}")
    index = solve_any_shape(as_solver_array(matrix), "exact", 1.0).index
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


def _tensor_assignment(cost: Tensor, maximize: bool) -> tuple[Tensor, Tensor]:
    matrix = _real_tensor("cost_matrix", cost)
    if matrix.ndim not in (2, 3):
        raise ValueError(f"expected a matrix (2-D array), got a {matrix.ndim} array")
    costs = as_solver_array(matrix if matrix.ndim == 3 else matrix[None])
    index = solve_any_shape(-costs if maximize else costs, "exact", 1.0).index
    pairs = (
        torch.from_numpy(part).to(matrix.device) for part in _pairs(index, min(costs.shape[1:]))
    )
    rows, columns = pairs
    return (rows, columns) if matrix.ndim == 3 else (rows[0], columns[0])


def _pairs(index: Any, count: int) -> tuple[Any, Any]:
    """Assigned rows in order and their columns, (B, count) each, of (B, n) columns or -1."""
    matched = index >= 0
    shape = (index.shape[0], count)
    return np.nonzero(matched)[1].reshape(shape), index[matched].reshape(shape)
