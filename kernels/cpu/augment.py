"""Exact finish: shortest augmenting paths from the auction's prices, in float64 (Jonker and
Volgenant 1987).

1. With prices p, the row duals are u_i = min_j (c_ij + p_j); only pairs with c_ij + p_j = u_i stay
   assigned. Bids without eps then assign most of the other rows (``reduction``).
2. From each free row, Dijkstra's algorithm over reduced costs c_ij + p_j - u_i >= 0 finds the
   nearest free column. A row first offers its candidate list; its other columns are at
   bound_i - u_i or further, so the whole row is scanned only if the search gets that far (code
   m + i in the heap stands for them). No column as far as the nearest free one is looked at.
   ``search`` has the loop.
3. Scanned columns get dearer by (d* - d_j), which keeps every reduced cost >= 0, and the path is
   flipped. Prices still only rise, so the candidate lists stay valid.
4. When every row is assigned, all assigned pairs are tight: the assignment is optimal and p, u
   prove it.

With fewer rows than columns, m - n dummy rows of cost zero fill the square; being equal, they act
as one row (number n) whose dual is min_j p_j, and are never stored.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .candidates import exact_bound, refill_all
from .heap import OUTSIDE
from .jit import kernel
from .matching import Duals
from .reduction import reduce_rows
from .scans import row_min
from .schedule import LISTS_A_ROW, REDUCTION_BIDS_PER_ROW
from .search import CLOSED, REACHED, new_search, search_path
from .statistics import smallest
from .ties import match_ties
from .work import DUAL_SCANS, LIST_RELAXATIONS, PATHS, ROW_RELAXATIONS

ASSIGNED, BLOCKED, LONG = range(3)
FROM_AUCTION, FROM_TIES, FROM_NOTHING = range(3)
ENDLESS = 1 << 62


@kernel
def augment(cost, duals, matching, lists, search, start_row, work):
    """One search, dual update and flip; False when no free column can be reached."""
    row4col, col4row = matching
    n, m = cost.shape[0], row4col.shape[0]
    target, distance, rows = search_path(cost, duals, matching, lists, search, start_row, work)
    for q in range(search.sizes[REACHED]):
        code = search.reached[q]
        if target >= 0 and code < m and search.place[code] == CLOSED and row4col[code] != n:
            duals.price[code] += distance - search.key[code]
        search.key[code] = np.inf
        search.place[code] = OUTSIDE
    if target < 0:
        return False
    for q in range(rows):
        row = search.scanned[q]
        duals.row[row] += distance - search.distance[row]
        if row == n:  # every column of a dummy is as far as the dummy itself
            for j in range(m):
                if row4col[j] == n:
                    duals.price[j] += distance - search.distance[n]
    j = target
    while True:
        row = search.pred[j]
        row4col[j] = row
        j, col4row[row] = col4row[row], j
        if row == start_row:
            return True


@kernel
def tight_start(cost, duals, matching, lists, free, work):
    """Row duals, and every pair that is not tight set free; the number of free rows."""
    row4col, col4row = matching
    frees = 0
    for i in range(cost.shape[0]):
        if work.stop[0] != 0:
            break
        best = np.inf
        reliable = False
        if lists.length.shape[0] > 0:
            for q in range(lists.length[i]):
                best = min(best, np.float64(lists.cost[i, q]) + duals.price[lists.column[i, q]])
            reliable = best <= exact_bound(lists, i)
        if not reliable:
            work.counts[DUAL_SCANS] += 1
            best = row_min(cost, i, duals.price)
        duals.row[i] = best
        j = col4row[i]
        if j >= 0 and np.float64(cost[i, j]) + duals.price[j] > best:
            row4col[j] = -1
            col4row[i] = -1
            j = -1
        if j < 0:
            free[frees] = i
            frees += 1
    return frees


@kernel
def seat_dummies(price, row4col, n):
    """Give dummies the cheapest columns that are free; how many dummies are left."""
    m = row4col.shape[0]
    least = smallest(price, m)
    dummies = m - n
    for j in range(m):
        if dummies > 0 and row4col[j] < 0 and price[j] == least:
            row4col[j] = n
            dummies -= 1
    return dummies


@njit
def find_paths(cost, duals, matching, lists, starts, count, patience, work):
    """Augment from each of the ``count`` rows in ``starts``, where n is a dummy.

    Returns ``ASSIGNED``; ``BLOCKED``, if a row can reach no free column; or ``LONG``, once the
    searches have looked at more than ``patience`` whole rows, or at ``LISTS_A_ROW`` candidate lists
    for each of them.
    """
    if count == 0:
        return ASSIGNED
    search = new_search(cost, matching.row4col.shape[0])
    counts = work.counts
    patience += counts[ROW_RELAXATIONS] + counts[LIST_RELAXATIONS] // LISTS_A_ROW
    for q in range(count):
        counts[PATHS] += 1
        if not augment(cost, duals, matching, lists, search, starts[q], work):
            return BLOCKED
        looked = counts[ROW_RELAXATIONS] + counts[LIST_RELAXATIONS] // LISTS_A_ROW
        if looked > patience and q + 1 < count:
            return LONG
    return ASSIGNED


@njit
def exact_finish(cost, price, matching, lists, start, work):
    """Make the assignment optimal; False when the costs are infeasible.

    ``price`` (width,) are the prices to start from in float64, raised in place. ``FROM_TIES``,
    nothing is assigned yet, ``lists`` are still to be filled, and the columns of a square problem
    are reduced. ``FROM_NOTHING``, there are no prices, and only paths raise them: by no more than
    the assignment costs above the minima of the rows.
    """
    n, m = cost.shape[0], matching.row4col.shape[0]
    duals = Duals(price, price.astype(cost.dtype), np.zeros(n + 1))
    free = np.empty(n, np.int64)
    if start == FROM_TIES:
        frees = match_ties(cost, duals, matching, free, work)
        if frees > 0:
            refill_all(cost, duals.low, lists, work)
    else:
        frees = tight_start(cost, duals, matching, lists, free, work)
    if n == m and start != FROM_NOTHING:
        budget = REDUCTION_BIDS_PER_ROW * frees
        frees = reduce_rows(cost, duals, matching, lists, free, frees, budget, work)
    found = find_paths(cost, duals, matching, lists, free, frees, ENDLESS, work)
    if n < m and found == ASSIGNED:
        dummies = np.full(seat_dummies(price, matching.row4col, n), n)
        count = dummies.shape[0]
        found = find_paths(cost, duals, matching, lists, dummies, count, ENDLESS, work)
    return found == ASSIGNED and work.stop[0] == 0
