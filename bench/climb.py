"""A search for the costs that we are worst at, by hill-climbing on our ratio to the fastest peer.

    python -m bench.climb --minutes 10 --seed 1

Costs of a family of the tests are scaled, shifted, rounded, repeated; a climb starts anew where it
finds nothing worse any more. Writes the summits to bench/results/climb/.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from . import problems, record
from .cases import GROUPS
from .compare import line, side_by_side
from .problems import Problem

Rng = np.random.Generator
Genome = dict[str, Any]
SHAPERS: dict[str, Callable[[Any, Rng], Any]] = {
    "scale rows": lambda c, rng: c * np.exp(rng.uniform(0, 8) * rng.random((len(c), 1))),
    "scale columns": lambda c, rng: c * np.exp(rng.uniform(0, 8) * rng.random(c.shape[1])),
    "add to columns": lambda c, rng: c + rng.uniform(0, 10) * c.std() * rng.random(c.shape[1]),
    "add to rows": lambda c, rng: c + rng.uniform(0, 10) * c.std() * rng.random((len(c), 1)),
    "round": lambda c, rng: np.round(c / c.std() * rng.uniform(1, 30)),
    "power": lambda c, rng: (c - c.min()) ** rng.uniform(0.2, 4),
    "repeat rows": lambda c, rng: c[rng.integers(0, max(1, len(c) // 4), len(c))],
    "repeat columns": lambda c, rng: c[:, rng.integers(0, max(1, c.shape[1] // 3), c.shape[1])],
    "hub": lambda c, rng: np.where(np.arange(c.shape[1]) < 1 + c.shape[1] // 50, c.min(), c),
    "sort columns": lambda c, rng: np.sort(c, 1),
    "add i j": lambda c, rng: c + c.std() * np.outer(
        np.linspace(0, 3, len(c)), np.linspace(0, 3, c.shape[1])) ** rng.uniform(0.5, 3),
}  # fmt: skip
CLIMBED = ("uniform", "boxes", "images_and_noise", "line", "plane", "hubs", "low_rank",
           "sparse_hub")  # fmt: skip
STALE = 12  # neighbours in a row that are no worse: a summit


def grown(family: str, seed: int, n: int, m: int, dtype: str, shapers: tuple[str, ...]) -> Problem:
    """The matrix of a genome; forbidden pairs stay forbidden."""
    cost = problems.hard(family, n, m, "float64", seed).cost
    forbidden = np.isinf(cost)
    cost[forbidden] = 0
    for k, name in enumerate(shapers):
        cost = SHAPERS[name](cost, np.random.default_rng([seed, k]))
    cost = np.ascontiguousarray(np.where(forbidden, np.inf, cost), dtype)
    return Problem(" + ".join([family, *shapers]), cost)


def changed(genome: Genome, rng: Rng) -> Genome:
    """A neighbour: another shape, family, type or seed, or one shaper more or less."""
    new = genome | {"seed": int(rng.integers(2**31))}
    shapers, place = genome["shapers"], int(rng.integers(len(genome["shapers"]) + 1))
    what = rng.integers(6)
    if what == 0:
        new["family"] = str(rng.choice(CLIMBED))
    elif what == 1:
        new["dtype"] = str(rng.choice(["float32", "float64"]))
    elif what == 2:
        size, share = int(np.exp(rng.uniform(np.log(600), np.log(2600)))), rng.uniform(0.02, 1)
        new["n"], new["m"] = rng.permutation([max(2, int(size * share)), size]).tolist()
    elif what == 3:
        new["shapers"] = (*shapers[:place], *shapers[place + 1 :])
    else:
        new["shapers"] = (*shapers[:place], str(rng.choice(list(SHAPERS))), *shapers[place:])
    return new


def climb(seed: int, minutes: float) -> list[dict[str, Any]]:
    """The summits, the worst ratio first."""
    group, rng = GROUPS["shapes"], np.random.default_rng(seed)
    end, summits = time.monotonic() + 60 * minutes, []
    while time.monotonic() < end:
        genome: Genome = {"family": str(rng.choice(CLIMBED)), "n": 500, "m": 1000, "seed": 0,
                          "dtype": "float64", "shapers": ()}  # fmt: skip
        best, stale = {"ratio": 0.0}, 0
        while stale < STALE and time.monotonic() < end:
            tried, stale = changed(genome, rng), stale + 1
            with contextlib.suppress(ValueError):  # infeasible
                call = (grown(**tried), group.methods, group.ours)
                row = side_by_side(*call, seconds=0.1, hopeless=30)
                if row.get("ratio", 0) > best["ratio"]:
                    genome, best, stale = tried, row | {"genome": tried}, 0
                    print(line(row, group.ours), flush=True)
        summits += [best] if "genome" in best else []
    return sorted(summits, key=lambda row: -row["ratio"])[:20]


def main(minutes: float = 10, seed: int = 0, out: Path = record.RESULTS / "climb") -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(record.save(out, minutes=minutes, seed=seed, rows=climb(seed, minutes)))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
