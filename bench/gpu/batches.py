"""Many problems at once: batches of costs, and label groups."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from bench import families, peers
from immiscible_fast import fast_assign, solve_assignment

from .clock import both
from .quality import deviation
from .setting import Row, Setting, inputs, release, short

SECONDS = 0.5
COMPARED = 4  # problems of a batch that SciPy solves too
ROUNDING = 1e-9  # relative, of sums in float64


def measure(setting: Setting) -> Iterator[Row]:
    """Rows of the part "batches"."""
    for batch, n in setting.sizes.batches:
        if setting.chosen([n]):
            yield from _batch(setting, batch, n)
    for n, groups in setting.sizes.groups:
        if setting.chosen([n]):
            yield from _groups(setting, n, groups)
            release(setting.device)


def batch_of_costs(setting: Setting, batch: int, n: int) -> list[Tensor]:
    costs = []
    for seed in range(2 if setting.clock.timed else 1):
        cost = families.batch_of_costs(batch, n, seed)
        costs.append(torch.from_numpy(cost).to(setting.device))
    return costs


def _batch(setting: Setting, batch: int, n: int) -> Iterator[Row]:
    costs = batch_of_costs(setting, batch, n)
    for method in ("exact", "auto"):
        facts = {"case": "solve_assignment", "batch": batch, "n": n, "method": method}
        if setting.left < 4:
            yield {**facts, "skipped": "no time left"}
            continue
        try:
            calls = [partial(solve_assignment, cost, method=method) for cost in costs]
            answer = calls[0]()
            units = [n * deviation(cost) for cost in costs[0]]
            gaps = [float(gap) / max(u, 1e-300) for gap, u in zip(answer.gap, units, strict=True)]
            wrong = _wrong(costs[0], answer.index, method, units)
            times = both(setting.clock, calls, SECONDS)
            row = {**facts, **times, "gap_sd": float(f"{max(gaps):.3g}")}
            row["converged"] = bool(answer.converged.all())
            yield row | ({"wrong": wrong} if wrong else {})
        except Exception as error:
            yield {**facts, "skipped": short(error), "failed": True}


def _wrong(costs: Tensor, index: Tensor, method: str, units: list[float]) -> str:
    """What is wrong with these answers; an empty string if nothing is."""
    n = costs.shape[1]
    wanted = torch.arange(n, device=index.device).expand_as(index)
    if not torch.equal(index.sort(1).values, wanted):
        return "not a permutation"
    for k in range(min(COMPARED, len(costs))):
        cost = costs[k].double().cpu().numpy()
        best = cost[np.arange(n), peers.scipy_solve(torch.from_numpy(cost))].sum()
        paid = cost[np.arange(n), index[k].cpu().numpy()].sum()
        allowed = ROUNDING * abs(best) + (0.0 if method == "exact" else 0.0102 * units[k])
        if paid - best > allowed:
            return f"problem {k} costs {paid:.9g}, the optimum {best:.9g}"
    return ""


def _groups(setting: Setting, n: int, groups: int) -> Iterator[Row]:
    samples = inputs(n, setting.sizes.dim, setting.device)
    generator = torch.Generator().manual_seed(groups)
    labels = torch.randint(groups, (n,), generator=generator).to(setting.device)
    for method in ("auto", "exact"):
        facts = {"case": "labels", "groups": groups, "n": n, "dim": setting.sizes.dim}
        facts["method"] = method
        if setting.left < 4:
            yield {**facts, "skipped": "no time left"}
            continue
        try:
            calls = [
                partial(fast_assign, x, noise, method=method, labels=labels) for x, noise in samples
            ]
            index = calls[0]()
            kept = torch.equal(labels[index], labels)
            whole = torch.equal(index.sort().values, torch.arange(n, device=index.device))
            row = {**facts, **both(setting.clock, calls, SECONDS)}
            yield row | ({} if kept and whole else {"wrong": "not a permutation within groups"})
        except Exception as error:
            yield {**facts, "skipped": short(error), "failed": True}
