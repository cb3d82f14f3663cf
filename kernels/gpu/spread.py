"""One problem on all of a GPU: each tick of its forests is a launch, of which every program has a
part of the rows and of the columns.

1. Programs read what the launch before has left: the state of the forests, and what each of its
   programs counted. From this all of them follow alike what this tick is (``grow.advance``).
2. They work on their parts (``grow.tick``), and leave what they count; the first one also leaves
   the state.
3. State and counts are kept twice, and used by turns: nobody reads what this launch writes.

Launches that have nothing left to do end at once; what too few of them leave is for
``grow.forest_kernel``.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .grow import COMPLETE, DONE, FIRST, FLIP, STATES, WHOLE, advance, tick
from .scan import NOBODY
from .statistics import DEGENERATE

COUNTS = tl.constexpr(8)  # rows that reach out, paths flipped, lists and whole rows met, a dummy's


@triton.jit(do_not_specialize=["n", "m", "size"])
def forest_step_kernel(
    p_cost, p_scale, p_flags, p_wanted,
    p_listed, p_value, p_bound, p_least, p_paid, p_price, p_column, p_owner,
    p_offer, p_near, p_parent, p_active, p_reach, p_best, p_end, p_scanned, p_root, p_report,
    p_state_before, p_state, p_far_before, p_far, p_count_before, p_count, p_part_before, p_part,
    stride_batch, stride_row, n, m, size,
    PATIENCE: tl.constexpr, WIDE: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    i_problem = tl.program_id(0) // PARTS
    i_part = tl.program_id(0) % PARTS
    if tl.load(p_wanted + i_problem) > 0:
        p_state_before += i_problem * STATES
        p_state += i_problem * STATES
        mode = tl.load(p_state_before)
        step = tl.load(p_state_before + 1)
        turn = tl.load(p_state_before + 2)
        ticks = tl.load(p_state_before + 3)
        patience = tl.load(p_state_before + 4)
        exhausted = tl.load(p_state_before + 5) > 0
        complete = tl.load(p_state_before + COMPLETE)
        phases = tl.load(p_state_before + 7)
        scale = tl.load(p_scale + i_problem)
        infinity = scale * 0 + float("inf")
        cap = tl.load(p_far_before + i_problem * 2, mask=ticks > 0, other=float("inf"))
        dummy_least = tl.load(p_far_before + i_problem * 2 + 1, mask=ticks > 0, other=float("inf"))
        before = mode
        # Point 1. Before the first launch there is nothing.
        o_part = i_problem * PARTS + tl.arange(0, PARTS)
        own = i_problem * PARTS + i_part
        m_any = (o_part >= 0) & (ticks > 0)
        active_of_all = tl.sum(tl.load(p_count_before + o_part * COUNTS, mask=m_any, other=0), 0)
        found = tl.sum(tl.load(p_count_before + o_part * COUNTS + 1, mask=m_any, other=0), 0)
        far = tl.max(tl.load(p_part_before + o_part * 2, mask=m_any, other=0.0), 0)
        b_dummy = tl.load(p_part_before + o_part * 2 + 1, mask=m_any, other=float("inf"))
        active = tl.load(p_count_before + own * COUNTS, mask=ticks > 0, other=0)
        dummy = tl.load(p_part_before + own * 2 + 1, mask=ticks > 0, other=float("inf"))
        held = tl.load(p_count_before + own * COUNTS + 4, mask=ticks > 0, other=NOBODY)
        if ticks == 0:
            patience = patience * 0 + PATIENCE
            far = infinity
            if PATIENCE > 0:
                degenerate = (tl.load(p_flags + i_problem) & DEGENERATE) > 0
                mode = tl.where(degenerate, DONE, mode)
                before = mode
        elif mode < DONE:
            mode, step, phases, patience, exhausted, cap, dummy_least = advance(
                mode, step, phases, patience, exhausted, cap, dummy_least, active_of_all, far,
                tl.min(b_dummy, 0), found, PATIENCE,
            )  # fmt: skip
            complete = ((before == FIRST) & (mode == DONE)).to(tl.int32)
            if before == FLIP:
                active = active * 0
                far, dummy = infinity, infinity
        if i_part == 0:
            b_rows = tl.load(p_count_before + o_part * COUNTS + 2, mask=m_any, other=0)
            b_whole = tl.load(p_count_before + o_part * COUNTS + 3, mask=m_any, other=0)
            p_report += i_problem * 8
            rows_met = tl.load(p_report + 4, mask=ticks > 0, other=0) + tl.sum(b_rows, 0)
            whole_met = tl.load(p_report + 5, mask=ticks > 0, other=0) + tl.sum(b_whole, 0)
            tl.debug_barrier()
            tl.store(p_report + 2, phases)
            tl.store(p_report + 3, turn)
            tl.store(p_report + 4, rows_met)
            tl.store(p_report + 5, whole_met)
            tl.store(p_report + 6, ticks)
        rows = active * 0
        whole = active * 0
        flipped = active * 0
        if mode < DONE:
            ticks += 1
            turn += (mode <= WHOLE).to(tl.int32)
            relaxing = (step < patience) | (PATIENCE == 0)
            i_row = i_problem.to(tl.int64) * n
            i_col = i_problem.to(tl.int64) * m
            width = tl.cdiv(m, PARTS)  # of rows, too: those that reach out lie where columns do
            row = tl.minimum(i_part * width, n)
            row_stop = tl.minimum(row + width, n)
            start = tl.minimum(i_part * width, m)
            stop = tl.minimum(start + width, m)
            active, far, dummy, held, rows, whole, flipped = tick(
                p_cost + i_problem.to(tl.int64) * stride_batch, p_listed + i_row * K,
                p_value + i_row * K, p_bound + i_row, p_least + i_row, p_paid + i_row,
                p_price + i_col, p_column + i_row, p_owner + i_col, p_offer + i_col,
                p_near + i_col, p_parent + i_col, p_active + 2 * (i_col + start),
                p_reach + 2 * (i_col + start), p_best + i_row, p_end + i_row, p_scanned + i_row,
                p_root + i_col,
                stride_row, scale, n, size, row, row_stop, m * 0, m, start,
                stop, mode, before, turn, relaxing, cap, far, active, dummy, held, dummy_least,
                PATIENCE == 0, WIDE, K, ROWS, BLOCK,
            )  # fmt: skip
        # Points 2 and 3.
        tl.store(p_count + own * COUNTS, active)
        tl.store(p_count + own * COUNTS + 1, flipped)
        tl.store(p_count + own * COUNTS + 2, rows)
        tl.store(p_count + own * COUNTS + 3, whole)
        tl.store(p_count + own * COUNTS + 4, held)
        tl.store(p_part + own * 2, far)
        tl.store(p_part + own * 2 + 1, dummy)
        if i_part == 0:
            tl.store(p_state, mode)
            tl.store(p_state + 1, step)
            tl.store(p_state + 2, turn)
            tl.store(p_state + 3, ticks)
            tl.store(p_state + 4, patience)
            tl.store(p_state + 5, exhausted.to(tl.int32))
            tl.store(p_state + COMPLETE, complete)
            tl.store(p_state + 7, phases)
            tl.store(p_far + i_problem * 2, cap)
            tl.store(p_far + i_problem * 2 + 1, dummy_least)
