"""What drives forests: modes, which follow from what all programs counted in the turn before.

A phase is FIRST, GROW as often as it takes, WHOLE (and GROW) until no list is too short, then
ROOTS, ENDS and FLIP. It is over when nothing is free, or when no tree reaches a free column: what
is left then, or when ``limit`` ticks are spent, is for the last resort.

A tick is a launch of many programs (spread.py), each with a part of the rows and columns, or a turn
of the loop of one (``forest_kernel``), which also goes on where too few launches were made.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .forest import (
    by_list,
    by_row,
    by_whole_rows,
    choose_ends,
    find_roots,
    find_short_lists,
    flip,
    raise_prices,
    settle,
    start_afresh,
    start_roots,
)
from .problems import one_problem
from .scan import NOBODY
from .statistics import DEGENERATE

FIRST, GROW, WHOLE, ROOTS, ENDS, FLIP, DONE = (tl.constexpr(mode) for mode in range(7))
MOST_PATIENCE = tl.constexpr(1 << 20)
# What launches of many programs leave to the next one, by problem.
STATES, COMPLETE = tl.constexpr(8), tl.constexpr(6)


@triton.jit
def follow(mode, step, patience, exhausted, active, found, PATIENCE: tl.constexpr):
    """(mode, step, patience, exhausted) of the next tick; exact forests have no ``PATIENCE``."""
    EXACT: tl.constexpr = PATIENCE == 0
    next_mode = mode + 1
    if mode <= WHOLE:
        exhausted = active == 0
        step += 1
        if EXACT:
            grown = tl.where(mode == WHOLE, ROOTS, WHOLE)
            next_mode = tl.where(exhausted, grown, GROW)
        else:
            next_mode = tl.where(exhausted | (step > patience), ROOTS, GROW)
        next_mode = tl.where((mode == FIRST) & exhausted, DONE, next_mode)
    elif mode == FLIP:
        step = step * 0
        patience = tl.where(found > 0, PATIENCE, tl.minimum(patience * 2, MOST_PATIENCE))
        stuck = found == 0
        if not EXACT:
            stuck = stuck & exhausted
        next_mode = tl.where(stuck, DONE, FIRST)
    return next_mode, step, patience, exhausted


@triton.jit
def advance(
    mode, step, phases, patience, exhausted, cap, dummy_least, active, far, dummy, found,
    PATIENCE: tl.constexpr,
):  # fmt: skip
    """The same, and the rest of what the next tick has to know, of all programs' results."""
    before = mode
    mode, step, patience, exhausted = follow(
        mode, step, patience, exhausted, active, found, PATIENCE
    )
    cap = tl.where(before <= WHOLE, tl.minimum(cap, far), cap)
    dummy_least = tl.minimum(dummy_least, dummy)
    over = before == FLIP
    phases += over.to(tl.int32)
    cap = tl.where(over, float("inf"), cap)
    dummy_least = tl.where(over, float("inf"), dummy_least)
    return mode, step, phases, patience, exhausted, cap, dummy_least


