"""Annealed Sinkhorn in the log domain: column prices that leave an auction little to do.

With prices p (the negative of the usual column potentials), working costs w and temperature eps,

1. ``update_rows_kernel``: f_i = -eps log sum_j exp(-(w_ij + p_j) / eps), with a running maximum,
   for a block of rows; then for each column the largest (f_i - w_ij) / eps of the block, and the
   sum of exp((f_i - w_ij) / eps - largest).
2. ``update_columns_kernel``: the target that gives every column its share of the mass is t_j = eps
   (log sum_i exp((f_i - w_ij) / eps) - log(n / m)); p_j moves to p_j + omega (t_j - p_j).
3. eps falls geometrically from one standard deviation of the costs (Schmitzer 2019); the steps are
   over-relaxed by omega = 1.8, but for the last (Thibault et al. 2017).

A row or column in which everything is forbidden keeps a finite potential; costs without a unit keep
their prices.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .problems import Problems, column_rows, part_of_batch, row_columns, working
from .statistics import DEGENERATE, Units

FIRST_EPS, LAST_EPS = 1.0, 0.003  # in standard deviations
UPDATES = 30  # of the rows, and as many of the columns
OVER_RELAXATION = 1.8


@triton.jit
def fold_exponent(b_max, b_sum, b_new):
    """The running (maximum, sum of exponentials relative to it), with another term."""
    b_top = tl.maximum(b_max, b_new)
    b_safe = tl.where(b_top == -float("inf"), 0.0, b_top)
    return b_top, b_sum * tl.exp2(b_max - b_safe) + tl.exp2(b_new - b_safe)


@triton.jit(do_not_specialize=["n", "m"])
def update_rows_kernel(
    p_cost, p_price, p_centre, p_scale, p_unit, p_first, p_last, p_max, p_sum,
    stride_batch, stride_row, n, m, eps,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    i_batch, i_block = part_of_batch(tl.cdiv(n, ROWS))
    i_row = i_block * ROWS + tl.arange(0, ROWS)
    m_row = i_row < n
    i_problem, start, stop = row_columns(p_first, p_last, i_batch, i_row, m_row, n, m, GROUPED)
    centre = tl.load(p_centre + i_batch * n + i_row, mask=m_row, other=0.0)[:, None]
    scale = tl.load(p_scale + i_problem, mask=m_row, other=1.0).to(centre.dtype)[:, None]
    # Exponents of two, in units of eps.
    rate = 1.4426950408889634 / (eps * tl.load(p_unit + i_problem, mask=m_row, other=1.0))[:, None]
    p_row = p_cost + i_batch * stride_batch + i_row[:, None].to(tl.int64) * stride_row
    low = tl.min(tl.where(m_row, start, m), 0)
    high = tl.max(tl.where(m_row, stop, 0), 0)
    b_max = tl.full([ROWS, BLOCK], -float("inf"), tl.float32)
    b_sum = tl.zeros([ROWS, BLOCK], tl.float32)
    for i_start in range(low, high, BLOCK):
        o_col = i_start + tl.arange(0, BLOCK)[None, :]
        m_cost = m_row[:, None] & (o_col >= start[:, None]) & (o_col < stop[:, None])
        b_cost = working(tl.load(p_row + o_col, mask=m_cost, other=float("inf")), centre, scale)
        b_price = tl.load(p_price + i_batch * m + o_col, mask=o_col < high, other=0.0)
        b_max, b_sum = fold_exponent(b_max, b_sum, -rate * (b_cost + b_price))
    row_max = tl.max(b_max, 1)
    row_safe = tl.where(row_max == -float("inf"), 0.0, row_max)
    row_sum = tl.sum(b_sum * tl.exp2(b_max - row_safe[:, None]), 1)
    potential = tl.where(row_sum > 0, -(row_safe + tl.log2(tl.maximum(row_sum, 1e-37))), 0.0)[
        :, None
    ]
    i_part = (i_batch * tl.cdiv(n, ROWS) + i_block) * m
    for i_start in range(low, high, BLOCK):
        o_flat = i_start + tl.arange(0, BLOCK)
        o_col = o_flat[None, :]
        m_cost = m_row[:, None] & (o_col >= start[:, None]) & (o_col < stop[:, None])
        b_cost = working(tl.load(p_row + o_col, mask=m_cost, other=float("inf")), centre, scale)
        b_value = potential - rate * b_cost
        top = tl.max(b_value, 0)
        safe = tl.where(top == -float("inf"), 0.0, top)
        total = tl.sum(tl.exp2(b_value - safe[None, :]), 0)
        tl.store(p_max + i_part + o_flat, top, mask=o_flat < high)
        tl.store(p_sum + i_part + o_flat, total, mask=o_flat < high)


@triton.jit(do_not_specialize=["n", "m", "parts"])
def update_columns_kernel(
    p_max, p_sum, p_price, p_unit, p_flags, p_first, p_last, n, m, parts, eps, omega, log2_share,
    ROWS: tl.constexpr, PARTS: tl.constexpr, BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    i_batch, i_block = part_of_batch(tl.cdiv(m, BLOCK))
    o_col = i_block * BLOCK + tl.arange(0, BLOCK)
    m_col = o_col < m
    i_problem, start, stop = column_rows(p_first, p_last, i_batch, o_col, m_col, n, m, GROUPED)
    first_part, last_part = start // ROWS, (stop + ROWS - 1) // ROWS
    b_max = tl.full([PARTS, BLOCK], -float("inf"), tl.float32)
    b_sum = tl.zeros([PARTS, BLOCK], tl.float32)
    low = tl.min(tl.where(m_col, first_part, parts), 0)
    high = tl.max(tl.where(m_col, last_part, 0), 0)
    for i_start in range(low, high, PARTS):
        o_part = i_start + tl.arange(0, PARTS)[:, None]
        m_part = m_col[None, :] & (o_part >= first_part[None, :]) & (o_part < last_part[None, :])
        o_entry = (i_batch * parts + o_part) * m + o_col[None, :]
        b_new = tl.load(p_max + o_entry, mask=m_part, other=-float("inf"))
        b_top = tl.maximum(b_max, b_new)
        b_safe = tl.where(b_top == -float("inf"), 0.0, b_top)
        b_total = tl.load(p_sum + o_entry, mask=m_part, other=0.0)
        b_sum = b_sum * tl.exp2(b_max - b_safe) + b_total * tl.exp2(b_new - b_safe)
        b_max = b_top
    top = tl.max(b_max, 0)
    safe = tl.where(top == -float("inf"), 0.0, top)
    total = tl.sum(b_sum * tl.exp2(b_max - safe[None, :]), 0)
    unit = tl.load(p_unit + i_problem, mask=m_col, other=1.0)
    target = (
        0.6931471805599453 * eps * unit * (safe + tl.log2(tl.maximum(total, 1e-37)) - log2_share)
    )
    p_own = p_price + i_batch * m + o_col
    b_price = tl.load(p_own, mask=m_col, other=0.0)
    usable = (tl.load(p_flags + i_problem, mask=m_col, other=0) & DEGENERATE) == 0
    b_moved = b_price + omega * (target - b_price)
    tl.debug_barrier()  # all warps have read what one of them writes
    tl.store(p_own, b_moved, mask=m_col & usable & (total > 0))


def sinkhorn(problems: Problems, units: Units, price: Tensor, *, updates: int = UPDATES) -> None:
    """Move the prices (B m) float32, in place, to where Sinkhorn at ``LAST_EPS`` wants them."""
    cost, first, last = problems
    batch, n, m = cost.shape
    widest = 64 if cost.dtype == torch.float64 else 128
    rows, block = problems.rows_per_block, min(widest, triton.next_power_of_2(m))
    parts, columns = triton.cdiv(n, rows), min(32, block)
    part_max = torch.empty(batch * parts * m, dtype=torch.float32, device=cost.device)
    part_sum = torch.empty_like(part_max)
    shape = {"n": n, "m": m, "ROWS": rows, "GROUPED": problems.grouped}
    share = math.log2(n / m)
    for step in range(updates):
        eps = FIRST_EPS * (LAST_EPS / FIRST_EPS) ** (step / max(updates - 1, 1))
        omega = OVER_RELAXATION if step < updates - 1 else 1.0
        update_rows_kernel[(parts * batch,)](
            cost, price, units.centre, units.scale, units.unit, first, last, part_max, part_sum,
            cost.stride(0), cost.stride(1), **shape, eps=eps,
            BLOCK=block, **problems.block_options,
        )  # fmt: skip
        update_columns_kernel[(triton.cdiv(m, columns) * batch,)](
            part_max, part_sum, price, units.unit, units.flags, first, last,
            parts=parts, eps=eps, omega=omega, log2_share=share,
            **shape, PARTS=32, BLOCK=columns, num_warps=4,
        )  # fmt: skip
