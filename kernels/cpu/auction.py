"""Forward auction with eps-scaling, a few bidders at a time (Bertsekas 1988; Bertsekas and Castanon
1989).

1. Rows are buyers, columns are objects with prices p; row i wants the column that minimises c_ij +
   p_j.
2. An unassigned row i bids: with the best value w1 (column j) and the second best w2, it sets
   p_j <- p_j + (w2 - w1) + eps, takes j, and whoever held j bids next (last in, first out). The
   ``TOGETHER`` rows next in turn look at the same prices: a w2 from before the others' bids is at
   most too low, which is a smaller step; who wants a column that one of them has just taken looks
   again.
3. Then every assigned row is within eps of its best column: eps-complementary slackness, by which
   the assignment is within n eps of the optimum.
4. The phases lower eps. Pairs that satisfy it for the new eps stay assigned.

Each bid raises a price by at least eps and by a few units in its last place, so no rounding stalls
it; a budget of bids bounds the work of a price war, and the exact finish takes over from there.

Prices are in the type of the costs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .candidates import best_two, row_bound, unlisted
from .jit import kernel
from .schedule import (
    AUCTION_BIDS_PER_ROW,
    BIDS_PER_FILL,
    BIDS_PER_REFUSAL,
    FILLS_PER_ROW,
    SAMPLED_ROWS,
    TOGETHER,
    WAR_BIDS_PER_ROW,
)
from .work import BID_SCANS, BIDS


class Bidders(NamedTuple):
    """Scratch of a phase: the unassigned rows, and the bids of those that bid together."""

    stack: NDArray[np.int64]  # (n,)
    column: NDArray[np.int64]  # (TOGETHER,), what they want
    first: NDArray[np.floating]  # (TOGETHER,), its value
    second: NDArray[np.floating]  # (TOGETHER,), at most the value of their second best
    price: NDArray[np.floating]  # (TOGETHER,), the price of the column as they saw it


@njit
def new_bidders(n, price):
    first, second, seen = np.empty((3, TOGETHER), price.dtype)
    return Bidders(np.empty(n, np.int64), np.empty(TOGETHER, np.int64), first, second, seen)


@kernel
def release_rows(cost, price, matching, lists, eps, stack, work):
    """Set free the rows that are not within ``eps`` of their best column; how many rows are free,
    now on the stack, or -1 if the solve is to stop."""
    row4col, col4row = matching
    top = 0
    for i in range(cost.shape[0] - 1, -1, -1):
        if work.stop[0] != 0:
            return -1
        j = col4row[i]
        if j >= 0:
            first, _, _ = best_two(cost, i, price, lists, work)
            if cost[i, j] + price[j] > first + eps:
                row4col[j] = -1
                col4row[i] = -1
                j = -1
        if j < 0:
            stack[top] = i
            top += 1
    return top


@kernel
def auction_phase(cost, price, matching, lists, eps, budget, bidders, work):
    """Assign every row to within ``eps``; whether the budget of bids sufficed, and whether lists
    were exhausted so fast that to scan whole rows, as it then does, is cheaper."""
    row4col, col4row = matching
    stack = bidders.stack
    counts = work.counts
    ulp = price.dtype.type(np.finfo(price.dtype).eps * 4)
    refused = 0
    exhausted = False
    start = counts[BIDS]
    pace = start - BIDS_PER_FILL * (counts[BID_SCANS] + FILLS_PER_ROW * lists.length.shape[0])
    top = release_rows(cost, price, matching, lists, eps, stack, work)
    if top < 0:
        return False, exhausted
    while top > 0:
        if counts[BIDS] >= budget or work.stop[0] != 0:
            return False, exhausted
        if lists.length.shape[0] > 0 and counts[BIDS] - BIDS_PER_FILL * counts[BID_SCANS] < pace:
            lists = unlisted(lists)
            exhausted = True
        crowded = BIDS_PER_REFUSAL * refused > counts[BIDS] - start
        together = 1 if crowded else min(TOGETHER, top, budget - counts[BIDS])
        base = top - together
        for q in range(together):
            first, second, j = best_two(cost, stack[base + q], price, lists, work)
            bidders.column[q], bidders.price[q] = j, price[j]
            bidders.first[q], bidders.second[q] = first, second
        top = base
        for q in range(together):
            i, j = stack[base + q], bidders.column[q]
            first, second = bidders.first[q], bidders.second[q]
            if not first < np.inf:
                return False, exhausted  # a row without a finite cost
            if price[j] == bidders.price[q]:
                counts[BIDS] += 1
                step = eps
                if second < np.inf:
                    step += max(second - first, 0)
                price[j] += max(step, ulp * abs(price[j]))
                displaced = row4col[j]
                row4col[j] = i
                col4row[displaced] = -1  # nobody is number -1, which is the last: the dummy
                col4row[i] = j
                i = displaced
            else:
                refused += 1
            stack[top] = i
            top += i >= 0
    return True, exhausted


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


class Eps(NamedTuple):
    """The eps of an auction: from the first to the last, each by a factor below the one before."""

    first: float
    last: float
    factor: float


@njit
def auction(cost, price, matching, lists, eps, work):
    """Phases from the first ``eps`` to the last: whether all rows are assigned (else the budget ran
    out), and whether the lists were exhausted.

    Where rows fight a price war, eps was too small for the distance that prices have to go: it
    grows by the factor squared.
    """
    n = cost.shape[0]
    bidders = new_bidders(n, price)
    budget = work.counts[BIDS] + AUCTION_BIDS_PER_ROW * n
    exhausted = False
    now, last = eps.first, eps.last
    while True:
        step = price.dtype.type(now)
        truce = min(budget, work.counts[BIDS] + WAR_BIDS_PER_ROW * n)
        assigned, found = auction_phase(cost, price, matching, lists, step, truce, bidders, work)
        if found:
            lists = unlisted(lists)
            exhausted = True
        if not assigned and truce <= work.counts[BIDS] < budget:
            now *= eps.factor
            last = max(last, now * np.finfo(price.dtype).eps)  # or steps are rounding
        elif not assigned or now <= last:
            return assigned, exhausted
        else:
            now = max(now / eps.factor, last)
