"""The Numba solver: threads, scaling and error reports around ``kernels/cpu``."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from numba.np.numpy_support import as_dtype
from numpy.typing import NDArray

from immiscible_fast.kernels.cpu.answer import CONSTANTS, INFEASIBLE, INVALID, RESCALE, SOLVED
from immiscible_fast.kernels.cpu.schedule import SMALL
from immiscible_fast.kernels.cpu.small import is_small
from immiscible_fast.kernels.cpu.solver import small_index, small_pairs, solve_range
from immiscible_fast.kernels.cpu.work import COUNTERS, SLOTS

from .. import validation
from ..rectangular import inverse, transposed
from ..rounding import exact_sum, scaled_down
from ..types import Solution
from .costs import LargeConstants
from .threads import share

THREADED_FROM = 1 << 16  # entries in a batch; below, starting threads costs more than it saves
THREADED_SMALL = 1 << 19  # the same of small problems for their index alone
FEW = 8  # rows, which seldom want the same of very many columns
ALWAYS_SMALL = SMALL**2  # entries; whatever their shape, a problem is small
# Rows squared times columns (n <= m); less is solved before anybody can lose patience, and to wait
# for another thread takes milliseconds where there are more threads than cores.
WATCHED_FROM = (1 << 30) + 1
ROOMY = 990  # exponent of costs that leaves room for prices above, in float64
LEAST = math.ulp(0.0)
DIRECT: dict[np.dtype[Any], Callable[..., int]] = {}  # see ``_small_pairs_of``
EMPTY, INT64 = np.empty, np.dtype(np.int64)  # looked up once

_is_small = is_small.py_func  # a compiled function takes longer to call


def solve(
    costs: NDArray[np.floating],
    *,
    exact: bool,
    tol: float,
    prices: NDArray[np.float64] | None = None,
    threads: int | None = None,
    constants: float = np.inf,
    proven: bool = True,
) -> Solution:
    """Solve each of (B, n, m) costs, n <= m, float32 or float64, by auction; ``exact`` finishes it.

    ``tol`` bounds (cost - optimum) / n in units of the std of the centred costs, if not ``exact``.
    ``prices`` (B, m) are where the auction starts if n = m, in float64; they are not modified.
    Costs whose size is over ``constants`` times that std raise ``LargeConstants``. Of exact answers
    that are not to be ``proven`` only the index is to be relied on.
    """
    batch, n, m = costs.shape
    if not costs.flags.carray:
        costs = np.array(costs, order="C")  # another layout, or one locked, would be compiled anew
    start = np.empty((batch, m)) if prices is None else prices.copy()
    index = np.empty((batch, n), np.int64)
    value, dual = np.empty((batch, 2)), np.empty((batch, n))
    counts, stop = np.zeros((batch, SLOTS), np.int64), np.zeros(1, np.int64)
    warm = prices is not None

    worst = []

    def run(begin: int, end: int) -> None:
        answer = start, index, value, dual, counts, stop
        worst.append(solve_range(costs, begin, end, constants, exact, tol, warm, proven, *answer))

    workers = 1
    if batch > 1 and costs.size >= THREADED_FROM:
        workers = min(batch, threads or _available_cores())
    if workers > 1:
        cuts = np.linspace(0, batch, min(batch, 4 * workers) + 1).astype(int).tolist()
        _watch(run, pairwise(cuts), workers, stop)
    elif batch * n * n * m >= WATCHED_FROM and _is_main_thread():
        _watch(run, [(0, batch)], 1, stop)
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
    work = counts[:, : len(COUNTERS)]
    return Solution(index, value[:, 0], value[:, 1], converged, start, dual, work)


def assign(costs: NDArray[np.floating], constants: float = np.inf) -> NDArray[np.int64]:
    """The index (B, n) alone, or -1, of (B, n, m) costs, none of them empty, as an exact ``solve``
    finds it; of small problems in less time."""
    batch, n, m = costs.shape
    if _takes_small(costs, n, m):
        index: NDArray[np.int64] = np.empty((batch, n), np.int64)
        if small_index(costs, constants, index) == SOLVED:
            return index
    if n > m:
        return inverse(assign(transposed(costs), constants), n)
    if n <= FEW and constants == np.inf:
        index = costs.argmin(2)
        distinct = (np.diff(np.sort(index, 1), axis=1) > 0).all()
        if distinct and np.isfinite(np.take_along_axis(costs, index[..., None], 2)).all():
            return index  # each row has its cheapest column
    index = solve(costs, exact=True, tol=1.0, constants=constants, proven=False).index
    return index


def pairs(costs: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of (n, m) costs, none of them empty, that an exact ``solve`` gives a column, in
    order, and those columns; of a small problem in less time."""
    n, m = costs.shape
    if costs.flags.carray and (n * m <= ALWAYS_SMALL or _takes_small(costs, n, m)):
        count = n if n <= m else m
        rows, columns = EMPTY(count, INT64), EMPTY(count, INT64)
        call = DIRECT.get(costs.dtype) or _small_pairs_of(costs.dtype)
        if call(costs, rows, columns) == SOLVED:
            return rows, columns
    if n == 1 or m == 1:
        best = costs.argmin()
        if math.isfinite(costs.item(best)):
            pair = np.zeros((2, 1), np.int64)
            pair[int(n == 1)] = best
            return pair[0], pair[1]
    index = assign(costs[None])[0]
    if n <= m:
        return np.arange(n), index
    rows = (index >= 0).nonzero()[0]
    return rows, index[rows]


