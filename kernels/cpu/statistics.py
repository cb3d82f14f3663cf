"""One pass over the costs: are they finite, how large, and how far do they spread once centred?"""

from __future__ import annotations

import numpy as np
from numba import njit

from .jit import kernel


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
def has_invalid(cost, m):
    """NaN or minus infinity anywhere?"""
    for i in range(cost.shape[0]):
        for j in range(m):
            if not cost[i, j] > -np.inf:
                return True
    return False


@kernel
def finite_statistics(cost, m, mean):
    """``centred_statistics`` over the finite entries alone, uncentred."""
    count, total, square = 0, 0.0, 0.0
    mean[:] = 0.0
    for i in range(cost.shape[0]):
        for j in range(m):
            x = np.float64(cost[i, j])
            if x < np.inf:
                count += 1
                total += x
    centre = total / max(count, 1)
    for i in range(cost.shape[0]):
        for j in range(m):
            x = np.float64(cost[i, j])
            if x < np.inf:
                square += (x - centre) ** 2
    deviation = np.sqrt(square / max(count, 1))
    return deviation, np.hypot(deviation, centre)


@njit
def centred_statistics(cost, m, mean):
    """(std of the doubly centred costs, their root mean square); ``mean`` (width,) gets the column
    means less their mean.

    A result that is not finite says that the costs are not, or that their squares overflow.
    """
    n = cost.shape[0]
    mean[:] = 0.0
    shift = np.float64(cost[0, 0])  # keeps the digits of differences under a common offset
    total, square, rows = 0.0, 0.0, 0.0
    for i in range(n):
        row_total, row_square = row_sums(cost[i], shift, mean, m)
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
