"""Matching by ties: where many pairs cost the same, the work is a matching and no price war.

1. Column reduction: p_j = -min_i c_ij makes every reduced cost >= 0, and one of each column 0.
2. With u_i = min_j (c_ij + p_j), the pairs at c_ij + p_j = u_i are tight: the equality subgraph.
   Each row takes a tight column that nobody holds, if there is one.
3. Breadth-first search from all rows that are left finds alternating paths of tight pairs, disjoint
   ones in one phase (Hopcroft and Karp 1973). A column that a phase has seen, or that is held in
   2., costs infinity from then on, so that a row scan finds only what is of use.
4. No price has changed: what is matched is tight, and shortest paths take over from there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .jit import kernel
from .scans import row_collect, row_min, row_top2
from .schedule import TIE_PHASES
from .work import DUAL_SCANS, PASS_SCANS, TIE_SCANS


class Forest(NamedTuple):
    """Scratch of the breadth-first search."""

    open_price: NDArray[np.float64]  # (width,), infinite for columns that are of no use any more
    root: NDArray[np.int64]  # (n,), of a row's tree
    pred: NDArray[np.int64]  # (width,), the row that reached a column
    queue: NDArray[np.int64]  # (n,), rows
    hits: NDArray[np.uint32]  # (1, width), columns that a row scan finds
    hit_costs: NDArray[np.floating]  # (1, width)


@kernel
def lower_minima(cost, i, least):
    for j in range(cost.shape[1]):
        least[j] = cost[i, j] if cost[i, j] < least[j] else least[j]


@kernel
def reduce_columns(cost, m, price, work):
    """Set each price to the negative of its column's minimum."""
    price[:] = np.inf
    for i in range(cost.shape[0]):
        if work.stop[0] != 0:
            break
        work.counts[PASS_SCANS] += 1
        lower_minima(cost, i, price)
    for j in range(price.shape[0]):
        price[j] = -price[j] if j < m and price[j] < np.inf else 0


@kernel
def copy(target, source):
    for j in range(source.shape[0]):
        target[j] = source[j]


@kernel
def match_greedily(cost, duals, matching, open_price, free, floor, work):
    """Row duals, and a tight column that is free for each row that has one; how many rows have
    none, now in ``free``. No c_ij + p_j is below ``floor``."""
    row4col, col4row = matching
    left = 0
    copy(open_price, duals.price)
    for i in range(cost.shape[0]):
        if work.stop[0] != 0:
            break
        work.counts[DUAL_SCANS] += 1
        first, _, j = row_top2(cost, i, open_price)
        least = first if first <= floor else row_min(cost, i, duals.price)
        duals.row[i] = least
        if first <= least < np.inf:
            row4col[j] = i
            col4row[i] = j
            open_price[j] = np.inf
        else:
            free[left] = i
            left += 1
    return left


@kernel
def flip(row, j, start, matching, pred):
    """Assign along the path that ends in ``row`` and the free column j."""
    row4col, col4row = matching
    while True:
        held = col4row[row]
        row4col[j] = row
        col4row[row] = j
        if row == start:
            return
        j = held
        row = pred[j]


@kernel
def grow_forest(cost, duals, matching, free, count, forest, work):
    """One phase of breadth-first search from the ``count`` rows in ``free``; how many are left."""
    row4col, col4row = matching
    open_price, root, pred, queue, hits, hit_costs = forest
    copy(open_price, duals.price)
    tail = 0
    for q in range(count):
        if duals.row[free[q]] < np.inf:
            root[free[q]] = free[q]
            queue[tail] = free[q]
            tail += 1
    head = 0
    while head < tail and work.stop[0] == 0:
        i = queue[head]
        head += 1
        start = root[i]
        if col4row[start] >= 0:
            continue
        work.counts[TIE_SCANS] += 1
        found = row_collect(cost, i, open_price, duals.row[i], hits, hit_costs, 0)
        end = -1
        for q in range(found):
            if row4col[hits[0, q]] < 0:
                end = np.int64(hits[0, q])
                break
        if end >= 0:
            open_price[end] = np.inf
            flip(i, end, start, matching, pred)
            continue
        for q in range(found):
            j = np.int64(hits[0, q])
            open_price[j] = np.inf
            pred[j] = i
            root[row4col[j]] = start
            queue[tail] = row4col[j]
            tail += 1
    left = 0
    for q in range(count):
        if col4row[free[q]] < 0:
            free[left] = free[q]
            left += 1
    return left


@njit
def match_ties(cost, duals, matching, free, work):
    """Match along tight pairs alone, from no assignment; how many rows are left, in ``free``. The
    duals of rows are written."""
    n, width = cost.shape
    open_price = np.empty(width)
    floor = 0.0 if matching.row4col.shape[0] == n else -np.inf  # of reduced columns
    left = match_greedily(cost, duals, matching, open_price, free, floor, work)
    if left == 0:
        return 0
    forest = Forest(
        open_price,
        np.empty(n, np.int64),
        np.empty(width, np.int64),
        np.empty(n, np.int64),
        np.empty((1, width), np.uint32),
        np.empty((1, width), cost.dtype),
    )
    for _ in range(TIE_PHASES):
        before = left
        left = grow_forest(cost, duals, matching, free, left, forest, work)
        if left == 0 or left == before:
            break
    return left
