"""Auction from given prices: bids in parallel while many rows are free, then one after another.

A free row i bids for its cheapest column j = argmin_j (w_ij + p_j): it raises p_j by the distance
to its second best and eps, takes j, and frees whoever held it. Every assigned row then is within
eps of its best, so the total is within n eps of the optimum (Bertsekas 1988).

1. ``bid_kernel``: all free rows bid at once; for every column the highest bid counts, of equal ones
   that of the smallest row: an atomic maximum of (price, row) packed in 64 bits.
2. ``award_kernel``: winners take their columns. ``ROUNDS`` rounds of these two leave few rows free.
3. ``bid_in_turn_kernel``: one program a problem; a free row bids, the row that it displaces bids
   next, and so on until a free column is reached (Gauss-Seidel). Prices and owners are in memory:
   each write is followed by a barrier.
4. Bids are bounded. If ``WARM_BIDS`` a row were not enough, as where the prices to start from are
   far off, all rows are freed and bid again with eps 25, 5 and 1 times the last (eps-scaling),
   ``SCALED_BIDS`` a row and phase; rows that are free after that are the exact finish's. With fewer
   rows than columns there is one phase, of ``WIDE_BIDS``: columns that are left over must stay the
   cheapest. Costs without a unit are left to the exact finish at once.
5. A bid raises a price by at least some ulp, so rounding cannot stop the auction. A row with one
   choice bids no more than ``LONE_RISE`` above the price; one without any choice is passed over.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .problems import Problems, one_problem, part_of_batch, row_columns
from .scan import best_two, fill, next_free
from .statistics import DEGENERATE, Units

ROUNDS = 16
WARM_BIDS, SCALED_BIDS, WIDE_BIDS = 6, 40, 30
PHASES = 3
FIRST_FACTOR, SECOND_FACTOR = tl.constexpr(25.0), tl.constexpr(5.0)  # of eps, in phases 1 and 2
LONE_RISE = tl.constexpr(1000.0)  # standard deviations
STUCK = tl.constexpr(-2)  # column of a row that has no choice
NO_BID = tl.constexpr(-(1 << 63))


@triton.jit
def raised(price, first, second, eps, unit):
    """Point 5: the price after a bid."""
    bid = price + (tl.minimum(second - first, unit * LONE_RISE) + eps * unit)
    return tl.maximum(bid, price + tl.abs(price) * 5e-7 + 1e-30)


@triton.jit(do_not_specialize=["n", "m"])
def bid_kernel(
    p_cost, p_price, p_centre, p_scale, p_unit, p_flags, p_first, p_last, p_column, p_bid,
    stride_batch, stride_row, n, m, eps,
    BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    i_batch, i_row = part_of_batch(n)
    i_problem, start, stop = row_columns(p_first, p_last, i_batch, i_row, i_row < n, n, m, GROUPED)
    usable = (tl.load(p_flags + i_problem) & DEGENERATE) == 0
    if usable & (tl.load(p_column + i_batch * n + i_row) == -1):
        centre = tl.load(p_centre + i_batch * n + i_row)
        scale = tl.load(p_scale + i_problem).to(centre.dtype)
        p_row = p_cost + i_batch * stride_batch + i_row.to(tl.int64) * stride_row
        p_own = p_price + i_batch * m
        first, second, j = best_two(p_row, p_own, centre, scale, start, stop, BLOCK)
        if first < float("inf"):
            price = raised(tl.load(p_own + j), first, second, eps, tl.load(p_unit + i_problem))
            bits = price.to(tl.int32, bitcast=True)
            bits = tl.where(bits >= 0, bits, bits ^ 0x7FFFFFFF)  # in the order of the prices
            key = (bits.to(tl.int64) << 32) | (0x7FFFFFFF - i_row).to(tl.int64)
            tl.atomic_max(p_bid + i_batch * m + j, key)


@triton.jit(do_not_specialize=["n", "m"])
def award_kernel(p_bid, p_price, p_owner, p_column, n, m, BLOCK: tl.constexpr):
    i_batch, i_block = part_of_batch(tl.cdiv(m, BLOCK))
    o_col = i_block * BLOCK + tl.arange(0, BLOCK)
    o_flat = i_batch * m + o_col
    b_key = tl.load(p_bid + o_flat, mask=o_col < m, other=NO_BID)
    m_won = (o_col < m) & (b_key != NO_BID)
    b_bits = (b_key >> 32).to(tl.int32)
    b_bits = tl.where(b_bits >= 0, b_bits, b_bits ^ 0x7FFFFFFF)
    b_row = 0x7FFFFFFF - (b_key & 0x7FFFFFFF).to(tl.int32)
    b_held = tl.load(p_owner + o_flat, mask=m_won, other=-1)
    tl.store(p_price + o_flat, b_bits.to(tl.float32, bitcast=True), mask=m_won)
    tl.store(p_owner + o_flat, b_row, mask=m_won)
    tl.store(p_column + i_batch * n + b_held, -1, mask=m_won & (b_held >= 0))
    tl.store(p_column + i_batch * n + b_row, o_col, mask=m_won)
    tl.store(p_bid + o_flat, NO_BID, mask=m_won)


@triton.jit(do_not_specialize=["n", "m", "budget", "phase"])
def bid_in_turn_kernel(
    p_cost, p_price, p_centre, p_scale, p_unit, p_flags, p_first, p_last, p_owner, p_column, p_left,
    stride_batch, stride_row, n, m, eps, budget, phase,
    SCALED_BIDS: tl.constexpr, PHASES: tl.constexpr,
    BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    i_batch, row, row_stop, col, col_stop = one_problem(p_first, p_last, n, m, GROUPED)
    if row < row_stop:
        p_cost += i_batch * stride_batch
        p_price += i_batch * m
        p_owner += i_batch * m
        p_column += i_batch * n
        p_centre += i_batch * n
        unit = tl.load(p_unit + tl.program_id(0))
        scale = tl.load(p_scale + tl.program_id(0)).to(p_centre.dtype.element_ty)
        rows = row_stop - row
        budget = budget * rows + 64
        phase += rows * 0
        factor = tl.where(phase == 1, FIRST_FACTOR, eps * 0 + 1.0)
        stuck = rows * 0
        sweep = next_free(p_column, row, row_stop, BLOCK)
        i_row = sweep
        degenerate = (tl.load(p_flags + tl.program_id(0)) & DEGENERATE) > 0
        running = ((i_row < row_stop) | (phase > 0)) & (degenerate == 0)
        while running:
            if (i_row < row_stop) & (budget > 0):
                centre = tl.load(p_centre + i_row)
                p_row = p_cost + i_row.to(tl.int64) * stride_row
                first, second, j = best_two(p_row, p_price, centre, scale, col, col_stop, BLOCK)
                budget -= 1
                held = rows * 0 - 1
                if first < float("inf"):
                    held = tl.load(p_owner + j)
                    price = raised(tl.load(p_price + j), first, second, eps * factor, unit)
                    tl.debug_barrier()
                    tl.store(p_price + j, price)
                    tl.store(p_owner + j, i_row)
                    tl.store(p_column + i_row, j)
                    if held >= 0:
                        tl.store(p_column + held, -1)
                else:
                    stuck += 1
                    tl.store(p_column + i_row, STUCK)
                tl.debug_barrier()
                i_row = held
                if held < 0:
                    sweep = next_free(p_column, sweep, row_stop, BLOCK)
                    i_row = sweep
            elif (phase < PHASES) & ((i_row < row_stop) | (phase > 0)):
                phase += 1  # point 4
                factor = tl.where(
                    phase == 1, FIRST_FACTOR, tl.where(phase == 2, SECOND_FACTOR, 1.0)
                )
                budget = SCALED_BIDS * rows + 64
                stuck = rows * 0
                fill(p_owner, col, col_stop, -1, BLOCK)
                fill(p_column, row, row_stop, -1, BLOCK)
                tl.debug_barrier()
                sweep = row
                i_row = row
            else:
                running = row > row_stop
        unfinished = (i_row < row_stop) | (stuck > 0) | degenerate
        tl.store(p_left + tl.program_id(0), unfinished.to(tl.int32))


def auction(
    problems: Problems, units: Units, price: Tensor, eps: float, *, cold: bool
) -> tuple[Tensor, Tensor]:
    """Raise the prices (B m) float32, in place, until all rows hold a column within ``eps``
    standard deviations of their best, or the budget is spent. ``cold`` prices are far off, and
    eps is scaled from the start.

    Returns (column (B n) int32, left (problems,) int32): the column of each row, negative where it
    has none, and whether a problem has such rows. With fewer rows than columns the prices must be
    equal, and the columns that are left over keep them.
    """
    cost, first, last = problems
    batch, n, m = cost.shape
    owner = torch.full((batch * m,), -1, dtype=torch.int32, device=cost.device)
    column = torch.full((batch * n,), -1, dtype=torch.int32, device=cost.device)
    left = torch.zeros(problems.slots, dtype=torch.int32, device=cost.device)
    bids = torch.full((batch * m,), NO_BID.value, dtype=torch.int64, device=cost.device)
    at = (cost.stride(0), cost.stride(1))
    shape = {"n": n, "m": m}
    for _ in range(ROUNDS):
        bid_kernel[(n * batch,)](
            cost, price, *units, first, last, column, bids, *at, **shape,
            eps=eps * (FIRST_FACTOR.value if cold else 1),
            BLOCK=min(problems.lanes, 1024), GROUPED=problems.grouped, num_warps=4,
        )  # fmt: skip
        award_kernel[(triton.cdiv(m, 256) * batch,)](
            bids, price, owner, column, **shape, BLOCK=256, num_warps=4
        )
    square = n == m
    bid_in_turn_kernel[(problems.slots,)](
        cost, price, *units, first, last, owner, column, left, *at, **shape, eps=eps,
        budget=SCALED_BIDS if cold else WARM_BIDS if square else WIDE_BIDS, phase=int(cold),
        SCALED_BIDS=SCALED_BIDS, PHASES=PHASES if square else 0,
        BLOCK=problems.lanes, GROUPED=problems.grouped, **problems.lane_options,
    )  # fmt: skip
    return column, left
