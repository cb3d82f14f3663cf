"""What noise for small batches does to training: pools, windows, best-of-k, and noise thrown away.

    python -m bench.small_batches                      # digits and photo patches, 3 seeds
    python -m bench.small_batches --data digits --seeds 1 --steps 100

The demo's model, trained from the same weights on the same batches of 64 and times for each way to
find noise; Frechet distance to the real images with 1, 4 and 32 sampling steps, lower is better.
Writes a record and a table to bench/results/small_batches/.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from immiscible_fast import NoisePool, assign_noise, pairwise_cost, select_noise, solve_assignment
from immiscible_fast.demo.frechet import FrechetMeter
from immiscible_fast.demo.model import VelocityMLP
from immiscible_fast.demo.train import JUDGED_SAMPLES, Arm

from . import record, tables
from .training import data
from .training.settings import Settings

SAMPLING_STEPS = (1, 4, 32)
BATCH = 64  # of the optimizer
DATA = {"digits": Settings(), "patches": Settings(data="patches")}
Way = Callable[[Tensor, Tensor, torch.Generator], Iterator[Tensor]]


def plain(xs: Tensor, mean: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    for x in xs:
        yield torch.randn(x.shape, generator=generator)


def assigned(window: float, xs: Tensor, mean: Tensor, draw: torch.Generator) -> Iterator[Tensor]:
    """``window`` batches at a time, or a part of one batch if that is below 1."""
    count = round(window * BATCH)
    for part in xs.flatten(0, 1).split(max(count, BATCH)):
        noise = torch.randn(part.shape, generator=draw)
        pieces = zip(part.split(count), noise.split(count), strict=True)
        yield from torch.cat([assign_noise(x, e) for x, e in pieces]).split(BATCH)


def pooled(
    size: int, batch: int, max_age: int | None, xs: Tensor, mean: Tensor, draw: torch.Generator
) -> Iterator[Tensor]:
    pool = NoisePool(size, generator=draw, max_age=max_age)
    for x in xs:
        yield torch.cat([pool.take(part) for part in x.split(batch)])


def best(k: int, score: str, xs: Tensor, mean: Tensor, draw: torch.Generator) -> Iterator[Tensor]:
    for x in xs:
        yield select_noise(x, k, score=score, center=mean, generator=draw)


def thrown_away(count: int, xs: Tensor, mean: Tensor, draw: torch.Generator) -> Iterator[Tensor]:
    """Each batch takes the best of more fresh noises than it has images; the rest is lost."""
    for x in xs:
        noise = torch.randn(count, x.shape[1], generator=draw)
        yield noise[solve_assignment(pairwise_cost(x - mean, noise, metric="dot")).index]


WAYS: dict[str, Way] = {
    "as drawn": plain,
    "assigned in 4": partial(assigned, 1 / 16),
    "assigned in 64": partial(assigned, 1),
    "window of 8 x 64": partial(assigned, 8),
    "pool 64, batch 1": partial(pooled, 64, 1, None),
    "pool 512, batch 4": partial(pooled, 512, 4, None),
    "pool 512, batch 4, max_age 4096": partial(pooled, 512, 4, 4096),
    "best of 4, dot": partial(best, 4, "dot"),
    "best of 16, dot": partial(best, 16, "dot"),
    "best of 4, euclidean": partial(best, 4, "euclidean"),
    "64 best of 128, rest thrown away": partial(thrown_away, 128),
}
SHORT = ("as drawn", "assigned in 4", "assigned in 64", "pool 64, batch 1", "pool 512, batch 4",
         "best of 4, dot", "best of 16, dot")  # fmt: skip


def train(images: Tensor, meter: FrechetMeter, way: Way, steps: int, seed: int) -> dict[str, Any]:
    """Distances of one model; all ways see the same weights, batches and times for a seed."""
    generator = torch.Generator().manual_seed(seed)
    arm = Arm(VelocityMLP(images.shape[1], generator), False, "auto")
    start = torch.randn(JUDGED_SAMPLES, images.shape[1], generator=generator)
    xs = images[torch.randint(len(images), (steps, BATCH), generator=generator)]
    ts = torch.rand(steps, BATCH, generator=generator)
    for step, noise in enumerate(way(xs, images.mean(0), generator), 1):
        arm.train(xs[step - 1], ts[step - 1], noise, step)
    return {"frechet": [round(value, 4) for value in arm.judge(meter, start, SAMPLING_STEPS)]}


def compare(name: str, steps: int, seeds: int) -> dict[str, Any]:
    loaded = data.load(DATA[name])
    images = loaded.some().flatten(1)
    meter = FrechetMeter(images)
    ways: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for seed in range(seeds):
        for way, find in WAYS.items():
            ways[way].append(train(images, meter, find, steps, seed))
            print(name, seed, way, ways[way][-1], flush=True)
    return {"data": name, "images": len(images), "dim": images.shape[1], "ways": ways}


def short(result: dict[str, Any], ways: tuple[str, ...] = SHORT) -> str:
    """Frechet distances of some of the ways, means over the seeds."""
    head = [f"{one['data']}, {steps}" for one in result["results"] for steps in SAMPLING_STEPS]
    head[0] += " sampling step"
    lines = []
    for way in ways:
        runs = [[run["frechet"] for run in one["ways"][way]] for one in result["results"]]
        means = np.concatenate([np.mean(found, axis=0) for found in runs])
        lines.append([way, *(f"{value:.2f}" for value in means)])
    return tables.markdown(["noise", *head], lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=DATA, nargs="*", default=list(DATA))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=record.RESULTS / "small_batches")
    options = parser.parse_args(argv)
    record.pin(1)
    results = [compare(name, options.steps, options.seeds) for name in options.data]
    print(short({"results": results}, tuple(WAYS)))
    settings = {"steps": options.steps, "seeds": options.seeds, "batch": BATCH}
    print(record.save(options.out, settings=settings, results=results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
