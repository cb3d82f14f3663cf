"""How a case is timed and judged; shared by all files of the suite.

- The size of the suite and the device come from IMMISCIBLE_BENCH (tiny, quick, full) and
  IMMISCIBLE_BENCH_DEVICE (cpu, cuda).
- Every call is made once untimed at its own size, then repeated until its share of time is spent:
  three times at least, twice from half a second, once if it takes more than two seconds.
- One whose time, foretold from a smaller n (by n^3 for solvers), passes the limit is skipped, and
  the skip is recorded.
- Every answer is judged on one matrix, the centred squared distances, against the lower bound that
  the prices of our exact solver prove; that proof is all that a peer has to believe us.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor

from immiscible_fast import solve_assignment

from . import peers, schema
from .families import Problem, Samples
from .peers import Method

T = TypeVar("T")
SIZE = os.environ.get("IMMISCIBLE_BENCH", "quick")
DEVICE = os.environ.get("IMMISCIBLE_BENCH_DEVICE", "cpu")
SECONDS = {"tiny": 0.01, "quick": 0.12, "full": 0.4}  # for the rounds of one case
LIMIT = {"tiny": 2.0, "quick": 4.0, "full": 4.0}  # for one call
TELLING = 256  # n: the time of a smaller problem foretells nothing
LEAST_ROUNDS = ((0.5, 3), (2.5, 2))  # below so many seconds, the first call's costs included
SHORTEST = 200e-6  # seconds of a round; shorter calls are repeated within it
MOST_ROUNDS = 200

if SIZE not in SECONDS:
    raise ValueError(f"IMMISCIBLE_BENCH must be one of {', '.join(SECONDS)}, got {SIZE!r}")


@dataclass(frozen=True)
class Case:
    """One method on one problem of one stage; ``batch`` problems at once."""

    stage: str
    family: str
    n: int
    dim: int
    method: Method
    batch: int = 1

    @property
    def group(self) -> str:
        return schema.group(vars(self))

    def __str__(self) -> str:
        name = self.method.name.replace(" ", "-").replace(",", "").replace("+", "and")
        return f"{self.group.partition(' ')[2].replace(' ', '-')}-{name}"


def sizes(**chosen: T) -> T:
    """The value for the size of suite that runs now; "tiny" is there to test the suite itself."""
    return chosen[SIZE]


_seconds: dict[tuple[str, str, str], tuple[int, float]] = {}
skipped: list[dict[str, str]] = []


def check(case: Case) -> None:
    """Skip the test if its method is missing, or would take too long or too much memory."""
    reason = peers.why_not(case.method, DEVICE)
    if reason:
        _skip(case, f"missing: {reason}")
    if case.n > case.method.largest:
        _skip(case, "too large: its array of all differences would not fit")
    foretold = _forecast(case)
    if foretold is not None and foretold > LIMIT[SIZE]:
        _skip(case, f"too slow: about {foretold:.0f} s a call, by a smaller n")


def _skip(case: Case, reason: str) -> NoReturn:
    skipped.append({"group": case.group, "method": case.method.name, "reason": reason})
    pytest.skip(reason)


def _forecast(case: Case) -> float | None:
    """Seconds of one call, from the same method on the same family, else on any; None: no idea."""
    same = (case.stage, case.method.name, case.family)
    known = _seconds.get(same)
    if known is None:
        near = [v for k, v in _seconds.items() if k[:2] == same[:2] and v[0] <= case.n]
        known = max(near, default=None)
    if known is None:
        return None
    n, seconds = known
    return seconds * (case.n / n) ** case.method.growth


def run(benchmark: Any, case: Case, call: Callable[[], T], warm_up: Callable[[], Any]) -> T:
    """Time ``call``; ``warm_up`` is a small problem for whatever compiles or loads first."""
    warm_up()
    rounds, iterations = repeats(_timed(call))
    benchmark.group = case.group
    benchmark.extra_info.update(facts(case))
    synchronised = call if DEVICE == "cpu" else lambda: _synchronised(call)
    result = benchmark.pedantic(synchronised, rounds=rounds, iterations=iterations)
    if benchmark.stats is not None and case.n >= TELLING:  # None under --benchmark-disable
        _seconds[case.stage, case.method.name, case.family] = (
            case.n,
            benchmark.stats.stats.min,  # a machine that was busy for a moment must not cause skips
        )
    return result


def repeats(seconds: float) -> tuple[int, int]:
    """Rounds, and calls in each of them, for a call that took so long untimed."""
    iterations = max(1, round(SHORTEST / seconds))
    least = next((rounds for limit, rounds in LEAST_ROUNDS if seconds < limit), 1)
    rounds = int(np.clip(SECONDS[SIZE] / (iterations * seconds), least, MOST_ROUNDS))
    return (min(rounds, 2), 1) if SIZE == "tiny" else (rounds, iterations)


def _timed(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    _synchronised(call)
    return max(time.perf_counter() - begin, 1e-9)


def _synchronised(call: Callable[[], T]) -> T:
    result = call()
    if DEVICE != "cpu":
        torch.cuda.synchronize()
    return result


def facts(case: Case) -> dict[str, Any]:
    return {
        "stage": case.stage,
        "family": case.family,
        "n": case.n,
        "dim": case.dim,
        "batch": case.batch,
        "method": case.method.name,
        "takes": case.method.takes if case.dim else "given",
        "ours": case.method.ours,
        "exact": case.method.exact,
        "package": case.method.package,
        "version": peers.version(case.method.package),
        "device": DEVICE,
        "threads": torch.get_num_threads(),
    }


@dataclass(frozen=True)
class Reference:
    """What answers to a problem are compared with."""

    cost: float  # of our exact answer
    bound: float  # proven: no assignment costs less
    identity: float  # without any assignment
    unit: float  # n times the standard deviation of the centred costs


@lru_cache(maxsize=4)
def reference(problem: Problem) -> Reference:
    return judge(problem.centred)


def judge(cost: Any) -> Reference:
    answer = solve_assignment(torch.from_numpy(cost), method="exact")
    centred = cost - cost.mean(0) - cost.mean(1)[:, None] + cost.mean()
    return Reference(
        cost=float(answer.cost),
        bound=float(answer.lower_bound),
        identity=float(np.trace(cost, dtype=np.float64)),
        unit=len(cost) * float(centred.std(dtype=np.float64)),
    )


def total(cost: Any, index: Any) -> float:
    """Cost in float64 of the pairs."""
    chosen = np.asarray(torch.as_tensor(index).cpu())
    return float(cost[np.arange(len(cost)), chosen].sum(dtype=np.float64))


def assignment_quality(cost: Any, index: Any, ref: Reference) -> dict[str, Any]:
    """Gap to the proven bound, and the share of the possible gain; for a permutation."""
    return summed_quality([cost], [index], [ref])


def summed_quality(costs: Any, indices: Any, refs: list[Reference]) -> dict[str, Any]:
    """The same for several problems at once: their gaps, deviations and gains are added up."""
    chosen = [np.asarray(torch.as_tensor(index).cpu()) for index in indices]
    paid = sum(total(cost, index) for cost, index in zip(costs, chosen, strict=True))
    gap = paid - sum(ref.bound for ref in refs)
    identity = sum(ref.identity for ref in refs)
    return {
        "permutation": all(np.array_equal(np.sort(i), np.arange(len(i))) for i in chosen),
        "gap": _digits(gap),
        "gap_sd": _digits(gap / max(sum(ref.unit for ref in refs), 1e-300)),
        "share": round((identity - paid) / max(identity - sum(r.cost for r in refs), 1e-300), 6),
    }


def chosen_quality(drawn: Samples, chosen: Tensor, ref: Reference) -> dict[str, Any]:
    """For noises that are no permutation: gain by distance, by inner product, and their norm."""
    x, before, after = (t.flatten(1).double().cpu() for t in (drawn.x, drawn.noise, chosen))
    gain = max(ref.identity - ref.cost, 1e-300)
    nearer = ((x - before).square().sum() - (x - after).square().sum()) / gain
    aligned = 2 * ((x * after).sum() - (x * before).sum()) / gain
    dim = x.shape[1]
    shift = (after.square().sum(1).mean() - dim) / (2 * dim) ** 0.5
    return {
        "permutation": False,
        "share": round(float(nearer), 6),
        "share_dot": round(float(aligned), 6),
        "norm_sigma": _digits(float(shift), 3),
    }


def _digits(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


def to_device(drawn: Samples) -> Samples:
    labels = None if drawn.labels is None else drawn.labels.to(DEVICE)
    return Samples(drawn.x.to(DEVICE), drawn.noise.to(DEVICE), labels)
