"""One problem, or a batch of them, from costs to certificate: what is called from Python."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .auction import auction, value_spread
from .augment import BLOCKED, FROM_AUCTION, FROM_NOTHING, FROM_TIES, LONG, exact_finish
from .candidates import new_lists, refill_all, unlisted
from .certificate import certificate
from .jit import entry_point, kernel
from .jonker_volgenant import assign, column_minima, new_space, row_minima
from .matching import Duals, new_matching
from .plan import plan_eps, start_prices
from .rectangle import assign_rows, first_bids
from .schedule import DWARF, LISTED_FROM, LOOSE, SMALL, SMALL_COLUMNS, SMALL_ROWS
from .statistics import centred_statistics, finite_statistics, not_finite
from .ties import reduce_columns
from .vector import WIDTH
from .work import SLOTS, Work

# What becomes of a problem; of a batch, the last of these that befalls one of its problems.
SOLVED, RESCALE, INFEASIBLE, INVALID, CONSTANTS = range(5)
UNSOLVED = -1  # left to the next way of solving it
SMALLER = 2.0**-540  # so that squares of the largest costs can be added up


class Task(NamedTuple):
    """What is asked of each problem of a batch; see ``make_solver``."""

    m: int
    constants: float
    exact: bool
    tolerance: float
    warm: bool
    proven: bool


class Answer(NamedTuple):
    """Where the answer to a problem goes."""

    price: NDArray[np.float64]  # (m,); read first, if warm
    column: NDArray[np.int64]  # (n,)
    value: NDArray[np.float64]  # (2,): cost, lower bound
    dual: NDArray[np.float64]  # (n,), of the rows


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
def _conclude(cost, price, column, magnitude, final, task, answer, work):
    """Write the answer, and its certificate if it is to be ``proven`` or could be wrong; return
    whether the gap, if there is one, is but rounding. Prices may change if they are ``final``."""
    m = task.m
    raised = price[:m].any()  # else each row has its cheapest column, and no sum was ever rounded
    if final:
        _shift(price, m)
    answer.column[:] = column[: cost.shape[0]]
    value = answer.value
    value[:] = 0
    proven = task.proven or not task.exact
    if not (proven or (raised and _may_drown(cost, answer.column, price, m, magnitude))):
        return True
    value[0], value[1] = certificate(cost, price, answer.column, m, answer.dual, work)
    paid = 0.0
    for i in range(cost.shape[0]):
        paid += abs(np.float64(cost[i, answer.column[i]]))
    return value[0] - value[1] <= LOOSE * paid


@njit
def _solve_wide(cost, task, answer, work):
    """Solve one problem of fewer rows than columns, if it can be done without an auction."""
    (n, width), m = cost.shape, task.m
    low, zeros = np.zeros((2, width), cost.dtype)
    duals = Duals(np.zeros(width), low, np.zeros(n + 1))
    matching, free = new_matching(n, m), np.empty(n, np.int64)
    size, frees = first_bids(cost, duals, matching, zeros, free, work)
    if size != size:
        return INVALID
    if not _range_is_safe(cost, size):
        return RESCALE
    if frees > 0:
        lists = new_lists(cost, m >= LISTED_FROM)
        found = assign_rows(cost, duals, matching, lists, free, frees, work)
        if found == BLOCKED:
            return INFEASIBLE
        if found == LONG:
            return UNSOLVED
    holds = _conclude(cost, duals.price, matching.col4row, size, True, task, answer, work)
    answer.price[:] = duals.price[:m]
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
def _transpose(cost, wide):
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


@kernel
def _list_pairs(column, rows, columns):
    """The rows that have a ``column``, in order, and their columns."""
    count = 0
    for i in range(column.shape[0]):
        if column[i] >= 0:
            rows[count] = i
            columns[count] = column[i]
            count += 1


@njit
def _solve_small(cost, task, space, answer, work):
    """The exact assignment of a small problem; ``UNSOLVED`` where prices cost it digits."""
    price, m, n = space.price, task.m, cost.shape[0]
    if task.constants < np.inf:
        deviation, size = centred_statistics(cost, 1.0, m, price, np.empty(n), work)
        if not size <= task.constants * deviation:
            return CONSTANTS
    largest = column_minima(cost, space, work) if n == m else row_minima(cost, space, work)
    if largest != largest:
        return INVALID
    if not largest < np.finfo(np.float64).max / 1e9:
        return RESCALE
    if not assign(cost, n == m, space, answer.column, work):
        return INFEASIBLE
    holds = _conclude(cost, price, answer.column, largest, True, task, answer, work)
    return SOLVED if holds else UNSOLVED


@njit
def _solve_one(cost, task, answer, work):
    """Solve one (n, width) problem: plan, auction, exact finish and certificate."""
    (n, width), m = cost.shape, task.m
    if n < m:
        solved = _solve_wide(cost, task, answer, work)
        if solved != UNSOLVED:
            return solved
    mean, totals = np.zeros(width), np.zeros(n)
    status, deviation, magnitude = _statistics(cost, m, mean, totals, work)
    centred = status == SOLVED and magnitude <= task.constants * deviation
    if task.constants < np.inf and not centred:
        return CONSTANTS
    if status == INVALID:
        return INVALID
    if not (np.isfinite(deviation) and _range_is_safe(cost, magnitude)):
        return RESCALE
    lists, matching = new_lists(cost, m >= LISTED_FROM), new_matching(n, m)
    low = np.zeros(width, cost.dtype)
    if task.warm:
        low[:m] = answer.price.astype(cost.dtype)
        spread, tied = value_spread(cost, low, lists.groups)[0], False
    else:
        spread, tied = start_prices(cost, m, mean, low, lists.groups)
    finish, start = True, FROM_AUCTION
    if tied and task.exact:  # eps would only tear the ties apart
        start = FROM_TIES
        if n == m:
            reduce_columns(cost, m, low, work)
    else:
        eps = plan_eps(cost, task, spread, deviation, totals)
        assigned, exhausted = auction(cost, low, matching, lists, eps, work)
        finish = task.exact or not assigned
        if exhausted:
            lists = unlisted(lists)
    price = np.zeros(width)
    price[:m] = low[:m]
    if not finish:
        _conclude(cost, price, matching.col4row, magnitude, False, task, answer, work)
        # Where rounding kept the auction from what was asked, its prices are still a good start.
        finish = answer.value[0] - answer.value[1] > n * task.tolerance * deviation
    while finish:
        if not exact_finish(cost, price, matching, lists, start, work):
            return INFEASIBLE
        holds = _conclude(cost, price, matching.col4row, magnitude, True, task, answer, work)
        finish = not holds and start != FROM_NOTHING
        if finish:  # few digits of the costs are left beside large prices: again, without any
            start = FROM_NOTHING
            price[:] = 0
            low[:] = 0
            matching.row4col[:] = -1
            matching.col4row[:] = -1
            refill_all(cost, low, lists, work)
    answer.price[:] = price[:m]
    return SOLVED


def _source_digest() -> str:
    """Numba's cache looks at one file; this makes it look at all that this one is compiled with."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make_solver(stamp: str) -> Any:
    """The compiled ``solve_range(cost, begin, end, constants, exact, tolerance, warm, proven,
    price, index, value, dual, counts, stop)``, which returns the worst status.

    It solves problems ``begin`` to ``end`` of ``cost`` (B, n, m), n <= m, float32 or float64.
    ``price`` (B, m) float64 is read if ``warm``, and written; ``index`` (B, n) int64, ``value``
    (B, 2) float64 (cost, lower bound), ``dual`` (B, n) float64 and ``counts`` (B, ``SLOTS``) int64
    are written. ``stop`` (1,) int64 ends it, once it is set by another thread; then nothing of all
    that is to be relied on.
    ``tolerance`` is in units of the std of the centred costs, per row; a problem whose costs are
    over ``constants`` times that std in size, or not finite, is not solved, unless that is
    infinite. An exact answer that is not to be ``proven`` may lack its value and duals.
    """

    @entry_point
    def solve_range(
        cost, begin, end, constants, exact, tolerance, warm, proven,
        price, index, value, dual, counts, stop,
    ):  # fmt: skip
        _ = stamp
        m = cost.shape[2]
        task = Task(m, constants, exact, tolerance, warm, proven)
        worst = SOLVED
        small = is_small(cost.shape[1], m) and not warm
        space = new_space(cost, max(m, WIDTH) if small else 0)
        for b in range(begin, end):
            if stop[0] != 0:
                break
            matrix, work = _padded(cost[b]), Work(counts[b], stop)
            answer = Answer(price[b], index[b], value[b], dual[b])
            status = UNSOLVED
            if small:
                status = _solve_small(matrix, task, space, answer, work)
                answer.price[:] = space.price[:m]
            if status == UNSOLVED:
                status = _solve_one(matrix, task, answer, work)
            worst = max(worst, status)
        return worst

    return solve_range