def _small_pairs_of(dtype: np.dtype[Any]) -> Callable[..., int]:
    """``small_pairs`` as compiled for costs of this type, without Numba's look at the arguments,
    which takes as long as to solve a small problem. They must be ``carray``."""
    rows = np.empty(1, np.int64)
    small_pairs(np.zeros((1, 1), dtype), rows, rows.copy())
    for signature, compiled in small_pairs.overloads.items():
        DIRECT[as_dtype(signature[0].dtype)] = compiled.entry_point
    return DIRECT[dtype]


def _takes_small(costs: NDArray[np.floating], n: int, m: int) -> bool:
    """Whether ``small_index`` is for these costs; another layout would be compiled anew."""
    if not costs.flags.carray:
        return False
    entries = costs.size
    if entries <= ALWAYS_SMALL:
        return True
    return entries < THREADED_SMALL and (_is_small(n, m) if n <= m else _is_small(m, n))


def _watch(
    run: Callable[[int, int], None],
    ranges: Iterable[tuple[int, int]],
    workers: int,
    stop: NDArray[np.int64],
) -> None:
    """``run(begin, end)`` for each range on other threads, so that this one can be interrupted.

    Python hands signals to its main thread, between two of its own instructions: inside the solver
    they would wait for its end. Whatever is raised here stops the solver before it goes on.
    """
    run(0, 0)  # compiles here, if it has to, which an interrupt ends at once

    share(run, ranges, workers, lambda: stop.fill(1))


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _available_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _solve_scaled(
    costs: NDArray[np.floating], *, exact: bool, tol: float, threads: int | None
) -> Solution:
    """Costs too large or too small for their type: solve them scaled by a power of two, the least
    one that float64 needs. The cost is that of the entries as they were given."""
    finite = np.abs(costs).max(axis=(1, 2), where=np.isfinite(costs), initial=0)
    exponent = np.frexp(finite.astype(np.float64))[1].astype(np.int64)
    if costs.dtype == np.float64:
        exponent = np.where(exponent > 0, np.maximum(exponent - ROOMY, 0), exponent)
    power = exponent[:, None, None].astype(np.int32)
    scaled = _scaled(costs, -power)
    changed = (_shifted(scaled, power) != costs).any((1, 2)).tolist()
    solution = solve(scaled, exact=exact, tol=tol, threads=threads)
    cost, bound = np.empty(len(costs)), np.empty(len(costs))
    for b, index in enumerate(solution.index):
        paid = costs[b, np.arange(index.size), index].tolist()
        cost[b] = exact_sum(paid, np.inf)
        # An entry loses at most half of the least number, and the optimum that of each pair.
        lost = LEAST * index.size if changed[b] else 0.0
        scaled_bound = exact_sum([solution.lower_bound[b], -lost], -np.inf)
        bound[b] = scaled_down(scaled_bound, exponent[b])
    with np.errstate(over="ignore"):
        prices, duals = (
            np.ldexp(field, exponent[:, None]) for field in (solution.prices, solution.duals)
        )
    return solution._replace(cost=cost, lower_bound=bound, prices=prices, duals=duals)


def _shifted(costs: NDArray[np.floating], exponent: NDArray[np.integer]) -> NDArray[np.floating]:
    """``np.ldexp(costs, exponent)``, which takes many times as long as the product that it is, if
    the factor is a normal number."""
    limits = np.finfo(costs.dtype)
    if limits.minexp <= exponent.min() and exponent.max() < limits.maxexp:
        product: NDArray[np.floating] = costs * np.ldexp(costs.dtype.type(1), exponent)
        return product
    shifted: NDArray[np.floating] = np.ldexp(costs, exponent)
    return shifted


def _scaled(costs: NDArray[np.floating], exponent: NDArray[np.integer]) -> NDArray[np.floating]:
    """``costs * 2 ** exponent``, in their own type if no digit is lost there, else in float64."""
    with np.errstate(under="ignore"):
        scaled = _shifted(costs, exponent)
        if costs.dtype == np.float64 or np.array_equal(_shifted(scaled, -exponent), costs):
            return scaled
    return _shifted(costs.astype(np.float64), exponent)
