"""Candidate lists: the few columns of a row that can be its best for a long time.

1. A full scan of row i at prices p collects every column with c_ij + p_j <= bound_i (about 20 of
   them).
2. Prices only ever rise, so every other column keeps c_ij + p_j >= bound_i for good.
3. Hence the best column of the list is the best of the row while its value is <= bound_i, and
   min(second best of the list, bound_i) never exceeds the true second best: a bid needs no row scan
   until the list runs dry.

Float rounding is monotone, so 2. holds for rounded sums too.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .jit import inlined_kernel, kernel
from .scans import list_top2, row_collect, row_group_min, row_top2
from .vector import GROUPS
from .work import BID_SCANS, PASS_SCANS, STOP

ROOM = 64  # columns a list can hold
LISTED_FROM = 640  # below this many columns a whole row is scanned faster than a list is kept


@njit
def new_candidates(cost, listed):
    """(index, value, count, bound) of empty lists; of no rows at all where rows are scanned
    whole."""
    n = cost.shape[0] if listed else 0
    index = np.empty((n, ROOM), np.uint32)
    value = np.empty((n, ROOM), cost.dtype)
    return index, value, np.zeros(n, np.int64), np.full(n, -np.inf, cost.dtype)


@njit
def unlisted(cost, lists):
    """``lists`` of no rows, with which whole rows are scanned."""
    index, value, count, bound = new_candidates(cost, False)
    return index, value, count, bound, lists[4]


@inlined_kernel
def exact_bound(bound, i):
    """``bound_i`` less a unit in the last place, because it was compared with rounded sums."""
    limit = np.float64(bound[i])
    return limit - abs(limit) * np.finfo(bound.dtype).eps


@kernel
def row_bound(cost, i, price, groups):
    """(smallest value of row i, the largest finite one of 8 group minima).

    At least 8 columns lie at or below that bound, if so many are finite, and 22 on average.
    """
    row_group_min(cost, i, price, groups)
    best, bound = groups[0], groups[0]
    for g in range(1, GROUPS):
        least = groups[g]
        best = min(best, least)
        if not bound < np.inf or bound < least < np.inf:
            bound = least
    return best, bound


@kernel
def next_value(cost, i, price, best):
    """Smallest value of row i above ``best``."""
    least = best + np.inf
    for j in range(cost.shape[1]):
        value = cost[i, j] + price[j]
        if best < value < least:
            least = value
    return least


@kernel
def refill(cost, i, price, index, value, count, bound, groups):
    """Scan row i and make its list anew."""
    best, limit = row_bound(cost, i, price, groups)
    hits = 0
    if best < np.inf:
        hits = row_collect(cost, i, price, limit, index, value, i)
        if hits > ROOM:  # ties: keep the best alone, as many as fit
            limit = best
            hits = row_collect(cost, i, price, limit, index, value, i)
            if hits <= ROOM:
                limit = next_value(cost, i, price, best)
            hits = min(hits, ROOM)
    for q in range(hits, ROOM):
        index[i, q] = 0
        value[i, q] = np.inf
    count[i] = hits
    bound[i] = limit


@kernel
def refill_all(cost, price, lists, work):
    index, value, count, bound, groups = lists
    for i in range(count.shape[0]):
        if work[STOP] != 0:
            break
        work[PASS_SCANS] += 1
        refill(cost, i, price, index, value, count, bound, groups)


@inlined_kernel
def best_two(cost, i, price, index, value, count, bound, groups, work):
    """(smallest value of row i, at most the second smallest, column of the smallest)."""
    if count.shape[0] == 0:
        work[BID_SCANS] += 1
        return row_top2(cost, i, price)
    first, second, column = list_top2(value, i, price, index, count[i])
    if not first <= bound[i]:
        work[BID_SCANS] += 1
        refill(cost, i, price, index, value, count, bound, groups)
        first, second, column = list_top2(value, i, price, index, count[i])
    return first, min(second, bound[i]), column
