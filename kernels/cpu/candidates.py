"""Candidate lists: the few columns of a row that can be its best for a long time.

1. A full scan of row i at prices p collects every column with c_ij + p_j <= bound_i (about 20 of
   them).
2. Prices only ever rise, so every other column keeps c_ij + p_j >= bound_i for good.
3. Hence the best column of the list is the best of the row while its value is <= bound_i, and
   min(second best of the list, bound_i) never exceeds the true second best: a bid needs no row scan
   until the list is exhausted.

Float rounding is monotone, so 2. holds for rounded sums too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .jit import inlined_kernel, kernel
from .scans import list_top2, row_collect, row_group_min, row_top2
from .vector import GROUPS
from .work import BID_SCANS, PASS_SCANS

ROOM = 64  # columns a list can hold


class Lists(NamedTuple):
    """Candidates of each row, in the type of the costs; of no row, where rows are scanned whole."""

    column: NDArray[np.uint32]  # (n, ROOM)
    cost: NDArray[np.floating]  # (n, ROOM), infinite beyond the length
    length: NDArray[np.int64]  # (n,)
    bound: NDArray[np.floating]  # (n,), of point 1
    groups: NDArray[np.floating]  # (GROUPS,), scratch of the scan that fills a list


@njit
def new_lists(cost, listed):
    n = cost.shape[0] if listed else 0
    return Lists(
        np.empty((n, ROOM), np.uint32),
        np.empty((n, ROOM), cost.dtype),
        np.zeros(n, np.int64),
        np.full(n, -np.inf, cost.dtype),
        np.empty(GROUPS, cost.dtype),
    )


@njit(inline="always")
def unlisted(lists):
    """Lists of no row."""
    return Lists(lists.column, lists.cost, lists.length[:0], lists.bound, lists.groups)


@inlined_kernel
def exact_bound(lists, i):
    """``bound_i`` less a unit in the last place, because it was compared with rounded sums."""
    limit = np.float64(lists.bound[i])
    return limit - abs(limit) * np.finfo(lists.bound.dtype).eps


@kernel
def row_bound(cost, i, price, groups):
    """(smallest value of row i, the largest finite one of 8 group minima).

    At least 8 columns lie at or below that bound, if so many are finite; if their values are drawn
    from one distribution, 8 (1 + 1/2 + ... + 1/8) = 22 on average.
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
def refill(cost, i, price, lists):
    """Scan row i and rebuild its list."""
    best, limit = row_bound(cost, i, price, lists.groups)
    hits = 0
    if best < np.inf:
        hits = row_collect(cost, i, price, limit, lists.column, lists.cost, i)
        if hits > ROOM:  # ties: keep the best alone, as many as fit
            limit = best
            hits = row_collect(cost, i, price, limit, lists.column, lists.cost, i)
            if hits <= ROOM:
                limit = next_value(cost, i, price, best)
            hits = min(hits, ROOM)
    for q in range(hits, ROOM):
        lists.column[i, q] = 0
        lists.cost[i, q] = np.inf
    lists.length[i] = hits
    lists.bound[i] = limit


@kernel
def refill_all(cost, price, lists, work):
    for i in range(lists.length.shape[0]):
        if work.stop[0] != 0:
            break
        work.counts[PASS_SCANS] += 1
        refill(cost, i, price, lists)


@inlined_kernel
def best_two(cost, i, price, lists, work):
    """(smallest value of row i, at most the second smallest, column of the smallest)."""
    if lists.length.shape[0] == 0:
        work.counts[BID_SCANS] += 1
        return row_top2(cost, i, price)
    first, second, column = list_top2(lists.cost, i, price, lists.column, lists.length[i])
    if not first <= lists.bound[i]:
        work.counts[BID_SCANS] += 1
        refill(cost, i, price, lists)
        first, second, column = list_top2(lists.cost, i, price, lists.column, lists.length[i])
    return first, min(second, lists.bound[i]), column
