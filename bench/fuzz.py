"""Random problems of every kind against SciPy, for as long as you like.

    python -m bench.fuzz --minutes 10            # or: make fuzz MINUTES=10
    python -m bench.fuzz --seed 7 --replay 1234  # problem 1234 of the run with seed 7, once more
    python -m bench.fuzz --certificates 100000   # bounds of small problems, in exact arithmetic

Families of ``tests/families.py``, shapes from 0 up, dtypes, methods and options follow from the
seed and the number of the problem; ``fuzz_problems`` says what is wrong. A failing matrix is saved
to ``output/fuzz``, and the summary of a run to ``bench/results/fuzz``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import secrets
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from immiscible_fast.kernels.cpu.work import COUNTERS

from immiscible_fast.backends import numba_cpu

from . import certificates, record
from . import fuzz_problems as problems

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = 2
Tally = dict[str, Any]


class Meter:
    """Stands before the solver and judges the work of each call."""

    def __init__(self) -> None:
        self.solver = numba_cpu.solve_range
        self.overspent: list[str] = []
        self.rows = 0.0  # most scans of a row, on average over the rows of one problem
        numba_cpu.solve_range = self

    def __call__(self, *args: Any) -> Any:
        status = self.solver(*args)
        cost, begin, end, *_, work = args
        n, m = cost.shape[1:]
        for b in range(begin, end):
            counts = work[b, : len(COUNTERS)]
            self.overspent += problems.overspent(n, m, counts)
            self.rows = max(self.rows, problems.rows_scanned(counts) / n)
        return status


def new_tally() -> Tally:
    names = ("family", "dtype", "method", "shape")
    return {"problems": 0, "matrices": 0, "failures": [], **{name: Counter() for name in names}}


def attempt(seed: int, number: int, meter: Meter, tally: Tally) -> None:
    problem = problems.draw(seed, number)
    meter.overspent, meter.rows = [], 0.0
    name = f"{problem['method']}, {problem['family']}"
    try:
        errors = problems.check(problem)
        assert not meter.overspent, f"over budget: {meter.overspent}"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} at {where.name}:{where.lineno}: {error}".splitlines()[0]
        failure = {"seed": seed, "number": number, "shape": list(problem["costs"].shape)}
        tally["failures"].append({**failure, "name": name, "dtype": problem["dtype"], "what": what})
        save(seed, number, problem)
        print(f"FAILED --seed {seed} --replay {number}: {name}: {what}", flush=True)
        errors = {}
    _, n, m = problem["costs"].shape
    shape = "square" if n == m else "wide" if n < m else "tall"
    for key, value in (("shape", shape if n * m else "empty"), *problem.items()):
        if key in tally:
            tally[key][value] += 1
    tally["problems"] += 1
    tally["matrices"] += len(problem["costs"])
    for key, value in (*errors.items(), ("row_scans_per_row", meter.rows)):
        if value >= tally.get(key, (0.0,))[0]:
            tally[key] = (float(value), f"{name}, {n} x {m}, number {number}")


def save(seed: int, number: int, problem: dict[str, Any]) -> None:
    folder = ROOT / "output" / "fuzz"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{seed}-{number}.npz", **problem)


def run(seed: int, first: int, step: int, seconds: float, results: Any) -> None:
    """Every ``step``-th problem from ``first`` on, until the time is over."""
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    meter, tally = Meter(), new_tally()
    end = time.monotonic() + seconds
    number = first
    while time.monotonic() < end:
        attempt(seed, number, meter, tally)
        number += step
    results.put(tally)


def merged(tallies: list[Tally]) -> Tally:
    total = new_tally()
    for tally in tallies:
        for key, value in tally.items():
            if isinstance(value, tuple):
                total[key] = max(total.get(key, (0.0, "")), value)
            else:
                total[key] += value
    return total


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fuzz", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None, help="of the run; drawn if not given")
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--replay", type=int, metavar="NUMBER", help="one problem of the run")
    parser.add_argument("--certificates", type=int, metavar="COUNT", help="in exact arithmetic")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "fuzz")
    options = parser.parse_args(argv)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    if options.replay is not None:
        tally = new_tally()
        attempt(seed, options.replay, Meter(), tally)
        print({key: value for key, value in tally.items() if value})
        return len(tally["failures"])
    print(f"seed {seed}", flush=True)
    if options.certificates is not None:
        found = certificates.run(options.certificates, seed)
        path = record.save(
            options.out.with_name("certificates"), record.device_facts("cpu", 1), seed=seed, **found
        )
        print(f"{found['certificates']:,} certificates, {len(found['lies'])} lies: {path}")
        return int(bool(found["lies"]))
    results: Any = multiprocessing.Queue()
    count, seconds = options.processes, 60 * options.minutes
    arguments = [(seed, first, count, seconds, results) for first in range(count)]
    workers = [multiprocessing.Process(target=run, args=each) for each in arguments]
    for worker in workers:
        worker.start()
    total = merged([results.get() for _ in workers])
    for worker in workers:
        worker.join()
    run_facts = {"seed": seed, "minutes": options.minutes, "processes": count}
    path = record.save(options.out, record.device_facts("cpu", 1), **run_facts, **total)
    print(f"{total['problems']:,} problems, {len(total['failures'])} failures: {path}")
    return int(bool(total["failures"]))


def sentence(result: dict[str, Any]) -> str:
    """What a run without failures says, for README."""
    return f"{result['problems']:,} random problems in {result['minutes']:g} minutes"


if __name__ == "__main__":
    raise SystemExit(main())
