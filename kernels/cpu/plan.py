"""Where an auction starts and how it goes on: first prices, and eps from the first to the last."""

from __future__ import annotations

import numpy as np
from numba import njit

from .auction import Eps, value_spread
from .schedule import (
    COPIES,
    EPS_FACTOR,
    FIRST_EPS,
    ILL_SCALED,
    LAST_EPS,
    ROUGH,
    STRUCTURED,
    STRUCTURED_FACTOR,
)
from .statistics import copies


@njit
def start_prices(cost, m, mean, price, groups):
    """Prices that take out the column means, where that helps; return (spread, tied) of the values,
    ``tied`` if ties for the best column are the rule."""
    spread, ties = value_spread(cost, price, groups)
    tied = spread == 0 or ties > 0.5
    if cost.shape[0] < m or tied:  # only where every column is used are its constants free
        return spread, tied
    for j in range(m):
        price[j] = -mean[j]
    centred, ties = value_spread(cost, price, groups)
    if spread < ILL_SCALED * centred:  # the means are noise of a few huge costs
        price[:] = 0
        return spread, False
    return centred, centred == 0 or ties > 0.5


@njit
def plan_eps(cost, task, spread, deviation, totals):
    """The auction's eps for this spread of the values."""
    smallest = np.finfo(cost.dtype).tiny
    last = max(LAST_EPS * spread if task.exact else task.tolerance * deviation, smallest)
    first, factor = FIRST_EPS * spread, EPS_FACTOR
    dense = spread < min(STRUCTURED[0], STRUCTURED[1] / task.m) * deviation
    if (dense or copies(totals) > COPIES) and spread > ILL_SCALED * deviation:
        first, factor = FIRST_EPS * ROUGH * deviation, STRUCTURED_FACTOR
    first = max(first, last)
    last = max(last, first * np.finfo(cost.dtype).eps)  # smaller steps are rounding
    if cost.shape[0] < task.m and not task.exact:
        # One phase from equal prices: columns left over must stay the cheapest.
        first, factor = last, 1.0
    return Eps(first, last, factor)
