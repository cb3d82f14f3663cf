"""The matching that forests start from: claims, then bids without eps.

1. ``settle_kernel``: every row claimed its cheapest column; of several rows the smallest has it.
   With n < m, m - n dummy rows of cost zero fill the square. They hold columns of the least price
   (as many have it: see ``sinkhorn.final_prices_kernel``), and free whoever claimed one that they
   need. So there are as many free rows as free columns. The forest's arrays are made ready.
2. ``bids_kernel``: augmenting row reduction (Jonker and Volgenant 1987), all free rows at a time: a
   row raises the price of its cheapest column to what its second cheapest costs, takes it, and
   frees who held it; of several rows the one that raises most, of equal ones the smallest. A rise
   of nothing takes only a free column. Lists bound what a row may raise: never above what is not
   listed. There are so many ``rounds``, and up to ``MOST_ROUNDS`` while the free rows are a crowd,
   as where ties are the rule; none with dummy rows, whose columns must stay the cheapest.

Every pair then is tight: c_ij + p_j = u_i. One program works on a problem.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .problems import one_problem
from .scan import NOBODY

FREE, DUMMY = tl.constexpr(-1), tl.constexpr(-2)
NO_BID = tl.constexpr(-1)
INFINITE = tl.constexpr(0x7FF << 52)  # the bits of a float64


@triton.jit(do_not_specialize=["n", "m"])
def settle_kernel(
    p_price, p_first, p_last, p_wanted, p_column, p_owner,
    p_offer, p_near, p_parent, p_best, p_end, p_scanned, n, m, size,
    BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    i_batch, row, row_stop, col, col_stop = one_problem(p_first, p_last, n, m, GROUPED)
    if (row < row_stop) & (tl.load(p_wanted + tl.program_id(0)) > 0):
        p_price += i_batch * m
        p_owner += i_batch * m
        p_column += i_batch * n
        for i_start in range(row, row_stop, BLOCK):
            o_row = i_start + tl.arange(0, BLOCK)
            m_row = o_row < row_stop
            b_column = tl.load(p_column + o_row, mask=m_row, other=-1)
            b_owner = tl.load(p_owner + b_column, mask=b_column >= 0, other=NOBODY)
            tl.store(p_column + o_row, tl.where(b_owner == o_row, b_column, -1), mask=m_row)
            o_flat = i_batch * n + o_row
            tl.store(p_best + o_flat, INFINITE, mask=m_row)
            tl.store(p_end + o_flat, NOBODY, mask=m_row)
            tl.store(p_scanned + o_flat, float("inf"), mask=m_row)
        b_least = tl.full([BLOCK], float("inf"), tl.float64)
        for i_start in range(col, col_stop, BLOCK):
            o_col = i_start + tl.arange(0, BLOCK)
            m_col = o_col < col_stop
            b_price = tl.load(p_price + o_col, mask=m_col, other=float("inf"))
            b_least = tl.minimum(b_least, b_price)
            o_flat = i_batch * m + o_col
            for buffer in tl.static_range(3):
                tl.store(p_offer + buffer * size + o_flat, INFINITE, mask=m_col)
            for buffer in tl.static_range(2):
                tl.store(p_near + buffer * size + o_flat, float("inf"), mask=m_col)
            tl.store(p_parent + o_flat, 0, mask=m_col)
        least = tl.min(b_least, 0)
        tl.debug_barrier()
        dummies = (col_stop - col) - (row_stop - row)
        for claimed in tl.static_range(2):  # columns that nobody claimed first
            for i_start in range(col, col_stop, BLOCK):
                o_col = i_start + tl.arange(0, BLOCK)
                m_col = o_col < col_stop
                b_owner = tl.load(p_owner + o_col, mask=m_col, other=0)
                b_price = tl.load(p_price + o_col, mask=m_col, other=float("inf"))
                m_spare = m_col & (b_price == least)
                if claimed:
                    m_spare = m_spare & (b_owner >= 0)
                else:
                    m_spare = m_spare & (b_owner == NOBODY)
                    b_owner = tl.where(b_owner == NOBODY, FREE, b_owner)
                m_dummy = m_spare & (tl.cumsum(m_spare.to(tl.int32), 0) <= dummies)
                if claimed:
                    tl.store(p_column + b_owner, -1, mask=m_dummy)
                tl.debug_barrier()
                tl.store(p_owner + o_col, tl.where(m_dummy, DUMMY, b_owner), mask=m_col)
                dummies -= tl.sum(m_dummy.to(tl.int32), 0)
            tl.debug_barrier()


@triton.jit
def compact(p_list, o_index, m_in, listed):
    """Append indices to a list in memory; returns its length."""
    b_count = m_in.to(tl.int32)
    tl.store(p_list + listed + tl.cumsum(b_count, 0) - 1, o_index, mask=m_in)
    return listed + tl.sum(b_count, 0)


@triton.jit
def bid(
    p_listed, p_value, p_bound, p_least, p_paid, p_price, p_owner, p_bid, p_free, o_at, free,
    bidding, K: tl.constexpr,
):  # fmt: skip
    """Bids of some free rows, unless this is the last look at them; returns how many."""
    m_at = o_at < free
    i_row = tl.load(p_free + o_at, mask=m_at, other=0)
    o_slot = tl.arange(0, K)[None, :]
    o_list = i_row[:, None] * K + o_slot
    b_col = tl.load(p_listed + o_list, mask=m_at[:, None], other=0)
    b_cost = tl.load(p_value + o_list, mask=m_at[:, None], other=float("inf"))
    b_value = b_cost + tl.load(p_price + b_col, mask=m_at[:, None], other=0.0)
    bound = tl.load(p_bound + i_row, mask=m_at, other=0.0)
    first = tl.min(b_value, 1)
    # Of equally cheap columns the first one at or after the row's own number.
    b_rank = (b_col - i_row[:, None]) & 0x7FFFFFFF
    rank = tl.min(tl.where(b_value == first[:, None], b_rank, NOBODY), 1)
    m_best = b_rank == rank[:, None]
    second = tl.minimum(tl.min(tl.where(m_best, float("inf"), b_value), 1), bound)
    j = tl.max(tl.where(m_best, b_col, 0), 1)
    cost = tl.min(tl.where(m_best, b_cost, float("inf")), 1)
    m_known = m_at & (first <= bound) & (first < float("inf"))
    first = tl.where(m_known, first, 0.0)  # inf - inf would be no number
    rise = tl.where(m_known & (second < float("inf")), second - first, 0.0)
    owner = tl.load(p_owner + j, mask=m_known, other=0)
    m_bid = m_known & bidding & ((rise > 0) | (owner == FREE))
    tl.store(p_least + i_row, tl.where(m_bid, first + rise, first), mask=m_known)
    tl.store(p_paid + i_row, cost, mask=m_bid)
    bits = rise.to(tl.float32).to(tl.int32, bitcast=True)
    key = (bits.to(tl.int64) << 32) | (0x7FFFFFFF - i_row).to(tl.int64)
    tl.atomic_max(p_bid + j, key, mask=m_bid, sem="relaxed")
    return tl.sum(m_bid.to(tl.int32), 0)


@triton.jit
def award(p_bid, p_least, p_paid, p_price, p_owner, p_column, o_col, col_stop):
    m_col = o_col < col_stop
    b_key = tl.load(p_bid + o_col, mask=m_col, other=NO_BID)
    m_won = m_col & (b_key != NO_BID)
    b_row = 0x7FFFFFFF - (b_key & 0x7FFFFFFF).to(tl.int32)
    b_held = tl.load(p_owner + o_col, mask=m_won, other=-1)
    b_price = tl.load(p_price + o_col, mask=m_won, other=0.0)
    b_paid = tl.load(p_paid + b_row, mask=m_won, other=0.0)
    b_least = tl.load(p_least + b_row, mask=m_won, other=0.0)
    b_price = tl.maximum(b_price, b_least - b_paid)
    tl.debug_barrier()
    tl.store(p_price + o_col, b_price, mask=m_won)
    tl.store(p_least + b_row, b_paid + b_price, mask=m_won)
    tl.store(p_owner + o_col, b_row, mask=m_won)
    tl.store(p_column + b_held, -1, mask=m_won & (b_held >= 0))
    tl.store(p_column + b_row, o_col, mask=m_won)
    tl.store(p_bid + o_col, NO_BID, mask=m_won)


@triton.jit(do_not_specialize=["n", "m", "rounds"])
def bids_kernel(
    p_first, p_last, p_wanted, p_listed, p_value, p_bound, p_least, p_paid, p_price,
    p_column, p_owner, p_bid, p_free, p_report, n, m, rounds,
    K: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, GROUPED: tl.constexpr,
    MOST: tl.constexpr, CROWD: tl.constexpr,
):  # fmt: skip
    i_batch, row, row_stop, col, col_stop = one_problem(p_first, p_last, n, m, GROUPED)
    if (row < row_stop) & (tl.load(p_wanted + tl.program_id(0)) > 0):
        p_listed += i_batch * n * K
        p_value += i_batch * n * K
        p_bound += i_batch * n
        p_least += i_batch * n
        p_paid += i_batch * n
        p_column += i_batch * n
        p_price += i_batch * m
        p_owner += i_batch * m
        p_bid += i_batch * m
        p_free += i_batch * m + col
        for i_start in range(col, col_stop, BLOCK):
            o_col = i_start + tl.arange(0, BLOCK)
            tl.store(p_bid + o_col, NO_BID, mask=o_col < col_stop)
        tl.debug_barrier()
        turn = row * 0
        total = row * 0
        looking = row < row_stop
        while looking:
            free = row * 0
            for i_start in range(row, row_stop, BLOCK):
                o_row = i_start + tl.arange(0, BLOCK)
                b_column = tl.load(p_column + o_row, mask=o_row < row_stop, other=0)
                free = compact(p_free, o_row, b_column < 0, free)
            tl.debug_barrier()
            bidding = (turn < rounds) | ((turn < MOST) & (free * CROWD > row_stop - row))
            bids = row * 0
            # A look without a bid is for duals, which only bids have changed.
            for i_start in range(0, tl.where(bidding | (turn > 0), free, 0), ROWS):
                bids += bid(
                    p_listed, p_value, p_bound, p_least, p_paid, p_price, p_owner, p_bid, p_free,
                    i_start + tl.arange(0, ROWS), free, bidding, K,
                )  # fmt: skip
            tl.debug_barrier()
            if bids > 0:
                for i_start in range(col, col_stop, BLOCK):
                    o_col = i_start + tl.arange(0, BLOCK)
                    award(p_bid, p_least, p_paid, p_price, p_owner, p_column, o_col, col_stop)
                tl.debug_barrier()
            total += bids
            turn += 1
            looking = bids > 0
        tl.store(p_report + tl.program_id(0) * 8, total)
        tl.store(p_report + tl.program_id(0) * 8 + 1, turn)