@triton.jit
def tick(
    p_cost, p_listed, p_value, p_bound, p_least, p_paid, p_price, p_column, p_owner,
    p_offer, p_near, p_parent, p_active, p_reach, p_best, p_end, p_scanned, p_root,
    stride_row, scale, n, size, row, row_stop, col, col_stop, start, stop,
    mode, before, turn, relaxing, cap, far, active, dummy, held, dummy_least,
    EXACT: tl.constexpr, WIDE: tl.constexpr,
    K: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One tick on rows row .. row_stop and columns start .. stop of the columns col .. col_stop.

    Returns (active, far, dummy, held, rows met by lists, whole rows met, paths flipped).
    """
    side, other = turn % 2, (turn + 1) % 2
    p_near_now, p_near_before = p_near + side * size, p_near + other * size
    rows = active * 0
    whole = active * 0
    found = active * 0
    if mode <= WHOLE:
        p_offer_now = p_offer + turn % 3 * size
        p_offer_next = p_offer + (turn + 1) % 3 * size
        p_offer_before = p_offer + (turn + 2) % 3 * size
        p_active_now, p_active_before = p_active + side * 2 * size, p_active + other * 2 * size
        p_reach_now, p_reach_before = p_reach + side * 2 * size, p_reach + other * 2 * size
        if before == WHOLE:
            by_whole_rows(
                p_cost, p_price, p_column, p_paid, p_least, p_bound, p_listed, p_value,
                p_active_before, p_reach_before, p_offer_before, p_near_before, p_parent,
                stride_row, scale, active, col, col_stop, cap, turn, K, BLOCK, True,
            )  # fmt: skip
        else:
            by_list(
                p_listed, p_value, p_price, p_column, p_paid, p_least,
                p_active_before, p_reach_before, p_offer_before, p_near_before, p_parent,
                active, float("inf"), turn, K, ROWS, True,
            )  # fmt: skip
        if WIDE:  # noqa: SIM102 (what is known when it is compiled)
            if dummy < float("inf"):
                by_row(
                    p_cost, p_price, p_offer_before, p_near_before, p_parent, scale,
                    tl.load(p_price + held), dummy, n + held, col, col_stop, cap, turn,
                    BLOCK, True, True,
                )  # fmt: skip
        active, far, dummy, held = settle(
            p_offer_before, p_offer_next, p_near_before, p_near_now, p_owner,
            p_active_now, p_reach_now, start, stop, BLOCK,
        )  # fmt: skip
        if mode == FIRST:
            active = start_roots(
                p_column, p_best, p_active_now, p_reach_now, active, row, row_stop, BLOCK
            )
        elif mode == WHOLE:
            active = find_short_lists(
                p_column, p_paid, p_least, p_price, p_bound, p_near_before, p_scanned,
                p_active_now, p_reach_now, cap, row, row_stop, BLOCK,
            )  # fmt: skip
        tl.debug_barrier()
        if mode == WHOLE:
            whole = active
            by_whole_rows(
                p_cost, p_price, p_column, p_paid, p_least, p_bound, p_listed, p_value,
                p_active_now, p_reach_now, p_offer_now, p_near_before, p_parent,
                stride_row, scale, active, col, col_stop, cap, turn, K, BLOCK, False,
            )  # fmt: skip
        elif relaxing:
            rows = by_list(
                p_listed, p_value, p_price, p_column, p_paid, p_least,
                p_active_now, p_reach_now, p_offer_now, p_near_before, p_parent,
                active, cap, turn, K, ROWS, False,
            )  # fmt: skip
        if WIDE:
            dummy = tl.where(relaxing & (dummy < dummy_least), dummy, float("inf"))
            if dummy < float("inf"):
                by_row(
                    p_cost, p_price, p_offer_now, p_near_before, p_parent, scale,
                    tl.load(p_price + held), dummy, n + held, col, col_stop, cap, turn,
                    BLOCK, True, False,
                )  # fmt: skip
    elif mode == ROOTS:
        find_roots(
            p_near_now, p_owner, p_parent, p_column, p_best, p_root, cap, start, stop, n,
            EXACT, BLOCK,
        )  # fmt: skip
    elif mode == ENDS:
        far = choose_ends(p_near_now, p_owner, p_root, p_best, p_end, start, stop, BLOCK)
    else:
        if EXACT:
            far = tl.where(cap < float("inf"), cap, far)
        found = flip(
            p_cost, p_parent, p_column, p_owner, p_paid, p_least, p_end, p_best, p_scanned,
            stride_row, scale, far, row, row_stop, n, EXACT, BLOCK,
        )  # fmt: skip
        raise_prices(
            p_price, p_near_now, p_near_before, p_offer, p_root, size, far, turn, start, stop,
            EXACT, BLOCK,
        )  # fmt: skip
    return active, far, dummy, held, rows, whole, found


@triton.jit(do_not_specialize=["n", "m", "size", "limit"])
def forest_kernel(
    p_cost, p_scale, p_flags, p_first, p_last, p_wanted, p_left,
    p_listed, p_value, p_bound, p_least, p_paid, p_price, p_column, p_owner,
    p_offer, p_near, p_parent, p_active, p_reach, p_best, p_end, p_scanned, p_root, p_report,
    p_state, stride_batch, stride_row, n, m, size, limit,
    PATIENCE: tl.constexpr, WIDE: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    """A program a problem, until it is done or the ticks are spent; what is not matched then is
    ``left``, and so are costs without a unit if the forest is not exact."""
    i_batch, row, row_stop, col, col_stop = one_problem(p_first, p_last, n, m, GROUPED)
    if (row < row_stop) & (tl.load(p_wanted + tl.program_id(0)) > 0):
        scale = tl.load(p_scale + tl.program_id(0))
        infinity = scale * 0 + float("inf")
        mode = row * 0
        if PATIENCE > 0:
            mode = tl.where((tl.load(p_flags + tl.program_id(0)) & DEGENERATE) > 0, DONE, mode)
        # A value of its own: what a loop sets to another variable that began as the same value is
        # taken by the compiler for something that the loop leaves alone.
        before = mode + row * 0
        step = row * 0
        turn = row * 0
        ticks = row * 0
        phases = row * 0
        patience = row * 0 + PATIENCE
        exhausted = row < 0
        active = row * 0
        rows_met = row * 0
        whole_met = row * 0
        held = row * 0 + NOBODY
        cap, far, dummy, dummy_least = infinity, infinity, infinity, infinity
        i_row = i_batch * n
        i_col = i_batch * m
        p_report += tl.program_id(0) * 8
        if p_state is not None:  # of the launches before
            phases += tl.load(p_report + 2)
            turns = tl.load(p_report + 3)
            rows_met += tl.load(p_report + 4)
            whole_met += tl.load(p_report + 5)
            launched = tl.load(p_report + 6)
            tl.debug_barrier()
            p_state += tl.program_id(0) * STATES
            if tl.load(p_state) == DONE:
                mode = row * 0 + DONE
                before = tl.where(tl.load(p_state + COMPLETE) > 0, FIRST, DONE)
            else:
                start_afresh(
                    p_near + i_col, p_offer + i_col, p_parent + i_col, p_best + i_row,
                    p_end + i_row, p_scanned + i_row, size, row, row_stop, col, col_stop, BLOCK,
                )  # fmt: skip
        while (mode < DONE) & (ticks < limit):
            ticks += 1
            turn += (mode <= WHOLE).to(tl.int32)
            relaxing = (step < patience) | (PATIENCE == 0)
            active, far, dummy, held, rows, whole, found = tick(
                p_cost + i_batch * stride_batch, p_listed + i_row * K, p_value + i_row * K,
                p_bound + i_row, p_least + i_row, p_paid + i_row, p_price + i_col,
                p_column + i_row, p_owner + i_col, p_offer + i_col, p_near + i_col,
                p_parent + i_col, p_active + i_col + col, p_reach + i_col + col, p_best + i_row,
                p_end + i_row, p_scanned + i_row, p_root + i_col,
                stride_row, scale, n, size, row, row_stop, col, col_stop, col, col_stop,
                mode, before, turn, relaxing, cap, far, active, dummy, held, dummy_least,
                PATIENCE == 0, WIDE, K, ROWS, BLOCK,
            )  # fmt: skip
            tl.debug_barrier()
            rows_met += rows
            whole_met += whole
            before = mode
            mode, step, phases, patience, exhausted, cap, dummy_least = advance(
                mode, step, phases, patience, exhausted, cap, dummy_least, active, far, dummy,
                found, PATIENCE,
            )  # fmt: skip
            if before == FLIP:
                active = row * 0
                far, dummy = infinity, infinity
        complete = (before == FIRST) & (mode == DONE)
        tl.store(p_left + tl.program_id(0), 1 - complete.to(tl.int32))
        if p_state is not None:
            turn += turns
            ticks += launched
        tl.store(p_report + 2, phases)
        tl.store(p_report + 3, turn)
        tl.store(p_report + 4, rows_met)
        tl.store(p_report + 5, whole_met)
        tl.store(p_report + 6, ticks)
