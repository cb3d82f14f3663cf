"""Shortlists: the cheapest columns of each row, from blocks of costs that nobody keeps, and an
auction that looks at nothing else (Bertsekas and Castanon 1989; for lists, see ``candidates.py``).

1. ``shorten`` takes rows of costs c_ij and keeps the K columns of each with the least c_ij + p_j.
   The minima of ``G`` groups of columns are found first; the K-th smallest of those is a limit that
   at least K columns keep, and few more. ``bound`` is what no column outside of the list is below.
   Of columns that tie at the limit those are kept that follow a place of the row's own: lists of
   equal rows must not be equal, or all want the same K columns.
2. Prices only rise, so a column outside of the list stays at or above the bound. A list serves
   while its best is at most ``slack`` above the bound: a bid from it then is within ``slack`` of
   the row's best column, which the eps of an auction allows for as well as anything else.
3. ``bid`` is an auction on the lists, one bidder at a time. Rows whose lists no longer serve are
   parked until a block of costs rebuilds theirs, and bid on from there.
4. ``add_mass`` is the other pass over a block: what rows of Sinkhorn's plan give to the columns,
   sum_i exp((u_i - c_ij - p_j) / eps) with u_i such that row i gives 1 in all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .jit import entry_point, kernel
from .scans import list_top2, row_collect

FREE = -1


class Found(NamedTuple):
    """What the scan of one row has found."""

    column: NDArray[np.uint32]  # (1, m)
    cost: NDArray[np.float32]  # (1, m)
    order: NDArray[np.float32]  # (m,), scratch


class Shortlists(NamedTuple):
    """The lists of all rows; see ``shorten``."""

    column: NDArray[np.uint32]
    cost: NDArray[np.float32]
    length: NDArray[np.int64]
    bound: NDArray[np.float32]


@kernel
def kth_smallest(values, count, k):
    """The k-th smallest (from 1) of the first ``count`` values, which are reordered."""
    low, high, k = 0, count - 1, k - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return values[k]


@kernel
def group_minima(cost, q, price, minima):
    """Minima of c + p over columns j, j + G, j + 2 G, ... of row q, for each of the G groups."""
    groups, width = minima.shape[0], cost.shape[1]
    for g in range(groups):
        minima[g] = cost[q, g] + price[g]
    for start in range(groups, width, groups):
        for g in range(min(groups, width - start)):
            value = cost[q, start + g] + price[start + g]
            minima[g] = value if value < minima[g] else minima[g]


@kernel
def turned(i, hits):
    """A place in a list of ``hits`` columns, different for different rows."""
    mixed = (np.uint64(i) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed >> np.uint64(33)) % np.uint64(hits))


@kernel
def keep(i, price, hits, found, lists, limit):
    """Keep the K cheapest of the ``hits`` columns that were found in the list of row i; ``limit``
    is above none."""
    columns, costs = found.column[0], found.cost[0]
    room = lists.column.shape[1]
    kept, cut = hits, limit
    if hits > room:
        for h in range(hits):
            found.order[h] = costs[h] + price[columns[h]]
        cut = kth_smallest(found.order, hits, room)
        kept = 0
        for h in range(hits):
            if costs[h] + price[columns[h]] < cut:
                lists.column[i, kept], lists.cost[i, kept] = columns[h], costs[h]
                kept += 1
        first = turned(i, hits)
        for h in range(hits):
            at = first + h
            at -= hits if at >= hits else 0
            if kept < room and costs[at] + price[columns[at]] == cut:
                lists.column[i, kept], lists.cost[i, kept] = columns[at], costs[at]
                kept += 1
    else:
        for h in range(hits):
            lists.column[i, h], lists.cost[i, h] = columns[h], costs[h]
    for h in range(kept, room):
        lists.column[i, h], lists.cost[i, h] = 0, np.inf
    lists.length[i], lists.bound[i] = kept, cut


@entry_point
def shorten(cost, rows, begin, end, price, index, value, count, bound):
    """Rebuild the lists of ``rows[begin:end]`` from the costs (b, m) in the same places.

    ``price`` (m,) and ``value`` (n, K) are of the type of the costs, as is ``bound`` (n,);
    ``index`` (n, K) is uint32, and ``count`` (n,) int64. K is a multiple of 16, and m at least 16.
    """
    width, room = cost.shape[1], index.shape[1]
    groups = min(width, 16 * room)
    minima, order = np.empty(groups, cost.dtype), np.empty(width, cost.dtype)
    found = Found(np.empty((1, width), np.uint32), np.empty((1, width), cost.dtype), order)
    lists = Shortlists(index, value, count, bound)
    for q in range(begin, end):
        limit = cost.dtype.type(np.inf)
        if width > room:
            group_minima(cost, q, price, minima)
            limit = kth_smallest(minima, groups, room)
        hits = row_collect(cost, q, price, limit, found.column, found.cost, 0)
        keep(rows[q], price, hits, found, lists, limit)


@njit(fastmath=True)
def exponentials(cost, q, price, rate, least, power, bits, scale):
    """2^(rate (least - c - p)) of row q to ``power`` (m,), and their sum. Exponents are cut off at
    -100; ``scale`` are the ``bits`` (m,) int32, seen as float32."""
    one, total = np.float32(1), np.float32(0)
    for j in range(power.shape[0]):
        exponent = rate * (least - cost[q, j] - price[j])
        exponent = exponent if exponent > np.float32(-100) else np.float32(-100)
        whole = np.int32(exponent)  # towards zero, so that the rest is in (-1, 0]
        rest = exponent - np.float32(whole)
        bits[j] = (whole + np.int32(127)) << np.int32(23)
        series = np.float32(0.0096181291) + rest * np.float32(0.0013333558)
        series = np.float32(0.0555041086) + rest * series
        series = np.float32(0.2402265069) + rest * series
        power[j] = one + rest * (np.float32(0.6931471805) + rest * series)
    for j in range(power.shape[0]):
        power[j] *= scale[j]
        total += power[j]
    return total


@njit(fastmath=True)
def add_scaled(total, power, factor):
    for j in range(power.shape[0]):
        total[j] += factor * power[j]


@entry_point
def add_mass(cost, begin, end, price, eps, mass):
    """Add to ``mass`` (m,) what the rows ``begin`` to ``end`` of the costs (b, m) give to the
    columns at ``eps``; all in float32."""
    width = cost.shape[1]
    minima, power = np.empty(min(width, 256), np.float32), np.empty(width, np.float32)
    bits = np.empty(width, np.int32)
    scale = bits.view(np.float32)
    rate = np.float32(1.4426950408889634 / eps)
    for q in range(begin, end):
        group_minima(cost, q, price, minima)
        least = minima[0]
        for g in range(minima.shape[0]):
            least = min(least, minima[g])
        total = exponentials(cost, q, price, rate, least, power, bits, scale)
        add_scaled(mass, power, np.float32(1) / total)


@entry_point
def bid(
    price, owner, column, index, value, count, bound, slack, stack, top, parked, excess, eps, budget
):
    """Bids of the ``top`` rows on the ``stack``, and of those that they displace.

    Returns (rows left on the stack, rows parked, bids made): the stack is empty unless ``budget``
    bids were made. ``owner`` (m,) and ``column`` (n + 1,), which ends in a dummy, hold the
    assignment.
    """
    ulp = price.dtype.type(np.finfo(price.dtype).eps * 4)
    step = price.dtype.type(eps)
    waiting, bids = 0, 0
    while top > 0 and bids < budget:
        top -= 1
        i = stack[top]
        first, second, j = list_top2(value, i, price, index, count[i])
        if not first <= bound[i] + slack[i]:
            parked[waiting], excess[waiting] = i, first - bound[i]
            waiting += 1
            continue
        bids += 1
        rise = min(second, bound[i]) - first
        rise = step + (rise if 0 < rise < np.inf else 0)
        price[j] += max(rise, ulp * abs(price[j]))
        displaced = owner[j]
        owner[j] = i
        column[displaced] = FREE  # nobody is number -1, which is the last: the dummy
        column[i] = j
        if displaced >= 0:
            stack[top] = displaced
            top += 1
    return top, waiting, bids


@entry_point
def release(price, owner, column, index, value, count, bound, stack, eps):
    """Set free who is not within ``eps`` of its best column; the free rows, on the stack."""
    top = 0
    for i in range(column.shape[0] - 2, -1, -1):
        j = column[i]
        if j >= 0:
            first, _, _ = list_top2(value, i, price, index, count[i])
            own = np.inf
            for h in range(count[i]):
                if index[i, h] == j:
                    own = value[i, h] + price[j]
            if own > min(first, bound[i]) + eps:
                owner[j] = FREE
                column[i] = j = FREE
        if j < 0:
            stack[top] = i
            top += 1
    return top


@entry_point
def margins(price, index, value, count, bound, slack, margin):
    """How far the best column of each list may still rise before the list no longer serves."""
    for i in range(count.shape[0]):
        first, _, _ = list_top2(value, i, price, index, count[i])
        margin[i] = bound[i] + slack[i] - first
