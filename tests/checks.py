"""What a right answer is, computed with numpy and SciPy alone."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

EPS = float(np.finfo(np.float64).eps)


def optimum(cost):
    """Least total cost, by SciPy in float64."""
    wide = np.asarray(cost, np.float64)
    rows, columns = linear_sum_assignment(wide)
    return wide[rows, columns].sum()


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


def total(cost, index):
    """Cost in float64 of the pairs of ``index``."""
    index = np.asarray(index)
    rows = np.flatnonzero(index >= 0)
    return np.asarray(cost, np.float64)[rows, index[rows]].sum()


def rounding(cost):
    """What float64 rounding may do to an optimum; prices are about as large as costs."""
    finite = np.abs(np.asarray(cost, np.float64)[np.isfinite(cost)])
    return 16 * EPS * min(cost.shape) * finite.max() if finite.size else 0.0


def summation(cost):
    """What adding the costs of all pairs one after another may lose."""
    return min(cost.shape) * rounding(cost) / 16


def is_integral(cost):
    """Whether sums of the costs are exact, and answers so must be too."""
    finite = np.asarray(cost, np.float64)[np.isfinite(cost)]
    return bool((finite == np.rint(finite)).all() and np.abs(finite).sum() < 2**52)


def assert_certified(cost, answer):
    """The answer is a matching of the cost it claims, and its bound is the one its prices prove."""
    cost = np.asarray(cost)
    assert_matching(answer.index, *cost.shape)
    paid, best = total(cost, answer.index), optimum(cost)
    bound, error = lower_bound(cost, answer.prices)
    error += summation(cost)
    assert abs(float(answer.cost) - paid) <= summation(cost)
    assert abs(float(answer.lower_bound) - bound) <= error
    assert bound <= best + error + rounding(cost)
    assert bool(answer.converged)
    return paid, best, error


def assert_exact(cost, answer):
    """The answer is optimal, and says so."""
    paid, best, error = assert_certified(cost, answer)
    if is_integral(cost):
        assert paid == best
    assert abs(paid - best) <= rounding(cost)
    assert abs(float(answer.gap)) <= error + rounding(cost)


def spread(cost):
    """Standard deviation of the doubly centred costs: the unit of tolerances."""
    wide = np.asarray(cost, np.float64)
    return (wide - wide.mean(0) - wide.mean(1)[:, None] + wide.mean()).std()


def assert_within(cost, answer, tol):
    """The answer is at most ``tol`` standard deviations a pair from optimal, and nearly says so."""
    paid, best, error = assert_certified(cost, answer)
    pairs, unit = min(np.shape(cost)), spread(cost)
    assert paid - best <= tol * unit * pairs + rounding(cost)
    # The bound is weaker by what an auction loses as it adds prices in the type of the costs,
    # and by the error of a standard deviation that is taken as a difference of squares.
    size, own = np.abs(cost).max(), np.finfo(np.asarray(cost).dtype)
    proven = pairs * (1.001 * tol * unit + 1e-7 * tol * size + 64 * own.eps * size + own.tiny)
    assert -error - rounding(cost) <= float(answer.gap) <= proven + error
