"""Small cases that take every path of the solver once, for compute-sanitizer to look at.

python -m bench.gpu_check --small --seconds 100
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from immiscible_fast import fast_assign, pairwise_cost, solve_assignment
from tests import checks

Case = tuple[str, Callable[[], Any], Callable[[Any], None]]
NEAR = 0.015  # standard deviations a row by which a near-optimal answer may miss the optimum


def cases(device: str, sizes: tuple[int, ...] = (33, 300), batch: int = 3) -> Iterator[Case]:
    """(name, call, check of its result) of every case."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Any:
        return torch.randn(shape, generator=generator).to(device)

    def solved(name: str, cost: Any, method: str) -> Case:
        call = partial(solve_assignment, cost, method=method)
        return f"{method} {name}", call, partial(right, cost, 1e-9 if method == "exact" else NEAR)

    for n in sizes:
        cost = draw(n, n)
        for method in ("sinkhorn", "auction", "exact"):
            yield solved(f"n={n}", cost, method)
    wide = draw(20, 50)
    for name, cost in (("wide", wide), ("tall", wide.T), ("float64", draw(33, 33).double())):
        yield solved(name, cost, "exact")
    for method in ("auto", "exact"):
        yield solved(f"batch {batch}", draw(batch, sizes[-1], sizes[-1]), method)
    x, noise = draw(2, sizes[0], 40)
    labels = (torch.arange(sizes[0]) % 3).to(device)

    def kept(index: Any) -> None:
        assert torch.equal(labels[index], labels), "left its group"

    yield "labels", partial(fast_assign, x, noise, labels=labels, method="exact"), kept
    for metric in ("dot", "euclidean", "cosine", "manhattan"):
        yield f"pairwise {metric}", partial(pairwise_cost, x, noise[:20], metric=metric), finite
    yield "pairwise float16", partial(pairwise_cost, x.half(), noise.half()), finite


def run(device: str, seconds: float, **sizes: Any) -> int:
    """Exit code: 0 if all answers are right, as far as there was time."""
    begin, bad = time.monotonic(), 0
    for name, call, check in cases(device, **sizes):
        if time.monotonic() - begin > seconds:
            print(f"stopped before {name}", flush=True)
            break
        try:
            check(call())
            print(f"{name}: ok, {time.monotonic() - begin:.1f} s", flush=True)
        except AssertionError as error:
            bad += 1
            print(f"{name}: wrong, {error}", flush=True)
    return int(bad > 0)


def right(costs: Any, near: float, answer: Any) -> None:
    wide = costs.double().cpu().numpy()
    matrices = wide if wide.ndim == 3 else wide[None]
    for cost, index in zip(matrices, answer.index.reshape(len(matrices), -1).cpu(), strict=True):
        checks.assert_matching(index.numpy(), *cost.shape)
        paid, best = checks.total(cost, index), checks.optimum(cost)
        assert paid - best <= near * np.std(cost) * min(cost.shape), f"pays {paid}, not {best}"


def finite(cost: Any) -> None:
    assert bool(cost.isfinite().all()), "not finite"
