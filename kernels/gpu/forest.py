"""Shortest-path forests: all free rows grow trees of reduced costs at once, on candidate lists.

Free rows are roots at distance 0. A row at distance d reaches column j at d + max(c_ij + p_j - b_i,
0), where b_i is what the row pays, c + p of its own column, or the dual u_i of a free row. A column
that is reached for less than before passes the distance on to the row that holds it. Trees are
disjoint, so that each can flip the path to its nearest free column at the same time.

The forest grows in turns, and whoever works on one reads only what the turn before has left:

1. ``meet``, for ``PARENTS``: rows that reached out in the last turn look which columns they got,
   and enter themselves as the parent. Of several, a scrambled order decides, a new one for each
   column: by their numbers, few rows would own what many reach at the same distance.
2. ``settle``: columns take the offers of the last turn that are nearer; rows whose columns did are
   the next to reach out. The farthest free column bounds what is of interest.
3. ``meet``: their lists' columns get offers, the least of which counts.

When nothing gets nearer, ``exact`` forests look for rows whose unlisted entries might: where d_i +
bound_i - b_i is below the farthest free column. These offer to all columns, and list anew. Then

4. ``find_roots``, ``choose_ends``: which tree each free column is in, and the nearest of each tree.
5. ``flip``: the paths to them are flipped. With D the distance of the farthest free column (of the
   farthest end, if some cannot be reached), exact forests raise p_j by D - d_j wherever that is
   positive, and u_i of free rows by D: all edges of all trees then are tight, no reduced cost is
   negative, and the next phase may start. What was searched beyond the farthest end is not lost.

Exact forests keep the trees that had no end. With r_j what p_j rises by, an edge from the row of
column k to column j gets longer by r_j - r_k, one from a root by r_j - D: so d_j + r_j - D, which
is max(d_j - D, 0), is in the next phase what d_j was in this, and parents are the same. No path
that was flipped has a column of theirs. These distances are the offers that its first turn finds.

Near-optimal forests keep their prices. They stop growing after ``patience`` turns, and what rows
pay above u_i adds up to the certified gap.

Dummy rows (n < m) cost nothing and hold columns of the least price. As one reaches, so do all: only
the nearest offers, to every column. Their parents' numbers are n + the column that they hold.

Offers, distances and lists of rows are kept twice or three times and used by turns, so that a turn
may be one launch over a GPU, or a stretch between two barriers of one program.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .lists import cheapest, fill_list, priced
from .matching import DUMMY, FREE, INFINITE, compact
from .problems import precise
from .scan import NOBODY

SPREAD, MIX, UNMIX = tl.constexpr(0x9E3779B1), tl.constexpr(0x85EBCA6B), tl.constexpr(0xA5CB9243)
LOW = tl.constexpr(0xFFFFFFFF)
NO_END = tl.constexpr((0x7FF << 52) + 1)  # of a root, which else is infinite


@triton.jit
def parent_key(turn, i_row, o_col):
    """Later turns first; of one turn in the scrambled order."""
    scrambled = ((i_row.to(tl.int64) * MIX) & LOW) ^ ((o_col.to(tl.int64) * SPREAD) & LOW)
    return (turn.to(tl.int64) << 32) | scrambled


@triton.jit
def parent_row(b_key, o_col):
    scrambled = (b_key & LOW) ^ ((o_col.to(tl.int64) * SPREAD) & LOW)
    return ((scrambled * UNMIX) & LOW).to(tl.int32)


@triton.jit
def as_bits(b_distance):
    return b_distance.to(tl.int64, bitcast=True)


@triton.jit
def as_distance(b_bits):
    return b_bits.to(tl.float64, bitcast=True)


@triton.jit
def payment(p_column, p_paid, p_least, p_price, i_row, m_row):
    """b_i: what a row pays, or its dual where it is free."""
    b_col = tl.load(p_column + i_row, mask=m_row, other=-1)
    m_held = m_row & (b_col >= 0)
    b_paid = tl.load(p_paid + i_row, mask=m_held, other=0.0)
    b_paid += tl.load(p_price + b_col, mask=m_held, other=0.0)
    return tl.where(m_held, b_paid, tl.load(p_least + i_row, mask=m_row, other=0.0))


@triton.jit
def meet(
    p_offer, p_near, p_parent, b_col, b_distance, m_col, cap, turn, i_row, PARENTS: tl.constexpr
):
    """Offer distances to columns, or enter a parent where they were the least on offer."""
    m_col = m_col & (b_distance < tl.load(p_near + b_col, mask=m_col, other=0.0))
    if PARENTS:
        b_offer = tl.load(p_offer + b_col, mask=m_col, other=-1)
        m_col = m_col & (b_offer == as_bits(b_distance))
        key = parent_key(turn, i_row, b_col)
        tl.atomic_max(p_parent + b_col, key, mask=m_col, sem="relaxed")
    else:
        m_col = m_col & (b_distance <= cap) & (b_distance < float("inf"))
        tl.atomic_min(p_offer + b_col, as_bits(b_distance), mask=m_col, sem="relaxed")


@triton.jit
def by_list(
    p_listed, p_value, p_price, p_column, p_paid, p_least, p_active, p_reach,
    p_offer, p_near, p_parent, active, cap, turn,
    K: tl.constexpr, ROWS: tl.constexpr, PARENTS: tl.constexpr,
):  # fmt: skip
    """All active rows meet the columns of their lists; returns how many rows did."""
    rows = active * 0
    for i_start in range(0, active, ROWS):
        o_at = i_start + tl.arange(0, ROWS)
        m_at = o_at < active
        i_row = tl.load(p_active + o_at, mask=m_at, other=0)
        b_reach = tl.load(p_reach + o_at, mask=m_at, other=float("inf"))
        b_pays = payment(p_column, p_paid, p_least, p_price, i_row, m_at)
        m_at = m_at & (b_reach < cap)
        o_list = i_row[:, None] * K + tl.arange(0, K)[None, :]
        b_col = tl.load(p_listed + o_list, mask=m_at[:, None], other=0)
        b_value = tl.load(p_value + o_list, mask=m_at[:, None], other=float("inf"))
        b_value += tl.load(p_price + b_col, mask=m_at[:, None], other=0.0)
        b_distance = b_reach[:, None] + tl.maximum(b_value - b_pays[:, None], 0.0)
        m_col = m_at[:, None] & (b_value < float("inf"))
        i_from = i_row[:, None] + b_col * 0
        meet(p_offer, p_near, p_parent, b_col, b_distance, m_col, cap, turn, i_from, PARENTS)
        rows += tl.sum(m_at.to(tl.int32), 0)
    return rows


@triton.jit
def by_row(
    p_row, p_price, p_offer, p_near, p_parent, scale, pays, reach, i_from,
    col, col_stop, cap, turn, BLOCK: tl.constexpr, DUMMY_ROW: tl.constexpr, PARENTS: tl.constexpr,
):  # fmt: skip
    """One row meets all columns."""
    for i_start in range(col, col_stop, BLOCK):
        o_col = i_start + tl.arange(0, BLOCK)
        m_col = o_col < col_stop
        if DUMMY_ROW:
            b_value = tl.load(p_price + o_col, mask=m_col, other=0.0)
        else:
            b_value = priced(p_row, p_price, scale, o_col, m_col)
        b_distance = reach + tl.maximum(b_value - pays, 0.0)
        m_col = m_col & (b_value < float("inf"))
        meet(p_offer, p_near, p_parent, o_col, b_distance, m_col, cap, turn, i_from, PARENTS)


@triton.jit
def settle(
    p_offer, p_offer_next, p_near, p_near_next, p_owner, p_active, p_reach, start, stop,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Point 2: (rows that are to reach out, farthest free column, nearest dummy's distance and
    column) of the columns start .. stop."""
    active = start * 0
    b_far = tl.zeros([BLOCK], tl.float64)
    b_dummy = tl.full([BLOCK], float("inf"), tl.float64)
    b_held = tl.full([BLOCK], NOBODY, tl.int32)
    for i_start in range(start, stop, BLOCK):
        o_col = i_start + tl.arange(0, BLOCK)
        m_col = o_col < stop
        b_new = as_distance(tl.load(p_offer + o_col, mask=m_col, other=INFINITE))
        b_old = tl.load(p_near + o_col, mask=m_col, other=0.0)
        b_owner = tl.load(p_owner + o_col, mask=m_col, other=0)
        m_nearer = m_col & (b_new < b_old)
        b_near = tl.minimum(b_new, b_old)
        tl.store(p_near_next + o_col, b_near, mask=m_col)
        tl.store(p_offer_next + o_col, INFINITE, mask=m_col)
        m_active = m_nearer & (b_owner >= 0)
        b_count = m_active.to(tl.int32)
        b_place = active + tl.cumsum(b_count, 0) - 1
        tl.store(p_active + b_place, b_owner, mask=m_active)
        tl.store(p_reach + b_place, b_near, mask=m_active)
        active += tl.sum(b_count, 0)
        b_far = tl.where(m_col & (b_owner == FREE), tl.maximum(b_far, b_near), b_far)
        m_dummy = m_nearer & (b_owner == DUMMY) & (b_near < b_dummy)
        b_held = tl.where(m_dummy, o_col, b_held)
        b_dummy = tl.where(m_dummy, b_near, b_dummy)
    dummy = tl.min(b_dummy, 0)
    held = tl.min(tl.where(b_dummy == dummy, b_held, NOBODY), 0)
    return active, tl.max(b_far, 0), dummy, held


