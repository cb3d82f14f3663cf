"""What every part is told and shares: device, sizes, inputs, times, and judges of answers.

A part is a module with a function ``cases``, whose rows are measured and written one by one.

- ``eager``: events between calls one after another, as in a training loop; where the host is slower
  than the device, this is the host's time (``triton.testing.do_bench`` clears the cache between
  calls, which gives the host a start).
- ``enqueue``: what each of these calls takes on the host.
- ``graph``: the same of a CUDA graph's replays, which wait for no host.

Calls take turns over several sets of inputs, so that the cache holds none of them.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench import problems
from immiscible_fast import pairwise_cost, solve_assignment
from tests import checks

Row = dict[str, Any]
Call = Callable[[], Any]
METHODS = ("exact", "auto")
BEYOND_CACHE = 160e6  # bytes of the inputs that take turns
SETS = (3, 6)  # of inputs, at least and at most
FEWEST, MOST = 5, 200  # rounds
TOL = 0.01  # standard deviations a row by which a near-optimal answer may miss the optimum
LEAST = 4.0  # seconds that have to be left for a case
SHARE = 0.25  # of the seconds that are left: what a case may be expected to take


class Case(NamedTuple):
    """A row to be: what it is about, and what measures the rest of it, or further rows too."""

    facts: Row
    measure: Callable[[], Row | list[Row]]
    calls: int = 0  # so many, if it may be slow: skipped where a smaller n was too slow

    @property
    def kind(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.facts.items() if key != "n")


@dataclass
class Setting:
    """What a part is told; untimed, it runs every call once, and claims nothing."""

    device: str
    timed: bool
    sizes: Sequence[int]  # n
    dim: int
    seconds: float = 60.0
    begin: float = field(default_factory=time.monotonic)
    taken: dict[str, tuple[int, float]] = field(default_factory=dict)  # n and seconds of a kind

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self.begin)

    def expected(self, case: Case) -> float:
        """Seconds of a call, from the last smaller one of its kind."""
        n, seconds = self.taken.get(case.kind, (1, 0.0))
        return seconds * (case.facts.get("n", 1) / n) ** 3

    def rows(self, cases: Iterable[Case]) -> Iterator[Row]:
        """The rows of the cases, or one that says why there is none."""
        for case in cases:
            expected = self.expected(case)
            if self.left < LEAST:
                yield {**case.facts, "skipped": "no time left"}
                continue
            if case.calls * expected > SHARE * self.left:
                yield {**case.facts, "skipped": f"about {expected:.1f} s a call, by a smaller n"}
                continue
            try:
                found = case.measure()
            except Exception as error:  # a case that fails is a finding, not the end
                found = {"wrong": short(error)}
            for row in found if isinstance(found, list) else [found]:
                yield case.facts | row
                if taken := row.get("eager_ms"):
                    self.taken[case.kind] = case.facts["n"], taken / 1e3
            if self.device != "cpu":
                torch.cuda.empty_cache()

    def eager(self, calls: Sequence[Call], seconds: float = 0.5) -> Row:
        """Entries of a row: milliseconds on the device and on the host; None if untimed."""
        for call in calls[: None if self.timed else 1]:
            call()
        if not self.timed:
            return {"eager_ms": None, "enqueue_ms": None}
        turn, taken, host = itertools.cycle(calls), [], []
        while not taken or (sum(taken) < 1e3 * seconds and len(taken) < MOST):
            marks = [torch.cuda.Event(enable_timing=True) for _ in range(FEWEST + 1)]
            marks[0].record()
            for mark in marks[1:]:
                begin = time.perf_counter()
                next(turn)()
                mark.record()
                host.append(1e3 * (time.perf_counter() - begin))
            torch.cuda.synchronize()
            taken += [one.elapsed_time(other) for one, other in itertools.pairwise(marks)]
        low, middle, high = np.percentile(taken, (25, 50, 75))
        figures = {"eager_ms": middle, "eager_least_ms": min(taken), "eager_spread_ms": high - low}
        figures["enqueue_ms"] = statistics.median(host)
        return {k: float(f"{v:.5g}") for k, v in figures.items()} | {"eager_rounds": len(taken)}

    def both(self, calls: Sequence[Call], seconds: float = 0.5) -> Row:
        """Entries of a row: eager and graph times; replays have to give the same answers."""
        found = self.eager(calls, seconds) | {"graph_ms": None}
        if not self.timed:
            return found
        stream = torch.cuda.current_stream()
        try:
            wanted, replays, given = [tensors(call()) for call in calls], [], []
            torch.cuda.synchronize()
            for call in calls:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    given.append(tensors(call()))
                replays.append(graph.replay)
            found["graph_ms"] = self.eager(replays, seconds)["eager_ms"]
            for pair in zip(wanted, given, strict=True):
                for one, other in zip(*pair, strict=True):
                    assert torch.equal(one.nan_to_num(), other.nan_to_num()), "another answer"
        except Exception as error:  # a call that cannot be captured is a finding, not the end
            torch.cuda.set_stream(stream)  # a capture that fails leaves its own behind
            found["wrong"] = f"replayed from a graph: {short(error)}"
        return found

    def peak(self, call: Call) -> int | None:
        """Bytes that a call takes at its peak beyond what was there before."""
        if not self.timed:
            return None
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def inputs(self, n: int) -> list[tuple[Tensor, Tensor]]:
        """Sets of images and noise, (n, dim) each, that together do not fit into a cache."""
        count = min(SETS[1], max(SETS[0], round(BEYOND_CACHE / (8 * n * self.dim))))
        drawn = (_drawn(n, self.dim, seed) for seed in range(count))
        return [(x.to(self.device), noise.to(self.device)) for x, noise in drawn]


@lru_cache(maxsize=6)
def _drawn(n: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    drawn = problems.samples("photo", n, seed)
    x, noise = (part.flatten(1)[:, :dim].contiguous() for part in (drawn.x, drawn.noise))
    return x, noise


def tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [part for part in result or () if isinstance(part, Tensor)]


def short(error: BaseException) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


class Judge:
    """One matrix of costs, -x.e of centred samples, and what is proven of it."""

    def __init__(self, x: Tensor, noise: Tensor, method: str = "exact") -> None:
        centred = (part.float() - part.float().mean(0) for part in (x, noise))
        self.cost = pairwise_cost(*centred, metric="dot")
        self.prove(method)

    def prove(self, method: str = "exact") -> None:
        """Have the bound of this method: no assignment costs less."""
        self.bound = float(solve_assignment(self.cost, method=method).lower_bound)

    def verdict(self, index: Any) -> Row:
        """Entries of a row for this assignment; the share is that of the gain that the bound leaves
        possible."""
        n, index = len(self.cost), torch.as_tensor(index).long().to(self.cost.device)
        if not torch.equal(index.sort().values, torch.arange(n, device=index.device)):
            return {"wrong": "not a permutation"}
        paid = float(self.cost.gather(1, index[:, None]).sum(dtype=torch.float64))
        identity = float(self.cost.diagonal().sum(dtype=torch.float64))
        gap, gain = paid - self.bound, identity - self.bound
        return {
            "gap_sd": float(f"{gap / max(n * deviation(self.cost), 1e-300):.3g}"),
            "share": round((identity - paid) / gain, 6) if gain > 0 else 1.0,
        }


def deviation(cost: Tensor) -> float:
    """Standard deviation of the doubly centred costs."""
    rows, columns = (cost.mean(k, dtype=torch.float64).var(correction=0) for k in (0, 1))
    return max(float(cost.var(correction=0) - rows - columns), 0.0) ** 0.5


def check(cost: Tensor, answer: Any, method: str, few: int | None = None) -> None:
    """Raise if SciPy or exact arithmetic find an answer wrong, of a batch one of the first few."""
    if cost.ndim == 2:
        cost, answer = cost[None], type(answer)(*(part[None] for part in answer))
    host = type(answer)(*(part.cpu() for part in answer))
    for k, one in enumerate(cost.cpu().numpy()[:few]):
        given = type(answer)(*(part[k] for part in host))
        if method == "exact":
            checks.assert_exact(one, given, rounded=True)
        elif np.isfinite(one).all():
            checks.assert_within(one, given, TOL, rounded=True)
        else:
            checks.assert_certified(one, given, rounded=True)
