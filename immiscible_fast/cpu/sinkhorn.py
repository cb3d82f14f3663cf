"""Sinkhorn in the log domain, annealed: column prices from which an auction has little left to do.

1. With potentials f, g the plan is P_ij = exp((f_i + g_j - c_ij) / eps); its row and column sums
   are made one in turn, f_i <- -eps log sum_j exp((g_j - c_ij) / eps) and g_j <- -eps log sum_i
   exp((f_i - c_ij) / eps) (Cuturi 2013; log domain: Schmitzer 2019).
2. eps falls geometrically from one standard deviation of the centred costs, so that large moves are
   made while the problem is smooth; column updates are over-relaxed (Thibault et al. 2017).
3. One exponential of each entry serves both updates: with K_ij = exp((g_j - c_ij - max_j) / eps)
   and row sums r, the sums of the columns after the update of the rows are K^T (1 / r). Where all
   entries of a column vanish beside the best of their rows, its sum is made anew in its own units.
4. As eps falls, -g tends to optimal prices: row i wants the column that minimises c_ij - g_j.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FIRST_EPS, LAST_EPS = 1.0, 0.003  # in standard deviations of the centred costs
UPDATES = 42  # of rows and of columns, all in all
OVER_RELAXATION = 1.8
LEAST_EXPONENT = -80.0  # exp of less is a denormal number, which takes a processor a long time ...
LEAST_SUM = 1e-30  # ... and no column sum above this one misses it


def column_prices(costs: NDArray[np.floating]) -> NDArray[np.float64]:
    """Prices (B, m) of (B, n, m) finite costs, n <= m; float64."""
    n, m = costs.shape[1:]
    cost = torch.from_numpy(costs).to(torch.float64)
    rows, columns = cost.mean(2, keepdim=True), cost.mean(1, keepdim=True)
    columns = columns - columns.mean(2, keepdim=True)
    cost = cost - rows - columns
    deviation = cost.square().mean((1, 2), keepdim=True).sqrt()
    cost = (cost / deviation.clamp(min=torch.finfo(torch.float64).tiny)).to(torch.float32)
    share = np.log(n / m)  # of a column in the total mass n
    g = torch.zeros_like(cost[:, 0])
    kernel = torch.empty_like(cost)
    for eps, relaxation in annealing():
        target = updated(g, cost, eps, share, kernel)
        g = target if relaxation == 1 else g + relaxation * (target - g)
    prices = -(g[:, None].to(torch.float64) * deviation + columns)[:, 0]
    return np.asarray(torch.nan_to_num(prices, nan=0.0, posinf=0.0, neginf=0.0).numpy())


def annealing() -> Iterator[tuple[float, float]]:
    """(eps, over-relaxation) of each update of rows and columns (2)."""
    last = UPDATES // 2 - 1
    for step in range(last + 1):
        eps = FIRST_EPS * (LAST_EPS / FIRST_EPS) ** (step / last)
        yield eps, OVER_RELAXATION if step < last else 1.0


def powers(g: Tensor, cost: Tensor, eps: float, kernel: Tensor) -> Tensor:
    """Write K (..., n, m) of (3) to ``kernel``; returns the maxima (..., n, 1)."""
    best = torch.sub(g[..., None, :], cost, out=kernel).amax(-1, keepdim=True)
    kernel.sub_(best).mul_(1 / eps).clamp_(min=LEAST_EXPONENT).exp_()
    return best


def updated(g: Tensor, cost: Tensor, eps: float, share: float, kernel: Tensor) -> Tensor:
    """Column potentials (B, m) after an update of the rows and one of the columns; ``kernel`` is
    written."""
    best = powers(g, cost, eps, kernel)
    row_sum = kernel.sum(2, keepdim=True)
    column_sum = torch.matmul((1 / row_sum).mT, kernel)[:, 0]
    target = g + eps * (share - column_sum.log())
    lost = column_sum < LEAST_SUM
    if bool(lost.any()):
        problem, column = lost.nonzero(as_tuple=True)
        f = -(best + eps * row_sum.log())[problem, :, 0]
        value = (f - cost[problem, :, column]) / eps
        target[lost] = eps * (share - torch.logsumexp(value, 1))
    return target
