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

import argparse
import hashlib
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ..record import Row, read_csv, write_csv
from . import data
from .evaluate import MEASURES, Judge
from .gaussian import RESULTS
from .run import execute, name_of
from .settings import Settings, from_dict, read_toml

SHOWN, SHOWN_STEPS = 16, (1, 4, 16)  # samples that are kept, and their sampling steps
PAIRED = {  # settings that say which noise there is, and how often
    *("noise", "assign_batch", "pool", "k", "within", "condition_weight"),
    *("pair_probability", "fade_from", "pair_above", "seed"),
}
OF_IMAGES = ("data", "size", "folder", "output", "inception")  # settings
FIELDS = ("run", "noise", "train_step", "sampling_steps", *MEASURES, "cpu_seconds")


@dataclass(frozen=True)
class Cell:
    """One run of a grid."""

    block: str
    noise: str  # what the page calls it
    settings: Settings

    @property
    def name(self) -> str:
        return name_of(self.settings)


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
                yield Cell(block, noise, from_dict({**combined, **own, "seed": seed}))


def values_of(run: str) -> dict[str, str]:
    """Settings that are not the default, from the name of a run."""
    return {} if run == "default" else dict(part.split("=", 1) for part in run.split(" "))


def without_noise(run: str) -> str:
    """What a run has in common with those that differ from it in noise and seed."""
    return " ".join(f"{key}={value}" for key, value in values_of(run).items() if key not in PAIRED)


def samples_of(block: str, setting: str, noise: str, folder: Path = RESULTS) -> Path:
    digest = hashlib.sha256(f"{setting}\n{noise}".encode()).hexdigest()[:12]
    return folder / "samples" / f"{block}-{digest}.npz"


def csv_of(block: str, folder: Path = RESULTS) -> Path:
    return folder / f"{block}.csv"


def missing(found: list[Cell], folder: Path) -> list[Cell]:
    """Cells that their CSVs do not have."""
    done = {
        block: {(row["run"], row["noise"]) for row in read_csv(csv_of(block, folder))}
        for block in {cell.block for cell in found}
    }
    return [cell for cell in found if (cell.name, cell.noise) not in done[cell.block]]


@lru_cache(maxsize=4)
def _prepared(settings: Settings) -> tuple[data.Images, Judge]:
    images = data.load(settings)
    return images, Judge.make(settings, images)


def run_cell(cell: Cell, folder: Path = RESULTS) -> list[Row]:
    """Train and judge; the rows of its CSV. Of the first seed, some samples are kept, too."""
    settings = cell.settings
    known = {name: getattr(settings, name) for name in OF_IMAGES}
    images, judge = _prepared(Settings(**known))
    began = time.thread_time()
    run = execute(settings, images, judge, keep=False)
    named = {"run": cell.name, "noise": cell.noise, "cpu_seconds": time.thread_time() - began}
    if settings.seed == 0:
        path = samples_of(cell.block, without_noise(cell.name), cell.noise, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        shown = {str(n): run.sample(SHOWN, n)[0] for n in SHOWN_STEPS}
        levels = {n: ((x.clamp(-1, 1) + 1) * 127.5).round().byte() for n, x in shown.items()}
        np.savez_compressed(path, **{n: x.numpy() for n, x in levels.items()})
    return [{**named, **row} for row in run.rows]


def run_all(
    wanted: list[Cell],
    folder: Path,
    workers: Executor,
    jobs: int,
    seconds: float,
    advance: Callable[[], Any] = lambda: None,
) -> int:
    """Run cells, ``jobs`` at once, until all are done or the time is up; how many were done."""
    limit, done = time.monotonic() + seconds, 0
    queue, running = iter(wanted), dict[Future[list[Row]], Cell]()

    def start() -> None:
        if time.monotonic() < limit and (cell := next(queue, None)) is not None:
            running[workers.submit(run_cell, cell, folder)] = cell

    for _ in range(jobs):
        start()
    while running:
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in ended:
            cell = running.pop(future)
            write_csv(csv_of(cell.block, folder), FIELDS, future.result(), append=True)
            done += 1
            advance()
            start()
    return done


def main(argv: list[str] | None = None) -> int:
    from tqdm import tqdm

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grid", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start none later")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, of one thread each")
    parser.add_argument("--only", default="", help="blocks with this in their names")
    parser.add_argument("--list", action="store_true", help="print what is missing, run nothing")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    try:
        known = [cell for path in options.grid for cell in cells(path)]
    except (OSError, ValueError) as error:
        parser.error(str(error))
    known = [cell for cell in known if options.only in cell.block]
    wanted = missing(known, options.out)
    print(f"{len(known) - len(wanted)} of {len(known)} runs are in {options.out}")
    if options.list:
        print("\n".join(f"{cell.block}: {cell.noise}: {cell.name}" for cell in wanted))
        return 0
    with (
        ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as workers,
        tqdm(total=len(wanted), unit="run") as bar,
    ):
        seconds = 60 * options.minutes
        run_all(wanted, options.out, workers, options.jobs, seconds, bar.update)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
