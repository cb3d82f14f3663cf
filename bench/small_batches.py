"""What noise for small batches does to training: pools, windows, best-of-k, and noise thrown away.

    python -m bench.small_batches                      # digits and photo patches, 3 seeds
    python -m bench.small_batches --data digits --seeds 1 --steps 100

The demo's model, trained from the same weights on the same batches of 64 and times for each way to
find noise; Frechet distance to the real images with 1, 4 and 32 sampling steps, lower is better.
``chi2/dof`` and ``variance`` are of all noise used: 1 each for Gaussian noise, and under 1 where
each noise is used once. Writes a record and a table to bench/results/small_batches/.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from immiscible_fast import NoisePool, assign_noise, pairwise_cost, select_noise, solve_assignment
from immiscible_fast.demo.data import load_images
from immiscible_fast.demo.frechet import FrechetMeter
from immiscible_fast.demo.model import VelocityMLP
from immiscible_fast.demo.report import HELPED, HURT, UNCLEAR, verdict_on
from immiscible_fast.demo.train import JUDGED_SAMPLES, Arm

from . import families, record, tables

RESULTS = record.RESULTS / "small_batches"
SAMPLING_STEPS = (1, 4, 32)
BATCH = 64  # of the optimizer
PATCHES = 4000
MARKS = {HELPED: " +", UNCLEAR: "", HURT: " -"}
COARSER = 4  # times, so that a patch of 32 x 32 pixels becomes one of 8 x 8

Way = Callable[[Tensor, Tensor, torch.Generator], Iterator[Tensor]]


def plain(xs: Tensor, mean: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    for x in xs:
        yield torch.randn(x.shape, generator=generator)


def assigned(window: int, xs: Tensor, mean: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """``window`` batches at a time, or a part of one batch if that is below 1."""
    count = round(window * BATCH)
    for part in xs.flatten(0, 1).split(max(count, BATCH)):
        noise = torch.randn(part.shape, generator=generator)
        pieces = zip(part.split(count), noise.split(count), strict=True)
        yield from torch.cat([assign_noise(x, e) for x, e in pieces]).split(BATCH)


def pooled(
    size: int, batch: int, max_age: int | None, xs: Tensor, mean: Tensor, generator: torch.Generator
) -> Iterator[Tensor]:
    pool = NoisePool(size, generator=generator, max_age=max_age)
    for x in xs:
        yield torch.cat([pool.take(part) for part in x.split(batch)])


def best(
    k: int, score: str, xs: Tensor, mean: Tensor, generator: torch.Generator
) -> Iterator[Tensor]:
    for x in xs:
        yield select_noise(x, k, score=score, center=mean, generator=generator)


def thrown_away(
    candidates: int, xs: Tensor, mean: Tensor, generator: torch.Generator
) -> Iterator[Tensor]:
    """Each batch takes the best of more fresh noises than it has images; the rest is lost."""
    for x in xs:
        noise = torch.randn(candidates, x.shape[1], generator=generator)
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


def digits() -> Tensor:
    return load_images(None, 0).pixels


def patches() -> Tensor:
    """Patches of two photographs, 3 x 8 x 8, in [-1, 1]."""
    large = torch.from_numpy(families.photo(np.random.default_rng(0), PATCHES))
    return torch.nn.functional.avg_pool2d(large, COARSER).flatten(1)


DATA = {"digits": digits, "patches": patches}


def train(images: Tensor, meter: FrechetMeter, way: Way, steps: int, seed: int) -> dict[str, Any]:
    """Distances of one model; all ways see the same weights, batches and times for a seed."""
    generator = torch.Generator().manual_seed(seed)
    arm = Arm(VelocityMLP(images.shape[1], generator), False, "auto")
    start = torch.randn(JUDGED_SAMPLES, images.shape[1], generator=generator)
    xs = images[torch.randint(len(images), (steps, BATCH), generator=generator)]
    ts = torch.rand(steps, BATCH, generator=generator)
    mean = images.mean(0)
    total, square, lean = torch.zeros(3, images.shape[1], dtype=torch.float64)
    begin = time.perf_counter()
    for step, noise in enumerate(way(xs, mean, generator), 1):
        x = xs[step - 1]
        arm.train(x, ts[step - 1], noise, step)
        total += noise.double().sum(0)
        square += noise.double().square().sum(0)
        direction = torch.nn.functional.normalize(x - mean, dim=1)
        lean += (direction * noise).sum(0)
    count = steps * BATCH
    return {
        "frechet": [round(value, 4) for value in arm.judge(meter, start, SAMPLING_STEPS)],
        "lean": round(float(lean.sum() / count), 3),
        "chi2_per_dof": round(float(total.square().mean() / count), 3),
        "variance": round(float(square.mean() / count), 4),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def compare(name: str, steps: int, seeds: int) -> dict[str, Any]:
    images = DATA[name]()
    meter = FrechetMeter(images)
    ways: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for seed in range(seeds):
        for way, find in WAYS.items():
            ways[way].append(train(images, meter, find, steps, seed))
            print(name, seed, way, ways[way][-1], flush=True)
    return {"data": name, "images": len(images), "dim": images.shape[1], "ways": ways}


def table(results: list[dict[str, Any]]) -> str:
    """Means over the seeds; "+" and "-": better or worse than noise as drawn in all seeds, and by
    5 % or more in the mean."""
    lines = []
    for result in results:
        runs = result["ways"]
        lines += [
            f"{result['data']} ({result['images']} images, D = {result['dim']}):",
            "",
            "| noise | 1 sampling step | 4 | 32 | lean | chi2/dof | variance |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        reference = _frechet(runs["as drawn"])
        for way, found in runs.items():
            distances = _frechet(found)
            cells = []
            for k, column in enumerate(distances.T):
                mark = MARKS[verdict_on(reference[:, k], column)]
                cells.append(f"{column.mean():.2f}{mark}")
            extra = [np.mean([run[key] for run in found]) for key in ("lean", "chi2_per_dof")]
            cells += [f"{value:.2f}" for value in extra]
            cells.append(f"{np.mean([run['variance'] for run in found]):.3f}")
            lines.append(f"| {way} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


SHORT = ("as drawn", "assigned in 4", "assigned in 64", "pool 64, batch 1", "pool 512, batch 4",
         "best of 4, dot", "best of 16, dot")  # fmt: skip


def short(result: dict[str, Any]) -> str:
    """Frechet distances of some of the ways, means over the seeds, for README."""
    head = [f"{one['data']}, {steps}" for one in result["results"] for steps in SAMPLING_STEPS]
    head[0] += " sampling step"
    lines = []
    for way in SHORT:
        means = [_frechet(one["ways"][way]).mean(0) for one in result["results"]]
        lines.append([way, *(f"{value:.2f}" for value in np.concatenate(means))])
    return tables.markdown(["noise", *head], lines)


def _frechet(found: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    """(seeds, sampling steps)"""
    return np.array([run["frechet"] for run in found])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.small_batches", description=__doc__)
    parser.add_argument("--data", choices=DATA, nargs="*", default=list(DATA))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    record.pin(1)
    results = [compare(name, options.steps, options.seeds) for name in options.data]
    text = table(results)
    print(text)
    device = record.device_facts("cpu", 1)
    settings = {"steps": options.steps, "seeds": options.seeds, "batch": BATCH}
    path = record.save(options.out, device, settings=settings, results=results)
    path.with_suffix(".md").write_text(text)
    print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
