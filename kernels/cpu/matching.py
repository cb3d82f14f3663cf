"""What the stages of a solve hand on: a partial assignment, and the dual prices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray


class Matching(NamedTuple):
    """A partial assignment; -1 where there is none."""

    row4col: NDArray[np.int64]  # (m,), where n is a dummy row
    col4row: NDArray[np.int64]  # (n + 1,), which ends in the dummy


class Duals(NamedTuple):
    """Prices p of columns and duals u of rows, u_i <= c_ij + p_j, in float64."""

    price: NDArray[np.float64]  # (width,)
    low: NDArray[np.floating]  # (width,), the prices rounded down to the type of the costs
    row: NDArray[np.float64]  # (n + 1,), which ends in the dummy


@njit
def new_matching(n, m):
    return Matching(np.full(m, -1, np.int64), np.full(n + 1, -1, np.int64))
