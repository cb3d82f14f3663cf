"""Exact finish: shortest augmenting paths from the auction's prices, in float64, on the device.

1. ``claim_kernel``: with prices p, the dual of a row is u_i = min_j (c_ij + p_j), and only a pair
   with c_ij + p_j = u_i may be assigned. Every row claims one such column, its own if it can; of
   several rows the smallest gets it.
2. ``settle_kernel``: rows and columns learn who got what. With n < m, m - n dummy rows of cost zero
   fill the square; being equal they act as one row, which holds m - n of the unassigned columns of
   the least price, ``DUMMY``.
3. ``reduce_rows_kernel``: bids without eps (augmenting row reduction, Jonker and Volgenant 1987): a
   free row raises the price of its best column to what its second best costs, takes it, and frees
   who held it. Where that raises nothing, the row is left.
4. ``augment_rows_kernel``: for each row that is left, Dijkstra's algorithm over reduced costs c_ij
   + p_j - u_i >= 0 finds the nearest free column; scanned columns get dearer by how much nearer
   they were, and the path is flipped. At most n searches of at most m row scans.
5. A row that reaches no free column proves that there is no assignment of finite cost
   (``INFEASIBLE``); what is free then is paired in order, so that the answer is a bijection.
6. Prices that dwarf the costs that are paid leave few digits of those, as where pairs are forbidden
   by a huge number: such problems are solved once more, from no prices (``restart_where_huge``).

``settle_kernel``, ``reduce_rows_kernel`` and ``augment_rows_kernel`` run as one program a problem.
Their state is in memory: a barrier stands between every write and the reads that follow it.
"""

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from .problems import Problems, one_problem, part_of_batch, precise, row_columns
from .scan import NOBODY, best_two, fill, next_free
from .statistics import Units

REDUCTIONS = 2  # bids without eps for each row
FREE, DUMMY = tl.constexpr(-1), tl.constexpr(-2)
FAR = tl.constexpr(1 << 30)
HUGE = tl.constexpr(1e5)  # prices this many times the costs that are paid


