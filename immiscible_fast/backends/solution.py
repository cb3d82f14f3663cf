"""What every backend returns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Solution(NamedTuple):
    """Answers to a batch of problems (B, n, m) with n <= m."""

    index: NDArray[np.int64]  # type: ignore[assignment]  # (B, n) column of each row
    cost: NDArray[np.float64]  # (B,)
    lower_bound: NDArray[np.float64]  # (B,)
    converged: NDArray[np.bool_]  # (B,)
    prices: NDArray[np.float64]  # (B, m)
    work: NDArray[np.int64] | None = None  # (B, counters), see kernels/cpu/work.py
