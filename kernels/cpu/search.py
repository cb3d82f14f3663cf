"""The search for a shortest augmenting path: Dijkstra's algorithm from one row, over reduced costs
c_ij + p_j - u_i >= 0.

1. The heap holds codes: column j, and m + i for the columns of row i that are not on its list.
2. A row first offers its candidates; the rest of it waits at the distance of its bound. Without
   lists, whole rows are offered.
3. ``slack_j`` = p_j less the distance of column j so far: row i at distance d reaches j sooner if
   c_ij + slack_j < u_i - d, so that the scan of a whole row finds what it can improve. It is kept
   as columns are reached, except that the distance of the nearest free column, which bounds all
   others, is taken in only when slack is rebuilt.
4. With fewer rows than columns a dummy row, number n, stands for all dummies.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .candidates import exact_bound
from .heap import OUTSIDE, heap_pop, heap_put
from .jit import inlined_kernel, kernel
from .scans import row_collect
from .schedule import COLUMNS_PER_OFFER
from .statistics import smallest
from .work import LIST_RELAXATIONS, ROW_RELAXATIONS

CLOSED = -2  # place of a column whose distance is final
REACHED, HEAPED, NEAREST = range(3)  # of ``sizes``


class Search(NamedTuple):
    key: NDArray[np.float64]  # (m + n,), distance of a code
    heap: NDArray[np.int64]  # (m + n,), codes
    place: NDArray[np.int64]  # (m + n,), where a code is in the heap
    pred: NDArray[np.int64]  # (m,), the row that reached a column
    reached: NDArray[np.int64]  # (m + n,), codes that have a key
    sizes: NDArray[np.int64]  # (3,): codes reached, codes in the heap; nearest free column
    slack: NDArray[np.float64]  # (width,), of point 3
    scanned: NDArray[np.int64]  # (n + 1,), rows of the tree
    distance: NDArray[np.float64]  # (n + 1,), of those rows
    hits: NDArray[np.uint32]  # (1, width), columns that a row scan finds
    hit_costs: NDArray[np.floating]  # (1, width)


@njit
def new_search(cost, m):
    n, width = cost.shape
    return Search(
        np.full(m + n, np.inf),
        np.empty(m + n, np.int64),
        np.full(m + n, OUTSIDE, np.int64),
        np.empty(m, np.int64),
        np.empty(m + n, np.int64),
        np.zeros(3, np.int64),
        np.full(width, np.inf),
        np.empty(n + 1, np.int64),
        np.empty(n + 1),
        np.empty((1, width), np.uint32),
        np.empty((1, width), cost.dtype),
    )


@inlined_kernel
def relax(row, j, distance, near, price, row4col, search):
    """Offer column j at this distance; return the distance of the nearest free column so far."""
    key, sizes = search.key, search.sizes
    if distance < key[j] and distance < near and search.place[j] != CLOSED:
        if key[j] == np.inf:
            search.reached[sizes[REACHED]] = j
            sizes[REACHED] += 1
        key[j] = distance
        search.slack[j] = price[j] - distance
        search.pred[j] = row
        if row4col[j] < 0:
            near = distance
            sizes[NEAREST] = j
        else:
            sizes[HEAPED] = heap_put(search.heap, search.place, key, sizes[HEAPED], j)
    return near


@inlined_kernel
def put_off(code, distance, search):
    """Come back to the unlisted columns of a row at this distance."""
    key, sizes = search.key, search.sizes
    search.reached[sizes[REACHED]] = code
    sizes[REACHED] += 1
    key[code] = distance
    sizes[HEAPED] = heap_put(search.heap, search.place, key, sizes[HEAPED], code)


@kernel
def rebuild_slack(price, near, m, search):
    """Point 3; return the rounding error that comparing with slack may have."""
    key, slack = search.key, search.slack
    largest = 0.0
    for j in range(m):
        largest = max(largest, abs(price[j]))
        slack[j] = price[j] - near
    for q in range(search.sizes[REACHED]):
        j = search.reached[q]
        if j < m:
            closed = search.place[j] == CLOSED
            slack[j] = np.inf if closed else price[j] - min(key[j], near)
    return 4 * np.finfo(np.float64).eps * (largest + min(near, np.finfo(np.float64).max / 8))


@inlined_kernel
def relax_row(cost, i, near, error, duals, row4col, search):
    """Offer every column of row i that is nearer this way than it was; return the distance of the
    nearest free column so far, and how many were offered."""
    start, u = search.distance[i], duals.row[i]
    limit = u - start
    limit += error + 4 * np.finfo(np.float64).eps * (abs(u) + start)
    found = row_collect(cost, i, search.slack, limit, search.hits, search.hit_costs, 0)
    for q in range(found):
        j = search.hits[0, q]
        gap = np.float64(search.hit_costs[0, q]) + duals.price[j] - u
        near = relax(i, j, start + max(gap, 0.0), near, duals.price, row4col, search)
    return near, found


@inlined_kernel
def relax_list(i, near, duals, row4col, lists, search):
    """Offer the candidates of row i, and put off the rest of it to the distance of its bound."""
    start, u = search.distance[i], duals.row[i]
    for q in range(lists.length[i]):
        j = lists.column[i, q]
        gap = np.float64(lists.cost[i, q]) + duals.price[j] - u
        near = relax(i, j, start + max(gap, 0.0), near, duals.price, row4col, search)
    distance = start + max(exact_bound(lists, i) - u, 0.0)
    if distance < near:
        put_off(row4col.shape[0] + i, distance, search)
    return near


@inlined_kernel
def seed_path(cost, i, duals, row4col, lists, search):
    """Offer the best free column of start row i, to bound the search from the first step."""
    price = duals.price
    best, column = np.inf, -1
    if lists.length.shape[0] > 0:
        for q in range(lists.length[i]):
            j = np.int64(lists.column[i, q])
            if row4col[j] < 0 and np.float64(lists.cost[i, q]) + price[j] < best:
                best, column = np.float64(lists.cost[i, q]) + price[j], j
    if column < 0:
        for j in range(row4col.shape[0]):
            if row4col[j] < 0 and np.float64(cost[i, j]) + price[j] < best:
                best, column = np.float64(cost[i, j]) + price[j], j
    if column < 0:
        return np.inf
    return relax(i, column, max(best - duals.row[i], 0.0), np.inf, price, row4col, search)


@kernel
def relax_dummy(n, near, price, row4col, search):
    """Offer every column from the dummy row, the cheapest free one first; other dummies' columns
    lead nowhere."""
    m = row4col.shape[0]
    start, least = search.distance[n], smallest(price, m)
    cheapest = -1
    for j in range(m):
        if row4col[j] < 0 and (cheapest < 0 or price[j] < price[cheapest]):
            cheapest = j
    if cheapest >= 0:
        distance = start + (price[cheapest] - least)
        near = relax(n, cheapest, distance, near, price, row4col, search)
    for j in range(m):
        if row4col[j] != n:
            near = relax(n, j, start + (price[j] - least), near, price, row4col, search)
    return near


@kernel
def search_path(cost, duals, matching, lists, search, start_row, work):
    """Dijkstra from a free row; returns the nearest free column (-1: there is none), its distance,
    and how many rows were scanned."""
    row4col, col4row = matching
    n, m = cost.shape[0], row4col.shape[0]
    key, sizes, counts = search.key, search.sizes, work.counts
    listed = lists.length.shape[0] > 0
    sizes[:] = 0
    rows = 0
    near = np.inf
    if start_row < n:
        near = seed_path(cost, start_row, duals, row4col, lists, search)
    row, distance = start_row, 0.0
    dummy_seen = False
    # The nearest free column that ``slack`` knows of; an old one lets more columns be offered.
    built, error, offered = -1.0, 0.0, m
    while True:
        whole = -1
        if row < n or not dummy_seen:
            search.distance[row] = distance
            search.scanned[rows] = row
            rows += 1
            if row == n:
                dummy_seen = True
                near = relax_dummy(n, near, duals.price, row4col, search)
            elif listed:
                counts[LIST_RELAXATIONS] += 1
                near = relax_list(row, near, duals, row4col, lists, search)
            else:
                whole = row
        while True:
            if whole >= 0:
                counts[ROW_RELAXATIONS] += 1
                if near != built and COLUMNS_PER_OFFER * offered >= m:
                    error = rebuild_slack(duals.price, near, m, search)
                    built, offered = near, 0
                near, found = relax_row(cost, whole, near, error, duals, row4col, search)
                offered += found
            if work.stop[0] != 0:
                return -1, near, rows
            if sizes[HEAPED] == 0 or key[search.heap[0]] >= near:
                return (sizes[NEAREST], near, rows) if near < np.inf else (-1, near, rows)
            code = heap_pop(search.heap, search.place, key, sizes[HEAPED])
            sizes[HEAPED] -= 1
            whole = code - m
            if whole < 0:
                break
        search.place[code] = CLOSED
        search.slack[code] = np.inf
        distance = key[code]
        row = row4col[code]
        if row == n and not dummy_seen:
            col4row[n] = code  # the dummy that the path displaces
