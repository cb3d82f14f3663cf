"""Fewer rows than columns: bids without eps and shortest paths from prices of zero, where they do
(Jonker and Volgenant 1987; Crouse 2016 for the paths).

1. All prices are zero. Each row bids once, then those that lost their columns bid on
   (``reduction``); shortest paths assign the rows that bids leave.
2. The price of a column rises only while a row has it, and a column that a row has had is never
   free again. So the columns that are left over cost zero, less than all others: no dummy row wants
   anything else, and none has to look.
3. Where rows want the same columns, bids raise prices little by little, and searches grow long. If
   they look at more than ``patience`` rows for each one, the auction is asked instead. It takes the
   longer, the more columns are left over, since each of those needs a path of its own there.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .augment import find_paths
from .candidates import refill
from .jit import kernel
from .passes import row_survey
from .reduction import bid, reduce_rows
from .scans import row_top2
from .work import BID_SCANS, PASS_SCANS, STOP

BIDS_PER_ROW = 16
PATIENCE, PATIENCE_OF_COLUMNS = 3.0, 40.0  # rows: of any problem, and for columns left over ...
MOST_COLUMNS = 0.5  # ... up to so many for each row
FEW = 1 / 32  # of the rows: so few that are left search whole rows, and no list is filled for them
LOOKS = 256  # columns that are looked at for one that ties for the best, and is free


@kernel
def first_free(owner, start):
    while start < owner.shape[0] and owner[start] >= 0:
        start += 1
    return start


@kernel
def free_tie(cost, i, least, owner, start):
    """A column from ``start`` on that is free and costs row i its ``least``, or -1."""
    for j in range(start, min(start + LOOKS, owner.shape[0])):
        if owner[j] < 0 and cost[i, j] == least:
            return j
    return -1


@kernel
def first_bids(cost, price, low, zeros, dual, owner, column, free, work):
    """One bid of each row, at prices of zero: (largest finite magnitude of the costs, NaN if any is
    NaN or minus infinity; how many rows have no column then, in ``free``).

    What a column costs that another row has taken meanwhile is looked at only where it is wanted;
    elsewhere it makes the second best seem a little better than it is, and the bid lower. Where the
    best columns tie, a row takes one that is free.
    """
    largest, frees, start = 0.0, 0, 0
    for i in range(cost.shape[0]):
        if work[STOP] != 0:
            break
        work[BID_SCANS] += 1
        size, least, next_least, j = row_survey(cost, i, zeros)
        if not size <= largest:
            largest = np.float64(size)
            if not size < np.inf:
                break
        first, second = np.float64(least), np.float64(next_least)
        if owner[j] >= 0:
            start = first_free(owner, start)
            j = free_tie(cost, i, least, owner, start) if first == second else -1
            if j < 0:
                first, second, j = row_top2(cost, i, price)
        loser = bid(i, j, first, second, price, low, dual, owner, column, work)
        if loser >= 0:
            free[frees] = loser
            frees += 1
    return largest, frees


@kernel
def fill_empty(cost, low, lists, work):
    """Fill the lists of the rows that have won their first bid."""
    index, value, count, bound, groups = lists
    for i in range(count.shape[0]):
        if count[i] == 0:
            work[PASS_SCANS] += 1
            refill(cost, i, low, index, value, count, bound, groups)


@njit
def patience(n, m):
    """How many rows searches may look at; see 3."""
    left = min(MOST_COLUMNS, (m - n) / n)
    return np.int64(n * (PATIENCE + PATIENCE_OF_COLUMNS * left))


@njit
def assign_rows(cost, price, low, dual, owner, column, lists, free, frees, work):
    """Assign the rows in ``free`` after their first bids, at prices that rise: ``ASSIGNED``,
    ``BLOCKED`` or ``LONG``; see ``find_paths``."""
    n = cost.shape[0]
    budget = BIDS_PER_ROW * n
    frees = reduce_rows(cost, price, low, dual, owner, column, lists, free, frees, budget, work)
    if frees > FEW * n:
        fill_empty(cost, low, lists, work)
    limit = patience(n, owner.shape[0])
    return find_paths(cost, price, dual, owner, column, lists, free, frees, limit, work)
