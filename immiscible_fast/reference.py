"""SciPy's solver: the plain, exact reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from .rounding import exact_sum
from .types import Solution


def solve(costs: NDArray[np.floating]) -> Solution:
    """Solve each of (B, n, m) costs, n <= m; SciPy gives no prices, so there is no proof either."""
    batch, n, m = costs.shape
    index = np.empty((batch, n), np.int64)
    total = np.empty(batch)
    for b, cost in enumerate(costs):
        rows, index[b] = linear_sum_assignment(cost)
        total[b] = exact_sum(cost[rows, index[b]].tolist(), np.inf)
    return Solution(
        index=index,
        cost=total,
        lower_bound=np.full(batch, -np.inf),
        converged=np.ones(batch, np.bool_),
        prices=np.full((batch, m), np.nan),
        duals=np.full((batch, n), np.nan),
    )
