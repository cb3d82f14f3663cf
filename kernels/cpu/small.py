"""Small problems from costs to columns: what is called in place of ``solver``, with less around it,
since there that is most of the time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .answer import (
    CONSTANTS,
    INFEASIBLE,
    INVALID,
    RESCALE,
    SOLVED,
    UNSOLVED,
    UNSURE,
    is_sure,
    prove,
)
from .jit import entry_point, kernel
from .jonker_volgenant import SPACE, assign, column_minima, row_minima, space_in
from .schedule import SMALL, SMALL_COLUMNS, SMALL_ROWS
from .statistics import centred_statistics
from .vector import WIDTH
from .work import SLOTS, Work


@njit
def is_small(n, m):
    """Whether a problem of n <= m is solved by shortest paths over whole rows."""
    if n == m:
        return n <= SMALL
    return n <= SMALL_ROWS and m <= SMALL_COLUMNS


@njit
def padded(cost):
    """The costs with rows of at least one vector, as scans want them: missing columns are
    forbidden ones."""
    n, m = cost.shape
    if m >= WIDTH:
        return cost
    wide = np.full((n, WIDTH), np.inf, cost.dtype)
    wide[:, :m] = cost
    return wide


@kernel
def _transpose(cost, wide):
    """Write the transposed costs (n, m) to ``wide`` (m, width), whose missing columns are forbidden
    ones: a tile of ``WIDTH`` rows at a time, in loops of known length."""
    n, m = cost.shape
    whole = n - n % WIDTH
    for start in range(0, whole, WIDTH):
        tile = cost[start : start + WIDTH]
        for j in range(m):
            row = wide[j, start : start + WIDTH]
            for i in range(WIDTH):
                row[i] = tile[i, j]
    for i in range(whole, n):
        for j in range(m):
            wide[j, i] = cost[i, j]
    for j in range(m):
        for i in range(n, wide.shape[1]):
            wide[j, i] = np.inf


@kernel
def _assign(cost, m, memory, column, work):
    square, space = cost.shape[0] == m, space_in(memory, cost)
    largest = column_minima(cost, space, work) if square else row_minima(cost, space, work)
    if largest != largest:
        return INVALID
    if not largest < np.finfo(np.float64).max / 1e9:
        return RESCALE
    if not assign(cost, square, space, column, work):
        return INFEASIBLE
    return SOLVED if is_sure(cost, column, space.price, m, largest, True) else UNSURE


@njit
def small_columns(cost, m, constants, memory, column, work):
    """The exact assignment of a small problem to ``column``; return the status, ``UNSURE`` where it
    has to be proven. The prices are the first row of the ``memory``, (``SPACE``, width)."""
    if constants < np.inf:
        deviation, size = centred_statistics(cost, 1.0, m, memory[0], np.empty(cost.shape[0]), work)
        if not size <= constants * deviation:
            return CONSTANTS
    return _assign(cost, m, memory, column, work)


@njit
def _sure_columns(cost, m, constants, memory, column, work):
    """As ``small_columns``, but ``UNSOLVED`` where prices cost it digits."""
    status = small_columns(cost, m, constants, memory, column, work)
    if status == UNSURE:
        value, dual = np.empty(2), np.empty(cost.shape[0])
        holds = prove(cost, memory[0], column, m, value, dual, work)
        return SOLVED if holds else UNSOLVED
    return status


@njit
def _turned_columns(cost, constants, memory, column, work):
    """The same of more rows than columns, -1 for none."""
    n, m = cost.shape
    wide, row = np.empty((m, max(n, WIDTH)), cost.dtype), np.empty(m, np.int64)
    _transpose(cost, wide)
    status = _sure_columns(wide, n, constants, memory, row, work)
    if status == SOLVED:  # else the rows are anything
        column[:] = -1
        for j in range(m):
            column[row[j]] = j
    return status


@njit
def _new_memory(cost, n, m):
    counts = np.zeros(SLOTS + 1, np.int64)
    return np.empty((SPACE, max(n, m, WIDTH))), Work(counts[:SLOTS], counts[SLOTS:])


def make_small_solvers(stamp: str) -> Any:
    """The compiled ``small_index(cost, constants, index)`` and ``small_pairs(cost, rows,
    columns)``, which return the status.

    They solve small problems, turned or not, exactly, as ``solve_range`` would, for the columns
    alone. ``index`` (B, n) gets the column of each row of (B, n, m) costs, -1 for none; ``rows``
    and ``columns`` (min(n, m),) the rows of (n, m) costs that have one, in order, and their
    columns.
    """

    @entry_point
    def small_index(cost, constants, index):
        _ = stamp
        n, m = cost.shape[1:]
        memory, work = _new_memory(cost, n, m)
        for b in range(cost.shape[0]):
            if n <= m:
                wide = padded(cost[b])
                status = _sure_columns(wide, m, constants, memory, index[b], work)
            else:
                status = _turned_columns(cost[b], constants, memory, index[b], work)
            if status != SOLVED:
                return status
        return SOLVED

    @entry_point
    def small_pairs(cost, rows, columns):
        _ = stamp
        n, m = cost.shape
        memory, work = _new_memory(cost, n, m)
        if n <= m:
            for i in range(n):
                rows[i] = i
            return _sure_columns(padded(cost), m, np.inf, memory, columns, work)
        column = np.empty(n, np.int64)
        status = _turned_columns(cost, np.inf, memory, column, work)
        if status == SOLVED:
            count = 0
            for i in range(n):
                if column[i] >= 0:
                    rows[count], columns[count] = i, column[i]
                    count += 1
        return status

    return small_index, small_pairs
