"""What every backend returns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class Solution(NamedTuple):
    """Answers to a batch of problems (B, n, m) with n <= m."""

    index: NDArray[np.int64]  # type: ignore[assignment]  # (B, n) column of each row
    cost: NDArray[np.float64]  # (B,)
    lower_bound: NDArray[np.float64]  # (B,)
    converged: NDArray[np.bool_]  # (B,)
    prices: NDArray[np.float64]  # (B, m)
    duals: NDArray[np.float64]  # (B, n) row minima of cost + price, rounded
    work: NDArray[np.int64] | None = None  # (B, counters), see kernels/cpu/work.py


class LargeConstants(Exception):
    """Constants of rows and columns outweigh what matters to an assignment; see ``cpu.solver``."""


class Answer(NamedTuple):
    """The same as tensors, for any (B, n, m); as ``Assignment``, of a batch."""

    index: Tensor  # type: ignore[assignment]  # (B, n) int64, -1: unmatched, where n > m
    cost: Tensor  # (B,) float64
    lower_bound: Tensor  # (B,) float64
    converged: Tensor  # (B,) bool
    prices: Tensor  # (B, m) float64
