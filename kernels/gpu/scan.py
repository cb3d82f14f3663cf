"""What a program does that works on one problem, or one row of it, alone."""

from __future__ import annotations

import triton
import triton.language as tl

from .problems import precise, working

NOBODY = tl.constexpr(2147483647)


@triton.jit
def best_two(p_row, p_price, centre, scale, start, stop, BLOCK: tl.constexpr):
    """(smallest, second smallest, index of the smallest) of w_j + p_j, in the type of the prices:
    working costs if that is float32, else precise ones. Of equal ones, the smallest index."""
    dtype: tl.constexpr = p_price.dtype.element_ty
    b_first = tl.full([BLOCK], float("inf"), dtype)
    b_second = tl.full([BLOCK], float("inf"), dtype)
    b_index = tl.zeros([BLOCK], tl.int32)
    for i_start in range(start, stop, BLOCK):
        o_col = i_start + tl.arange(0, BLOCK)
        m_col = o_col < stop
        b_cost = tl.load(p_row + o_col, mask=m_col, other=float("inf"))
        b_price = tl.load(p_price + o_col, mask=m_col, other=0.0)
        if dtype == tl.float64:
            b_value = precise(b_cost, scale) + b_price
        else:
            b_value = working(b_cost, centre, scale) + b_price
        b_second = tl.minimum(b_second, tl.maximum(b_first, b_value))
        b_index = tl.where(b_value < b_first, o_col, b_index)
        b_first = tl.minimum(b_first, b_value)
    first = tl.min(b_first, 0)
    index = tl.min(tl.where(b_first == first, b_index, NOBODY), 0)
    second = tl.min(tl.where(b_index == index, b_second, b_first), 0)
    return first, second, index


@triton.jit
def next_free(p_taken, start, stop, BLOCK: tl.constexpr):
    """The first index in start .. stop with -1 in it, or stop."""
    found = stop
    while (start < stop) & (found == stop):
        o_index = start + tl.arange(0, BLOCK)
        b_taken = tl.load(p_taken + o_index, mask=o_index < stop, other=0)
        found = tl.min(tl.where(b_taken == -1, o_index, stop), 0)
        start += BLOCK
    return found


@triton.jit
def fill(p_array, start, stop, value, BLOCK: tl.constexpr):
    """Write one value to start .. stop; a barrier has to follow."""
    for i_start in range(start, stop, BLOCK):
        o_index = i_start + tl.arange(0, BLOCK)
        tl.store(p_array + o_index, value, mask=o_index < stop)
