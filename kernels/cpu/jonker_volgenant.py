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

import numpy as np
from numba import njit

from .jit import kernel
from .passes import column_min, row_relax, row_survey
from .reduction import BIDS_PER_ROW
from .scans import row_top2
from .vector import WIDTH
from .work import PASS_SCANS, PATHS, REDUCTIONS, ROW_RELAXATIONS


@njit
def new_space(cost, width):
    """(price, key, distance) of the columns, in int32 their (owner, pred, closed) and the free
    rows, and zeros in the type of the costs."""
    numbers, marks = np.empty((3, width)), np.empty((4, width), np.int32)
    zeros = np.zeros(width, cost.dtype)
    return numbers[0], numbers[1], numbers[2], marks[0], marks[1], marks[2], marks[3], zeros


@kernel
def column_minima(cost, space, work):
    """Minima of the columns to ``price``, and the rows that have them to ``pred``; return the
    largest finite magnitude, NaN if any entry is NaN or minus infinity."""
    least, row = space[0], space[4]
    width = cost.shape[1]
    work[PASS_SCANS] += cost.shape[0]
    largest, valid = 0.0, True
    for j in range(0, width, WIDTH):
        size, above = column_min(cost, min(j, width - WIDTH), least, row)
        largest = max(largest, size)
        valid &= above
    return largest if valid else np.nan


@kernel
def row_minima(cost, space, work):
    """The two smallest costs of each row i to ``key[i]`` and ``distance[i]``, and the column of the
    smallest to ``pred[i]``; return as ``column_minima``."""
    first, second, column, zeros = space[1], space[2], space[4], space[7]
    work[PASS_SCANS] += cost.shape[0]
    largest = 0.0
    for i in range(cost.shape[0]):
        size, first[i], second[i], column[i] = row_survey(cost, i, zeros)
        if not size <= largest:
            largest = np.float64(size)
            if size != size:
                break
    return largest


@kernel
def reduce_columns(space, square, column):
    """Step 1, from what ``column_minima`` left; else prices of zero."""
    price, owner, row = space[0], space[3], space[4]
    for i in range(column.shape[0]):
        column[i] = -1
    for j in range(price.shape[0]):
        owner[j] = -1
        if not square:
            price[j] = 0.0
            continue
        least, i = price[j], row[j]
        price[j] = 0.0
        if least < np.inf:
            price[j] = -least
            if column[i] < 0:
                owner[j] = i
                column[i] = j


@kernel
def reduce_rows(cost, square, space, column, work):
    """Step 2, for the rows without a column, from what ``row_minima`` left if there are more
    columns; how many are left, in ``free``."""
    price, key, distance, owner, pred, _, free, _ = space
    count = 0
    for i in range(cost.shape[0]):
        if column[i] < 0:
            free[count] = i
            count += 1
    budget = work[REDUCTIONS] + BIDS_PER_ROW * count
    left = 0
    for q in range(count):
        i = np.int64(free[q])
        surveyed = not square
        while i >= 0:
            work[REDUCTIONS] += 1
            if surveyed and owner[pred[i]] < 0:
                first, second, j = key[i], distance[i], np.int64(pred[i])
            else:
                first, second, j = row_top2(cost, i, price)
            surveyed = False
            held = np.int64(owner[j])
            rise = second - first
            if not first < np.inf or (held >= 0 and not 0 < rise < np.inf):
                break
            if work[REDUCTIONS] > budget:
                break
            if rise < np.inf:
                price[j] += rise
            owner[j] = i
            column[i] = j
            if held >= 0:
                column[held] = -1
            i = held
        if i >= 0:
            free[left] = i
            left += 1
    return left


@kernel
def augment(cost, start, space, column, work):
    """Steps 3 and 4 from row ``start``; False when no free column can be reached."""
    price, key, distance, owner, pred, closed, _, _ = space
    for j in range(price.shape[0]):
        key[j] = np.inf
    work[PATHS] += 1
    i, j, shift, reached, count = start, -1, 0.0, -np.inf, 0
    while True:
        work[ROW_RELAXATIONS] += 1
        reached, j = row_relax(cost, i, price, shift, reached, j, key, pred, owner)
        if not reached < np.inf:
            return False
        if owner[j] < 0:
            break
        closed[count], distance[count] = j, reached
        count += 1
        i = np.int64(owner[j])
        shift = reached - (np.float64(cost[i, j]) + price[j])
    for q in range(count):
        price[closed[q]] += reached - distance[q]
    while True:
        i = np.int64(pred[j])
        owner[j] = i
        j, column[i] = column[i], j
        if i == start:
            return True


@kernel
def assign(cost, square, space, column, work):
    """All steps, from what ``column_minima`` or ``row_minima`` left; False when the costs are
    infeasible.

    ``column`` (n,) gets the assignment, and ``price`` the dual prices.
    """
    free = space[6]
    reduce_columns(space, square, column)
    for q in range(reduce_rows(cost, square, space, column, work)):
        if not augment(cost, np.int64(free[q]), space, column, work):
            return False
    return True
