"""Random problems of every kind against SciPy, for as long as you like.

    python -m tests.fuzz --minutes 10            # or: make fuzz MINUTES=10
    python -m tests.fuzz --seed 7 --replay 1234  # problem 1234 of the run with seed 7, once more
    python -m tests.fuzz --certificates 100000   # bounds of small problems, in exact arithmetic

Families of ``tests/families.py``, shapes from 0 up, dtypes, methods and options follow from the
seed and the number of the problem; ``fuzz_problems`` says what is wrong. A failing matrix is saved
to ``output/fuzz``, and the summary of a run to ``bench/results/fuzz``.
"""

from __future__ import annotations

import argparse
import secrets
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import record

from . import certificates
from . import fuzz_problems as problems

FAILED = record.ROOT / "output" / "fuzz"
PROCESSES = 2
Tally = dict[str, Any]


def new_tally() -> Tally:
    names = ("family", "dtype", "method", "shape")
    return {"problems": 0, "matrices": 0, "failures": [], **{name: Counter() for name in names}}


def attempt(seed: int, number: int, tally: Tally) -> None:
    problem = problems.draw(seed, number)
    name = f"{problem['method']}, {problem['family']}"
    errors: dict[str, float] = {}
    try:
        errors = problems.check(problem)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} at {where.name}:{where.lineno}: {error}".splitlines()[0]
        failure = {"seed": seed, "number": number, "shape": list(problem["costs"].shape)}
        tally["failures"].append({**failure, "name": name, "dtype": problem["dtype"], "what": what})
        FAILED.mkdir(parents=True, exist_ok=True)
        np.savez(FAILED / f"{seed}-{number}.npz", **problem)
        print(f"FAILED --seed {seed} --replay {number}: {name}: {what}", flush=True)
    _, n, m = problem["costs"].shape
    shape = "empty" if n * m == 0 else "square" if n == m else "wide" if n < m else "tall"
    for key, value in (("shape", shape), *problem.items()):
        if key in tally:
            tally[key][value] += 1
    tally["problems"] += 1
    tally["matrices"] += len(problem["costs"])
    for key, value in errors.items():
        if value >= tally.get(key, (0.0,))[0]:
            tally[key] = (float(value), f"{name}, {n} x {m}, number {number}")


def run(seed: int, first: int, step: int, seconds: float) -> Tally:
    """Every ``step``-th problem from ``first`` on, until the time is over."""
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    tally, number = new_tally(), first
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        attempt(seed, number, tally)
        number += step
    return tally


def merged(tallies: Iterable[Tally]) -> Tally:
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
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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
        attempt(seed, options.replay, tally)
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
    count, seconds = options.processes, 60 * options.minutes
    with ProcessPoolExecutor(count, get_context("spawn")) as pool:
        total = merged(pool.map(partial(run, seed, step=count, seconds=seconds), range(count)))
    run_facts = {"seed": seed, "minutes": options.minutes, "processes": count}
    path = record.save(options.out, record.device_facts("cpu", 1), **run_facts, **total)
    print(f"{total['problems']:,} problems, {len(total['failures'])} failures: {path}")
    return int(bool(total["failures"]))


if __name__ == "__main__":
    raise SystemExit(main())
