"""Small problems, without an auction: shortest augmenting paths in float64 over whole rows (Jonker
and Volgenant 1987).

1. Column reduction: p_j = -min_i c_ij, and each column goes to the row of its minimum, if that has
   none yet. With fewer rows than columns prices start at zero instead, and only rise where a column
   is assigned, for good: columns left over keep the least price, and so the proof of optimality.
2. Row reduction: a free row i takes its best column j and raises its price until j is only as good
   as its second best; whoever held j goes next. A row whose best column is held and tied is left,
   and so is the rest once the budget of bids is spent.
3. From each row that is left, Dijkstra's algorithm finds the nearest free column. The key of column
   j is min over the rows i seen of c_ij + p_j - u_i + d_i, with the distance d_i of row i and its
   dual u_i = c_ik + p_k, k its own column. A column whose distance is final is closed: its price in
   the search is infinite from then on.
4. Closed columns get dearer by (d* - d_j), which keeps every assigned pair tight, and the path is
   flipped.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .jit import kernel
from .passes import column_min, row_relax, row_survey
from .scans import row_top2
from .schedule import REDUCTION_BIDS_PER_ROW
from .vector import WIDTH
from .work import PASS_SCANS, PATHS, REDUCTIONS, ROW_RELAXATIONS

SPACE = 8  # rows of memory


class Space(NamedTuple):
    """Memory of a solve, (width,) each."""

    price: NDArray[np.float64]  # of columns; their minima, before step 1
    key: NDArray[np.float64]  # of columns, in the search; least costs of the rows, before step 2
    distance: NDArray[np.float64]  # of closed columns; second least costs of the rows, before
    known: NDArray[np.float64]  # prices of closed columns
    row4col: NDArray[np.int32]
    where: NDArray[np.int32]  # rows that have the columns' minima, or columns that have the rows'
    closed: NDArray[np.int32]  # columns, in turn
    free: NDArray[np.int32]  # rows
    zeros: NDArray[np.floating]  # in the type of the costs
    pred: NDArray[np.int64]  # the row that reached a column


@kernel
def space_in(memory, cost):
    """The space within ``memory`` (``SPACE``, width), float64: to allocate each part of it would
    take as long as to solve a small problem. It holds no reference: for use within kernels."""
    first, second = memory[6].view(np.int32), memory[7].view(np.int32)
    width = memory.shape[1]
    zeros = memory[5].view(cost.dtype)[:width]
    zeros[:] = 0
    return Space(
        memory[0], memory[1], memory[2], memory[3],
        first[:width], first[width:], second[:width], second[width:],
        zeros, memory[4].view(np.int64),
    )  # fmt: skip


@kernel
def column_minima(cost, space, work):
    """Minima of the columns to ``price``, and the rows that have them to ``where``; return the
    largest finite magnitude, NaN if any entry is NaN or minus infinity."""
    width = cost.shape[1]
    work.counts[PASS_SCANS] += cost.shape[0]
    largest, valid = 0.0, True
    for j in range(0, width, WIDTH):
        size, above = column_min(cost, min(j, width - WIDTH), space.price, space.where)
        largest = max(largest, size)
        valid &= above
    return largest if valid else np.nan


@kernel
def row_minima(cost, space, work):
    """The two smallest costs of each row i to ``key[i]`` and ``distance[i]``, and the column of the
    smallest to ``where[i]``; return as ``column_minima``."""
    first, second, column = space.key, space.distance, space.where
    work.counts[PASS_SCANS] += cost.shape[0]
    largest = 0.0
    for i in range(cost.shape[0]):
        size, first[i], second[i], column[i] = row_survey(cost, i, space.zeros)
        if not size <= largest:
            largest = np.float64(size)
            if size != size:
                break
    return largest


@kernel
def reduce_columns(space, square, col4row):
    """Step 1, from what ``column_minima`` left; unless ``square``, prices of zero."""
    price, row4col = space.price, space.row4col
    for i in range(col4row.shape[0]):
        col4row[i] = -1
    for j in range(price.shape[0]):
        row4col[j] = -1
        if not square:
            price[j] = 0.0
            continue
        least, i = price[j], space.where[j]
        price[j] = 0.0
        if least < np.inf:
            price[j] = -least
            if col4row[i] < 0:
                row4col[j] = i
                col4row[i] = j


@kernel
def reduce_rows(cost, square, space, col4row, work):
    """Step 2, for the rows without a column, from what ``row_minima`` left if there are more
    columns; how many are left, in ``free``."""
    price, row4col, where, free = space.price, space.row4col, space.where, space.free
    counts = work.counts
    count = 0
    for i in range(cost.shape[0]):
        if col4row[i] < 0:
            free[count] = i
            count += 1
    budget = counts[REDUCTIONS] + REDUCTION_BIDS_PER_ROW * count
    left = 0
    for q in range(count):
        i = np.int64(free[q])
        surveyed = not square
        while i >= 0:
            counts[REDUCTIONS] += 1
            if surveyed and row4col[where[i]] < 0:
                first, second, j = space.key[i], space.distance[i], np.int64(where[i])
            else:
                first, second, j = row_top2(cost, i, price)
            surveyed = False
            held = np.int64(row4col[j])
            rise = second - first
            if not first < np.inf or (held >= 0 and not 0 < rise < np.inf):
                break
            if counts[REDUCTIONS] > budget:
                break
            if rise < np.inf:
                price[j] += rise
            row4col[j] = i
            col4row[i] = j
            if held >= 0:
                col4row[held] = -1
            i = held
        if i >= 0:
            free[left] = i
            left += 1
    return left


@kernel
def augment(cost, start, space, col4row, work):
    """Steps 3 and 4 from row ``start``; False when no free column can be reached."""
    price, key, distance, known, row4col, _, closed, _, _, pred = space
    for j in range(price.shape[0]):
        key[j] = np.inf
    work.counts[PATHS] += 1
    i, shift, reached, count = start, 0.0, -np.inf, 0
    while True:
        work.counts[ROW_RELAXATIONS] += 1
        reached, j = row_relax(cost, i, price, shift, reached, key, pred, row4col)
        if not reached < np.inf:
            return False
        if row4col[j] < 0:
            break
        closed[count], distance[count], known[count] = j, reached, price[j]
        count += 1
        i = np.int64(row4col[j])
        shift = reached - (np.float64(cost[i, j]) + price[j])
        price[j] = key[j] = np.inf
    for q in range(count):
        price[closed[q]] = known[q] + (reached - distance[q])
    while True:
        i = pred[j]
        row4col[j] = i
        j, col4row[i] = col4row[i], j
        if i == start:
            return True


@kernel
def assign(cost, square, space, col4row, work):
    """All steps, from what ``column_minima`` or ``row_minima`` left; False when the costs are
    infeasible.

    ``col4row`` (n,) gets the assignment, and ``price`` the dual prices.
    """
    reduce_columns(space, square, col4row)
    for q in range(reduce_rows(cost, square, space, col4row, work)):
        if not augment(cost, np.int64(space.free[q]), space, col4row, work):
            return False
    return True
