"""The Numba solver: padding, threads, scaling and error reports around ``kernels/cpu``."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from immiscible_fast.kernels.cpu.solver import INFEASIBLE, INVALID, RESCALE, solve_range
from immiscible_fast.kernels.cpu.vector import WIDTH
from immiscible_fast.kernels.cpu.work import COUNTERS

from .. import validation
from .solution import Solution

THREADED_FROM = 1 << 16  # entries in a batch; below, starting threads costs more than it saves


def solve(
    costs: NDArray[np.floating],
    *,
    exact: bool,
    tol: float,
    prices: NDArray[np.float64] | None = None,
    threads: int | None = None,
) -> Solution:
    """Solve each of (B, n, m) costs, n <= m, float32 or float64, by auction; ``exact`` finishes it.

    ``tol`` bounds (cost - optimum) / n in units of the std of the centred costs, if not ``exact``.
    ``prices`` (B, m) are where the auction starts, in float64; they are not modified.
    """
    batch, n, m = costs.shape
    padded = _padded(costs)
    warm = prices is not None
    start = prices.copy() if prices is not None else np.empty((batch, m))
    index = np.empty((batch, n), np.int64)
    value = np.empty((batch, 2))
    work = np.zeros((batch, len(COUNTERS)), np.int64)
    status = np.zeros(batch, np.int64)

    def run(begin: int, end: int) -> None:
        solve_range(padded, m, begin, end, exact, tol, warm, start, index, value, work, status)

    threaded = batch > 1 and padded.size >= THREADED_FROM
    workers = min(batch, threads or _available_cores()) if threaded else 1
    if workers > 1:
        cuts = np.linspace(0, batch, min(batch, 4 * workers) + 1).astype(int).tolist()
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(run, cuts[:-1], cuts[1:]))
    else:
        run(0, batch)

    if status.any():
        if (status == INVALID).any():
            raise ValueError(validation.INVALID_ENTRIES)
        if (status == INFEASIBLE).any():
            raise ValueError(validation.INFEASIBLE)
        if (status == RESCALE).any():
            return _solve_scaled(costs, exact=exact, tol=tol, threads=threads)
    return Solution(index, value[:, 0], value[:, 1], np.ones(batch, np.bool_), start, work)


def _available_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _padded(costs: NDArray[np.floating]) -> NDArray[np.floating]:
    """Contiguous, with rows of at least one vector: missing columns are forbidden ones."""
    batch, n, m = costs.shape
    if m >= WIDTH:
        return np.ascontiguousarray(costs)
    padded = np.full((batch, n, WIDTH), np.inf, costs.dtype)
    padded[:, :, :m] = costs
    return padded


def _solve_scaled(
    costs: NDArray[np.floating], *, exact: bool, tol: float, threads: int | None
) -> Solution:
    """Costs too large or too small for their type: solve them in float64, scaled by a power of
    two."""
    magnitude = np.where(np.isfinite(costs), np.abs(costs), 0).max(axis=(1, 2), keepdims=True)
    exponent = np.frexp(magnitude.astype(np.float64))[1]
    scaled = np.ldexp(costs.astype(np.float64), -exponent)
    solution = solve(scaled, exact=exact, tol=tol, threads=threads)
    with np.errstate(over="ignore"):  # a sum beyond float64 is infinite, as numpy's own is
        return solution._replace(
            cost=np.ldexp(solution.cost, exponent[:, 0, 0]),
            lower_bound=np.ldexp(solution.lower_bound, exponent[:, 0, 0]),
            prices=np.ldexp(solution.prices, exponent[:, 0]),
        )
