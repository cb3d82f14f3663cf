"""What the backends and their solvers return."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor


class Assignment(NamedTuple):
    """Answer of ``solve_assignment``; for a batch every field has a leading dimension B.

    With prices p, no assignment of n rows to m columns costs less than

        sum_i min_j (c_ij + p_j) - sum_j p_j + (m - n) min_j p_j     if n <= m, and
        (sum of the m smallest min_j (c_ij + p_j)) - sum_j p_j       if n > m,

    from which ``lower_bound`` follows, from the costs as they were given (up to 2^53, if integers).
    Roundings are accounted for (but, on a GPU, those of costs so small beside the spread of the
    others that they underflow in its units), so that in exact arithmetic

        lower_bound <= optimum <= cost:

    the cost is the exact sum of the costs of the pairs, rounded up to a float64 (on a GPU, by a few
    units in the last place), and the bound is rounded down; either is infinite where float64
    overflows. ``gap == 0`` so is a proof that the assignment is optimal, not only to rounding; and
    of integers, so is a gap below one. Other costs may show an optimal assignment with a gap of a
    few units in the last place.
    """

    index: Tensor  # type: ignore[assignment]  # (n,) int64, column of each row; -1: unmatched, where n > m
    cost: Tensor  # () float64, sum of the costs of the pairs, rounded up
    lower_bound: Tensor  # () float64, no assignment costs less; -inf: no proof (method="scipy")
    converged: Tensor  # () bool, whether the method reached what was asked of it
    prices: Tensor  # (m,) float64, dual prices of the columns

    @property
    def gap(self) -> Tensor:
        """``cost - lower_bound``: the assignment is at most this far from the optimum."""
        return self.cost - self.lower_bound


class Assigned(NamedTuple):
    """Which noise each sample gets, of a batch; what a backend's ``assign`` returns."""

    index: Tensor  # type: ignore[assignment]  # (B, n) int64
    converged: Tensor  # (B,) bool
    gap: Tensor  # (B,) float64; infinite where no proof was asked for


class Solution(NamedTuple):
    """What the solver of a device finds, of (B, n, m) costs: arrays on a CPU, tensors on a GPU. The
    first fields are those of ``Assignment``."""

    index: Any  # (B, n) int64, column of each row
    cost: Any  # (B,) float64
    lower_bound: Any  # (B,) float64
    converged: Any  # (B,) bool
    prices: Any  # (B, m) float64
    duals: Any  # (B, n) float64, row minima of cost + price, rounded
    work: Any = None  # (B, counters) int64 of a CPU, see kernels/cpu/work.py
