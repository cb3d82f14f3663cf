"""Many runs, a few at a time: what of a grid is not yet in its CSVs is trained and appended.

    python -m bench.training.grid bench/training/evidence.toml                # all that is missing
    python -m bench.training.grid bench/training/map.toml --minutes 60 --jobs 2
    python -m bench.training.grid bench/training/map.toml --only digits --list

A grid is a TOML file with a table for each block: ``base`` settings, ``vary`` (lists, of which all
combinations are run) and ``noise`` (named settings, one run each). A block ``name`` fills
bench/results/training/<name>.csv. Runs come in the order of the file, so cheap blocks stand first;
within a block seeds come last, so that every kind of noise has one seed before any has two.
Whoever stops it loses the runs under way, and nothing else.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from . import data
from .evaluate import MEASURES, Judge, as_bytes
from .run import execute
from .settings import Settings, read_toml
from .tables import RESULTS, read_rows, without_noise, write_csv

SHOWN, SHOWN_STEPS = 16, (1, 4, 16)  # samples that are kept, and their sampling steps
OF_IMAGES = {"data", "size", "folder", "output", "inception"}  # settings
FIELDS = ["run", "noise", "train_step", "sampling_steps", *MEASURES, "cpu_seconds"]


class Cell(NamedTuple):
    """One run of a grid."""

    block: str
    noise: str  # what the page calls it
    settings: Settings


def cells(path: Path) -> Iterator[Cell]:
    """All runs of a grid, in order.

    Raises
    ------
    ValueError
        If a block lacks a part, or a setting cannot be.
    """
    for block, content in read_toml(path).items():
        unknown = set(content) - {"base", "vary", "noise"}
        if unknown or "noise" not in content:
            raise ValueError(f"{block} must have base, vary and noise, got {', '.join(content)}")
        vary = content.get("vary", {})
        seeds = vary.pop("seed", [0])
        for seed, *values in itertools.product(seeds, *vary.values()):
            combined = {**content.get("base", {}), **dict(zip(vary, values, strict=True))}
            for noise, own in content["noise"].items():
                yield Cell(block, noise, Settings(**{**combined, **own, "seed": seed}))


def samples_of(block: str, setting: str, noise: str, folder: Path = RESULTS) -> Path:
    digest = hashlib.sha256(f"{setting}\n{noise}".encode()).hexdigest()[:12]
    return folder / "samples" / f"{block}-{digest}.npz"


def missing(found: list[Cell], folder: Path) -> list[Cell]:
    """Cells that their CSVs do not have."""
    done = set()
    for block in {cell.block for cell in found}:
        rows = read_rows(folder / f"{block}.csv")
        done |= {(block, *pair) for pair in zip(rows["noise"], rows["run"], strict=True)}
    return [c for c in found if (c.block, c.noise, c.settings.name) not in done]


@lru_cache(maxsize=4)
def prepared(settings: Settings) -> tuple[data.Images, Judge]:
    images = data.load(settings)
    return images, Judge(settings, images)


def run_cell(cell: Cell, folder: Path = RESULTS) -> tuple[Cell, list[dict[str, Any]]]:
    """Train and judge; the rows of its CSV. Of the first seed, some samples are kept, too."""
    settings = cell.settings
    images, judge = prepared(Settings(**settings.model_dump(include=OF_IMAGES)))
    began = time.thread_time()
    run = execute(settings, images, judge, keep=False)
    spent = time.thread_time() - began
    named = {"run": settings.name, "noise": cell.noise, "cpu_seconds": spent}
    if settings.seed == 0:
        path = samples_of(cell.block, without_noise(settings.name), cell.noise, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        shown = {str(n): as_bytes(run.sample(SHOWN, n)[0]).numpy() for n in SHOWN_STEPS}
        np.savez_compressed(path, **shown)
    return cell, [{**named, **row} for row in run.rows]


def run_all(wanted: list[Cell], folder: Path, jobs: int, seconds: float) -> None:
    """Run cells, ``jobs`` at once, until all are done or the time is up."""
    limit = time.monotonic() + seconds
    due = itertools.takewhile(lambda cell: time.monotonic() < limit, wanted)
    workers = Parallel(jobs, return_as="generator_unordered", pre_dispatch=jobs, batch_size=1)
    done = workers(delayed(run_cell)(cell, folder) for cell in due)
    for cell, rows in tqdm(done, total=len(wanted), unit="run"):
        write_csv(folder / f"{cell.block}.csv", rows, FIELDS, mode="a")


def main(
    grid: list[Path], /, minutes: float = float("inf"), jobs: int = 1, only: str = "",
    list: bool = False, out: Path = RESULTS,
) -> None:  # fmt: skip
    """Train what is missing.

    Parameters
    ----------
    minutes
        start none later
    jobs
        runs at once, of one thread each
    only
        blocks with this in their names
    list
        print what is missing, run nothing
    """
    known = [cell for path in grid for cell in cells(path) if only in cell.block]
    wanted = missing(known, out)
    print(f"{len(known) - len(wanted)} of {len(known)} runs are in {out}")
    if list:
        print("\n".join(f"{cell.block}: {cell.noise}: {cell.settings.name}" for cell in wanted))
    else:
        run_all(wanted, out, jobs, 60 * minutes)


if __name__ == "__main__":
    import tyro

    from bench.training import grid  # whose functions other processes find by this name

    tyro.cli(grid.main, description=__doc__)
