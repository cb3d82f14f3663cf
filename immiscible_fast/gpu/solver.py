"""The driver of the kernels: a fixed sequence of launches, without a look at what they compute.

1. Centres, scale and first prices of the costs.
2. Annealed Sinkhorn moves the prices near to where they should be; rows list their candidates, and
   claim and bid for the cheapest.
3. Shortest-path forests match the rest, exactly, or near-optimally at the prices as they are: then
   the certificate says which problems are not as good as they should be, and those are solved
   exactly after all.
4. The last resort, of bounded work, is for what a forest has left.

Nothing here waits for the device or depends on its data, so a CUDA graph can hold all of it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from immiscible_fast.kernels.gpu.augment import augment_rows, restart_where_huge
from immiscible_fast.kernels.gpu.certificate import Proof, certificate
from immiscible_fast.kernels.gpu.problems import Problems
from immiscible_fast.kernels.gpu.sinkhorn import sinkhorn
from immiscible_fast.kernels.gpu.statistics import INVALID, Units, statistics
from immiscible_fast.kernels.gpu.workspace import Workspace, grow_forests, start_matching

# Columns up to which "auto" is exact, which at 256 costs 1.3 times as much (photos, modelled: 235
# us instead of 184), and at 512 would cost more than twice as much: docs/gpu_model.md.
EXACT_UP_TO = 256
LARGEST_TOL = 1e6  # anything goes, and prices stay finite
LOOSE = 1e-3  # standard deviations a row; exact answers that far from their proof are none


class Solution(NamedTuple):
    """Flat answers of the kernels, in units of the scale."""

    column: Tensor  # (B n) int32
    price: Tensor  # (B m) float64
    units: Units
    proof: Proof
    converged: Tensor  # (problems,) bool


def is_exact(method: str, m: int) -> bool:
    return method == "exact" or (method == "auto" and m <= EXACT_UP_TO)


def solve(problems: Problems, method: str, tol: float, *, proven: bool = False) -> Solution:
    """Solve n <= m problems; ``proof`` is of the answer if ``proven``, else nothing to rely on."""
    tol = min(tol, LARGEST_TOL)
    exact = is_exact(method, problems.cost.shape[2])
    units, start = statistics(problems)
    price = sinkhorn(problems, units, start, exact=exact)
    work, proof = Workspace.of(problems, price), Proof.empty(problems)
    left = torch.ones_like(units.flags)
    if not exact:
        every = left
        start_matching(problems, units, work, every, exact=False)
        left = grow_forests(problems, units, work, every, exact=False)
        certificate(problems, units, price, work.column, proof, every, left, 1.01 * tol)
    failed = _solve_exactly(problems, units, work, left, spread=exact)
    if exact:
        again = restart_where_huge(problems, units, work, left)
        start_matching(problems, units, work, again, bids=False)
        failed = torch.where(again > 0, augment_rows(problems, units, work, again), failed)
    if proven:  # and what is far from its proof, as where sums overflow, is not called solved
        loose = torch.zeros_like(left)
        eps = LOOSE if exact else 1.01 * tol
        certificate(problems, units, price, work.column, proof, left, loose, eps)
        failed = failed | loose
    converged = (failed == 0) & ((units.flags & INVALID.value) == 0)
    return Solution(work.column, price, units, proof, converged)


def _solve_exactly(
    problems: Problems, units: Units, work: Workspace, wanted: Tensor, *, spread: bool
) -> Tensor:
    """Solve the problems that are ``wanted`` from the workspace's prices; 1 where that failed. If
    hardly any is, its forests are not to be ``spread``: all launches would be made for nothing."""
    start_matching(problems, units, work, wanted)
    grow_forests(problems, units, work, wanted, exact=True, spread=spread)
    return augment_rows(problems, units, work, wanted)
