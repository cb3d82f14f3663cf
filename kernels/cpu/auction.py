"""Forward auction with eps-scaling, a few bidders at a time (Bertsekas 1988; Bertsekas and Castanon
1989).

1. Rows are buyers, columns are objects with prices p; row i wants the column that minimises c_ij +
   p_j.
2. An unassigned row i bids: with the best value w1 (column j) and the second best w2, it sets
   p_j <- p_j + (w2 - w1) + eps, takes j, and whoever held j bids next (last in, first out). The
   ``TOGETHER`` rows next in turn look at the same prices: a w2 from before the others' bids is at
   most too low, which is a smaller step; who wants a column that one of them has just taken looks
   again.
3. Then every assigned row is within eps of its best column, so the assignment is within n eps of
   the optimum.
4. The phases lower eps. What is within the new eps of its best column stays assigned.

Each bid raises a price by at least eps and by a few units in its last place, so no rounding stalls
it; a budget of bids bounds the work of a price war, and the exact finish takes over from there.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .candidates import best_two, row_bound, unlisted
from .jit import kernel
from .work import BID_SCANS, BIDS, STOP

BIDS_PER_ROW = 150  # budget; an ordinary problem takes 8 to 60
WAR = 24  # bids per row; a phase that takes more starts again from a larger eps
BIDS_PER_FILL = 2  # fewer bids than this for each time that a list is filled: lists are dry ...
FILLS_PER_ROW = 2  # ... but so many fills of each list are free
SAMPLED_ROWS = 32
TOGETHER = 4  # rows that bid at the same prices: a processor works on them side by side
BIDS_PER_REFUSAL = 16  # fewer bids than this for each that came too late: rows bid one by one


@njit
def new_buffers(n, price):
    """(stack of unassigned rows, and of those that bid together the columns that they want, and
    their best and second best values and the prices of those columns)."""
    wanted, offer = np.empty(TOGETHER, np.int64), np.empty((3, TOGETHER), price.dtype)
    return np.empty(n, np.int64), wanted, offer


@kernel
def auction_phase(cost, price, owner, column, lists, eps, budget, buffers, work):
    """Assign every row to within ``eps``; whether the budget of bids sufficed, and whether lists
    ran out so fast that to scan whole rows, as it then does, is cheaper.

    ``owner`` (m,) and ``column`` (n + 1,), which ends in the dummy, hold the partial assignment, -1
    where there is none.
    """
    stack, wanted, offer = buffers
    index, value, count, bound, groups = lists
    ulp = price.dtype.type(np.finfo(price.dtype).eps * 4)
    top, refused = 0, 0
    dry = False
    start = work[BIDS]
    pace = start - BIDS_PER_FILL * (work[BID_SCANS] + FILLS_PER_ROW * count.shape[0])
    for i in range(cost.shape[0] - 1, -1, -1):
        if work[STOP] != 0:
            return False, dry
        j = column[i]
        if j >= 0:
            first, _, _ = best_two(cost, i, price, index, value, count, bound, groups, work)
            if cost[i, j] + price[j] > first + eps:
                owner[j] = -1
                column[i] = -1
                j = -1
        if j < 0:
            stack[top] = i
            top += 1
    while top > 0:
        if work[BIDS] >= budget or work[STOP] != 0:
            return False, dry
        if count.shape[0] > 0 and work[BIDS] - BIDS_PER_FILL * work[BID_SCANS] < pace:
            count = count[:0]
            dry = True
        crowded = BIDS_PER_REFUSAL * refused > work[BIDS] - start
        bidders = 1 if crowded else min(TOGETHER, top, budget - work[BIDS])
        base = top - bidders
        for q in range(bidders):
            i = stack[base + q]
            first, second, j = best_two(cost, i, price, index, value, count, bound, groups, work)
            wanted[q] = j
            offer[0, q], offer[1, q], offer[2, q] = first, second, price[j]
        top = base
        for q in range(bidders):
            i, j, first, second = stack[base + q], wanted[q], offer[0, q], offer[1, q]
            if not first < np.inf:
                return False, dry  # a row without a finite cost
            if price[j] == offer[2, q]:
                work[BIDS] += 1
                step = eps
                if second < np.inf:
                    step += max(second - first, 0)
                price[j] += max(step, ulp * abs(price[j]))
                displaced = owner[j]
                owner[j] = i
                column[displaced] = -1  # nobody is number -1, which is the last: the dummy
                column[i] = j
                i = displaced
            else:
                refused += 1
            stack[top] = i
            top += i >= 0
    return True, dry


@kernel
def has_tie(groups):
    for g in range(1, groups.shape[0]):
        for h in range(g):
            if groups[g] == groups[h] < np.inf:
                return True
    return False


@njit
def value_spread(cost, price, groups):
    """(median distance from a row's best value to its, about, twentieth best; share of rows with
    ties among their better values), over at most ``SAMPLED_ROWS`` rows.

    The first is the natural unit of eps; where ties are the rule, eps only tears them apart.
    """
    distances = np.empty(cost.shape[0] // max(1, cost.shape[0] // SAMPLED_ROWS) + 1)
    rows, ties = 0, 0
    for i in range(0, cost.shape[0], max(1, cost.shape[0] // SAMPLED_ROWS)):
        best, bound = row_bound(cost, i, price, groups)
        if best < np.inf:
            distances[rows] = np.float64(bound) - np.float64(best)
            rows += 1
            ties += has_tie(groups)
    if rows == 0:
        return 0.0, 0.0
    return np.median(distances[:rows]), ties / rows


@njit
def auction(cost, price, owner, column, lists, eps, last_eps, factor, work):
    """Phases from ``eps`` down to ``last_eps``: whether all rows are assigned (else the budget ran
    out), and whether the lists ran dry.

    Where rows fight for longer than ``WAR``, eps was too small for the distance that prices have to
    go: it grows by ``factor`` squared.
    """
    n = cost.shape[0]
    buffers = new_buffers(n, price)
    budget = work[BIDS] + BIDS_PER_ROW * n
    dry = False
    while True:
        step = price.dtype.type(eps)
        truce = min(budget, work[BIDS] + WAR * n)
        assigned, ran_dry = auction_phase(
            cost, price, owner, column, lists, step, truce, buffers, work
        )
        if ran_dry:
            lists = unlisted(cost, lists)
            dry = True
        if not assigned and truce <= work[BIDS] < budget:
            eps *= factor
            last_eps = max(last_eps, eps * np.finfo(price.dtype).eps)  # or steps are rounding
        elif not assigned or eps <= last_eps:
            return assigned, dry
        else:
            eps = max(eps / factor, last_eps)
