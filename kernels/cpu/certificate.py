"""Proof of quality by linear-programming duality, with every rounding accounted for.

For any prices p, every assignment costs at least

    sum_i min_j (c_ij + p_j) - sum_j p_j + (m - n) min_j p_j        (n <= m)

because no row can do better than its minimum and no column can be used twice. It is computed from
the costs as they were given, and without any of the solver's lists: a check that shares nothing
with what it checks.

1. For an assignment, the bound is its cost less the sum of all slack: of rows, c_ij + p_j less
   their minimum, and of free columns, p_j less the least price. However large the prices are, they
   cancel in each of these differences.
2. A sum of two floats is its rounded value and the error of that, two floats again, exactly
   (Knuth's two-sum): so is each cost, each minimum and each difference.
3. ``add`` keeps a sum of many as high + low, with the error of that bounded by what was lost of
   low: nothing, where costs and prices are integers or share a grid.
4. The cost is rounded up and the bound down, so that bound <= optimum <= cost; where they are
   equal, the assignment is optimal in exact arithmetic.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .jit import inlined_kernel, kernel
from .passes import row_least
from .statistics import smallest
from .work import PASS_SCANS

HIGH, LOW, LOST = range(3)
SLOPPY = 1 + 1e-6  # rounding of ``LOST`` itself, a sum of fewer than 2^32 terms


@inlined_kernel
def two_sum(x, y):
    """(s, e) with s = x + y rounded, and s + e = x + y."""
    s = x + y
    z = s - x
    return s, (x - (s - z)) + (y - z)


@inlined_kernel
def add(total, x):
    """Add a float to (high, low, lost) ``total``."""
    total[HIGH], error = two_sum(total[HIGH], x)
    total[LOW], lost = two_sum(total[LOW], error)
    total[LOST] += abs(lost)


@inlined_kernel
def add_difference(total, x, y):
    difference, error = two_sum(x, -y)
    add(total, difference)
    add(total, error)


@kernel
def add_up(x, y):
    """The least float that is not below x + y."""
    s, e = two_sum(x, y)
    return np.nextafter(s, np.inf) if e > 0 else s


@kernel
def rounded_up(total):
    """The sum, rounded up; infinite where float64 overflows on the way."""
    if not np.isfinite(total[HIGH]):
        return np.inf
    return add_up(total[HIGH], add_up(total[LOW], SLOPPY * total[LOST]))


@kernel
def add_slack_of_row(slack, cost, i, j, price):
    """Add what row i pays for column j above its minimum; return that minimum, rounded."""
    least, error = row_least(cost, i, price)
    value, own_error = two_sum(np.float64(cost[i, j]), price[j])
    add_difference(slack, value, least)
    add_difference(slack, own_error, error)
    return least


@kernel
def sum_up(cost, price, column, m, dual, free, paid, slack, work):
    n = cost.shape[0]
    for i in range(n):
        if work.stop[0] != 0:
            break
        work.counts[PASS_SCANS] += 1
        j = column[i]
        free[j] = False
        add(paid, np.float64(cost[i, j]))
        dual[i] = add_slack_of_row(slack, cost, i, j, price)
    if n < m:
        least = smallest(price, m)
        for j in range(m):
            if free[j]:
                add_difference(slack, price[j], least)


@njit
def certificate(cost, price, column, m, dual, work):
    """(cost of the assignment, lower bound on every assignment); ``price`` (width,) in float64.

    ``dual`` (n,) gets the row minima of c_ij + p_j, rounded.
    """
    free = np.ones(m, np.bool_)
    paid, slack = np.zeros(3), np.zeros(3)
    sum_up(cost, price, column, m, dual, free, paid, slack, work)
    total = rounded_up(paid)
    slack[LOST] += paid[LOST]
    add(slack, -paid[HIGH])
    add(slack, -paid[LOW])
    return total, -rounded_up(slack)
