"""Fewer rows than columns: bids without eps and shortest paths from prices of zero, where they do
(Jonker and Volgenant 1987; Crouse 2016 for the paths).

1. All prices are zero. Each row bids once, then those that lost their columns bid on
   (``reduction``); shortest paths assign the rows that bids leave.
2. The price of a column rises only while a row has it, and a column that a row has had is never
   free again. So the columns that are left over cost zero, less than all others: no dummy row wants
   anything else, and none has to look.
3. Where rows want the same columns, bids raise prices little by little, and searches grow long. If
   they look at more than ``PATIENCE`` rows for each one, the auction is asked instead. Where rows
   have copies, searches have more patience: the auction then takes the longer, the more columns are
   left over, since each of those needs a path of its own there.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .augment import LONG, find_paths
from .candidates import refill
from .jit import kernel
from .passes import row_survey
from .reduction import bid, reduce_rows
from .scans import row_top2
from .schedule import (
    LISTED_SHARE,
    MOST_COLUMNS,
    PATIENCE,
    PATIENCE_OF_COPIES,
    RECTANGLE_BIDS_PER_ROW,
    RECTANGLE_COPIES,
    TIE_LOOKS,
)
from .statistics import copies
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
def longer_patience(cost, m):
    """How many rows searches may look at beyond ``PATIENCE``: more than none where rows have
    copies; see 3."""
    n = cost.shape[0]
    totals = np.empty(n)
    for i in range(n):
        totals[i] = cost[i, :m].sum() + 3 * cost[i, : m // 2].sum()  # not that of a permuted row
    if copies(totals) < RECTANGLE_COPIES:
        return 0
    return np.int64(PATIENCE_OF_COPIES * min(MOST_COLUMNS * n, m - n))


@njit
def assign_rows(cost, duals, matching, lists, free, count, work):
    """Assign the ``count`` rows in ``free`` after their first bids, at prices that rise; returns as
    ``find_paths``."""
    n, m = cost.shape[0], matching.row4col.shape[0]
    budget = RECTANGLE_BIDS_PER_ROW * n
    count = reduce_rows(cost, duals, matching, lists, free, count, budget, work)
    if count > LISTED_SHARE * n:
        fill_empty(cost, duals.low, lists, work)
    found = find_paths(cost, duals, matching, lists, free, count, PATIENCE * n, work)
    if found == LONG:
        paths = count
        count = 0
        for i in range(n):
            if matching.col4row[i] < 0:
                free[count] = i
                count += 1
        limit = longer_patience(cost, m)
        if count * PATIENCE * n <= 2 * limit * (paths - count):  # else it will hardly suffice
            found = find_paths(cost, duals, matching, lists, free, count, limit, work)
    return found
