"""Proof of quality by linear-programming duality.

For any prices p, every assignment costs at least

    sum_i min_j (c_ij + p_j) - sum_j p_j + (m - n) min_j p_j        (n <= m)

because no row can do better than its minimum and no column can be used twice. The sums are taken in
float64, over the costs as they were given, and without any of the solver's lists: a check that
shares nothing with what it checks.
"""

from __future__ import annotations

from .jit import kernel
from .statistics import smallest
from .vector import row_min
from .work import PASS_SCANS, STOP


@kernel
def certificate(cost, price, column, m, work):
    """(cost of the assignment, lower bound on every assignment); ``price`` (width,) in float64."""
    n = cost.shape[0]
    total, bound = 0.0, 0.0
    for i in range(n):
        if work[STOP] != 0:
            break
        work[PASS_SCANS] += 1
        total += cost[i, column[i]]
        bound += row_min(cost, i, price)
    for j in range(m):
        bound -= price[j]
    return total, bound + (m - n) * smallest(price, m)
