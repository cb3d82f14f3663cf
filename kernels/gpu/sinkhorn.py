"""Annealed Sinkhorn in the log domain, one launch an update: prices near to where they should be.

With prices p (the negative of the usual column potentials), working costs w and temperature eps,

1. Row i splits its unit of mass by exp(-(w_ij + p_j) / eps). With fewer rows than columns, a dummy
   row of cost zero splits m - n units: columns that stay free must be the cheapest.
2. mass_j, what column j gets of all rows, should be one: p_j grows by omega eps log mass_j. This is
   a row and a column update of Sinkhorn's algorithm, the latter over-relaxed (Thibault 2017).
   The launch after the one that adds up the masses does it, each of its programs for itself, so an
   entry is read once and takes one exponential, and nothing waits.
3. eps falls geometrically from one standard deviation of the costs (Schmitzer 2019); omega is 1.65
   (1.5 for what is to be exact), and one in the end.
4. Sums are of integers, which have the same sum in any order: of exponentials in a row, and of the
   programs' sums in a column.
5. ``final_prices_kernel``: the last column update, in float64. With n < m, prices below the (m -
   n)-th smallest are raised to it: as many columns as may stay free are equally cheap then.

Problems whose rows fit into the registers of a program are read once, others (and groups, whose
rows are short) twice. Costs without a unit, or with entries that are no numbers, keep the prices
that they have.
"""

from __future__ import annotations

import functools

import triton
import triton.language as tl
from torch import Tensor, empty, empty_like, float64, int32, zeros

from .launch import cdiv, launch, launch_by_turns, next_power_of_2, registers
from .problems import (
    Problems,
    column_rows,
    one_problem,
    part_of_batch,
    row_columns,
    widened,
    working,
)
from .schedule import (
    AT_LAST,
    EXACT_AT_LAST,
    EXACT_OVER_RELAXATION,
    EXACT_UPDATES,
    FIRST_EPS,
    LAST_EPS,
    OVER_RELAXATION,
    UPDATES,
)
from .statistics import Units

WIDEST = 8192  # columns that a program can hold
LOG2_E = tl.constexpr(1.4426950408889634)
LEAST_MASS = tl.constexpr(1e-6)
FORBIDDEN = tl.constexpr(0x7F800000)  # bits of infinity


@triton.jit
def moved(p_price, p_mass, p_unit, i_problem, o_col, m_col, rate, unit_mass):
    """p_j of point 2, after the masses that the launch before has added up; ``rate`` is omega eps
    log 2 in standard deviations. A problem for all columns, or one, which there is, for each."""
    b_price = tl.load(p_price + o_col, mask=m_col, other=0.0)
    b_mass = tl.load(p_mass + o_col, mask=m_col, other=1).to(tl.float32) * unit_mass
    return b_price + rate * tl.load(p_unit + i_problem) * tl.log2(tl.maximum(b_mass, LEAST_MASS))


@triton.jit
def usable(p_flags, i_problem, m_col):
    return tl.load(p_flags + i_problem, mask=m_col, other=0) == 0


@triton.jit
def exponents(p_cost, b_price, centre, scale, rate, i_row, n, stride_row, o_col, m_col):
    """-(w_ij + p_j) / eps of a row, in powers of two; row n is the dummy row."""
    p_row = p_cost + i_row.to(tl.int64) * stride_row
    b_cost = tl.load(p_row + o_col, mask=m_col & (i_row < n), other=float("inf"))
    b_cost = tl.where(m_col & (i_row == n), 0.0, working(b_cost, centre, scale))
    return -rate * (b_cost + b_price)


