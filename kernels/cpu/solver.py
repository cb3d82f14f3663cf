"""One problem, or a batch of them, from costs to certificate: what is called from Python."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from .answer import (
    CONSTANTS,
    INFEASIBLE,
    INVALID,
    RESCALE,
    SOLVED,
    UNSOLVED,
    UNSURE,
    Answer,
    Task,
    conclude,
    prove,
)  # fmt: skip
from .auction import auction, value_spread
from .augment import BLOCKED, FROM_AUCTION, FROM_NOTHING, FROM_TIES, LONG, exact_finish
from .candidates import new_lists, refill_all, unlisted
from .jit import entry_point
from .jonker_volgenant import SPACE
from .matching import Duals, new_matching
from .plan import plan_eps, start_prices
from .rectangle import assign_rows, first_bids
from .schedule import LISTED_FROM
from .small import is_small, make_small_solvers, padded, small_columns
from .statistics import centred_statistics, finite_statistics, not_finite
from .ties import reduce_columns
from .vector import WIDTH
from .work import Work

SMALLER = 2.0**-540  # so that squares of the largest costs can be added up


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
    answer.column[:] = matching.col4row[:n]
    holds = conclude(cost, duals.price, answer.column, size, True, task, answer, work)
    answer.price[:] = duals.price[:m]
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
        conclude(cost, price, matching.col4row, magnitude, False, task, answer, work)
        # Where rounding kept the auction from what was asked, its prices are still a good start.
        finish = answer.value[0] - answer.value[1] > n * task.tolerance * deviation
    while finish:
        if not exact_finish(cost, price, matching, lists, start, work):
            return INFEASIBLE
        holds = conclude(cost, price, matching.col4row, magnitude, True, task, answer, work)
        finish = not holds and start != FROM_NOTHING
        if finish:  # few digits of the costs are left beside large prices: again, without any
            start = FROM_NOTHING
            price[:] = 0
            low[:] = 0
            matching.row4col[:] = -1
            matching.col4row[:] = -1
            refill_all(cost, low, lists, work)
    answer.price[:] = price[:m]
    answer.column[:] = matching.col4row[:n]
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
        memory = np.empty((SPACE, max(m, WIDTH) if small else 0))
        for b in range(begin, end):
            if stop[0] != 0:
                break
            matrix, work = padded(cost[b]), Work(counts[b], stop)
            answer = Answer(price[b], index[b], value[b], dual[b])
            status = UNSOLVED
            if small:
                status = small_columns(matrix, m, constants, memory, answer.column, work)
                if status == UNSURE or (status == SOLVED and proven):
                    holds = prove(
                        matrix, memory[0], answer.column, m, answer.value, answer.dual, work
                    )
                    status = SOLVED if holds else UNSOLVED
                answer.price[:] = memory[0, :m]
            if status == UNSOLVED:
                status = _solve_one(matrix, task, answer, work)
            worst = max(worst, status)
        return worst

    return solve_range


STAMP = _source_digest()
solve_range = make_solver(STAMP)
small_index, small_pairs = make_small_solvers(STAMP)
