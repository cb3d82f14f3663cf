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
from .schedule import (
    LISTED_SHARE,
    MOST_COLUMNS,
    PATIENCE,
    PATIENCE_OF_COLUMNS,
    RECTANGLE_BIDS_PER_ROW,
    TIE_LOOKS,
)
from .work import BID_SCANS, PASS_SCANS


@kernel
def first_free(row4col, start):
    while start < row4col.shape[0] and row4col[start] >= 0:
        start += 1
    return start


@kernel
def free_tie(cost, i, least, row4col, start):
    """A column from ``start`` on that is free and costs row i its ``least``, or -1."""
    for j in range(start, min(start + TIE_LOOKS, row4col.shape[0])):
        if row4col[j] < 0 and cost[i, j] == least:
            return j
    return -1


@kernel
def first_bids(cost, duals, matching, zeros, free, work):
    """One bid of each row, at prices of zero: (largest finite magnitude of the costs, NaN if any is
    NaN or minus infinity; how many rows have no column then, in ``free``).

    What a column costs that another row has taken meanwhile is looked at only where it is wanted;
    elsewhere it makes the second best seem a little better than it is, and the bid lower. Where the
    best columns tie, a row takes one that is free.
    """
    row4col = matching.row4col
    largest, frees, start = 0.0, 0, 0
    for i in range(cost.shape[0]):
        if work.stop[0] != 0:
            break
        work.counts[BID_SCANS] += 1
        size, least, next_least, j = row_survey(cost, i, zeros)
        if not size <= largest:
            largest = np.float64(size)
            if not size < np.inf:
                break
        first, second = np.float64(least), np.float64(next_least)
        if row4col[j] >= 0:
            start = first_free(row4col, start)
            j = free_tie(cost, i, least, row4col, start) if first == second else -1
            if j < 0:
                first, second, j = row_top2(cost, i, duals.price)
        loser = bid(i, j, first, second, duals, matching, work)
        if loser >= 0:
            free[frees] = loser
            frees += 1
    return largest, frees


@kernel
def fill_empty(cost, low, lists, work):
    """Fill the lists of the rows that have won their first bid."""
    for i in range(lists.length.shape[0]):
        if lists.length[i] == 0:
            work.counts[PASS_SCANS] += 1
            refill(cost, i, low, lists)


@njit
def patience(n, m):
    """How many rows searches may look at; see 3."""
    left = min(MOST_COLUMNS, (m - n) / n)
    return np.int64(n * (PATIENCE + PATIENCE_OF_COLUMNS * left))


@njit
def assign_rows(cost, duals, matching, lists, free, count, work):
    """Assign the ``count`` rows in ``free`` after their first bids, at prices that rise; returns as
    ``find_paths``."""
    n = cost.shape[0]
    budget = RECTANGLE_BIDS_PER_ROW * n
    count = reduce_rows(cost, duals, matching, lists, free, count, budget, work)
    if count > LISTED_SHARE * n:
        fill_empty(cost, duals.low, lists, work)
    limit = patience(n, matching.row4col.shape[0])
    return find_paths(cost, duals, matching, lists, free, count, limit, work)
