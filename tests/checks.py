"""What a right answer is, computed with numpy and SciPy alone."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

EPS = float(np.finfo(np.float64).eps)


def gpu_kernels():
    """Names of all kernels that launchers launch."""
    files = (Path(__file__).parents[1] / "kernels/gpu").glob("*.py")
    text = "\n".join(file.read_text() for file in files)
    return set(re.findall(r"^def (\w+_kernel)\(", text, re.MULTILINE))


def excess(value, terms):
    """``value`` less the sum of the terms; its sign is that of the exact difference."""
    return math.fsum([value, *(-np.asarray(terms, np.float64)).tolist()])


def cheapest_pairs(cost):
    """What SciPy's answer pays for each pair: a sum that is the optimum, or above it by SciPy's
    rounding."""
    wide = np.asarray(cost, np.float64)
    return wide[linear_sum_assignment(wide)]


def optimum(cost):
    """Least total cost, by SciPy in float64."""
    return cheapest_pairs(cost).sum()


def lower_bound(cost, prices):
    """The documented certificate of ``prices``, and the rounding error that its sums may have."""
    cost, prices = np.asarray(cost, np.float64), np.asarray(prices, np.float64)
    n, m = cost.shape
    if n == 0 or m == 0:
        return 0.0, 0.0
    least = np.sort((cost + prices).min(1))[: min(n, m)]
    spare = max(m - n, 0) * prices.min()
    terms = np.abs(least).sum() + np.abs(prices).sum() + abs(spare)
    return least.sum() - prices.sum() + spare, 2 * EPS * (n + m) * terms


def assert_matching(index, n, m):
    """``index`` gives min(n, m) rows a column each, no column twice, and -1 to the others."""
    index = np.asarray(index)
    assert index.dtype == np.int64
    assert index.shape == (n,)
    matched = index[index >= 0]
    assert matched.size == min(n, m)
    assert np.unique(matched).size == matched.size
    assert (index >= -1).all()
    assert (index < m).all()


def pairs(cost, index):
    """What is paid for each pair of ``index``, in float64."""
    index = np.asarray(index)
    rows = np.flatnonzero(index >= 0)
    return np.asarray(cost, np.float64)[rows, index[rows]]


def total(cost, index):
    """Cost in float64 of the pairs of ``index``."""
    return pairs(cost, index).sum()


def rounding(cost):
    """What float64 rounding may do to an optimum; prices are about as large as costs."""
    finite = np.abs(np.asarray(cost, np.float64)[np.isfinite(cost)])
    return 16 * EPS * min(cost.shape) * finite.max() if finite.size else 0.0


def is_integral(cost):
    """Whether sums of the costs are exact, and answers so must be too."""
    finite = np.asarray(cost, np.float64)[np.isfinite(cost)]
    return bool((finite == np.rint(finite)).all() and np.abs(finite).sum() < 2**52)


def assert_rounded_up(value, terms):
    """``value`` is the least float64 that is not below the exact sum, or not below that by more
    than digits beyond twice a float64's."""
    value, terms = float(value), np.asarray(terms, np.float64)
    assert excess(value, terms) >= 0
    lost = 0.0 if is_integral(terms) else (terms.size * EPS) ** 2 * math.fsum(np.abs(terms))
    assert excess(math.nextafter(value, -math.inf), terms) < lost


def assert_certified(cost, answer, rounded=False):
    """lower_bound <= optimum <= cost in exact arithmetic; the cost is that of the matching, and the
    bound the one that the prices prove. Where they are ``rounded``, as on a GPU, both may be
    off by what sums may lose, the cost upwards and the bound downwards."""
    cost = np.asarray(cost)
    assert_matching(answer.index, *cost.shape)
    paid, cheapest = pairs(cost, answer.index), cheapest_pairs(cost)
    bound, error = lower_bound(cost, answer.prices)
    if rounded:
        error += min(cost.shape) * rounding(cost)
        assert abs(float(answer.cost) - math.fsum(paid)) <= error
        assert excess(float(answer.cost), paid) >= 0
    else:
        assert_rounded_up(answer.cost, paid)
    assert excess(float(answer.lower_bound), paid) <= 0
    assert excess(float(answer.lower_bound), cheapest) <= 0
    assert float(answer.lower_bound) <= bound + error
    if cost.shape[0] <= cost.shape[1]:  # else there may be more to them than was claimed
        assert float(answer.lower_bound) >= bound - error
    assert bool(answer.converged)
    return math.fsum(paid), math.fsum(cheapest), error


def assert_exact(cost, answer, rounded=False):
    """The answer is optimal, and says so."""
    paid, best, error = assert_certified(cost, answer, rounded)
    if is_integral(cost):
        assert paid == best
    assert abs(paid - best) <= rounding(cost)
    lost = error if rounded else 0.0
    assert -lost <= float(answer.gap) <= rounding(cost) + lost


def spread(cost):
    """Standard deviation of the doubly centred costs: the unit of tolerances."""
    wide = np.asarray(cost, np.float64)
    return (wide - wide.mean(0) - wide.mean(1)[:, None] + wide.mean()).std()


def assert_within(cost, answer, tol, rounded=False):
    """The answer is at most ``tol`` standard deviations a pair from optimal, and nearly says so."""
    paid, best, error = assert_certified(cost, answer, rounded)
    count, unit = min(np.shape(cost)), spread(cost)
    assert paid - best <= tol * unit * count + rounding(cost)
    # The bound is weaker by what an auction loses as it adds prices in the type of the costs,
    # and by the error of a standard deviation that is taken as a difference of squares.
    size, own = np.abs(cost).max(), np.finfo(np.asarray(cost).dtype)
    proven = count * (1.001 * tol * unit + 1e-7 * tol * size + 64 * own.eps * size + own.tiny)
    assert -error - rounding(cost) <= float(answer.gap) <= proven + error
