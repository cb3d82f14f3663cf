"""What every part is told: the device, the sizes, the clock and how long it may take."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from bench import families

Row = dict[str, Any]
BEYOND_CACHE = 160e6  # bytes of the inputs that take turns
SETS = (3, 6)  # of inputs, at least and at most


@dataclass(frozen=True)
class Sizes:
    """Sizes of all parts."""

    dim: int = 3072
    peak: int = 8192  # side of the products that show the peak of the device
    copied: int = 1 << 30  # bytes
    pairwise: tuple[int, ...] = (1024, 4096, 16384)
    calls: tuple[int, ...] = (1024, 2048, 4096, 8192, 16384)
    stages: tuple[int, ...] = (1024, 4096, 16384)
    batches: tuple[tuple[int, int], ...] = ((208, 300), (64, 128))
    groups: tuple[tuple[int, int], ...] = ((1024, 10), (1024, 100), (4096, 10), (4096, 100))
    pathologies: tuple[int, ...] = (256, 1024)
    peers: tuple[int, ...] = (1024, 2048, 4096)
    tuned: tuple[int, ...] = (1024, 4096)
    few: int | None = None  # of the cases of a part, where it has a list of them


TINY = Sizes(
    dim=4,
    peak=8,
    copied=1 << 12,
    pairwise=(8,),
    calls=(8,),
    stages=(6,),
    batches=((2, 5),),
    groups=((6, 2),),
    pathologies=(5,),
    peers=(8,),
    tuned=(6,),
    few=2,
)


@dataclass
class Setting:
    """What a part is told."""

    device: str
    clock: Any  # clock.EventClock or clock.NoClock
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


def skip(case: str, reason: str, **facts: Any) -> Row:
    """A row that says what was not measured, and why."""
    return {"case": case, **facts, "skipped": reason}


def inputs(n: int, dim: int, device: str) -> list[tuple[Tensor, Tensor]]:
    """Sets of images and noise, (n, dim) each, that together do not fit into a cache."""
    count = min(SETS[1], max(SETS[0], round(BEYOND_CACHE / (8 * n * dim))))
    return [tuple(part.to(device) for part in _drawn(n, dim, seed)) for seed in range(count)]  # type: ignore[misc]


@lru_cache(maxsize=6)
def _drawn(n: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    drawn = families.samples("photo", n, seed)
    return tuple(t.flatten(1)[:, :dim].contiguous() for t in (drawn.x, drawn.noise))  # type: ignore[return-value]


def short(error: BaseException) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


def release(device: str) -> None:
    if device != "cpu":
        torch.cuda.empty_cache()
