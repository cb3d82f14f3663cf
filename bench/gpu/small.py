"""Small cases that take every path of the solver once, for compute-sanitizer to look at.

python -m bench.gpu_check --small --seconds 100
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from immiscible_fast import fast_assign, pairwise_cost, solve_assignment

Case = tuple[str, Callable[[], Any], Callable[[Any], str]]


def cases(device: str, sizes: tuple[int, ...] = (33, 300), batch: int = 3) -> list[Case]:
    """(name, call, what is wrong with its result) of every case."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Any:
        return torch.randn(shape, generator=generator).to(device)

    found: list[Case] = []
    for n in sizes:
        cost = draw(n, n)
        for method in ("sinkhorn", "auction", "exact"):
            call = partial(solve_assignment, cost, method=method)
            found.append((f"{method} n={n}", call, partial(_wrong, cost[None], _near(method))))
    wide = draw(20, 50)
    for name, cost in (("wide", wide), ("tall", wide.T), ("float64", draw(33, 33).double())):
        call = partial(solve_assignment, cost, method="exact")
        found.append((f"exact {name}", call, partial(_wrong, cost[None], _near("exact"))))
    x, noise = draw(2, sizes[0], 40)
    labels = torch.arange(sizes[0]) % 3
    grouped = partial(fast_assign, x, noise, labels=labels.to(device), method="exact")
    found.append(("exact, labels", grouped, _within(labels)))
    for metric in ("dot", "euclidean", "cosine", "manhattan"):
        call = partial(pairwise_cost, x, noise[:20], metric=metric)
        found.append((f"pairwise {metric}", call, _finite))
    half = partial(pairwise_cost, x.half(), noise.half(), metric="sqeuclidean")
    found.append(("pairwise float16", half, _finite))
    costs = draw(batch, sizes[-1], sizes[-1])
    for method in ("auto", "exact"):
        call = partial(solve_assignment, costs, method=method)
        check = partial(_wrong, costs, _near(method))
        found.append((f"{method} batch {batch} x {sizes[-1]}", call, check))
    return found


def run(device: str, seconds: float, **sizes: Any) -> int:
    """Exit code: 0 if all answers are right, as far as there was time."""
    begin, bad = time.monotonic(), 0
    chosen = cases(device, **sizes)
    for done, (name, call, check) in enumerate(chosen):
        if time.monotonic() - begin > seconds:
            print(f"stopped after {done} of {len(chosen)} cases", flush=True)
            break
        wrong = check(call())
        bad += bool(wrong)
        print(f"{name}: {wrong or 'ok'}, {time.monotonic() - begin:.1f} s", flush=True)
    return 1 if bad else 0


def _near(method: str) -> float:
    """Standard deviations a row by which an answer may miss the optimum."""
    return 1e-9 if method == "exact" else 0.015


def _wrong(costs: Any, near: float, answer: Any) -> str:
    from scipy.optimize import linear_sum_assignment

    indices = answer.index.reshape(len(costs), -1).cpu().numpy()
    for cost, index in zip(costs.double().cpu().numpy(), indices, strict=True):
        rows = np.flatnonzero(index >= 0)
        if len(np.unique(index[rows])) != min(cost.shape):
            return "not a matching"
        paid, best = cost[rows, index[rows]].sum(), cost[linear_sum_assignment(cost)].sum()
        if paid - best > near * cost.std() * len(rows):
            return f"pays {paid:.6g}, the optimum is {best:.6g}"
    return ""


def _within(labels: Any) -> Callable[[Any], str]:
    return lambda index: "" if torch.equal(labels[index.cpu()], labels) else "left its group"


def _finite(cost: Any) -> str:
    return "" if bool(cost.isfinite().all()) else "not finite"
