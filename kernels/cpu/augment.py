"""Exact finish: shortest augmenting paths from the auction's prices, in float64 (Jonker and
Volgenant 1987).

1. With prices p, the row duals are u_i = min_j (c_ij + p_j); only pairs with c_ij + p_j = u_i stay
   assigned. Bids without eps then assign most of the other rows (``reduction``).
2. From each free row, Dijkstra's algorithm over reduced costs c_ij + p_j - u_i >= 0 finds the
   nearest free column. A row first offers its candidate list; its other columns are at
   bound_i - u_i or further, so the whole row is scanned only if the search gets that far (code
   m + i in the heap stands for them). No column as far as the nearest free one is looked at.
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
from .heap import OUTSIDE, heap_pop, heap_put
from .jit import inlined_kernel, kernel
from .reduction import BIDS_PER_ROW, reduce_rows
from .scans import row_collect, row_min
from .statistics import smallest
from .ties import match_ties
from .work import DUAL_SCANS, LIST_RELAXATIONS, PATHS, ROW_RELAXATIONS, STOP

CLOSED = -2  # place of a column whose distance is final
ASSIGNED, BLOCKED, LONG = range(3)
ENDLESS = 1 << 62
LISTS_A_ROW = 4  # so many candidate lists take as long as a row, about
OFFERS = 8  # an offer takes as long as so many columns of a new ``slack``
REACHED, HEAPED, NEAREST = range(3)  # ``sizes``: codes reached, codes in the heap, and a column


@njit
def new_frontier(n, m, width):
    """(key, heap, place, pred, reached, sizes, slack) of a search; codes: columns, or m + row."""
    return (
        np.full(m + n, np.inf),  # key: distance of a code
        np.empty(m + n, np.int64),  # heap of codes
        np.full(m + n, OUTSIDE, np.int64),  # place in the heap
        np.empty(m, np.int64),  # pred: the row that reached a column
        np.empty(m + n, np.int64),  # reached: codes that have a key
        np.zeros(3, np.int64),  # sizes
        np.full(
            width, np.inf
        ),  # slack: price less key, so that a row scan finds what it can improve
    )


@inlined_kernel
def relax(row, j, distance, near, price, owner, frontier):
    """Offer column j at this distance; return the distance of the nearest free column so far."""
    key, heap, place, pred, reached, sizes, slack = frontier
    if distance < key[j] and distance < near and place[j] != CLOSED:
        if key[j] == np.inf:
            reached[sizes[REACHED]] = j
            sizes[REACHED] += 1
        key[j] = distance
        slack[j] = price[j] - distance
        pred[j] = row
        if owner[j] < 0:
            near = distance
            sizes[NEAREST] = j
        else:
            sizes[HEAPED] = heap_put(heap, place, key, sizes[HEAPED], j)
    return near


@inlined_kernel
def put_off(code, distance, frontier):
    """Come back to the unseen columns of a row at this distance."""
    key, heap, place, _, reached, sizes, _ = frontier
    reached[sizes[REACHED]] = code
    sizes[REACHED] += 1
    key[code] = distance
    sizes[HEAPED] = heap_put(heap, place, key, sizes[HEAPED], code)


@kernel
def set_slack(price, near, owner, frontier):
    """Make ``slack`` anew; return the rounding error that comparing with it may have."""
    key, _, place, _, reached, sizes, slack = frontier
    m = owner.shape[0]
    largest = 0.0
    for j in range(m):
        largest = max(largest, abs(price[j]))
        slack[j] = price[j] - near
    for q in range(sizes[REACHED]):
        j = reached[q]
        if j < m:
            slack[j] = np.inf if place[j] == CLOSED else price[j] - min(key[j], near)
    return 4 * np.finfo(np.float64).eps * (largest + min(near, np.finfo(np.float64).max / 8))


@kernel
def relax_row(cost, i, start, near, price, u, error, owner, hits, hit_costs, frontier):
    """Offer every column of row i that is nearer this way than it was; return the distance of the
    nearest free column so far, and how many were offered."""
    limit = u - start
    limit += error + 4 * np.finfo(np.float64).eps * (abs(u) + start)
    found = row_collect(cost, i, frontier[6], limit, hits, hit_costs, 0)
    for q in range(found):
        j = hits[0, q]
        gap = np.float64(hit_costs[0, q]) + price[j] - u
        near = relax(i, j, start + max(gap, 0.0), near, price, owner, frontier)
    return near, found


@inlined_kernel
def relax_list(i, start, near, price, u, owner, lists, frontier):
    """Offer the candidates of row i, and put off the rest of it to the distance of its bound."""
    index, value, count, bound, _ = lists
    for q in range(count[i]):
        j = index[i, q]
        gap = np.float64(value[i, q]) + price[j] - u
        near = relax(i, j, start + max(gap, 0.0), near, price, owner, frontier)
    distance = start + max(exact_bound(bound, i) - u, 0.0)
    if distance < near:
        put_off(owner.shape[0] + i, distance, frontier)
    return near


@inlined_kernel
def seed_path(cost, i, price, u, owner, lists, frontier):
    """Offer the best free column of start row i, to bound the search from the first step."""
    index, value, count, _, _ = lists
    best, column = np.inf, -1
    if count.shape[0] > 0:
        for q in range(count[i]):
            j = np.int64(index[i, q])
            if owner[j] < 0 and np.float64(value[i, q]) + price[j] < best:
                best, column = np.float64(value[i, q]) + price[j], j
    if column < 0:
        for j in range(owner.shape[0]):
            if owner[j] < 0 and np.float64(cost[i, j]) + price[j] < best:
                best, column = np.float64(cost[i, j]) + price[j], j
    if column < 0:
        return np.inf
    return relax(i, column, max(best - u, 0.0), np.inf, price, owner, frontier)


@kernel
def relax_dummy(n, start, near, price, owner, frontier):
    """Offer every column from the dummy row, the cheapest free one first; other dummies' columns
    lead nowhere."""
    m = owner.shape[0]
    least = smallest(price, m)
    cheapest = -1
    for j in range(m):
        if owner[j] < 0 and (cheapest < 0 or price[j] < price[cheapest]):
            cheapest = j
    if cheapest >= 0:
        near = relax(n, cheapest, start + (price[cheapest] - least), near, price, owner, frontier)
    for j in range(m):
        if owner[j] != n:
            near = relax(n, j, start + (price[j] - least), near, price, owner, frontier)
    return near


@kernel
def search_path(cost, price, dual, owner, column, lists, frontier, tree, start_row, work):
    """Dijkstra from a free row; returns the nearest free column (-1: there is none), its distance,
    and how many rows were scanned."""
    n, m = cost.shape[0], owner.shape[0]
    key, heap, place, _, _, sizes, slack = frontier
    scanned, starts, hits, hit_costs = tree
    listed = lists[2].shape[0] > 0
    sizes[:] = 0
    rows = 0
    near = np.inf
    if start_row < n:
        near = seed_path(cost, start_row, price, dual[start_row], owner, lists, frontier)
    row, distance = start_row, 0.0
    dummy_seen = False
    # The nearest free column that ``slack`` knows of; an old one lets more columns be offered.
    built, error, offered = -1.0, 0.0, m
    while True:
        whole = -1
        if row < n or not dummy_seen:
            starts[row] = distance
            scanned[rows] = row
            rows += 1
            if row == n:
                dummy_seen = True
                near = relax_dummy(n, distance, near, price, owner, frontier)
            elif listed:
                work[LIST_RELAXATIONS] += 1
                near = relax_list(row, distance, near, price, dual[row], owner, lists, frontier)
            else:
                whole = row
        while True:
            if whole >= 0:
                work[ROW_RELAXATIONS] += 1
                if near != built and OFFERS * offered >= m:
                    error = set_slack(price, near, owner, frontier)
                    built, offered = near, 0
                start, u = starts[whole], dual[whole]
                near, found = relax_row(
                    cost, whole, start, near, price, u, error, owner, hits, hit_costs, frontier
                )
                offered += found
            if work[STOP] != 0:
                return -1, near, rows
            if sizes[HEAPED] == 0 or key[heap[0]] >= near:
                return (sizes[NEAREST], near, rows) if near < np.inf else (-1, near, rows)
            code = heap_pop(heap, place, key, sizes[HEAPED])
            sizes[HEAPED] -= 1
            whole = code - m
            if whole < 0:
                break
        place[code] = CLOSED
        slack[code] = np.inf
        distance = key[code]
        row = owner[code]
        if row == n and not dummy_seen:
            column[n] = code  # the dummy that the path displaces


@kernel
def augment(cost, price, dual, owner, column, lists, frontier, tree, start_row, work):
    """One search, dual update and flip; False when no free column can be reached."""
    n, m = cost.shape[0], owner.shape[0]
    key, _, place, pred, reached, sizes, _ = frontier
    scanned, starts, _, _ = tree
    target, distance, rows = search_path(
        cost, price, dual, owner, column, lists, frontier, tree, start_row, work
    )
    for q in range(sizes[REACHED]):
        code = reached[q]
        if target >= 0 and code < m and place[code] == CLOSED and owner[code] != n:
            price[code] += distance - key[code]
        key[code] = np.inf
        place[code] = OUTSIDE
    if target < 0:
        return False
    for q in range(rows):
        row = scanned[q]
        dual[row] += distance - starts[row]
        if row == n:  # every column of a dummy is as far as the dummy itself
            for j in range(m):
                if owner[j] == n:
                    price[j] += distance - starts[n]
    j = target
    while True:
        row = pred[j]
        owner[j] = row
        j, column[row] = column[row], j
        if row == start_row:
            return True


@kernel
def tight_start(cost, price, dual, owner, column, lists, free, work):
    """Row duals, and every pair that is not tight set free; the number of free rows."""
    n = cost.shape[0]
    index, value, count, bound, _ = lists
    frees = 0
    for i in range(n):
        if work[STOP] != 0:
            break
        best = np.inf
        reliable = False
        if count.shape[0] > 0:
            for q in range(count[i]):
                best = min(best, np.float64(value[i, q]) + price[index[i, q]])
            reliable = best <= exact_bound(bound, i)
        if not reliable:
            work[DUAL_SCANS] += 1
            best = row_min(cost, i, price)
        dual[i] = best
        j = column[i]
        if j >= 0 and np.float64(cost[i, j]) + price[j] > best:
            owner[j] = -1
            column[i] = -1
            j = -1
        if j < 0:
            free[frees] = i
            frees += 1
    return frees


@kernel
def seat_dummies(price, owner, n):
    """Give dummies the cheapest columns that are free; how many dummies are left."""
    m = owner.shape[0]
    least = smallest(price, m)
    dummies = m - n
    for j in range(m):
        if dummies > 0 and owner[j] < 0 and price[j] == least:
            owner[j] = n
            dummies -= 1
    return dummies


@njit
def find_paths(cost, price, dual, owner, column, lists, starts, count, patience, work):
    """Augment from each of the ``count`` rows in ``starts``, where n is a dummy.

    Returns ``ASSIGNED``; ``BLOCKED``, if a row can reach no free column; or ``LONG``, once the
    searches have looked at more than ``patience`` whole rows, or at ``LISTS_A_ROW`` candidate lists
    for each of them.
    """
    if count == 0:
        return ASSIGNED
    n, width = cost.shape
    frontier = new_frontier(n, owner.shape[0], width)
    tree = (
        np.empty(n + 1, np.int64),  # scanned: rows of the tree
        np.empty(n + 1),  # starts: distance of those rows
        np.empty((1, width), np.uint32),  # hits: columns of a row scan
        np.empty((1, width), cost.dtype),  # their costs
    )
    patience += work[ROW_RELAXATIONS] + work[LIST_RELAXATIONS] // LISTS_A_ROW
    for q in range(count):
        work[PATHS] += 1
        if not augment(cost, price, dual, owner, column, lists, frontier, tree, starts[q], work):
            return BLOCKED
        if work[ROW_RELAXATIONS] + work[LIST_RELAXATIONS] // LISTS_A_ROW > patience:
            return LONG
    return ASSIGNED


@njit
def exact_finish(cost, price, owner, column, lists, tied, bids, work):
    """Make the assignment optimal; False when the costs are infeasible.

    ``price`` (width,) are the auction's prices in float64, raised in place; ``column`` (n + 1,)
    ends in the dummy. If ``tied``, nothing is assigned yet, ``lists`` are still to be filled, and
    the columns of a square problem are reduced. Without ``bids``, only paths raise prices: from
    none, by no more than the assignment costs above the minima of the rows.
    """
    n, m = cost.shape[0], owner.shape[0]
    dual = np.zeros(n + 1)
    free = np.empty(n, np.int64)
    low = price.astype(cost.dtype)
    if tied:
        frees = match_ties(cost, price, dual, owner, column, free, work)
        if frees > 0:
            refill_all(cost, low, lists, work)
    else:
        frees = tight_start(cost, price, dual, owner, column, lists, free, work)
    if n == m and bids:
        budget = BIDS_PER_ROW * frees
        frees = reduce_rows(cost, price, low, dual, owner, column, lists, free, frees, budget, work)
    found = find_paths(cost, price, dual, owner, column, lists, free, frees, ENDLESS, work)
    if n < m and found == ASSIGNED:
        dummies = np.full(seat_dummies(price, owner, n), n)
        found = find_paths(
            cost, price, dual, owner, column, lists, dummies, dummies.shape[0], ENDLESS, work
        )
    return found == ASSIGNED and work[STOP] == 0
