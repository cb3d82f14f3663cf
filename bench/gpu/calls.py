"""``fast_assign`` end to end."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import NamedTuple

import torch

from immiscible_fast import fast_assign

from .pairwise import matmul_precision
from .setting import Case, Judge, Row, Setting

SECONDS = 0.7  # of the rounds of a case, twice: eager and replayed


class Way(NamedTuple):
    """One way to call."""

    method: str
    dtype: torch.dtype = torch.float32
    torch_precision: str = "highest"

    @property
    def name(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return f"{kind} tf32" if self.torch_precision != "highest" else kind


WAYS = (  # the exact one first: the others are held against the bound that it proves
    *(Way("exact"), Way("auto")),
    *(Way("auto", torch.float32, "high"), Way("auto", torch.bfloat16)),
)


def cases(setting: Setting) -> Iterator[Case]:
    for n in setting.sizes:
        judge = cache(lambda n=n: Judge(*setting.inputs(n)[0], method="auto"))
        for way in WAYS:
            facts = {"case": "fast_assign", "n": n, "dim": setting.dim}
            facts |= {"method": way.method, "inputs": way.name}
            calls = 20 if way.method == "exact" else 0
            yield Case(facts, partial(_measured, setting, way, n, judge), calls)


def _measured(setting: Setting, way: Way, n: int, judge: partial[Judge]) -> Row:
    sets = [(x.to(way.dtype), noise.to(way.dtype)) for x, noise in setting.inputs(n)]
    calls = [partial(fast_assign, x, noise, method=way.method) for x, noise in sets]
    with matmul_precision(way.torch_precision):
        index = calls[0]()
        peak = setting.peak(calls[0])
        times = setting.both(calls, SECONDS)
    if way.method == "exact":
        judge().prove()
    of_matrix = None if peak is None else round(peak / (4 * len(index) ** 2), 3)
    return {**times, **judge().verdict(index), "peak_of_matrix": of_matrix}
