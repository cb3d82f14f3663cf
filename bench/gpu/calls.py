"""``fast_assign`` end to end, batches of costs, and label groups."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from bench import problems
from immiscible_fast import fast_assign, solve_assignment
from tests import checks

from .products import matmul_precision
from .setting import Judge, Row, Setting, deviation, inputs, judge

SECONDS = 0.7  # of the rounds of a case, twice: eager and replayed
PATIENCE = 0.25  # of the time that is left: what the exact solves of a size may take
COMPILED = 4096  # n: larger ones have the same kernels
COMPARED = 4  # problems of a batch that SciPy solves too
TOL = 0.0102  # standard deviations a row by which a near-optimal answer may miss the optimum


class Way(NamedTuple):
    """One way to call."""

    method: str
    dtype: torch.dtype = torch.float32
    torch_precision: str = "highest"

    @property
    def name(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return f"{kind} tf32" if self.torch_precision != "highest" else kind


WAYS = (
    *(Way("auto"), Way("exact")),
    *(Way("auto", torch.float32, "high"), Way("auto", torch.bfloat16)),
)


class Forecast:
    """How long a solve will take, from the last smaller one."""

    def __init__(self) -> None:
        self.n, self.seconds = 0, 0.0

    def add(self, n: int, milliseconds: float | None) -> None:
        if milliseconds is not None:
            self.n, self.seconds = n, milliseconds / 1e3

    def of(self, n: int) -> float:
        return self.seconds * (n / self.n) ** 3 if self.n else 0.0


def measure(setting: Setting) -> Iterator[Row]:
    """Rows of the part "calls"."""
    forecast = Forecast()
    for n in setting.chosen(setting.sizes.calls):
        samples = inputs(n, setting.sizes.dim, setting.device)
        # Exact solves: those of the rounds, those of the graph, the judge's.
        affordable = 20 * forecast.of(n) < PATIENCE * setting.left
        affordable = affordable if setting.timed else n <= COMPILED
        judged = None
        for way in setting.few(WAYS):
            row = {"case": "fast_assign", "n": n, "dim": setting.sizes.dim}
            row |= {"method": way.method, "inputs": way.name}
            if way.method == "exact" and not affordable:
                yield row | {"skipped": f"about {forecast.of(n):.1f} s a call, by a smaller n"}
                continue
            judged = judged or judge(*samples[0], exact=affordable)
            for found in setting.attempt(row, partial(_call, setting, way, samples, judged), 8):
                if way.method == "exact":
                    forecast.add(n, found.get("eager_ms"))
                yield found


def _call(setting: Setting, way: Way, samples: list[tuple[Tensor, Tensor]], judged: Judge) -> Row:
    sets = [(x.to(way.dtype), noise.to(way.dtype)) for x, noise in samples]
    calls = [partial(fast_assign, x, noise, method=way.method) for x, noise in sets]
    with matmul_precision(way.torch_precision):
        index = calls[0]()
        peak = setting.peak(calls[0])
        times = setting.both(calls, SECONDS)
    of_matrix = None if peak is None else round(peak / (4 * len(index) ** 2), 3)
    return {**times, **judged.verdict(index), "peak_of_matrix": of_matrix}


def measure_batches(setting: Setting) -> Iterator[Row]:
    """Rows of the part "batches"."""
    for batch, n in setting.sizes.batches:
        for method in ("exact", "auto") if setting.chosen([n]) else ():
            row = {"case": "solve_assignment", "batch": batch, "n": n, "method": method}
            yield from setting.attempt(row, partial(_batch, setting, batch, n, method))
    for n, groups in setting.sizes.groups:
        for method in ("auto", "exact") if setting.chosen([n]) else ():
            row = {"case": "labels", "groups": groups, "n": n, "dim": setting.sizes.dim}
            row["method"] = method
            yield from setting.attempt(row, partial(_groups, setting, n, groups, method))


def batch_of_costs(setting: Setting, batch: int, n: int) -> list[Tensor]:
    costs = (problems.batch_of_costs(batch, n, seed) for seed in range(2 if setting.timed else 1))
    return [torch.from_numpy(cost).to(setting.device) for cost in costs]


def _batch(setting: Setting, batch: int, n: int, method: str) -> Row:
    costs = batch_of_costs(setting, batch, n)
    calls = [partial(solve_assignment, cost, method=method) for cost in costs]
    answer = calls[0]()
    units = [max(n * deviation(cost), 1e-300) for cost in costs[0]]
    for k, (cost, index) in enumerate(zip(costs[0].cpu(), answer.index.cpu(), strict=True)):
        checks.assert_matching(index.numpy(), n, n)
        if k < COMPARED:
            near = 0.0 if method == "exact" else TOL * units[k]
            paid, best = checks.total(cost, index), checks.optimum(cost)
            assert paid - best <= near + 1e-9 * abs(best), f"problem {k} pays {paid}, not {best}"
    gaps = [float(gap) / unit for gap, unit in zip(answer.gap, units, strict=True)]
    found = {"gap_sd": float(f"{max(gaps):.3g}"), "converged": bool(answer.converged.all())}
    return setting.both(calls) | found


def _groups(setting: Setting, n: int, groups: int, method: str) -> Row:
    generator = torch.Generator().manual_seed(groups)
    labels = torch.randint(groups, (n,), generator=generator).to(setting.device)
    samples = inputs(n, setting.sizes.dim, setting.device)
    calls = [partial(fast_assign, *pair, method=method, labels=labels) for pair in samples]
    index = calls[0]()
    whole = torch.equal(index.sort().values, torch.arange(n, device=index.device))
    assert whole and torch.equal(labels[index], labels), "not a permutation within groups"
    return setting.both(calls)
