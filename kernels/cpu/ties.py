"""Matching by ties: where many pairs cost the same, the work is a matching and no price war.

1. Column reduction: p_j = -min_i c_ij makes every reduced cost >= 0, and one of each column 0.
2. With u_i = min_j (c_ij + p_j), the pairs at c_ij + p_j = u_i are tight. Each row takes a tight
   column that nobody holds, if there is one.
3. Breadth-first search from all rows that are left finds alternating paths of tight pairs, disjoint
   ones in one phase (Hopcroft and Karp 1973). A column that a phase has seen, or that is held in
   2., costs infinity from then on, so that a row scan finds only what is of use.
4. No price has changed: what is matched is tight, and shortest paths take over from there.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .jit import kernel
from .scans import row_collect, row_min, row_top2
from .work import DUAL_SCANS, PASS_SCANS, STOP, TIE_SCANS

PHASES = 12  # of breadth-first search, each of at most one scan a row


@kernel
def row_minima(cost, i, least):
    for j in range(cost.shape[1]):
        least[j] = cost[i, j] if cost[i, j] < least[j] else least[j]


@kernel
def reduce_columns(cost, m, price, work):
    """Set each price to the negative of its column's minimum."""
    price[:] = np.inf
    for i in range(cost.shape[0]):
        if work[STOP] != 0:
            break
        work[PASS_SCANS] += 1
        row_minima(cost, i, price)
    for j in range(price.shape[0]):
        price[j] = -price[j] if j < m and price[j] < np.inf else 0


@kernel
def copy(target, source):
    for j in range(source.shape[0]):
        target[j] = source[j]


@kernel
def match_greedily(cost, price, open_price, dual, owner, column, free, floor, work):
    """Row duals, and a tight column that is free for each row that has one; how many rows have
    none, now in ``free``. No c_ij + p_j is below ``floor``."""
    left = 0
    copy(open_price, price)
    for i in range(cost.shape[0]):
        if work[STOP] != 0:
            break
        work[DUAL_SCANS] += 1
        first, _, j = row_top2(cost, i, open_price)
        least = first if first <= floor else row_min(cost, i, price)
        dual[i] = least
        if first <= least < np.inf:
            owner[j] = i
            column[i] = j
            open_price[j] = np.inf
        else:
            free[left] = i
            left += 1
    return left


@kernel
def flip(row, j, start, owner, column, pred):
    """Assign along the path that ends in ``row`` and the free column j."""
    while True:
        last = column[row]
        owner[j] = row
        column[row] = j
        if row == start:
            return
        j = last
        row = pred[j]


@kernel
def grow_forest(cost, price, open_price, dual, owner, column, free, count, search, work):
    """One phase of breadth-first search from the ``count`` rows in ``free``; how many are left."""
    root, pred, queue, hits, hit_costs = search
    copy(open_price, price)
    tail = 0
    for q in range(count):
        if dual[free[q]] < np.inf:
            root[free[q]] = free[q]
            queue[tail] = free[q]
            tail += 1
    head = 0
    while head < tail and work[STOP] == 0:
        i = queue[head]
        head += 1
        start = root[i]
        if column[start] >= 0:
            continue
        work[TIE_SCANS] += 1
        found = row_collect(cost, i, open_price, dual[i], hits, hit_costs, 0)
        end = -1
        for q in range(found):
            if owner[hits[0, q]] < 0:
                end = np.int64(hits[0, q])
                break
        if end >= 0:
            open_price[end] = np.inf
            flip(i, end, start, owner, column, pred)
            continue
        for q in range(found):
            j = np.int64(hits[0, q])
            open_price[j] = np.inf
            pred[j] = i
            root[owner[j]] = start
            queue[tail] = owner[j]
            tail += 1
    left = 0
    for q in range(count):
        if column[free[q]] < 0:
            free[left] = free[q]
            left += 1
    return left


@njit
def match_ties(cost, price, dual, owner, column, free, work):
    """Match along tight pairs alone; how many rows are left, in ``free``. ``dual`` is written."""
    n, width = cost.shape
    open_price = np.empty(width)
    floor = 0.0 if owner.shape[0] == n else -np.inf  # of reduced columns
    left = match_greedily(cost, price, open_price, dual, owner, column, free, floor, work)
    if left == 0:
        return 0
    search = (
        np.empty(n, np.int64),  # root of a row's tree
        np.empty(width, np.int64),  # pred: the row that reached a column
        np.empty(n, np.int64),  # queue of rows
        np.empty((1, width), np.uint32),  # hits: columns of a row scan
        np.empty((1, width), cost.dtype),  # their costs
    )
    for _ in range(PHASES):
        before = left
        left = grow_forest(cost, price, open_price, dual, owner, column, free, left, search, work)
        if left == 0 or left == before:
            break
    return left
