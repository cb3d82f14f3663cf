"""One problem, or a batch of them, from costs to certificate: the compiled entry points, kept on
disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from .auction import auction, value_spread
from .augment import BLOCKED, LONG, exact_finish
from .candidates import LISTED_FROM, new_candidates, refill_all, unlisted
from .certificate import certificate
from .jit import entry_point, kernel
from .jonker_volgenant import assign, column_minima, new_space, row_minima
from .rectangle import assign_rows, first_bids
from .statistics import centred_statistics, copies, finite_statistics, not_finite
from .ties import reduce_columns
from .vector import GROUPS, WIDTH
from .work import SLOTS, STOP

# What becomes of a problem; of a batch, the last of these that befalls one of its problems.
SOLVED, RESCALE, INFEASIBLE, INVALID, CONSTANTS, STOPPED = range(6)
UNSOLVED = -1  # left to the auction

SMALL = 64  # rows; up to here shortest paths over whole rows take less time than an auction ...
SMALL_ROWS, SMALL_COLUMNS = 128, 8192  # ... and up to so many, where there are more columns
FIRST_EPS = 0.05  # of the spread; the auction starts here ...
LAST_EPS = 0.003  # ... and hands over to the exact finish here
EPS_FACTOR = 20.0
# Where a row's better values lie closer together than uniform ones would, neighbours fight for the
# same columns over long distances (points on a line, i * j): start high, and come down slowly.
STRUCTURED = (0.35, 70.0)  # spread below this, and this over m, in standard deviations
COPIES = 3.0  # so do rows that have so many equal ones
ROUGH, STRUCTURED_FACTOR = 2.0, 6.0  # least spread for the first eps, in them; and its factor
DWARF = 1e4  # costs or prices this much larger than those that are paid call for a proof
LOOSE = 1e-12  # of the costs that are paid: a gap that smaller prices would close
SMALLER = 2.0**-540  # so that squares of the largest costs can be added up
ILL_SCALED = 1e-3  # a spread this much smaller than others says that a few huge costs make those


@njit
def is_small(n, m):
    """Whether a problem of n <= m is solved by shortest paths over whole rows."""
    if n == m:
        return n <= SMALL
    return n <= SMALL_ROWS and m <= SMALL_COLUMNS


@njit
def _statistics(cost, m, mean, totals, work):
    """(``INVALID``, or ``CONSTANTS`` where some are infinite, or ``SOLVED``, std, magnitude) of the
    costs; not finite if they are beyond float64."""
    deviation, magnitude = centred_statistics(cost, 1.0, m, mean, totals, work)
    if np.isfinite(deviation + magnitude):
        return SOLVED, deviation, magnitude
    invalid, forbidding = not_finite(cost, m, work)
    if invalid:
        return INVALID, deviation, magnitude
    if forbidding:
        mean[:] = 0
        deviation, magnitude = finite_statistics(cost, 1.0, m, work)
        if not np.isfinite(deviation + magnitude):
            deviation, magnitude = finite_statistics(cost, SMALLER, m, work)
        return CONSTANTS, deviation, magnitude
    deviation, magnitude = centred_statistics(cost, SMALLER, m, mean, totals, work)
    return SOLVED, deviation, magnitude


@njit
def _range_is_safe(cost, magnitude):
    """Room above and below in the type of the costs, for prices that add up and eps that must not
    vanish."""
    limits = np.finfo(cost.dtype)
    return magnitude == 0 or (limits.tiny * 1e12 < magnitude < limits.max / 1e9)


@njit
def _start_prices(cost, m, mean, price, groups):
    """Prices that take out the column means, where that helps; return (spread, tied) of the values,
    ``tied`` if ties for the best column are the rule."""
    spread, ties = value_spread(cost, price, groups)
    tied = spread == 0 or ties > 0.5
    if cost.shape[0] < m or tied:  # only where every column is used are its constants free
        return spread, tied
    for j in range(m):
        price[j] = -mean[j]
    centred, ties = value_spread(cost, price, groups)
    if spread < ILL_SCALED * centred:  # the means are noise of a few huge costs
        price[:] = 0
        return spread, False
    return centred, centred == 0 or ties > 0.5


@njit
def _may_drown(cost, index, price, m, magnitude):
    """Whether costs, or prices, are so much larger than what is paid that float64 may have kept too
    few digits of it on the way."""
    paid, largest = 0.0, magnitude
    for i in range(index.shape[0]):
        paid = max(paid, abs(np.float64(cost[i, index[i]])))
    for j in range(m):
        largest = max(largest, abs(price[j]))
    return not largest <= DWARF * paid


@njit
def _shift(price, m):
    """Take a constant from prices that differ by less than they are large: no digit changes, and
    sums with costs keep more of theirs."""
    least, largest = price[:m].min(), price[:m].max()
    if 0 < largest <= 2 * least:
        price[:m] -= least
    elif 2 * largest <= least < 0:
        price[:m] -= largest


@njit
def _conclude(cost, price, column, m, magnitude, final, proven, index, value, dual, work):
    """Write the answer, and its certificate if it is to be ``proven`` or could be wrong; return
    whether the gap, if there is one, is but rounding. Prices may change if they are ``final``."""
    raised = price[:m].any()  # else each row has its cheapest column, and no sum was ever rounded
    if final:
        _shift(price, m)
    index[:] = column[: cost.shape[0]]
    value[:] = 0
    if not (proven or (raised and _may_drown(cost, index, price, m, magnitude))):
        return True
    value[0], value[1] = certificate(cost, price, index, m, dual, work)
    paid = 0.0
    for i in range(index.shape[0]):
        paid += abs(np.float64(cost[i, index[i]]))
    return value[0] - value[1] <= LOOSE * paid


@njit
def _solve_wide(cost, m, proven, price, index, value, dual, work):
    """Solve one problem of fewer rows than columns, if it can be done without an auction."""
    n, width = cost.shape
    final = np.zeros(width)
    low, zeros = np.zeros((2, width), cost.dtype)
    duals, free = np.zeros(n + 1), np.empty(n, np.int64)
    owner = np.full(m, -1, np.int64)
    column = np.full(n + 1, -1, np.int64)
    size, frees = first_bids(cost, final, low, zeros, duals, owner, column, free, work)
    if size != size:
        return INVALID
    if not _range_is_safe(cost, size):
        return RESCALE
    if frees > 0:
        lists = (*new_candidates(cost, m >= LISTED_FROM), np.empty(GROUPS, cost.dtype))
        found = assign_rows(cost, final, low, duals, owner, column, lists, free, frees, work)
        if found == BLOCKED:
            return INFEASIBLE
        if found == LONG:
            return UNSOLVED
    holds = _conclude(cost, final, column, m, size, True, proven, index, value, dual, work)
    price[:m] = final[:m]
    return SOLVED if holds else UNSOLVED


@njit
def _padded(cost):
    """The costs with rows of at least one vector, as scans want them: missing columns are
    forbidden ones."""
    n, m = cost.shape
    if m >= WIDTH:
        return cost
    wide = np.full((n, WIDTH), np.inf, cost.dtype)
    wide[:, :m] = cost
    return wide


@kernel
def _turn(cost, wide):
    """Write the transposed costs (n, m) to ``wide`` (m, width), whose missing columns are forbidden
    ones: a tile of ``WIDTH`` rows at a time, in loops of known length."""
    n, m = cost.shape
    whole = n - n % WIDTH
    for start in range(0, whole, WIDTH):
        tile = cost[start : start + WIDTH]
        for j in range(m):
            row = wide[j, start : start + WIDTH]
            for i in range(WIDTH):
                row[i] = tile[i, j]
    for i in range(whole, n):
        for j in range(m):
            wide[j, i] = cost[i, j]
    for j in range(m):
        for i in range(n, wide.shape[1]):
            wide[j, i] = np.inf


@njit
def _solve_small(cost, m, constants, proven, space, index, value, dual, work):
    """The exact assignment of a small problem, and its prices in ``space[0]`` (width,);
    ``UNSOLVED`` where those cost it digits."""
    price = space[0]
    if constants < np.inf:
        totals = np.empty(cost.shape[0])
        deviation, size = centred_statistics(cost, 1.0, m, price, totals, work)
        if not size <= constants * deviation:
            return CONSTANTS
    if cost.shape[0] == m:
        largest = column_minima(cost, space, work)
    else:
        largest = row_minima(cost, space, work)
    if largest != largest:
        return INVALID
    if not largest < np.finfo(np.float64).max / 1e9:
        return RESCALE
    if not assign(cost, cost.shape[0] == m, space, index, work):
        return INFEASIBLE
    holds = _conclude(cost, price, index, m, largest, True, proven, index, value, dual, work)
    return SOLVED if holds else UNSOLVED


@njit
def _solve_one(cost, m, constants, exact, tolerance, warm, proven, price, index, value, dual, work):
    """Solve one (n, width) problem; see ``make_solver`` for the arguments."""
    n, width = cost.shape
    if n < m:
        solved = _solve_wide(cost, m, proven, price, index, value, dual, work)
        if solved != UNSOLVED:
            return solved
    mean = np.zeros(width)
    totals = np.zeros(n)
    status, deviation, magnitude = _statistics(cost, m, mean, totals, work)
    if constants < np.inf and not (status == SOLVED and magnitude <= constants * deviation):
        return CONSTANTS
    if status == INVALID:
        return INVALID
    if not (np.isfinite(deviation) and _range_is_safe(cost, magnitude)):
        return RESCALE
    groups = np.empty(GROUPS, cost.dtype)
    index_, value_, count_, bound_ = new_candidates(cost, m >= LISTED_FROM)
    lists = (index_, value_, count_, bound_, groups)
    owner = np.full(m, -1, np.int64)
    column = np.full(n + 1, -1, np.int64)
    working = np.zeros(width, cost.dtype)
    if warm:
        working[:m] = price[:m].astype(cost.dtype)
        spread, tied = value_spread(cost, working, groups)[0], False
    else:
        spread, tied = _start_prices(cost, m, mean, working, groups)
    finished = True
    if exact and tied:  # eps would only tear the ties apart
        if n == m:
            reduce_columns(cost, m, working, work)
    else:
        last = max(LAST_EPS * spread if exact else tolerance * deviation, np.finfo(cost.dtype).tiny)
        first, factor = FIRST_EPS * spread, EPS_FACTOR
        dense = spread < min(STRUCTURED[0], STRUCTURED[1] / m) * deviation
        if (dense or copies(totals) > COPIES) and spread > ILL_SCALED * deviation:
            first, factor = FIRST_EPS * ROUGH * deviation, STRUCTURED_FACTOR
        first = max(first, last)
        last = max(last, first * np.finfo(cost.dtype).eps)  # smaller steps are rounding
        if n < m and not exact:
            # One phase from equal prices: columns left over must stay the cheapest.
            first, factor = last, 1.0
        finished, dry = auction(cost, working, owner, column, lists, first, last, factor, work)
        if dry:
            lists = unlisted(cost, lists)
    final = np.zeros(width)
    final[:m] = working[:m]
    finish = exact or not finished
    if finish and not exact_finish(cost, final, owner, column, lists, exact and tied, True, work):
        return INFEASIBLE
    proven = proven or not exact
    holds = _conclude(cost, final, column, m, magnitude, finish, proven, index, value, dual, work)
    if not finish and value[0] - value[1] > n * tolerance * deviation:
        # Rounding kept the auction from what was asked; its prices are still a good start.
        finish = True
        if not exact_finish(cost, final, owner, column, lists, False, True, work):
            return INFEASIBLE
        holds = _conclude(cost, final, column, m, magnitude, True, proven, index, value, dual, work)
    if finish and not holds:
        # Few digits of the costs are left beside large prices: start again without any.
        final[:] = 0
        working[:] = 0
        owner[:] = -1
        column[:] = -1
        refill_all(cost, working, lists, work)
        if not exact_finish(cost, final, owner, column, lists, False, False, work):
            return INFEASIBLE
        _conclude(cost, final, column, m, magnitude, True, proven, index, value, dual, work)
    price[:m] = final[:m]
    return SOLVED


def _source_digest() -> str:
    """Numba's cache looks at one file; this makes it look at all that this one is compiled with."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make_solver(stamp: str) -> Any:
    """The compiled ``solve_range(cost, begin, end, constants, exact, tolerance, warm, proven,
    price, index, value, dual, work)``, which returns the worst status.

    It solves problems ``begin`` to ``end`` of ``cost`` (B, n, m), n <= m, float32 or float64.
    ``price`` (B, m) float64 is read if ``warm``, and written; ``index`` (B, n) int64, ``value``
    (B, 2) float64 (cost, lower bound), ``dual`` (B, n) float64 and ``work`` (B, 16) are written.
    ``tolerance`` is in units of the std of the centred costs, per row; a problem whose costs are
    over ``constants`` times that std in size, or not finite, is not solved, unless that is
    infinite. An exact
    answer that is not to be ``proven`` may lack its value and duals.
    """

    @entry_point
    def solve_range(
        cost, begin, end, constants, exact, tolerance, warm, proven, price, index, value, dual, work
    ):
        _ = stamp
        m = cost.shape[2]
        worst = SOLVED
        small = is_small(cost.shape[1], m) and not warm
        space = new_space(cost, max(m, WIDTH) if small else 0)
        for b in range(begin, end):
            if work[b, STOP] != 0:
                return STOPPED
            matrix = _padded(cost[b])
            p, i, v, d, w = price[b], index[b], value[b], dual[b], work[b]
            status = UNSOLVED
            if small:
                status = _solve_small(matrix, m, constants, proven, space, i, v, d, w)
                p[:] = space[0][:m]
            if status == UNSOLVED:
                status = _solve_one(
                    matrix, m, constants, exact, tolerance, warm, proven, p, i, v, d, w
                )
            worst = max(worst, STOPPED if work[b, STOP] != 0 else status)
        return worst

    return solve_range


