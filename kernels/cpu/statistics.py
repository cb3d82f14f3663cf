"""One pass over the costs: are they finite, how large, and how far do they spread once centred?"""

from __future__ import annotations

import numpy as np
from numba import njit

from .jit import kernel
from .work import PASS_SCANS, STOP

SAMPLED_PAIRS = 512


@njit(fastmath={"reassoc"})
def row_sums(row, shift, column_sum, m):
    total, square = 0.0, 0.0
    for j in range(m):
        x = np.float64(row[j]) - shift
        column_sum[j] += x
        total += x
        square += x * x
    return total, square


@kernel
def smallest(price, m):
    least = np.inf
    for j in range(m):
        least = min(least, price[j])
    return least


@kernel
def count_invalid(row, m):
    bad = 0
    for j in range(m):
        bad += 0 if row[j] > -np.inf else 1
    return bad


@kernel
def has_invalid(cost, m, work):
    """NaN or minus infinity anywhere?"""
    for i in range(cost.shape[0]):
        if work[STOP] != 0:
            break
        work[PASS_SCANS] += 1
        if count_invalid(cost[i], m) > 0:
            return True
    return False


@njit(fastmath={"reassoc"})
def finite_sums(row, shift, m):
    """(how many entries are finite, their sum, and that of their squares), less ``shift``."""
    count, total, square = 0, 0.0, 0.0
    for j in range(m):
        finite = row[j] < np.inf
        x = np.float64(row[j]) - shift if finite else 0.0
        count += 1 if finite else 0
        total += x
        square += x * x
    return count, total, square


@njit
def finite_moments(cost, shift, m, work):
    count, total, square = 0, 0.0, 0.0
    for i in range(cost.shape[0]):
        if work[STOP] != 0:
            break
        work[PASS_SCANS] += 1
        some, part, squares = finite_sums(cost[i], shift, m)
        count += some
        total += part
        square += squares
    return max(count, 1), total, square


@njit
def finite_statistics(cost, m, work):
    """``centred_statistics`` over the finite entries alone, uncentred."""
    count, total, _ = finite_moments(cost, 0.0, m, work)
    centre = total / count
    _, _, square = finite_moments(cost, centre, m, work)
    deviation = np.sqrt(square / count)
    return deviation, np.hypot(deviation, centre)


@kernel
def copies(totals):
    """About how many copies a row has besides itself, by the sums of a random sample of rows."""
    n = totals.shape[0]
    equal, pairs = 0, 0
    state = np.uint64(1)
    for _ in range(min(SAMPLED_PAIRS, 2 * n)):
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        i = np.int64((state >> np.uint64(33)) % np.uint64(n))
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        j = np.int64((state >> np.uint64(33)) % np.uint64(n))
        if i != j:
            pairs += 1
            equal += 1 if totals[i] == totals[j] and abs(totals[i]) < np.inf else 0
    return equal * (n - 1) / max(pairs, 1)


@njit
def centred_statistics(cost, m, mean, totals, work):
    """(std of the doubly centred costs, their root mean square); ``mean`` (width,) gets the column
    means less their mean, ``totals`` (n,) the sums of the rows, each less the same constant.

    A result that is not finite says that the costs are not, or that their squares overflow.
    """
    n = cost.shape[0]
    mean[:] = 0.0
    shift = np.float64(cost[0, 0])  # keeps the digits of differences under a common offset
    total, square, rows = 0.0, 0.0, 0.0
    for i in range(n):
        if work[STOP] != 0:
            break
        work[PASS_SCANS] += 1
        row_total, row_square = row_sums(cost[i], shift, mean, m)
        totals[i] = row_total
        total += row_total
        square += row_square
        rows += row_total * row_total
    centre = total / (n * m)
    columns = 0.0
    for j in range(m):
        mean[j] = mean[j] / n - centre
        columns += mean[j] * mean[j]
    variance = square / (n * m) - rows / (n * m * m) - columns / m
    return np.sqrt(max(variance, 0.0)), np.hypot(np.sqrt(square / (n * m)), shift)
