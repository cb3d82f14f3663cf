"""Candidate lists: the K cheapest entries of every row at given prices, and what the rest costs.

1. u_i = min_j (c_ij + p_j), the dual of row i, and the column that it claims. Of equally cheap ones
   that is the first at or after the row's own number, so that equal rows claim different columns;
   of several rows the smallest gets a column.
2. A threshold for c_ij + p_j - u_i under which there are at most K entries, and three quarters of
   them if ties allow, by bisection over the bits of a float32: these order as the numbers do.
3. What is listed is written with its cost; ``bound`` is the least c_ij + p_j of what is not, in
   float64. As prices only rise it stays a lower bound. Slots without an entry cost infinity.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .problems import part_of_batch, precise, row_columns
from .scan import NOBODY

AHEAD = tl.constexpr(1 << 30)  # of columns before the row's own number, which come last
INFINITE_BITS = tl.constexpr(0x7F800000)


@triton.jit
def priced(p_row, p_price, scale, o_col, m_col):
    """c_j + p_j in float64, infinite where masked or forbidden."""
    b_cost = tl.load(p_row + o_col, mask=m_col, other=float("inf"))
    return precise(b_cost, scale) + tl.load(p_price + o_col, mask=m_col, other=0.0)


@triton.jit
def reduced_bits(b_value, least):
    """The order of reduced costs, as integers."""
    return tl.maximum(b_value - least, 0.0).to(tl.float32).to(tl.int32, bitcast=True)


@triton.jit
def cheapest(p_row, p_price, scale, i_row, start, stop, BLOCK: tl.constexpr, b_held=None):
    """Point 1: (u_i, column); of a row of one block ``b_held`` may be what is ``priced``."""
    b_least = tl.full([BLOCK], float("inf"), tl.float64)
    b_rank = tl.full([BLOCK], NOBODY, tl.int32)
    for i_start in range(start, stop, BLOCK):
        o_col = i_start + tl.arange(0, BLOCK)
        b_value = b_held
        if b_held is None:
            b_value = priced(p_row, p_price, scale, o_col, o_col < stop)
        b_new = tl.where(o_col >= i_row, o_col - i_row, o_col - i_row + AHEAD)
        m_less = (b_value < b_least) | ((b_value == b_least) & (b_new < b_rank))
        b_rank = tl.where(m_less & (o_col < stop), b_new, b_rank)
        b_least = tl.minimum(b_least, b_value)
    least = tl.min(b_least, 0)
    rank = tl.min(tl.where(b_least == least, b_rank, NOBODY), 0)
    ahead = tl.where(rank > (AHEAD >> 1), rank - AHEAD, rank)
    return least, i_row + ahead


@triton.jit
def fill_list(
    p_row, p_price, p_listed, p_value, scale, least, start, stop,
    K: tl.constexpr, BLOCK: tl.constexpr, WIDTH: tl.constexpr = 0, b_held=None,
):  # fmt: skip
    """Points 2 and 3; returns the bound. With a ``WIDTH``, no less than that of the row, registers
    hold its order while thresholds are tried; ``b_held`` is as in ``cheapest``."""
    safe = tl.where(least < float("inf"), least, 0.0)
    if b_held is not None:
        b_bits = reduced_bits(b_held, safe)
    elif WIDTH > 0:
        o_held = start + tl.arange(0, WIDTH)
        b_bits = reduced_bits(priced(p_row, p_price, scale, o_held, o_held < stop), safe)
    low = tl.where(stop - start <= K, INFINITE_BITS - 1, -1)
    high = start * 0 + INFINITE_BITS
    listed = start * 0
    while (high - low > 1) & (listed < K - K // 4):
        middle = low + ((high - low) >> 1)
        if WIDTH > 0:
            count = tl.sum((b_bits <= middle).to(tl.int32), 0)
        else:
            b_count = tl.zeros([BLOCK], tl.int32)
            for i_start in range(start, stop, BLOCK):
                o_col = i_start + tl.arange(0, BLOCK)
                b_value = priced(p_row, p_price, scale, o_col, o_col < stop)
                b_count += (reduced_bits(b_value, safe) <= middle).to(tl.int32)
            count = tl.sum(b_count, 0)
        listed = tl.where(count <= K, count, listed)
        low = tl.where(count <= K, middle, low)
        high = tl.where(count <= K, high, middle)
    threshold = tl.maximum(low, 0)
    listed = start * 0
    b_bound = tl.full([BLOCK], float("inf"), tl.float64)
    for i_start in range(start, stop, BLOCK):
        o_col = i_start + tl.arange(0, BLOCK)
        b_value = b_held
        if b_held is None:
            b_value = priced(p_row, p_price, scale, o_col, o_col < stop)
        m_in = (b_value < float("inf")) & (reduced_bits(b_value, safe) <= threshold)
        b_place = listed + tl.cumsum(m_in.to(tl.int32), 0) - 1
        m_in = m_in & (b_place < K)
        b_cost = precise(tl.load(p_row + o_col, mask=m_in, other=0.0), scale)
        tl.store(p_listed + b_place, o_col, mask=m_in)
        tl.store(p_value + b_place, b_cost, mask=m_in)
        b_bound = tl.minimum(b_bound, tl.where(m_in, float("inf"), b_value))
        listed += tl.sum(m_in.to(tl.int32), 0)
    o_slot = tl.arange(0, K)
    tl.store(p_listed + o_slot, start + o_slot * 0, mask=o_slot >= listed)
    tl.store(p_value + o_slot, float("inf") + tl.zeros([K], tl.float64), mask=o_slot >= listed)
    return tl.min(b_bound, 0)


@triton.jit(do_not_specialize=["n"])
def lists_kernel(
    p_cost, p_price, p_scale, p_first, p_last, p_wanted,
    p_listed, p_value, p_bound, p_least, p_paid, p_column, p_owner,
    stride_batch, stride_row, n, m,
    K: tl.constexpr, BLOCK: tl.constexpr, WIDTH: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    """A program a row; ``p_owner`` holds NOBODY before, and the smallest row that claims after."""
    i_batch, i_row = part_of_batch(n)
    i_problem, start, stop = row_columns(p_first, p_last, i_batch, i_row, i_row < n, n, m, GROUPED)
    if tl.load(p_wanted + i_problem) > 0:
        i_flat = i_batch * n + i_row
        scale = tl.load(p_scale + i_problem)
        p_row = p_cost + i_batch * stride_batch + i_row.to(tl.int64) * stride_row
        p_own = p_price + i_batch * m
        b_held = None
        if WIDTH == BLOCK:
            o_held = start + tl.arange(0, WIDTH)
            b_held = priced(p_row, p_own, scale, o_held, o_held < stop)
        least, j = cheapest(p_row, p_own, scale, i_row, start, stop, BLOCK, b_held)
        bound = fill_list(
            p_row, p_own, p_listed + i_flat * K, p_value + i_flat * K, scale, least, start, stop,
            K, BLOCK, WIDTH, b_held,
        )  # fmt: skip
        some = least < float("inf")
        j = tl.where(some, j, -1)
        tl.store(p_bound + i_flat, bound)
        tl.store(p_least + i_flat, tl.where(some, least, 0.0))
        tl.store(p_column + i_flat, j)
        cost = precise(tl.load(p_row + j, mask=some, other=0.0), scale)
        tl.store(p_paid + i_flat, cost)
        tl.atomic_min(p_owner + i_batch * m + j, i_row, mask=some, sem="relaxed")
