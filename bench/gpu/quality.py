"""How good an assignment is: certified gap, and share of the gain of the optimal one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from immiscible_fast import pairwise_cost, solve_assignment


class Judge(NamedTuple):
    """One matrix of costs, and what is known of it."""

    cost: Tensor  # (n, n) float32, -x.e of centred samples
    bound: float  # proven: no assignment costs less
    best: float | None  # of an exact solution, if there is one
    unit: float  # n times the standard deviation of the doubly centred costs

    def verdict(self, index: Tensor) -> dict[str, float | str]:
        """Entries of a row for this assignment."""
        n = len(self.cost)
        index = index.to(self.cost.device)
        if not torch.equal(index.sort().values, torch.arange(n, device=index.device)):
            return {"wrong": "not a permutation"}
        paid = float(self.cost.gather(1, index[:, None]).sum(dtype=torch.float64))
        identity = float(self.cost.diagonal().sum(dtype=torch.float64))
        best = self.bound if self.best is None else self.best
        gain = identity - best
        return {
            "gap_sd": float(f"{(paid - self.bound) / max(self.unit, 1e-300):.3g}"),
            "share": round((identity - paid) / gain, 6) if gain > 0 else 1.0,
            "share_of": "bound" if self.best is None else "optimum",
        }


def judge(x: Tensor, noise: Tensor, *, exact: bool) -> Judge:
    """Of images and noise, (n, dim) each; without ``exact`` the bound is the fast method's."""
    n = len(x)
    centred = (part.to(torch.float32) for part in (x, noise))
    cost = pairwise_cost(*(part - part.mean(0) for part in centred), metric="dot")
    answer = solve_assignment(cost, method="exact" if exact else "auto")
    best = float(answer.cost) if exact and bool(answer.converged) else None
    return Judge(cost, float(answer.lower_bound), best, n * deviation(cost))


def deviation(cost: Tensor) -> float:
    """Standard deviation of the doubly centred costs."""
    rows, columns = cost.mean(1, dtype=torch.float64), cost.mean(0, dtype=torch.float64)
    square = sum(float(part.double().square().sum()) for part in cost.split(1024)) / cost.numel()
    mean = float(rows.mean())
    spread = square - float(rows.square().mean()) - float(columns.square().mean()) + mean**2
    return max(spread, 0.0) ** 0.5