@triton.jit
def start_roots(p_column, p_best, p_active, p_reach, active, start, stop, BLOCK: tl.constexpr):
    """Append the free ones of rows start .. stop, at distance 0; ``p_best`` tells them from
    others."""
    for i_start in range(start, stop, BLOCK):
        o_row = i_start + tl.arange(0, BLOCK)
        m_free = (o_row < stop) & (tl.load(p_column + o_row, mask=o_row < stop, other=0) < 0)
        before = active
        active = compact(p_active, o_row, m_free, before)
        o_at = before + tl.cumsum(m_free.to(tl.int32), 0) - 1
        tl.store(p_reach + o_at, tl.zeros([BLOCK], tl.float64), mask=m_free)
        tl.store(p_best + o_row, NO_END, mask=m_free)
    return active


@triton.jit
def find_short_lists(
    p_column, p_paid, p_least, p_price, p_bound, p_near, p_scanned, p_active, p_reach, cap,
    start, stop, BLOCK: tl.constexpr,
):  # fmt: skip
    """Those of rows start .. stop of which an unlisted entry might be nearer than ``cap``."""
    active = start * 0
    for i_start in range(start, stop, BLOCK):
        o_row = i_start + tl.arange(0, BLOCK)
        m_row = o_row < stop
        b_col = tl.load(p_column + o_row, mask=m_row, other=-1)
        b_reach = tl.load(p_near + b_col, mask=m_row & (b_col >= 0), other=0.0)
        b_pays = payment(p_column, p_paid, p_least, p_price, o_row, m_row)
        b_slack = tl.load(p_bound + o_row, mask=m_row, other=float("inf")) - b_pays
        m_short = m_row & (b_reach < cap) & (b_reach + b_slack < cap)
        b_scanned = tl.load(p_scanned + o_row, mask=m_row, other=0.0)
        m_short = m_short & (b_reach < b_scanned)
        before = active
        active = compact(p_active, o_row, m_short, before)
        o_at = before + tl.cumsum(m_short.to(tl.int32), 0) - 1
        tl.store(p_reach + o_at, b_reach, mask=m_short)
        tl.debug_barrier()
        tl.store(p_scanned + o_row, b_reach, mask=m_short)
    return active


