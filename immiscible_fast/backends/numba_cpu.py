"""The Numba solver: padding, threads, scaling and error reports around ``kernels/cpu``."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from immiscible_fast.kernels.cpu.solver import (
    CONSTANTS,
    INFEASIBLE,
    INVALID,
    RESCALE,
    SMALL,
    SOLVED,
    assign_small,
    solve_range,
)
from immiscible_fast.kernels.cpu.work import COUNTERS, SLOTS, STOP

from .. import validation
from .solution import LargeConstants, Solution
from .threads import share

THREADED_FROM = 1 << 16  # entries in a batch; below, starting threads costs more than it saves
WATCHED_FROM = (1 << 20) + 1  # entries; fewer are solved before anybody can lose patience


def solve(
    costs: NDArray[np.floating],
    *,
    exact: bool,
    tol: float,
    prices: NDArray[np.float64] | None = None,
    threads: int | None = None,
    constants: float = np.inf,
) -> Solution:
    """Solve each of (B, n, m) costs, n <= m, float32 or float64, by auction; ``exact`` finishes it.

    ``tol`` bounds (cost - optimum) / n in units of the std of the centred costs, if not ``exact``.
    ``prices`` (B, m) are where the auction starts if n = m, in float64; they are not modified.
    Costs whose size is over ``constants`` times that std raise ``LargeConstants``.
    """
    batch, n, m = costs.shape
    if not costs.flags.carray:
        costs = np.array(costs, order="C")  # another layout, or one locked, would be compiled anew
    start = np.empty((batch, m)) if prices is None else prices.copy()
    index = np.empty((batch, n), np.int64)
    value = np.empty((batch, 2))
    work = np.zeros((batch, SLOTS), np.int64)
    warm = prices is not None

    worst = []

    def run(begin: int, end: int) -> None:
        worst.append(
            solve_range(costs, begin, end, constants, exact, tol, warm, start, index, value, work)
        )

    workers = 1
    if batch > 1 and costs.size >= THREADED_FROM:
        workers = min(batch, threads or _available_cores())
    if workers > 1:
        cuts = np.linspace(0, batch, min(batch, 4 * workers) + 1).astype(int).tolist()
        _watch(run, pairwise(cuts), workers, work)
    elif costs.size >= WATCHED_FROM and threading.current_thread() is threading.main_thread():
        _watch(run, [(0, batch)], 1, work)
    else:
        run(0, batch)

    status = max(worst)
    if status == RESCALE:
        return _solve_scaled(costs, exact=exact, tol=tol, threads=threads)
    if status == INFEASIBLE:
        raise ValueError(validation.INFEASIBLE)
    if status == INVALID:
        raise ValueError(validation.INVALID_ENTRIES)
    if status == CONSTANTS:
        raise LargeConstants
    converged = np.empty(batch, np.bool_)
    converged.fill(True)
    counts = work[:, : len(COUNTERS)]
    return Solution(index, value[:, 0], value[:, 1], converged, start, counts)


def assign(costs: NDArray[np.floating], *, constants: float = np.inf) -> NDArray[np.int64]:
    """The index (1, n) alone of one problem (1, n, m), 0 < n <= m, as an exact ``solve`` finds it;
    with few columns, in less time."""
    if costs.shape[2] <= SMALL and costs.flags.carray:
        index = np.empty(costs.shape[:2], np.int64)
        if assign_small(costs, constants, index) == SOLVED:
            return index
    return solve(costs, exact=True, tol=1.0, constants=constants).index


def _watch(
    run: Callable[[int, int], None],
    ranges: Iterable[tuple[int, int]],
    workers: int,
    work: NDArray[np.int64],
) -> None:
    """``run(begin, end)`` for each range on other threads, so that this one can be interrupted.

    Python hands signals to its main thread, between two of its own instructions: inside the solver
    they would wait for its end. Whatever is raised here stops the solver before it goes on.
    """
    run(0, 0)  # compiles here, if it has to, which an interrupt ends at once

    def stop() -> None:
        work[:, STOP] = 1

    share(run, ranges, workers, stop)


def _available_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _solve_scaled(
    costs: NDArray[np.floating], *, exact: bool, tol: float, threads: int | None
) -> Solution:
    """Costs too large or too small for their type: solve them in float64, scaled by a power of
    two."""
    magnitude = np.abs(costs).max(axis=(1, 2), keepdims=True)
    if not np.isfinite(magnitude).all():
        magnitude = np.abs(costs).max(
            axis=(1, 2), keepdims=True, where=np.isfinite(costs), initial=0
        )
    exponent = np.frexp(magnitude.astype(np.float64))[1]
    scaled = _scaled(costs, -exponent)
    solution = solve(scaled, exact=exact, tol=tol, threads=threads)
    with np.errstate(over="ignore"):  # a sum beyond float64 is infinite, as numpy's own is
        return solution._replace(
            cost=np.ldexp(solution.cost, exponent[:, 0, 0]),
            lower_bound=np.ldexp(solution.lower_bound, exponent[:, 0, 0]),
            prices=np.ldexp(solution.prices, exponent[:, 0]),
        )


def _scaled(costs: NDArray[np.floating], exponent: NDArray[np.integer]) -> NDArray[np.floating]:
    """``costs * 2 ** exponent``, in their own type if no digit is lost there, else in float64."""
    own = costs.dtype.type
    half = exponent // 2  # the power itself may be out of range where the product is not
    factors = np.ldexp(own(1), half), np.ldexp(own(1), exponent - half)
    with np.errstate(under="ignore"):
        scaled: NDArray[np.floating] = costs * factors[0] * factors[1]
        if costs.dtype == np.float64 or np.array_equal(scaled / factors[1] / factors[0], costs):
            return scaled
    wide: NDArray[np.floating] = np.ldexp(costs.astype(np.float64), exponent)
    return wide
