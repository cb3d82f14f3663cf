"""Augmenting row reduction: bids without eps, in float64 (Jonker and Volgenant 1987, step 2).

1. A free row i raises the price of its best column j until j is only as good as its second best,
   and takes j.
2. Its dual is then that second best value, the pair is tight, and whoever held j is free and goes
   next.
3. A tie for the best column that somebody holds would raise nothing: such a row is left to a
   shortest path, and so are a row whose candidate list has run dry and, once the budget of bids is
   spent, all the others.

An assigned pair stays tight, because only its own row raises the price of its column without taking
it away.
"""

from __future__ import annotations

import numpy as np

from .candidates import exact_bound
from .jit import kernel
from .vector import list_top2, row_top2
from .work import REDUCTIONS, STOP

BIDS_PER_ROW = 4


@kernel
def reduce_rows(cost, price, dual, owner, column, lists, free, count, work):
    """Assign what bids alone can of the ``count`` rows in ``free``; return how many are left
    there."""
    index, value, listed, bound, _ = lists
    budget = BIDS_PER_ROW * count
    kept = 0
    for q in range(count):
        i = free[q]
        while i >= 0:
            if work[STOP] != 0:
                return count
            if listed.shape[0] == 0:
                first, second, j = row_top2(cost, i, price)
            else:
                first, second, j = list_top2(value, i, price, index, listed[i])
                limit = exact_bound(bound, i)
                if not first <= limit:
                    break
                second = min(second, limit)
            dual[i] = first
            held = owner[j]
            rise = second - first
            if budget <= 0 or not first < np.inf or (held >= 0 and not 0 < rise < np.inf):
                break
            budget -= 1
            work[REDUCTIONS] += 1
            if 0 < rise < np.inf:
                price[j] += rise
                dual[i] = second
            owner[j] = i
            column[i] = j
            if held >= 0:
                column[held] = -1
            i = held
        if i >= 0:
            free[kept] = i
            kept += 1
    return kept