@triton.jit
def by_whole_rows(
    p_cost, p_price, p_column, p_paid, p_least, p_bound, p_listed, p_value, p_active, p_reach,
    p_offer, p_near, p_parent, stride_row, scale, active, col, col_stop, cap, turn,
    K: tl.constexpr, BLOCK: tl.constexpr, PARENTS: tl.constexpr,
):  # fmt: skip
    """All active rows meet all columns; those that make offers list anew."""
    for at in range(0, active):
        i_row = tl.load(p_active + at)
        reach = tl.load(p_reach + at)
        pays = payment(p_column, p_paid, p_least, p_price, i_row, active > 0)
        p_row = p_cost + i_row.to(tl.int64) * stride_row
        by_row(
            p_row, p_price, p_offer, p_near, p_parent, scale, pays, reach, i_row,
            col, col_stop, cap, turn, BLOCK, False, PARENTS,
        )  # fmt: skip
        if not PARENTS:
            least, _ = cheapest(p_row, p_price, scale, i_row, col, col_stop, BLOCK)
            bound = fill_list(
                p_row, p_price, p_listed + i_row * K, p_value + i_row * K, scale, least,
                col, col_stop, K, BLOCK,
            )  # fmt: skip
            tl.store(p_bound + i_row, bound)


@triton.jit
def find_root(p_parent, p_column, o_col, m_col, n):
    """The free row whose tree a column is in."""
    b_root = o_col * 0
    m_on = m_col
    while tl.max(m_on.to(tl.int32), 0) > 0:
        i_from = parent_row(tl.load(p_parent + o_col, mask=m_on, other=0), o_col)
        b_held = tl.load(p_column + i_from, mask=m_on & (i_from < n), other=-1)
        b_root = tl.where(m_on, i_from, b_root)
        b_held = tl.where(i_from < n, b_held, i_from - n)
        m_on = m_on & (b_held >= 0)
        o_col = tl.where(m_on, b_held, o_col)
    return b_root