def make_small_solver(stamp: str) -> Any:
    """The compiled ``assign_small(cost, constants, index)``, which returns the status.

    It solves (B, n, m) problems that are small, turned or not, exactly, as ``solve_range`` would,
    for the ``index`` (B, n) alone, -1 for no column: to call it takes less time, which is what
    counts there.
    """

    @entry_point
    def assign_small(cost, constants, index):
        _ = stamp
        work = np.zeros(SLOTS, np.int64)
        n, m = cost.shape[1:]
        rows = np.empty(m, np.int64)
        wide = np.empty((m, max(n, WIDTH)) if n > m else (0, WIDTH), cost.dtype)
        space = new_space(cost, max(n, m, WIDTH))
        value, dual = np.empty(2), np.empty(min(n, m))
        for b in range(cost.shape[0]):
            if n <= m:
                status = _solve_small(
                    _padded(cost[b]), m, constants, False, space, index[b], value, dual, work
                )
            else:
                _turn(cost[b], wide)
                status = _solve_small(wide, n, constants, False, space, rows, value, dual, work)
                if status == SOLVED:  # else ``rows`` holds anything
                    index[b] = -1
                    for j in range(m):
                        index[b, rows[j]] = j
            if status != SOLVED:
                return status
        return SOLVED

    return assign_small


solve_range = make_solver(_source_digest())
assign_small = make_small_solver(_source_digest())
