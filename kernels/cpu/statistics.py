"""One pass over the costs: are they finite, how large, and how far do they spread once centred?"""

from __future__ import annotations

import numpy as np
from numba import njit

from .jit import kernel
from .schedule import SAMPLED_PAIRS
from .work import PASS_SCANS


@njit(fastmath={"reassoc"})
def row_sums(row, factor, start, shift, column_sum, m):
    """(sum, sum of squares) of the scaled row less ``start`` and the ``shift`` of each column."""
    total, square = 0.0, 0.0
    for j in range(m):
        x = (np.float64(row[j]) * factor - start) - shift[j]
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
def count_not_finite(row, m):
    """(entries that are NaN or -inf, entries that are inf)."""
    invalid, infinite = 0, 0
    for j in range(m):
        invalid += 0 if row[j] > -np.inf else 1
        infinite += 1 if row[j] == np.inf else 0
    return invalid, infinite


@kernel
def not_finite(cost, m, work):
    """(NaN or minus infinity anywhere?, infinity anywhere?)"""
    forbidding = False
    for i in range(cost.shape[0]):
        if work.stop[0] != 0:
            break
        work.counts[PASS_SCANS] += 1
        invalid, infinite = count_not_finite(cost[i], m)
        if invalid > 0:
            return True, forbidding
        forbidding = forbidding or infinite > 0
    return False, forbidding


@njit(fastmath={"reassoc"})
def finite_sums(row, factor, shift, m):
    """(how many entries are finite, their sum, and that of their squares), scaled, less
    ``shift``."""
    count, total, square = 0, 0.0, 0.0
    for j in range(m):
        finite = row[j] < np.inf
        x = np.float64(row[j]) * factor - shift if finite else 0.0
        count += 1 if finite else 0
        total += x
        square += x * x
    return count, total, square


@njit
def finite_moments(cost, factor, shift, m, work):
    count, total, square = 0, 0.0, 0.0
    for i in range(cost.shape[0]):
        if work.stop[0] != 0:
            break
        work.counts[PASS_SCANS] += 1
        some, part, squares = finite_sums(cost[i], factor, shift, m)
        count += some
        total += part
        square += squares
    return max(count, 1), total, square


@njit
def finite_statistics(cost, factor, m, work):
    """``centred_statistics`` over the finite entries alone, uncentred."""
    count, total, _ = finite_moments(cost, factor, 0.0, m, work)
    centre = total / count
    _, _, square = finite_moments(cost, factor, centre, m, work)
    deviation = np.sqrt(square / count)
    return deviation / factor, np.hypot(deviation, centre) / factor


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
def centred_statistics(cost, factor, m, mean, totals, work):
    """(std of the doubly centred costs, about their root mean square); ``mean`` (width,) gets the
    column means less their mean, ``totals`` (n,) the sums of the rows.

    The first row and column are subtracted from all: however large its constants are, what is left
    of a cost is of the size of the std, and no variance is lost in a difference of large numbers.
    A result that is not finite says that the costs are not, or that their squares overflow; they
    are multiplied by ``factor``, a power of two, first.
    """
    n = cost.shape[0]
    shift = np.zeros(mean.shape[0])
    first = np.float64(cost[0, 0]) * factor
    for j in range(m):
        shift[j] = np.float64(cost[0, j]) * factor - first
    mean[:] = 0.0
    total, square, rows, size = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        if work.stop[0] != 0:
            break
        work.counts[PASS_SCANS] += 1
        start = np.float64(cost[i, 0]) * factor
        row_total, row_square = row_sums(cost[i], factor, start, shift, mean, m)
        totals[i] = row_total + m * start
        total += row_total
        square += row_square
        rows += row_total * row_total
        size += start * start
    centre = total / (n * m)
    columns, offset, shifts = 0.0, 0.0, 0.0
    for j in range(m):
        mean[j] = mean[j] / n - centre
        columns += mean[j] * mean[j]
        offset += shift[j] / m
        shifts += shift[j] * shift[j]
    for j in range(m):
        mean[j] = (mean[j] + (shift[j] - offset)) / factor
    variance = square / (n * m) - rows / (n * m * m) - columns / m
    magnitude = np.sqrt(square / (n * m) + size / n + shifts / m)
    return np.sqrt(max(variance, 0.0)) / factor, magnitude / factor