@triton.jit
def find_roots(
    p_near, p_owner, p_parent, p_column, p_best, p_root, cap, start, stop, n,
    EXACT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The distance of the nearest free column of each tree, and the trees of free columns, of all
    that are reached if ``EXACT``; of those among start .. stop."""
    for i_start in range(start, stop, BLOCK):
        o_col = i_start + tl.arange(0, BLOCK)
        m_col = o_col < stop
        m_end = m_col & (tl.load(p_owner + o_col, mask=m_col, other=0) == FREE)
        b_near = tl.load(p_near + o_col, mask=m_col, other=float("inf"))
        m_in = b_near < float("inf")
        m_end = m_end & m_in & (b_near <= cap)
        if not EXACT:
            m_in = m_end
        b_root = find_root(p_parent, p_column, o_col, m_in, n)
        tl.atomic_min(p_best + b_root, as_bits(b_near), mask=m_end, sem="relaxed")
        tl.store(p_root + o_col, tl.where(m_in, b_root, -1), mask=m_col)


@triton.jit
def choose_ends(p_near, p_owner, p_root, p_best, p_end, start, stop, BLOCK: tl.constexpr):
    """The first of the nearest free columns of each tree; returns the distance of the farthest.
    ``p_root`` then is of columns in trees without an end."""
    b_far = tl.zeros([BLOCK], tl.float64)
    for i_start in range(start, stop, BLOCK):
        o_col = i_start + tl.arange(0, BLOCK)
        b_root = tl.load(p_root + o_col, mask=o_col < stop, other=-1)
        m_in = b_root >= 0
        b_near = tl.load(p_near + o_col, mask=m_in, other=0.0)
        b_best = tl.load(p_best + b_root, mask=m_in, other=INFINITE)
        m_end = m_in & (tl.load(p_owner + o_col, mask=m_in, other=0) == FREE)
        m_end = m_end & (as_bits(b_near) == b_best)
        tl.atomic_min(p_end + b_root, o_col, mask=m_end, sem="relaxed")
        b_far = tl.where(m_end, tl.maximum(b_far, b_near), b_far)
        tl.store(p_root + o_col, -1, mask=m_in & (b_best < INFINITE))
    return tl.max(b_far, 0)


@triton.jit
def flip(
    p_cost, p_parent, p_column, p_owner, p_paid, p_least, p_end, p_best, p_scanned,
    stride_row, scale, far, start, stop, n, EXACT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Flip the paths to the ends of the trees of roots start .. stop; returns how many."""
    found = start * 0
    for i_start in range(start, stop, BLOCK):
        o_row = i_start + tl.arange(0, BLOCK)
        m_row = o_row < stop
        m_free = m_row & (tl.load(p_best + o_row, mask=m_row, other=INFINITE) != INFINITE)
        b_col = tl.load(p_end + o_row, mask=m_free, other=NOBODY)
        if EXACT:
            b_least = tl.load(p_least + o_row, mask=m_free, other=0.0)
            tl.debug_barrier()
            tl.store(p_least + o_row, b_least + far, mask=m_free)
        m_on = m_free & (b_col < NOBODY)
        found += tl.sum(m_on.to(tl.int32), 0)
        while tl.max(m_on.to(tl.int32), 0) > 0:
            i_from = parent_row(tl.load(p_parent + b_col, mask=m_on, other=0), b_col)
            m_real = m_on & (i_from < n)
            b_next = tl.load(p_column + i_from, mask=m_real, other=-1)
            o_cost = i_from.to(tl.int64) * stride_row + b_col
            b_cost = precise(tl.load(p_cost + o_cost, mask=m_real, other=0.0), scale)
            tl.debug_barrier()
            tl.store(p_owner + b_col, tl.where(m_real, i_from, DUMMY), mask=m_on)
            tl.store(p_column + i_from, b_col, mask=m_real)
            tl.store(p_paid + i_from, b_cost, mask=m_real)
            tl.debug_barrier()
            b_col = tl.where(m_real, b_next, i_from - n)
            m_on = m_on & (i_from != o_row)
        tl.store(p_best + o_row, INFINITE, mask=m_row)
        tl.store(p_scanned + o_row, float("inf"), mask=m_row)
        tl.debug_barrier()
        tl.store(p_end + o_row, NOBODY, mask=m_row)
    return found


@triton.jit
def raise_prices(
    p_price, p_near, p_near_next, p_offer, p_root, size, far, turn, start, stop,
    EXACT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Prices of the columns start .. stop after a phase; the next one starts afresh, but for what
    trees that are kept offer."""
    for i_start in range(start, stop, BLOCK):
        o_col = i_start + tl.arange(0, BLOCK)
        m_col = o_col < stop
        b_kept = tl.full([BLOCK], INFINITE, tl.int64)
        if EXACT:
            b_near = tl.load(p_near + o_col, mask=m_col, other=float("inf"))
            b_price = tl.load(p_price + o_col, mask=m_col, other=0.0)
            tl.debug_barrier()
            b_rise = tl.maximum(far - b_near, 0.0)
            tl.store(p_price + o_col, b_price + b_rise, mask=m_col)
            m_kept = tl.load(p_root + o_col, mask=m_col, other=-1) >= 0
            b_kept = tl.where(m_kept, as_bits(tl.maximum(b_near - far, 0.0)), b_kept)
        tl.debug_barrier()
        tl.store(p_near + o_col, float("inf"), mask=m_col)
        tl.store(p_near_next + o_col, float("inf"), mask=m_col)
        for buffer in tl.static_range(3):
            b_offer = tl.where(buffer == turn % 3, b_kept, INFINITE)
            tl.store(p_offer + buffer * size + o_col, b_offer, mask=m_col)


@triton.jit
def start_afresh(
    p_near, p_offer, p_parent, p_best, p_end, p_scanned, size, row, row_stop, col, col_stop,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Forget a phase that is not over: all arrays as before the first one."""
    for i_start in range(row, row_stop, BLOCK):
        o_row = i_start + tl.arange(0, BLOCK)
        m_row = o_row < row_stop
        tl.store(p_best + o_row, INFINITE, mask=m_row)
        tl.store(p_end + o_row, NOBODY, mask=m_row)
        tl.store(p_scanned + o_row, float("inf"), mask=m_row)
    for i_start in range(col, col_stop, BLOCK):
        o_col = i_start + tl.arange(0, BLOCK)
        m_col = o_col < col_stop
        tl.store(p_parent + o_col, 0, mask=m_col)
        for buffer in tl.static_range(2):
            tl.store(p_near + buffer * size + o_col, float("inf"), mask=m_col)
        for buffer in tl.static_range(3):
            tl.store(p_offer + buffer * size + o_col, INFINITE, mask=m_col)
    tl.debug_barrier()