@triton.jit(do_not_specialize=["n", "rows", "dummies"])
def update_kernel(
    p_cost, p_centre, p_scale, p_unit, p_flags, p_first, p_last,
    p_price, p_price_out, p_mass, p_mass_out, p_mass_clear, rate, step,
    stride_batch, stride_row, n, m, rows, dummies, unit_mass, unit_sum,
    WHOLE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    """``step`` is zero in the first launch, whose prices are given."""
    total_rows = n + (dummies > 0).to(tl.int32)
    i_batch, i_block = part_of_batch(tl.cdiv(total_rows, rows))
    row = i_block * rows
    row_stop = tl.minimum(row + rows, total_rows)
    p_cost += i_batch * stride_batch
    p_centre += i_batch * n
    p_price += i_batch * m
    p_price_out += i_batch * m
    p_mass += i_batch * m
    p_mass_out += i_batch * m
    p_mass_clear += i_batch * m
    low = m * 0
    high = m
    if GROUPED:
        low = tl.load(p_first + i_batch * n + row)
        high = tl.load(p_last + i_batch * n + row_stop - 1)
    # What the next launch reads, and the one after it adds to.
    for i_start in range(row * 0, tl.where(i_block == 0, m, 0), BLOCK):
        o_col = i_start + tl.arange(0, BLOCK)
        m_col = o_col < m
        i_problem, _, _ = column_rows(p_first, p_last, i_batch, o_col, m_col, n, m, GROUPED)
        b_price = moved(p_price, p_mass, p_unit, i_problem, o_col, m_col, step, unit_mass)
        b_kept = tl.load(p_price + o_col, mask=m_col, other=0.0)
        b_price = tl.where(usable(p_flags, i_problem, m_col), b_price, b_kept)
        tl.store(p_price_out + o_col, b_price, mask=m_col)
        tl.store(p_mass_clear + o_col, 0, mask=m_col)
    if WHOLE:
        o_col = tl.arange(0, BLOCK)
        m_col = o_col < m
        b_price = moved(p_price, p_mass, p_unit, i_batch, o_col, m_col, step, unit_mass)
        b_price = tl.where(m_col, b_price, float("inf"))
        scale = tl.load(p_scale + i_batch).to(p_centre.dtype.element_ty)
        useful = (tl.load(p_flags + i_batch) == 0) & (scale < float("inf"))
        rate = rate / tl.load(p_unit + i_batch)
        b_total = tl.zeros([BLOCK], tl.float32)
        for i_start in range(row, tl.where(useful, row_stop, row), ROWS):
            i_row = i_start + tl.arange(0, ROWS)
            m_row = i_row < tl.minimum(row_stop, n)
            p_row = p_cost + i_row.to(tl.int64)[:, None] * stride_row
            # As the scale is a power of two, w_ij takes one operation, which also is all that it
            # is rounded by. What is finite stays so: see ``statistics.problem_units_kernel``.
            b_shift = (tl.load(p_centre + i_row, mask=m_row, other=0.0) * scale)[:, None]
            m_cost = m_row[:, None] & m_col[None, :]
            b_cost = widened(tl.load(p_row + o_col[None, :], mask=m_cost, other=0.0))
            b_value = (b_cost * scale - b_shift).to(tl.float32) + b_price[None, :]
            b_least = tl.min(b_value, 1)
            b_least = tl.where(b_least < float("inf"), b_least, 0.0)
            b_share = tl.exp2((b_least * rate)[:, None] - b_value * rate)
            b_whole = tl.sum((b_share * unit_sum + 0.5).to(tl.int32), 1).to(tl.float32)
            b_weight = tl.where(i_row == n, dummies, 1).to(tl.float32) * (unit_sum / unit_mass)
            b_weight = tl.where(i_row < row_stop, b_weight, 0.0)
            b_total += tl.sum(b_share * (b_weight / tl.maximum(b_whole, 1.0))[:, None], 0)
        b_mass = (b_total + 0.5).to(tl.int32)
        tl.atomic_add(p_mass_out + o_col, b_mass, mask=m_col, sem="relaxed")
    else:
        i_row = row + tl.arange(0, ROWS)
        m_row = i_row < row_stop
        i_problem, start, stop = row_columns(
            p_first, p_last, i_batch, i_row, m_row & (i_row < n), n, m, GROUPED
        )
        m_row = m_row & usable(p_flags, i_problem, m_row)
        b_centre = tl.load(p_centre + i_row, mask=i_row < n, other=0.0)[:, None]
        b_scale = tl.load(p_scale + i_problem, mask=m_row, other=1.0).to(b_centre.dtype)[:, None]
        b_unit = tl.load(p_unit + i_problem, mask=m_row, other=1.0)
        b_rate = (rate / b_unit)[:, None]
        b_top = tl.full([ROWS, BLOCK], -float("inf"), tl.float32)
        b_sum = tl.zeros([ROWS, BLOCK], tl.float32)
        for i_start in range(low, high, BLOCK):
            o_col = i_start + tl.arange(0, BLOCK)
            m_col = o_col < high
            i_own, _, _ = column_rows(p_first, p_last, i_batch, o_col, m_col, n, m, GROUPED)
            b_price = moved(p_price, p_mass, p_unit, i_own, o_col, m_col, step, unit_mass)
            m_cost = m_row[:, None] & (o_col >= start[:, None]) & (o_col < stop[:, None])
            b_value = exponents(
                p_cost, b_price, b_centre, b_scale, b_rate, i_row[:, None], n, stride_row,
                o_col[None, :], m_cost,
            )  # fmt: skip
            b_new = tl.maximum(b_top, b_value)
            b_safe = tl.where(b_new == -float("inf"), 0.0, b_new)
            b_sum = b_sum * tl.exp2(b_top - b_safe) + tl.exp2(b_value - b_safe)
            b_top = b_new
        row_top = tl.max(b_top, 1)
        row_top = tl.where(row_top == -float("inf"), 0.0, row_top)[:, None]
        b_sum = b_sum * tl.exp2(b_top - row_top)
        whole = tl.sum((b_sum * unit_sum + 0.5).to(tl.int32), 1).to(tl.float32)
        b_weight = tl.where(i_row == n, dummies, 1).to(tl.float32)
        b_weight = (b_weight * unit_sum / (tl.maximum(whole, 1.0) * unit_mass))[:, None]
        for i_start in range(low, high, BLOCK):
            o_col = i_start + tl.arange(0, BLOCK)
            m_col = o_col < high
            i_own, _, _ = column_rows(p_first, p_last, i_batch, o_col, m_col, n, m, GROUPED)
            b_price = moved(p_price, p_mass, p_unit, i_own, o_col, m_col, step, unit_mass)
            m_cost = m_row[:, None] & (o_col >= start[:, None]) & (o_col < stop[:, None])
            b_value = exponents(
                p_cost, b_price, b_centre, b_scale, b_rate, i_row[:, None], n, stride_row,
                o_col[None, :], m_cost,
            )  # fmt: skip
            b_share = (tl.exp2(b_value - row_top) * b_weight + 0.5).to(tl.int32)
            tl.atomic_add(p_mass_out + o_col, tl.sum(b_share, 0), mask=m_col, sem="relaxed")


@triton.jit
def least_of_spare(p_price, m, spare, BLOCK: tl.constexpr):
    """The ``spare``-th smallest price, by bisection over the order of the bits of float32."""
    high = (m * 0 + FORBIDDEN).to(tl.int64)
    low = -high - 1
    while high - low > 1:
        middle = (low + high) >> 1
        b_count = tl.zeros([BLOCK], tl.int32)
        for i_start in range(0, m, BLOCK):
            o_col = i_start + tl.arange(0, BLOCK)
            b_bits = ordered_bits(tl.load(p_price + o_col, mask=o_col < m, other=float("inf")))
            b_count += ((b_bits <= middle) & (o_col < m)).to(tl.int32)
        enough = tl.sum(b_count, 0) >= spare
        high = tl.where(enough, middle, high)
        low = tl.where(enough, low, middle)
    return ordered_float(high)


@triton.jit
def ordered_bits(b_price):
    """Integers in the order of float32 numbers."""
    b_bits = b_price.to(tl.float32).to(tl.int32, bitcast=True)
    return tl.where(b_bits >= 0, b_bits, -(b_bits & 0x7FFFFFFF))


@triton.jit
def ordered_float(bits):
    magnitude = tl.where(bits >= 0, bits, -bits).to(tl.int32).to(tl.float32, bitcast=True)
    return tl.where(bits >= 0, magnitude, -magnitude)


@triton.jit(do_not_specialize=["n", "m"])
def final_prices_kernel(
    p_price, p_mass, p_unit, p_flags, p_first, p_last, p_out, n, m, rate, unit_mass,
    BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    """Point 5, a program a problem. ``rate`` is zero if there was no update."""
    i_batch, row, row_stop, col, col_stop = one_problem(p_first, p_last, n, m, GROUPED)
    if row < row_stop:
        p_price += i_batch * m
        p_mass += i_batch * m
        p_out += i_batch * m
        i_slot = tl.program_id(0)
        moves = (tl.load(p_flags + i_slot) == 0) & (rate != 0)
        for i_start in range(col, col_stop, BLOCK):
            o_col = i_start + tl.arange(0, BLOCK)
            m_col = o_col < col_stop
            b_kept = tl.load(p_price + o_col, mask=m_col, other=0.0)
            b_price = moved(p_price, p_mass, p_unit, i_slot, o_col, m_col, rate, unit_mass)
            b_price = tl.where(moves, b_price, b_kept).to(tl.float64)
            tl.store(p_out + o_col, b_price, mask=m_col)
        spare = (col_stop - col) - (row_stop - row)
        if spare > 0:
            tl.debug_barrier()
            least = least_of_spare(p_out, m, spare, BLOCK).to(tl.float64)
            for i_start in range(col, col_stop, BLOCK):
                o_col = i_start + tl.arange(0, BLOCK)
                b_price = tl.load(p_out + o_col, mask=o_col < col_stop, other=0.0)
                tl.debug_barrier()
                tl.store(p_out + o_col, tl.maximum(b_price, least), mask=o_col < col_stop)


@functools.cache
def rates_of(
    updates: int, relaxation: float, at_last: int, first: float, last: float
) -> tuple[list[tuple[float, float]], float]:
    """What each update is told of its eps, from the first to the last, and of the one before."""
    rates, rate = [], 0.0
    for step in range(updates):
        eps = first * (last / first) ** min(step / max(updates - at_last, 1), 1.0)
        rates.append((LOG2_E.value / eps, rate))
        rate = (relaxation if step < updates - 1 else 1.0) * eps / LOG2_E.value
    return rates, rate


def sinkhorn(
    problems: Problems,
    units: Units,
    start: Tensor,
    *,
    exact: bool = False,
    updates: int | None = None,
) -> Tensor:
    """Prices (B m) float64 that Sinkhorn at ``LAST_EPS`` wants, from ``start`` (B m) float32,
    which is written over. Without updates, ``start`` itself, for a matching to start from."""
    cost, first, last = problems
    batch, n, m = cost.shape
    dummies = m - n
    whole = not problems.grouped and m <= WIDEST
    block = max(32, next_power_of_2(m)) if whole else 128
    rows = problems.rows_per_program if whole else 8
    at_a_time = min(4, next_power_of_2(rows)) if whole else rows
    warps = max(1, min(16, block // 256)) if whole else 4
    parts = cdiv(n + (dummies > 0), rows)
    unit = 2.0 ** -(30 - m.bit_length())
    if updates is None:
        updates = EXACT_UPDATES if exact else UPDATES
    relaxation = EXACT_OVER_RELAXATION if exact else OVER_RELAXATION
    at_last = EXACT_AT_LAST if exact else AT_LAST
    prices = (start, empty_like(start))
    mass = zeros(3, batch * m, dtype=int32, device=cost.device).unbind(0)
    given = cost, *units, first, last
    options = {
        "stride_batch": cost.stride(0), "stride_row": cost.stride(1), "n": n, "m": m,
        "rows": rows, "dummies": dummies, "unit_mass": unit, "unit_sum": 1 / unit,
        "WHOLE": whole, "ROWS": at_a_time, "BLOCK": block, "GROUPED": problems.grouped,
        "num_warps": warps, **registers(cost.device, 128),
    }  # fmt: skip
    rates, rate = rates_of(updates, relaxation, at_last, FIRST_EPS, LAST_EPS)
    turned = [  # prices by two turns, mass by three
        (*given, prices[k % 2], prices[(k + 1) % 2], *(mass[(k + by) % 3] for by in (2, 0, 1)))
        for k in range(min(updates, 6))
    ]
    sets = [(*turned[k % 6], *rated) for k, rated in enumerate(rates)]
    launch_by_turns(update_kernel, parts * batch, sets, updates, options)
    out = empty(batch * m, dtype=float64, device=cost.device)
    launch(
        final_prices_kernel, problems.slots,
        prices[updates % 2], mass[(updates + 2) % 3], units.unit, units.flags, first, last, out,
        n=n, m=m, rate=rate, unit_mass=unit,
        BLOCK=min(problems.lanes, 1024), GROUPED=problems.grouped, num_warps=4,
    )  # fmt: skip
    return out
