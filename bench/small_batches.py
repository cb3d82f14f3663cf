"""What noise for small batches does to training: pools, windows, best-of-k, and noise thrown away.

    python -m bench.small_batches                      # digits and photo patches, 3 seeds
    python -m bench.small_batches --data digits --seeds 1 --steps 100

The demo's model, trained from the same weights on the same batches of 64 and times for each way to
find noise; Frechet distance to the real images with 1, 4 and 32 sampling steps, lower is better.
Writes a record and a table to bench/results/small_batches/.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import record, tables

SAMPLING_STEPS = (1, 4, 32)
WAYS = {  # settings of bench.training
    "as drawn": {},
    "assigned in 4": {"noise": "assigned", "assign_batch": 4},
    "assigned in 64": {"noise": "assigned"},
    "window of 8 x 64": {"noise": "assigned", "assign_batch": 512},
    "pool 64, batch 1": {"noise": "pool", "pool": 64, "assign_batch": 1},
    "pool 512, batch 4": {"noise": "pool", "assign_batch": 4},
    "pool 512, batch 4, max_age 4096": {"noise": "pool", "assign_batch": 4, "max_age": 4096},
    "best of 4, dot": {"noise": "best-dot"},
    "best of 16, dot": {"noise": "best-dot", "k": 16},
    "best of 4, euclidean": {"noise": "best-euclidean"},
    "64 best of 128, rest thrown away": {"noise": "surplus"},
}
SHORT = ("as drawn", "assigned in 4", "assigned in 64", "pool 64, batch 1", "pool 512, batch 4",
         "best of 4, dot", "best of 16, dot")  # fmt: skip


def short(result: record.Result, ways: tuple[str, ...] = SHORT) -> str:
    """Frechet distances of some of the ways, means over the seeds."""
    head = [f"{one['data']}, {steps}" for one in result["results"] for steps in SAMPLING_STEPS]
    head[0] += " sampling step"
    lines = []
    for way in ways:
        runs = [[run["frechet"] for run in one["ways"][way]] for one in result["results"]]
        means = np.concatenate([np.mean(found, axis=0) for found in runs])
        lines.append([way, *(f"{value:.2f}" for value in means)])
    return tables.markdown(["noise", *head], lines)


def main(
    data: tuple[str, ...] = ("digits", "patches"),
    steps: int = 1000,
    seeds: int = 3,
    out: Path = record.RESULTS / "small_batches",
) -> None:
    from .training.grid import prepared
    from .training.run import execute
    from .training.settings import Settings

    record.pin(1)
    results = []
    for name in data:
        found = {way: [] for way in WAYS}
        for seed in range(seeds):
            for way, noise in WAYS.items():
                judged = {"sampling_steps": SAMPLING_STEPS, "last_only": 1, "judge_at": (1.0,)}
                settings = Settings(data=name, steps=steps, seed=seed, **judged, **noise)
                run = execute(settings, *prepared(Settings(data=name)), keep=False)
                found[way].append({"frechet": [round(row["pixels"], 4) for row in run.rows]})
                print(name, seed, way, found[way][-1], flush=True)
        shape = {"images": len(run.images.labels), "dim": int(np.prod(run.shape))}
        results.append({"data": name, **shape, "ways": found})
    print(short({"results": results}, tuple(WAYS)))
    settings = {"steps": steps, "seeds": seeds, "batch": run.settings.batch}
    print(record.save(out, settings=settings, results=results))


if __name__ == "__main__":
    import tyro

    tyro.cli(main, description=__doc__)
