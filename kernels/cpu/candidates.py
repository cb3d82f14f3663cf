"""Candidate lists: the few columns of a row that can be its best for a long time.

1. A full scan of row i at prices p collects every column with c_ij + p_j <= bound_i (about 20 of them).
2. Prices only ever rise, so every other column keeps c_ij + p_j >= bound_i for good.
3. Hence the best column of the list is the best of the row while its value is <= bound_i, and min(second best
   of the list, bound_i) never exceeds the true second best: a bid needs no row scan until the list runs dry.

Float rounding is monotone, so 2. holds for rounded sums too.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .jit import inlined_kernel, kernel

from .vector import LANES, list_top2, row_collect, row_lane_min, row_top2
from .work import BID_SCANS

ROOM = 64  # columns a list can hold
GROUPS = 8  # a bound is the largest of 8 group minima: at least 8 columns lie below it, 22 on average
LISTED_FROM = 320  # below this many columns a whole row is scanned faster than a list is kept


@njit
def new_candidates(cost, listed):  # type: ignore[no-untyped-def]
    """(index, value, count, bound) of empty lists; of no rows at all where rows are scanned whole."""
    n = cost.shape[0] if listed else 0
    index = np.zeros((n, ROOM), np.uint32)
    value = np.full((n, ROOM), np.inf, cost.dtype)
    return index, value, np.zeros(n, np.int64), np.full(n, -np.inf, cost.dtype)


@kernel
def row_bound(cost, i, price, lanes):  # type: ignore[no-untyped-def]
    """(smallest value of row i, a bound with at least a few columns at or below it)."""
    row_lane_min(cost, i, price, lanes)
    best = lanes[0]
    bound = lanes[0]
    for g in range(GROUPS):
        least = lanes[g]
        for lane in range(g + GROUPS, LANES, GROUPS):
            least = min(least, lanes[lane])
        best = min(best, least)
        if g == 0 or not bound < np.inf or bound < least < np.inf:
            bound = least
    return best, bound


@kernel
def refill(cost, i, price, index, value, count, bound, lanes):  # type: ignore[no-untyped-def]
    """Scan row i and make its list anew."""
    best, limit = row_bound(cost, i, price, lanes)
    hits = 0
    if best < np.inf:
        hits = row_collect(cost, i, price, limit, index, value, i)
        if hits > ROOM:  # ties: keep the first of the best, the others are not below it
            limit = best
            hits = min(row_collect(cost, i, price, limit, index, value, i), ROOM)
    for q in range(hits, ROOM):
        index[i, q] = 0
        value[i, q] = np.inf
    count[i] = hits
    bound[i] = limit


@inlined_kernel
def best_two(cost, i, price, index, value, count, bound, lanes, work):  # type: ignore[no-untyped-def]
    """(smallest value of row i, at most the second smallest, column of the smallest)."""
    if count.shape[0] == 0:
        work[BID_SCANS] += 1
        return row_top2(cost, i, price)
    first, second, column = list_top2(value, i, price, index, count[i])
    if not first <= bound[i]:
        work[BID_SCANS] += 1
        refill(cost, i, price, index, value, count, bound, lanes)
        first, second, column = list_top2(value, i, price, index, count[i])
    return first, min(second, bound[i]), column
