"""The last resort: shortest augmenting paths, one after another, in float64.

1. ``augment_rows_kernel``: for each free row, Dijkstra's algorithm over reduced costs c_ij + p_j -
   u_i >= 0 finds the nearest free column; scanned columns get dearer by how much nearer they were,
   and the path is flipped. Dummy rows (n < m) act as one, which holds the columns marked ``DUMMY``.
   All searches of a problem together scan ``SCANS`` rows for each that it has; one program works on
   a problem.
2. A row that reaches no free column proves that there is no assignment of finite cost. Then, or
   when the scans are spent, what is free is paired in order, so that the answer is a bijection, and
   the problem has ``failed``.
3. Prices that dwarf the costs that are paid leave few digits of those, as where pairs are forbidden
   by a huge number: such problems are solved once more, from no prices (``restart_where_huge``).

State is in memory: a barrier stands between every write and the reads that follow it.
"""

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch
from .matching import DUMMY, FREE
from .problems import Problems, one_problem, precise
from .scan import NOBODY, fill, next_free
from .schedule import SCANS
from .statistics import Units
from .workspace import Workspace

FAR = tl.constexpr(1 << 30)
HUGE = tl.constexpr(1e5)  # prices this many times the costs that are paid


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
    stride_row, scale, i_start, row_stop, col, col_stop, budget, BLOCK: tl.constexpr,
):  # fmt: skip
    """Dijkstra from a free row, by the dummy row (number row_stop), too; prices are updated.

    Returns the nearest free column, -1 if none was found, the column by which the path passes
    through the dummy row, and the scans that are left."""
    fill(p_distance, col, col_stop, float("inf"), BLOCK)
    fill(p_done, col, col_stop, 0, BLOCK)
    tl.debug_barrier()
    i_row = i_start
    by_dummy = i_start * 0 - 1
    target = i_start * 0 - 1
    nearest = scale * 0 - float("inf")
    shift = scale * 0
    searching = budget > 0
    while searching:
        budget -= 1
        p_row = p_cost + i_row.to(tl.int64) * stride_row
        nearest, key = relax(
            p_row, p_price, p_distance, p_previous, p_done, p_owner,
            scale, i_row, shift, nearest, row_stop, col, col_stop, BLOCK,
        )  # fmt: skip
        tl.debug_barrier()
        searching = budget > 0
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
    return target, by_dummy, budget


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


@triton.jit(do_not_specialize=["n", "m", "scans"])
def augment_rows_kernel(
    p_cost, p_price, p_scale, p_first, p_last, p_wanted, p_column, p_owner,
    p_distance, p_previous, p_done, p_failed, p_report,
    stride_batch, stride_row, n, m, scans, BLOCK: tl.constexpr, GROUPED: tl.constexpr,
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
        budget = scans * (row_stop - row) + 64
        before = budget
        sweep = next_free(p_column, row, row_stop, BLOCK)
        i_row = sweep
        while i_row < row_stop:
            target, by_dummy, budget = shortest_path(
                p_cost, p_price, p_distance, p_previous, p_done, p_owner,
                stride_row, scale, i_row, row_stop, col, col_stop, budget, BLOCK,
            )  # fmt: skip
            if target >= 0:
                flip_path(p_previous, p_column, p_owner, i_row, target, by_dummy, row_stop)
                sweep = next_free(p_column, sweep, row_stop, BLOCK)
                i_row = sweep
            else:
                i_row = row_stop
        tl.store(p_report + tl.program_id(0) * 8 + 7, before - budget)
        tl.store(p_failed + tl.program_id(0), (sweep < row_stop).to(tl.int32))
        # Point 2.
        i_row = sweep
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


def augment_rows(problems: Problems, units: Units, work: Workspace, wanted: Tensor) -> Tensor:
    """Match the rows that are still free in the problems of which ``wanted`` (problems,) int32 is
    positive. Returns (problems,) int32, 1 where that failed (point 2)."""
    cost, first, last = problems
    batch, n, m = cost.shape
    new = partial(torch.empty, batch * m, device=cost.device)
    failed = torch.zeros_like(wanted)
    launch(
        augment_rows_kernel, problems.slots,
        cost, work.price, units.scale, first, last, wanted, work.column, work.owner,
        new(dtype=torch.float64), new(dtype=torch.int32), new(dtype=torch.int32),
        failed, work.report,
        stride_batch=cost.stride(0), stride_row=cost.stride(1), n=n, m=m, scans=SCANS,
        BLOCK=min(problems.lanes, 2048), GROUPED=problems.grouped, **problems.lane_options,
    )  # fmt: skip
    return failed


def restart_where_huge(problems: Problems, units: Units, work: Workspace, solved: Tensor) -> Tensor:
    """Point 3, for problems of which ``solved`` (problems,) int32 is positive: (problems,) int32,
    those to be solved again; their prices are reset."""
    cost, first, last = problems
    _, n, m = cost.shape
    wanted = solved.clone()
    launch(
        forget_huge_prices_kernel, problems.slots,
        cost, work.price, units.scale, first, last, wanted, work.column,
        stride_batch=cost.stride(0), stride_row=cost.stride(1),
        n=n, m=m, BLOCK=min(problems.lanes, 1024), GROUPED=problems.grouped, num_warps=4,
    )  # fmt: skip
    return wanted
