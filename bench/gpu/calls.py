"""``fast_assign`` end to end: images and noise in, index out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from immiscible_fast import fast_assign

from .clock import both
from .products import matmul_precision
from .quality import Judge, judge
from .setting import Row, Setting, inputs, release, short, skip
from .watch import finished_share

SECONDS = 0.7  # of the rounds of a case, twice: eager and replayed
GROWTH = 3  # power of n by which the time of an exact solve is foretold
COMPILED = 4096  # n: larger ones have the same kernels
PATIENCE = 0.25  # of the time that is left: what one exact solve may take


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
    Way("auto"),
    Way("exact"),
    Way("auto", torch.float32, "high"),
    Way("auto", torch.bfloat16),
)


class Forecast:
    """How long an exact solve will take, from the last smaller one."""

    def __init__(self) -> None:
        self.n, self.seconds = 0, 0.0

    def add(self, n: int, milliseconds: float | None) -> None:
        if milliseconds is not None:
            self.n, self.seconds = n, milliseconds / 1e3

    def of(self, n: int) -> float:
        return self.seconds * (n / self.n) ** GROWTH if self.n else 0.0


def measure(setting: Setting) -> Iterator[Row]:
    """Rows of the part "calls"."""
    forecast = Forecast()
    for n in setting.chosen(setting.sizes.calls):
        facts = {"n": n, "dim": setting.sizes.dim}
        if setting.left < 8:
            yield skip("fast_assign", "no time left", **facts)
            continue
        samples = inputs(n, setting.sizes.dim, setting.device)
        # Exact solves: those of the rounds, those of the graph, the judge's.
        affordable = 20 * forecast.of(n) < PATIENCE * setting.left
        if not setting.clock.timed:
            affordable = n <= COMPILED
        judged = None
        for way in setting.few(WAYS):
            row = {**facts, "method": way.method, "inputs": way.name}
            if way.method == "exact" and not affordable:
                foretold = f"about {forecast.of(n):.1f} s a call, by a smaller n"
                yield skip("fast_assign", foretold, **row)
                continue
            try:
                judged = judged or judge(*samples[0], exact=affordable)
                measured = _measured(setting, way, samples, judged)
                if way.method == "exact":
                    forecast.add(n, measured["eager_ms"])
                yield row | measured
            except Exception as error:
                yield skip("fast_assign", short(error), failed=True, **row)
            release(setting.device)


def _measured(
    setting: Setting, way: Way, samples: list[tuple[Tensor, Tensor]], judged: Judge
) -> Row:
    clock = setting.clock
    sets = [(x.to(way.dtype), noise.to(way.dtype)) for x, noise in samples]
    calls = [partial(fast_assign, x, noise, method=way.method) for x, noise in sets]
    with matmul_precision(way.torch_precision):
        index = calls[0]()
        peak = clock.peak(calls[0])
        times = both(clock, calls, SECONDS)
        mended = finished_share(calls) if clock.timed and way.method != "exact" else None
    n = len(index)
    return {
        "case": "fast_assign",
        **times,
        **judged.verdict(index),
        "peak_of_matrix": None if peak is None else round(peak / (4 * n * n), 3),
        "mended_share": mended,
    }
