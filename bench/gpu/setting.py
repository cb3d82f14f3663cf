"""What every part is told and shares: device, sizes, inputs, times, and the judge of answers.

- ``eager``: events around every call, calls one after another as in a training loop; where the host
  is slower than the device, this is the host's time.
- ``graph``: the same of a CUDA graph's replays, which wait for no host.
- ``enqueue``: what a call takes on the host alone.
- ``host``: a call and the wait for its answer, for peers that copy to the CPU.

Calls take turns over several sets of inputs, so that the cache holds none of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench import problems
from immiscible_fast import pairwise_cost, solve_assignment

Row = dict[str, Any]
Call = Callable[[], Any]
BEYOND_CACHE = 160e6  # bytes of the inputs that take turns
SETS = (3, 6)  # of inputs, at least and at most
FEWEST, MOST = 5, 200  # rounds


@dataclass(frozen=True)
class Sizes:
    """Sizes of all parts."""

    dim: int = 3072
    peak: int = 8192  # side of the products that show the peak of the device
    copied: int = 1 << 30  # bytes
    pairwise: tuple[int, ...] = (1024, 4096, 16384)
    calls: tuple[int, ...] = (1024, 2048, 4096, 8192, 16384)
    stages: tuple[int, ...] = (1024, 4096, 16384)
    batches: tuple[tuple[int, int], ...] = ((208, 300), (64, 128))  # how many, n
    groups: tuple[tuple[int, int], ...] = ((1024, 10), (1024, 100), (4096, 10), (4096, 100))
    pathologies: tuple[int, ...] = (256, 1024)
    peers: tuple[int, ...] = (1024, 2048, 4096)
    tuned: tuple[int, ...] = (1024, 4096)
    few: int | None = None  # of the cases of a part, where it has a list of them


TINY = Sizes(4, 8, 1 << 12, (8,), (8,), (6,), ((2, 5),), ((6, 2),), (5,), (8,), (6,), few=2)


@dataclass
class Setting:
    """What a part is told; untimed, it runs every call once, and claims nothing."""

    device: str
    timed: bool
    sizes: Sizes = field(default_factory=Sizes)
    seconds: float = 60.0
    only_n: tuple[int, ...] = ()  # of the sizes of a part; all if empty
    begin: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self.begin)

    def chosen(self, sizes: Iterable[int]) -> list[int]:
        return [n for n in sizes if not self.only_n or n in self.only_n]

    def few(self, cases: Iterable[Any]) -> list[Any]:
        return list(cases)[: self.sizes.few]

    def attempt(self, facts: Row, measure: Callable[[], Row], least: float = 4) -> Iterator[Row]:
        """The row of a case, or one that says why there is none."""
        if self.left < least:
            yield {**facts, "skipped": "no time left"}
            return
        try:
            yield facts | measure()
        except Exception as error:  # a case that fails is a finding, not the end
            yield {**facts, "skipped": short(error), "failed": True}
        if self.device != "cpu":
            torch.cuda.empty_cache()

    def eager(self, calls: Sequence[Call], seconds: float = 0.5) -> Row:
        """Milliseconds: median, least, interquartile range; None if untimed."""
        for call in calls[: None if self.timed else 1]:
            call()
        if not self.timed:
            return {"ms": None}
        marks: list[tuple[Any, Any]] = []
        rounds, end = FEWEST, time.perf_counter() + seconds
        while len(marks) < rounds:
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            calls[len(marks) % len(calls)]()
            stop.record()
            marks.append((start, stop))
            if len(marks) == FEWEST:  # how many more there is time for
                torch.cuda.synchronize()
                each = (time.perf_counter() - end + seconds) / FEWEST
                rounds = max(FEWEST, min(MOST, int(seconds / each)))
        torch.cuda.synchronize()
        return summary([start.elapsed_time(stop) for start, stop in marks])

    def both(self, calls: Sequence[Call], seconds: float = 0.5) -> Row:
        """Entries of a row: eager and graph times, and whether replays give the same answers."""
        found = {f"eager_{key}": value for key, value in self.eager(calls, seconds).items()}
        found |= {"graph_ms": None, "enqueue_ms": self.enqueue(calls)}
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
            found["graph_ms"] = self.eager(replays, seconds)["ms"]
            found["graph_same"] = all(
                torch.equal(one.nan_to_num(), other.nan_to_num())
                for pair in zip(wanted, given, strict=True)
                for one, other in zip(*pair, strict=True)
            )
        except Exception as error:  # a call that cannot be captured is a finding, not the end
            torch.cuda.set_stream(stream)  # a capture that fails leaves its own behind
            found["graph_error"] = short(error)
        return found

    def enqueue(self, calls: Sequence[Call], rounds: int = 10) -> float | None:
        taken = []
        for k in range(rounds if self.timed else 0):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            calls[k % len(calls)]()
            taken.append(1e3 * (time.perf_counter() - begin))
        return float(f"{statistics.median(taken):.5g}") if taken else None

    def host(self, call: Call, seconds: float = 0.5) -> tuple[float | None, Any]:
        """Median milliseconds until the answer is there, and the answer."""
        taken: list[float] = []
        result = None
        while not taken or (self.timed and sum(taken) + taken[-1] < 1e3 * seconds):
            begin = time.perf_counter()
            result = call()
            if self.device != "cpu":
                torch.cuda.synchronize()
            taken.append(1e3 * (time.perf_counter() - begin))
        return (float(f"{statistics.median(taken):.5g}") if self.timed else None), result

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


def summary(milliseconds: Sequence[float]) -> Row:
    low, middle, high = statistics.quantiles(milliseconds, n=4)
    figures = {"ms": middle, "least_ms": min(milliseconds), "spread_ms": high - low}
    rounded = {key: float(f"{value:.5g}") for key, value in figures.items()}
    return rounded | {"rounds": len(milliseconds)}


def tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [part for part in result or () if isinstance(part, Tensor)]


def inputs(n: int, dim: int, device: str) -> list[tuple[Tensor, Tensor]]:
    """Sets of images and noise, (n, dim) each, that together do not fit into a cache."""
    count = min(SETS[1], max(SETS[0], round(BEYOND_CACHE / (8 * n * dim))))
    drawn = (_drawn(n, dim, seed) for seed in range(count))
    return [(x.to(device), noise.to(device)) for x, noise in drawn]


@lru_cache(maxsize=6)
def _drawn(n: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    drawn = problems.samples("photo", n, seed)
    x, noise = (part.flatten(1)[:, :dim].contiguous() for part in (drawn.x, drawn.noise))
    return x, noise


def short(error: BaseException) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


class Judge(NamedTuple):
    """One matrix of costs, and what is known of it."""

    cost: Tensor  # (n, n) float32, -x.e of centred samples
    bound: float  # proven: no assignment costs less
    best: float | None  # of an exact solution, if there is one
    unit: float  # n times the standard deviation of the doubly centred costs

    def verdict(self, index: Tensor) -> Row:
        """Entries of a row for this assignment."""
        n, index = len(self.cost), index.to(self.cost.device)
        if not torch.equal(index.sort().values, torch.arange(n, device=index.device)):
            return {"wrong": "not a permutation"}
        paid = float(self.cost.gather(1, index[:, None]).sum(dtype=torch.float64))
        identity = float(self.cost.diagonal().sum(dtype=torch.float64))
        gain = identity - (self.bound if self.best is None else self.best)
        return {
            "gap_sd": float(f"{(paid - self.bound) / max(self.unit, 1e-300):.3g}"),
            "share": round((identity - paid) / gain, 6) if gain > 0 else 1.0,
            "share_of": "bound" if self.best is None else "optimum",
        }


def judge(x: Tensor, noise: Tensor, *, exact: bool) -> Judge:
    """Of images and noise, (n, dim) each; without ``exact`` the bound is the fast method's."""
    centred = (part.to(torch.float32) for part in (x, noise))
    cost = pairwise_cost(*(part - part.mean(0) for part in centred), metric="dot")
    answer = solve_assignment(cost, method="exact" if exact else "auto")
    best = float(answer.cost) if exact and bool(answer.converged) else None
    return Judge(cost, float(answer.lower_bound), best, len(x) * deviation(cost))


def deviation(cost: Tensor) -> float:
    """Standard deviation of the doubly centred costs."""
    rows, columns = cost.mean(1, dtype=torch.float64), cost.mean(0, dtype=torch.float64)
    square = sum(float(part.double().square().sum()) for part in cost.split(1024)) / cost.numel()
    spread = square - float(rows.square().mean()) - float(columns.square().mean())
    return max(spread + float(rows.mean()) ** 2, 0.0) ** 0.5
