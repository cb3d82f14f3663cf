"""Augmenting row reduction: bids without eps, in float64 (Jonker and Volgenant 1987, step 2).

1. A free row i raises the price of its best column j until j is only as good as its second best,
   and takes j.
2. Its dual is then that second best value, the pair is tight, and whoever held j is free and goes
   next.
3. A tie for the best column that somebody holds would raise nothing: such a row is left to a
   shortest path, and so are all the others once the budget of bids is spent.

An assigned pair stays tight, because only its own row raises the price of its column without taking
it away.
"""

from __future__ import annotations

import numpy as np

from .candidates import exact_bound, refill
from .jit import inlined_kernel, kernel
from .scans import list_top2, row_top2
from .work import BID_SCANS, REDUCTIONS


@inlined_kernel
def tight_two(cost, i, duals, lists, work):
    """As ``best_two``, for prices in float64; a list that is exhausted is filled at prices that are
    rounded down."""
    for attempt in range(2):
        if lists.length.shape[0] == 0:
            break
        first, second, j = list_top2(lists.cost, i, duals.price, lists.column, lists.length[i])
        limit = exact_bound(lists, i)
        if first <= limit:
            return first, min(second, limit), j
        if attempt == 0:
            work.counts[BID_SCANS] += 1
            refill(cost, i, duals.low, lists)
    return row_top2(cost, i, duals.price)


@inlined_kernel
def raise_price(duals, j, rise):
    price, low = duals.price, duals.low
    price[j] += rise
    low[j] = price[j]
    if low[j] > price[j]:
        low[j] = np.nextafter(low[j], low.dtype.type(-np.inf))


@inlined_kernel
def bid(i, j, first, second, duals, matching, work):
    """Assign j to row i, if it need not tie for it; the row without a column now: i, another, or
    -1."""
    row4col, col4row = matching
    duals.row[i] = first
    held = row4col[j]
    rise = second - first
    if not first < np.inf or (held >= 0 and not 0 < rise < np.inf):
        return i
    work.counts[REDUCTIONS] += 1
    if 0 < rise < np.inf:
        raise_price(duals, j, rise)
        duals.row[i] = second
    row4col[j] = i
    col4row[i] = j
    if held >= 0:
        col4row[held] = -1
    return held


@kernel
def reduce_rows(cost, duals, matching, lists, free, count, budget, work):
    """Assign what at most ``budget`` bids can of the ``count`` rows in ``free``; return how many
    are left there."""
    kept = 0
    budget += work.counts[REDUCTIONS]
    for q in range(count):
        i = free[q]
        while i >= 0:
            if work.stop[0] != 0:
                return count
            first, second, j = tight_two(cost, i, duals, lists, work)
            loser = i
            if work.counts[REDUCTIONS] < budget:
                loser = bid(i, j, first, second, duals, matching, work)
            else:
                duals.row[i] = first
            if loser == i:
                break
            i = loser
        if i >= 0:
            free[kept] = i
            kept += 1
    return kept
