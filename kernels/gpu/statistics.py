"""Centres and scale of every problem, and prices that take out its column means.

1. ``row_moments_kernel``: the mean of each row's finite costs is its centre r_i; with d_ij = c_ij -
   r_i, each block of rows leaves sums and counts of d by column, and each row its sum of squares.
   NaN and -inf are noticed.
2. ``column_moments_kernel``: q_j, the mean of d over the rows of column j, and count_j q_j^2.
3. ``problem_units_kernel``: variance of the doubly centred costs (sum d^2 - sum_j count_j q_j^2) /
   count; scale = 2^-k next to one over its root, unit = their product, in (0.7, 1.5). Costs of
   which the variance is zero, or beyond float64, are marked: they have no unit.
   There also p_j = -q_j scale, where all columns are used, so that their constants are free.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import cdiv, launch, next_power_of_2
from .problems import Problems, column_rows, one_problem, part_of_batch, row_columns, widened

INVALID, DEGENERATE = tl.constexpr(1), tl.constexpr(2)


@triton.jit(do_not_specialize=["n"])
def row_moments_kernel(
    p_cost, p_first, p_last, p_centre, p_square, p_invalid, p_sum, p_count,
    stride_batch, stride_row, n, m,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    i_batch, i_block = part_of_batch(tl.cdiv(n, ROWS))
    i_row = i_block * ROWS + tl.arange(0, ROWS)
    m_row = i_row < n
    _, start, stop = row_columns(p_first, p_last, i_batch, i_row, m_row, n, m, GROUPED)
    p_row = p_cost + i_batch * stride_batch + i_row[:, None].to(tl.int64) * stride_row
    low = tl.min(tl.where(m_row, start, m), 0)
    high = tl.max(tl.where(m_row, stop, 0), 0)
    b_total = tl.zeros([ROWS, BLOCK], tl.float64)
    b_count = tl.zeros([ROWS, BLOCK], tl.int32)
    b_invalid = tl.zeros([ROWS, BLOCK], tl.int32)
    for i_start in range(low, high, BLOCK):
        o_col = i_start + tl.arange(0, BLOCK)[None, :]
        m_cost = m_row[:, None] & (o_col >= start[:, None]) & (o_col < stop[:, None])
        b_cost = widened(tl.load(p_row + o_col, mask=m_cost, other=float("inf")))
        m_finite = tl.abs(b_cost) < float("inf")
        b_total += tl.where(m_finite, b_cost, 0.0).to(tl.float64)
        b_count += m_finite.to(tl.int32)
        b_invalid += 1 - (b_cost > -float("inf")).to(tl.int32)  # NaN, too
    centre = tl.sum(b_total, 1) / tl.maximum(tl.sum(b_count, 1), 1)
    centre = centre.to(p_centre.dtype.element_ty)
    b_square = tl.zeros([ROWS, BLOCK], tl.float64)
    i_part = (i_batch * tl.cdiv(n, ROWS) + i_block) * m
    for i_start in range(low, high, BLOCK):
        o_col = i_start + tl.arange(0, BLOCK)[None, :]
        m_cost = m_row[:, None] & (o_col >= start[:, None]) & (o_col < stop[:, None])
        b_cost = widened(tl.load(p_row + o_col, mask=m_cost, other=float("inf")))
        m_finite = tl.abs(b_cost) < float("inf")
        b_off = tl.where(m_finite, b_cost - centre[:, None], 0.0).to(tl.float64)
        b_square += b_off * b_off
        o_flat = i_start + tl.arange(0, BLOCK)
        tl.store(p_sum + i_part + o_flat, tl.sum(b_off, 0), mask=o_flat < high)
        b_finite = tl.sum(m_finite.to(tl.float32), 0)
        tl.store(p_count + i_part + o_flat, b_finite, mask=o_flat < high)
    o_row = i_batch * n + i_row
    tl.store(p_centre + o_row, centre, mask=m_row)
    tl.store(p_square + o_row, tl.sum(b_square, 1), mask=m_row)
    tl.store(p_invalid + o_row, tl.sum(b_invalid, 1), mask=m_row)


@triton.jit(do_not_specialize=["n", "m", "parts"])
def column_moments_kernel(
    p_sum, p_count, p_first, p_last, p_mean, p_square, p_finite, n, m, parts,
    ROWS: tl.constexpr, PARTS: tl.constexpr, BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    i_batch, i_block = part_of_batch(tl.cdiv(m, BLOCK))
    o_col = i_block * BLOCK + tl.arange(0, BLOCK)
    m_col = o_col < m
    _, start, stop = column_rows(p_first, p_last, i_batch, o_col, m_col, n, m, GROUPED)
    total = tl.zeros([BLOCK], tl.float64)
    count = tl.zeros([BLOCK], tl.float64)
    low = tl.min(tl.where(m_col, start // ROWS, parts), 0)
    high = tl.max(tl.where(m_col, (stop + ROWS - 1) // ROWS, 0), 0)
    for i_start in range(low, high, PARTS):
        o_part = i_start + tl.arange(0, PARTS)[:, None]
        m_part = m_col[None, :] & (o_part >= (start // ROWS)[None, :])
        m_part = m_part & (o_part < ((stop + ROWS - 1) // ROWS)[None, :])
        o_entry = (i_batch * parts + o_part) * m + o_col[None, :]
        total += tl.sum(tl.load(p_sum + o_entry, mask=m_part, other=0.0), 0)
        count += tl.sum(tl.load(p_count + o_entry, mask=m_part, other=0.0).to(tl.float64), 0)
    mean = total / tl.maximum(count, 1.0)
    tl.store(p_mean + i_batch * m + o_col, mean, mask=m_col)
    tl.store(p_square + i_batch * m + o_col, mean * total, mask=m_col)
    tl.store(p_finite + i_batch * m + o_col, count, mask=m_col)


@triton.jit(do_not_specialize=["n", "m"])
def problem_units_kernel(
    p_row_square, p_invalid, p_mean, p_col_square, p_finite, p_first, p_last,
    p_scale, p_unit, p_flags, p_price, n, m,
    CENTRED: tl.constexpr, BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    i_batch, row, row_stop, col, col_stop = one_problem(p_first, p_last, n, m, GROUPED)
    o_lane = tl.arange(0, BLOCK)
    b_square = tl.zeros([BLOCK], tl.float64)
    b_mean = tl.zeros([BLOCK], tl.float64)
    b_count = tl.zeros([BLOCK], tl.float64)
    b_invalid = tl.zeros([BLOCK], tl.int32)
    for i_start in range(row, row_stop, BLOCK):
        m_row = i_start + o_lane < row_stop
        o_row = i_batch * n + i_start + o_lane
        b_square += tl.load(p_row_square + o_row, mask=m_row, other=0.0)
        b_invalid += tl.load(p_invalid + o_row, mask=m_row, other=0)
    for i_start in range(col, col_stop, BLOCK):
        m_col = i_start + o_lane < col_stop
        o_col = i_batch * m + i_start + o_lane
        b_mean += tl.load(p_col_square + o_col, mask=m_col, other=0.0)
        b_count += tl.load(p_finite + o_col, mask=m_col, other=0.0)
    square = tl.sum(b_square, 0)
    variance = (square - tl.sum(b_mean, 0)) / tl.maximum(tl.sum(b_count, 0), 1.0)
    # A difference that is tiny beside its terms is rounding.
    usable = (variance > 0) & (variance < float("inf"))
    usable = usable & (variance * tl.maximum(tl.sum(b_count, 0), 1.0) > square * 1e-12)
    deviation = tl.sqrt(tl.where(usable, variance, 1.0))
    # The power of two, from the exponent bits of the float64.
    bits = deviation.to(tl.int64, bitcast=True)
    exponent = (bits + (1 << 51)) >> 52
    scale = ((2046 - exponent) << 52).to(tl.float64, bitcast=True)
    unit = (deviation * scale).to(tl.float32)
    scale = tl.where(usable, scale, 1.0)
    if row < row_stop:
        tl.store(p_scale + tl.program_id(0), scale)
        tl.store(p_unit + tl.program_id(0), tl.where(usable, unit, 1.0))
        flags = tl.where(usable, 0, DEGENERATE) + tl.where(tl.sum(b_invalid, 0) > 0, INVALID, 0)
        tl.store(p_flags + tl.program_id(0), flags)
        for i_start in range(col, col_stop, BLOCK):
            m_col = i_start + o_lane < col_stop
            o_col = i_batch * m + i_start + o_lane
            b_price = tl.zeros([BLOCK], tl.float32)
            if CENTRED:
                b_price = -(tl.load(p_mean + o_col, mask=m_col, other=0.0) * scale).to(tl.float32)
                m_usable = ((flags & DEGENERATE) == 0) & (tl.abs(b_price) < float("inf"))
                b_price = tl.where(m_usable, b_price, 0.0)
            tl.store(p_price + o_col, b_price, mask=m_col)


class Units(NamedTuple):
    """What the other stages need to know of the costs; see ``problems.working``."""

    centre: Tensor  # (B n), float32, or float64 for float64 costs
    scale: Tensor  # (problems,) float64, powers of two
    unit: Tensor  # (problems,) float32, standard deviation of the scaled costs
    flags: Tensor  # (problems,) int32, ``INVALID`` and ``DEGENERATE``


# A product that is fused with the first addition of its sum makes the sum differ between lanes, and
# which of them is kept would be a matter of luck.
UNFUSED = {"enable_fp_fusion": False}


def statistics(problems: Problems) -> tuple[Units, Tensor]:
    """Units of the costs, and prices (B m) float32 to start from."""
    cost, first, last = problems
    batch, n, m = cost.shape
    rows, block = problems.rows_per_block, min(64 if problems.grouped else 128, next_power_of_2(m))
    parts = cdiv(n, rows)
    new = partial(torch.empty, device=cost.device)
    centre = new(batch * n, dtype=problems.working_dtype)
    row_square, row_invalid = new(batch * n, dtype=torch.float64), new(batch * n, dtype=torch.int32)
    part_sum = new(batch * parts * m, dtype=torch.float64)
    part_count = new(batch * parts * m, dtype=torch.float32)
    shape = {"n": n, "m": m, "GROUPED": problems.grouped}
    launch(
        row_moments_kernel, parts * batch,
        cost, first, last, centre, row_square, row_invalid, part_sum, part_count,
        stride_batch=cost.stride(0), stride_row=cost.stride(1), **shape,
        ROWS=rows, BLOCK=block, **problems.block_options, **UNFUSED,
    )  # fmt: skip
    mean, col_square, finite = (new(batch * m, dtype=torch.float64) for _ in range(3))
    columns = min(32, block)
    launch(
        column_moments_kernel, cdiv(m, columns) * batch,
        part_sum, part_count, first, last, mean, col_square, finite,
        parts=parts, **shape, ROWS=rows, PARTS=32, BLOCK=columns, num_warps=4,
    )  # fmt: skip
    units = Units(
        centre,
        new(problems.slots, dtype=torch.float64),
        new(problems.slots, dtype=torch.float32),
        torch.zeros(
            problems.slots, dtype=torch.int32, device=cost.device
        ),  # also where no group is
    )
    price = new(batch * m, dtype=torch.float32)
    launch(
        problem_units_kernel, problems.slots,
        row_square, row_invalid, mean, col_square, finite, first, last,
        units.scale, units.unit, units.flags, price,
        **shape, CENTRED=n == m, BLOCK=min(problems.lanes, 1024), num_warps=4,
    )  # fmt: skip
    return units, price
