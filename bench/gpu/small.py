"""Small cases that take every path of the solver once, for compute-sanitizer to look at."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from immiscible_fast import fast_assign, pairwise_cost, solve_assignment

from .setting import METHODS, Case, Row, Setting, check

BATCH = 3


def cases(setting: Setting) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(setting.device)

    first, last = setting.sizes[0], setting.sizes[-1]
    solved = [(f"n={n}", draw(n, n), ("sinkhorn", "auction", "exact")) for n in setting.sizes]
    wide, x, noise = draw(20, 50), *draw(2, first, 40)
    solved += [("wide", wide, METHODS[:1]), ("tall", wide.T, METHODS[:1])]
    solved += [("float64", draw(33, 33).double(), METHODS[:1])]
    solved += [("batch", draw(BATCH, last, last), METHODS)]
    for name, cost, methods in solved:
        for method in methods:
            yield Case({"case": name, "method": method}, partial(_solve, cost, method))
    labels = (torch.arange(first) % 3).to(setting.device)
    yield Case({"case": "labels"}, partial(_groups, x, noise, labels))
    for metric in ("dot", "euclidean", "cosine", "manhattan"):
        call = partial(pairwise_cost, x, noise[:20], metric=metric)
        yield Case({"case": f"pairwise {metric}"}, partial(_finite, call))
    call = partial(pairwise_cost, x.half(), noise.half())
    yield Case({"case": "pairwise float16"}, partial(_finite, call))


def _solve(cost: Tensor, method: str) -> Row:
    check(cost, solve_assignment(cost, method=method), method)
    return {}


def _groups(x: Tensor, noise: Tensor, labels: Tensor) -> Row:
    index = fast_assign(x, noise, labels=labels, method="exact")
    assert torch.equal(labels[index], labels), "left its group"
    return {}


def _finite(call: Any) -> Row:
    assert bool(call().isfinite().all()), "not finite"
    return {}
