"""Batches of costs, and label groups."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from bench import problems
from immiscible_fast import fast_assign, solve_assignment

from .setting import METHODS, Case, Row, Setting, check, deviation

COUNTS = {300: 208, 128: 64, 5: 2}  # how many problems of n
GROUPS = (10, 100)  # of larger n
COMPARED = 4  # problems of a batch that SciPy solves too


def cases(setting: Setting) -> Iterator[Case]:
    for n in setting.sizes:
        for method in METHODS:
            if n in COUNTS:
                facts = {"case": "solve_assignment", "batch": COUNTS[n], "n": n, "method": method}
                yield Case(facts, partial(_batch, setting, n, method))
                continue
            for groups in GROUPS:
                facts = {"case": "labels", "groups": groups, "n": n, "dim": setting.dim}
                measure = partial(_groups, setting, n, groups, method)
                yield Case({**facts, "method": method}, measure)


def costs(setting: Setting, n: int) -> list[Tensor]:
    drawn = (problems.batch_of_costs(COUNTS[n], n, seed) for seed in range(1 + setting.timed))
    return [torch.from_numpy(cost).to(setting.device) for cost in drawn]


def _batch(setting: Setting, n: int, method: str) -> Row:
    sets = costs(setting, n)
    calls = [partial(solve_assignment, cost, method=method) for cost in sets]
    answer = calls[0]()
    check(sets[0], answer, method, COMPARED)
    units = [max(n * deviation(cost), 1e-300) for cost in sets[0]]
    gap = max(float(gap) / unit for gap, unit in zip(answer.gap, units, strict=True))
    found = {"gap_sd": float(f"{gap:.3g}"), "converged": bool(answer.converged.all())}
    return setting.both(calls) | found


def _groups(setting: Setting, n: int, groups: int, method: str) -> Row:
    generator = torch.Generator().manual_seed(groups)
    labels = torch.randint(groups, (n,), generator=generator).to(setting.device)
    sets = setting.inputs(n)
    calls = [partial(fast_assign, *pair, method=method, labels=labels) for pair in sets]
    index = calls[0]()
    whole = torch.equal(index.sort().values, torch.arange(n, device=index.device))
    assert whole and torch.equal(labels[index], labels), "not a permutation within groups"
    return setting.both(calls)