def make_small_solver(stamp: str) -> Any:
    """The compiled ``assign_small(cost, constants, found)``, which returns the status.

    It solves (B, n, m) problems that are small, turned or not, exactly, as ``solve_range`` would,
    for the columns alone: to call it takes less time, which is what counts there. ``found`` is
    (1, B, n), the column of each row, -1 for none; or (2, B, k), k = min(n, m), the rows that have
    one, in order, and their columns.
    """

    @entry_point
    def assign_small(cost, constants, found):
        _ = stamp
        n, m = cost.shape[1:]
        memory = np.zeros(SLOTS + 1, np.int64)  # one piece, since every one takes its time
        work = Work(memory[:SLOTS], memory[SLOTS:])
        task = Task(max(n, m), constants, True, 1.0, False, False)
        tall, pairs = n > m, found.shape[0] == 2
        rows = np.empty(n + m if tall else 0, np.int64)
        wide = np.empty((m, max(n, WIDTH)) if tall else (0, WIDTH), cost.dtype)
        space = new_space(cost, max(n, m, WIDTH))
        value, dual = np.empty(2), np.empty(min(n, m))
        for b in range(cost.shape[0]):
            if not tall:
                answer = Answer(space.price, found[-1, b], value, dual)
                status = _solve_small(_padded(cost[b]), task, space, answer, work)
                if pairs:
                    for i in range(n):
                        found[0, b, i] = i
            else:
                _transpose(cost[b], wide)
                answer = Answer(space.price, rows[:m], value, dual)
                status = _solve_small(wide, task, space, answer, work)
                if status == SOLVED:  # else ``rows`` holds anything
                    column = rows[m:] if pairs else found[0, b]
                    column[:] = -1
                    for j in range(m):
                        column[rows[j]] = j
                    if pairs:
                        _list_pairs(column, found[0, b], found[1, b])
            if status != SOLVED:
                return status
        return SOLVED

    return assign_small


solve_range = make_solver(_source_digest())
assign_small = make_small_solver(_source_digest())