@triton.jit(do_not_specialize=["n", "m"])
def claim_kernel(
    p_cost, p_price, p_scale, p_first, p_last, p_wanted, p_column, p_owner,
    stride_batch, stride_row, n, m, BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    i_batch, i_row = part_of_batch(n)
    i_problem, start, stop = row_columns(p_first, p_last, i_batch, i_row, i_row < n, n, m, GROUPED)
    if tl.load(p_wanted + i_problem) > 0:
        scale = tl.load(p_scale + i_problem)
        p_row = p_cost + i_batch * stride_batch + i_row.to(tl.int64) * stride_row
        own = tl.load(p_column + i_batch * n + i_row)
        best, _, j = best_two(p_row, p_price + i_batch * m, 0.0, scale, start, stop, BLOCK)
        if best < float("inf"):
            kept = tl.maximum(own, start)
            mine = precise(tl.load(p_row + kept), scale) + tl.load(p_price + i_batch * m + kept)
            j = tl.where((own >= 0) & (mine == best), own, j)
            tl.atomic_min(p_owner + i_batch * m + j, i_row)
        else:
            j = start * 0 - 1
        tl.debug_barrier()
        tl.store(p_column + i_batch * n + i_row, j)


@triton.jit(do_not_specialize=["n", "m"])
def settle_kernel(
    p_price, p_first, p_last, p_wanted, p_column, p_owner, n, m,
    BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    i_batch, row, row_stop, col, col_stop = one_problem(p_first, p_last, n, m, GROUPED)
    if (row < row_stop) & (tl.load(p_wanted + tl.program_id(0)) > 0):
        p_price += i_batch * m
        p_owner += i_batch * m
        p_column += i_batch * n
        for i_start in range(row, row_stop, BLOCK):
            o_row = i_start + tl.arange(0, BLOCK)
            b_column = tl.load(p_column + o_row, mask=o_row < row_stop, other=-1)
            b_owner = tl.load(p_owner + b_column, mask=b_column >= 0, other=NOBODY)
            b_column = tl.where(b_owner == o_row, b_column, -1)
            tl.store(p_column + o_row, b_column, mask=o_row < row_stop)
        tl.debug_barrier()
        b_least = tl.full([BLOCK], float("inf"), tl.float64)
        for i_start in range(col, col_stop, BLOCK):
            o_col = i_start + tl.arange(0, BLOCK)
            b_price = tl.load(p_price + o_col, mask=o_col < col_stop, other=float("inf"))
            b_least = tl.minimum(b_least, b_price)
        least = tl.min(b_least, 0)
        dummies = (col_stop - col) - (row_stop - row)
        for i_start in range(col, col_stop, BLOCK):
            o_col = i_start + tl.arange(0, BLOCK)
            b_owner = tl.load(p_owner + o_col, mask=o_col < col_stop, other=0)
            b_price = tl.load(p_price + o_col, mask=o_col < col_stop, other=0.0)
            m_spare = (b_owner == NOBODY) & (b_price == least)
            m_dummy = m_spare & (tl.cumsum(m_spare.to(tl.int32), 0) <= dummies)
            b_owner = tl.where(m_dummy, DUMMY, tl.where(b_owner == NOBODY, FREE, b_owner))
            tl.store(p_owner + o_col, b_owner, mask=o_col < col_stop)
            dummies -= tl.sum(m_dummy.to(tl.int32), 0)


@triton.jit(do_not_specialize=["n", "m"])
def reduce_rows_kernel(
    p_cost, p_price, p_scale, p_first, p_last, p_wanted, p_column, p_owner,
    stride_batch, stride_row, n, m, reductions,
    BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    i_batch, row, row_stop, col, col_stop = one_problem(p_first, p_last, n, m, GROUPED)
    if (row < row_stop) & (tl.load(p_wanted + tl.program_id(0)) > 0):
        p_cost += i_batch * stride_batch
        p_price += i_batch * m
        p_owner += i_batch * m
        p_column += i_batch * n
        scale = tl.load(p_scale + tl.program_id(0))
        budget = reductions * (row_stop - row) + 64
        sweep = next_free(p_column, row, row_stop, BLOCK)
        i_row = sweep
        while (i_row < row_stop) & (budget > 0):
            p_row = p_cost + i_row.to(tl.int64) * stride_row
            first, second, j = best_two(p_row, p_price, 0.0, scale, col, col_stop, BLOCK)
            budget -= 1
            held = tl.load(p_owner + j)
            rise = second - tl.minimum(first, 1e300)  # inf - inf would be no number
            lifts = (rise > 0) & (rise < float("inf"))
            next_row = row * 0 - 1
            if (first < float("inf")) & ((held == FREE) | ((held >= 0) & lifts)):
                price = tl.load(p_price + j) + tl.where(lifts, rise, 0.0)
                tl.debug_barrier()
                tl.store(p_price + j, price)
                tl.store(p_owner + j, i_row)
                tl.store(p_column + i_row, j)
                if held >= 0:
                    tl.store(p_column + held, -1)
                next_row = held
            elif i_row == sweep:
                sweep += 1
            tl.debug_barrier()
            if next_row < 0:
                sweep = next_free(p_column, sweep, row_stop, BLOCK)
                next_row = sweep
            i_row = next_row


@triton.jit
def relax(
    p_row, p_price, p_distance, p_previous, p_done, p_owner,
    scale, i_row, shift, nearest, dummy, col, col_stop, BLOCK: tl.constexpr,
):  # fmt: skip
    """Offer every column from row i_row; return the distance of the nearest column that is not
    done, and its index, plus ``FAR`` unless it is free: of equally near ones a free one."""
    is_dummy = i_row == dummy
    b_near = tl.full([BLOCK], float("inf"), tl.float64)
    b_key = tl.full([BLOCK], NOBODY, tl.int32)
    for i_start in range(col, col_stop, BLOCK):
        o_col = i_start + tl.arange(0, BLOCK)
        m_col = o_col < col_stop
        b_cost = tl.load(p_row + o_col, mask=m_col & (is_dummy == 0), other=0.0)
        b_value = precise(b_cost, scale) + tl.load(p_price + o_col, mask=m_col, other=0.0)
        b_value = tl.maximum(b_value + shift, nearest)
        b_done = tl.load(p_done + o_col, mask=m_col, other=1)
        b_owner = tl.load(p_owner + o_col, mask=m_col, other=0)
        b_distance = tl.load(p_distance + o_col, mask=m_col, other=float("inf"))
        # Whatever one dummy reaches, all do: their columns are as far as they are.
        m_dummy = is_dummy & (b_owner == DUMMY) & (b_done == 0)
        m_nearer = (b_done == 0) & ((b_value < b_distance) | m_dummy)
        b_distance = tl.where(m_nearer, b_value, b_distance)
        tl.store(p_distance + o_col, b_distance, mask=m_nearer)
        tl.store(p_previous + o_col, i_row, mask=m_nearer)
        tl.store(p_done + o_col, 1, mask=m_dummy)
        b_distance = tl.where((b_done == 0) & (m_dummy == 0), b_distance, float("inf"))
        b_code = tl.where(b_owner == FREE, o_col, o_col + FAR)
        m_best = (b_distance < b_near) | ((b_distance == b_near) & (b_code < b_key))
        b_near = tl.where(m_best, b_distance, b_near)
        b_key = tl.where(m_best, b_code, b_key)
    near = tl.min(b_near, 0)
    return near, tl.min(tl.where(b_near == near, b_key, NOBODY), 0)


@triton.jit
def shortest_path(
    p_cost, p_price, p_distance, p_previous, p_done, p_owner,
    stride_row, scale, i_start, row_stop, col, col_stop, BLOCK: tl.constexpr,
):  # fmt: skip
    """Dijkstra from a free row, or from the dummy row (number row_stop); prices are updated.

    Returns the nearest free column, -1 if there is none, and the column by which the path passes
    through the dummy row."""
    fill(p_distance, col, col_stop, float("inf"), BLOCK)
    fill(p_done, col, col_stop, 0, BLOCK)
    tl.debug_barrier()
    i_row = i_start
    by_dummy = i_start * 0 - 1
    target = i_start * 0 - 1
    nearest = scale * 0 - float("inf")
    shift = scale * 0
    searching = row_stop >= 0
    while searching:
        p_row = p_cost + i_row.to(tl.int64) * stride_row
        nearest, key = relax(
            p_row, p_price, p_distance, p_previous, p_done, p_owner,
            scale, i_row, shift, nearest, row_stop, col, col_stop, BLOCK,
        )  # fmt: skip
        tl.debug_barrier()
        if nearest == float("inf"):
            searching = row_stop < 0
        elif key < FAR:
            target = key
            searching = row_stop < 0
        else:
            j = key - FAR
            tl.store(p_done + j, 1)
            i_row = tl.load(p_owner + j)
            value = tl.load(p_price + j)
            if i_row == DUMMY:
                i_row = row_stop
                by_dummy = j
            else:
                value += precise(tl.load(p_cost + i_row.to(tl.int64) * stride_row + j), scale)
            shift = nearest - value
            tl.debug_barrier()
    if target >= 0:
        for i_col in range(col, col_stop, BLOCK):
            o_col = i_col + tl.arange(0, BLOCK)
            m_done = tl.load(p_done + o_col, mask=o_col < col_stop, other=0) > 0
            b_rise = nearest - tl.load(p_distance + o_col, mask=m_done, other=0.0)
            b_price = tl.load(p_price + o_col, mask=m_done, other=0.0) + tl.maximum(b_rise, 0.0)
            tl.store(p_price + o_col, b_price, mask=m_done)
    tl.debug_barrier()
    return target, by_dummy


@triton.jit
def flip_path(p_previous, p_column, p_owner, i_start, target, by_dummy, dummy):
    """Assign every column on the path to the row before it."""
    j = target
    i_row = dummy + 1
    while i_row != i_start:
        i_row = tl.load(p_previous + j)
        if i_row == dummy:
            tl.store(p_owner + j, DUMMY)
            j = by_dummy
        else:
            left = tl.load(p_column + i_row)
            tl.debug_barrier()
            tl.store(p_owner + j, i_row)
            tl.store(p_column + i_row, j)
            j = left
    tl.debug_barrier()


@triton.jit(do_not_specialize=["n", "m"])
def augment_rows_kernel(
    p_cost, p_price, p_scale, p_first, p_last, p_wanted, p_column, p_owner,
    p_distance, p_previous, p_done, p_infeasible,
    stride_batch, stride_row, n, m, BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    i_batch, row, row_stop, col, col_stop = one_problem(p_first, p_last, n, m, GROUPED)
    if (row < row_stop) & (tl.load(p_wanted + tl.program_id(0)) > 0):
        p_cost += i_batch * stride_batch
        p_price += i_batch * m
        p_owner += i_batch * m
        p_distance += i_batch * m
        p_previous += i_batch * m
        p_done += i_batch * m
        p_column += i_batch * n
        scale = tl.load(p_scale + tl.program_id(0))
        lacking = (col_stop - col) - (row_stop - row)
        for i_start in range(col, col_stop, BLOCK):
            o_col = i_start + tl.arange(0, BLOCK)
            b_owner = tl.load(p_owner + o_col, mask=o_col < col_stop, other=0)
            lacking -= tl.sum((b_owner == DUMMY).to(tl.int32), 0)
        sweep = next_free(p_column, row, row_stop, BLOCK)
        i_row = tl.where(lacking > 0, row_stop, sweep)
        while (i_row < row_stop) | (lacking > 0):
            target, by_dummy = shortest_path(
                p_cost, p_price, p_distance, p_previous, p_done, p_owner,
                stride_row, scale, i_row, row_stop, col, col_stop, BLOCK,
            )  # fmt: skip
            if target >= 0:
                flip_path(p_previous, p_column, p_owner, i_row, target, by_dummy, row_stop)
                lacking -= (i_row == row_stop).to(tl.int32)
                sweep = next_free(p_column, sweep, row_stop, BLOCK)
                i_row = tl.where(lacking > 0, row_stop, sweep)
            else:
                tl.store(p_infeasible + tl.program_id(0), 1)
                lacking = row * 0
                i_row = row_stop
        # Point 5.
        i_row = next_free(p_column, sweep, row_stop, BLOCK)
        j = col
        while i_row < row_stop:
            j = next_free(p_owner, j, col_stop, BLOCK)
            tl.debug_barrier()
            tl.store(p_column + i_row, j)
            tl.store(p_owner + j, i_row)
            tl.debug_barrier()
            i_row = next_free(p_column, i_row, row_stop, BLOCK)


@triton.jit(do_not_specialize=["n", "m"])
def forget_huge_prices_kernel(
    p_cost, p_price, p_scale, p_first, p_last, p_wanted, p_column,
    stride_batch, stride_row, n, m, BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    i_batch, row, row_stop, col, col_stop = one_problem(p_first, p_last, n, m, GROUPED)
    if (row < row_stop) & (tl.load(p_wanted + tl.program_id(0)) > 0):
        scale = tl.load(p_scale + tl.program_id(0))
        b_paid = tl.zeros([BLOCK], tl.float64)
        for i_start in range(row, row_stop, BLOCK):
            o_row = i_start + tl.arange(0, BLOCK)
            m_row = o_row < row_stop
            o_cost = o_row.to(tl.int64) * stride_row
            o_cost += tl.load(p_column + i_batch * n + o_row, mask=m_row, other=0)
            b_cost = tl.load(p_cost + i_batch * stride_batch + o_cost, mask=m_row, other=0.0)
            b_paid = tl.maximum(b_paid, tl.abs(precise(b_cost, scale)))
        b_price = tl.zeros([BLOCK], tl.float64)
        for i_start in range(col, col_stop, BLOCK):
            o_col = i_start + tl.arange(0, BLOCK)
            b_own = tl.load(p_price + i_batch * m + o_col, mask=o_col < col_stop, other=0.0)
            b_price = tl.maximum(b_price, tl.abs(b_own))
        dwarfed = tl.max(b_price, 0) > tl.max(b_paid, 0) * HUGE
        tl.debug_barrier()
        tl.store(p_wanted + tl.program_id(0), dwarfed.to(tl.int32))
        if dwarfed:
            tl.debug_barrier()
            fill(p_price + i_batch * m, col, col_stop, 0.0, BLOCK)
            fill(p_column + i_batch * n, row, row_stop, -1, BLOCK)


def exact_finish(
    problems: Problems, units: Units, price: Tensor, column: Tensor, wanted: Tensor
) -> Tensor:
    """Make the problems optimal in which ``wanted`` (problems,) int32 is positive.

    ``price`` (B m) float64 and ``column`` (B n) int32 are changed in place. Returns (problems,)
    int32, 1 where there is no assignment of finite cost.
    """
    cost, first, last = problems
    batch, n, m = cost.shape
    new = partial(torch.empty, batch * m, device=cost.device)
    owner = torch.full((batch * m,), NOBODY.value, dtype=torch.int32, device=cost.device)
    infeasible = torch.zeros_like(wanted)
    strides = (cost.stride(0), cost.stride(1))
    shape = {"n": n, "m": m, "GROUPED": problems.grouped, "BLOCK": min(problems.lanes, 2048)}
    matched = (cost, price, units.scale, first, last, wanted, column, owner)
    claim_kernel[(n * batch,)](*matched, *strides, **shape | {"BLOCK": min(problems.lanes, 1024)})
    settle_kernel[(problems.slots,)](
        price, first, last, wanted, column, owner, **shape, **problems.lane_options
    )
    reduce_rows_kernel[(problems.slots,)](
        *matched, *strides, reductions=REDUCTIONS, **shape, **problems.lane_options
    )
    augment_rows_kernel[(problems.slots,)](
        *matched, new(dtype=torch.float64), new(dtype=torch.int32), new(dtype=torch.int32),
        infeasible, *strides, **shape, **problems.lane_options,
    )  # fmt: skip
    return infeasible


def restart_where_huge(
    problems: Problems, units: Units, price: Tensor, column: Tensor, solved: Tensor
) -> Tensor:
    """Point 6, for problems of which ``solved`` (problems,) int32 is positive: (problems,) int32,
    those to be finished again; their prices and columns are reset."""
    cost, first, last = problems
    _, n, m = cost.shape
    wanted = solved.clone()
    forget_huge_prices_kernel[(problems.slots,)](
        cost, price, units.scale, first, last, wanted, column, cost.stride(0), cost.stride(1),
        n=n, m=m, BLOCK=min(problems.lanes, 1024), GROUPED=problems.grouped, num_warps=4,
    )  # fmt: skip
    return wanted
