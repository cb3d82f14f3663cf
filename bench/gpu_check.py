"""Everything there is to check on a GPU, in one command that ends inside ten minutes.

    python -m bench.gpu_check                       # or: make gpu-check
    python -m bench.gpu_check --only timings        # or tests, sanitizer, pathologies, peers ...
    python -m bench.gpu_check --only calls stages --output DIR
    python -m bench.gpu_check --dry-run             # without a GPU: nothing is timed or recorded

It needs neither a network nor an installation. It runs the GPU tests and compute-sanitizer beside
each other while the kernels are compiled, then measures part by part, each in a process of its own.
The result file is written after every part. Exit code: 0, 1 if something failed or was wrong (a
target that is missed is no failure), 2 without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from . import record
from .gpu import jobs, report, targets


class Part(NamedTuple):
    """A module of bench/gpu."""

    seconds: float  # its share of SECONDS
    sizes: tuple[int, ...]
    tiny: tuple[int, ...] = (6,)  # of a dry run
    compares: str = ""  # or what bench.compare is to do


PARTS = {
    "pairwise": Part(50, (1024, 4096, 16384), (8,)),
    "calls": Part(110, (1024, 2048, 4096, 8192, 16384)),
    "stages": Part(40, (1024, 4096, 16384)),
    "batches": Part(40, (300, 128, 1024, 4096), (5, 6)),
    "pathologies": Part(60, (256, 1024)),
    "peers": Part(45, (1024, 2048, 4096), (32,), "pairs --families photo"),
    "batch_peers": Part(15, (64, 128, 256), (16,), "batches --families photo"),
}
TIMINGS = ("pairwise", "calls", "stages", "batches")
CHECKS = ("tests", "sanitizer")  # beside each other, in so many seconds:
CHECKING = 170.0
SECONDS = 560.0
GRACE = 8.0  # seconds in which a part that knows its limit ends by itself
COMPILED = ("pairwise", "calls", "batches", "pathologies")  # ahead of the timings
LARGEST = 4096  # n of which kernels are compiled: larger ones have the same
DRIVER = "nvidia-smi --query-gpu=driver_version --format=csv,noheader"
INTERPRETED = {"TRITON_INTERPRET": "1", "IMMISCIBLE_BACKEND": "triton"}
FULL = {"device": "cuda", "dim": 3072}
SMALL = (33, 300)  # n that compute-sanitizer sees
TINY = {"device": "cpu", "timed": False, "dim": 4, "few": 8}


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    if not options.dry_run and not torch.cuda.is_available():
        print("there is no GPU that torch can use; --dry-run goes through it without one")
        return 2
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        check = Check(options, Path(folder))
        check.all()
    print(report.text(check.result))
    for path in check.paths:
        print(f"written to {path}")
    return 1 if report.failures(check.result) else 0


class Check:
    """One run of the command, and what it has found so far."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder, self.begin = options, folder, time.monotonic()
        self.parts = chosen(options.only)
        self.environment = {"PYTHONPATH": str(jobs.ROOT)}  # nothing has to be installed
        self.environment |= INTERPRETED if options.dry_run else {}
        self.result: report.Result = {"kind": "gpu-check", "processor": record.processor_name()}
        self.result |= {"driver": subprocess.getoutput(DRIVER), "jobs": [], "rows": []}
        self.result |= {"commit": options.commit} if options.commit else {}
        self.tag, self.paths = time.strftime("%H%M", time.gmtime()), []

    @property
    def left(self) -> float:
        return self.options.seconds - (time.monotonic() - self.begin)

    def all(self) -> None:
        self.together()
        for name in self.parts:
            if name in PARTS:
                self.part(name)

    def done(self, row: report.Row) -> None:
        """Note what became of a job, and write what there is."""
        print(f"{row['job']}: {row['status']} after {row['seconds']:.0f} s", flush=True)
        if not row["job"].startswith("compile "):  # what is wrong there shows when it is timed
            self.result["jobs"].append(row)
        self.result["targets"] = targets.judged(self.result["rows"])
        self.result["seconds"] = round(time.monotonic() - self.begin, 1)
        if not self.options.dry_run:
            device = record.device_facts("cuda", os.cpu_count() or 1)
            folders = filter(None, (record.RESULTS / "gpu", self.options.output))
            self.paths = [record.save(f, device, self.tag, **self.result) for f in folders]

    def share(self, name: str) -> float:
        """Seconds for a part: what is left goes to those that are left, by their weights."""
        weights = {"checks": CHECKING} | {p: PARTS[p].seconds for p in self.parts if p in PARTS}
        return self.left * weights[name] / sum(list(weights.values())[list(weights).index(name) :])

    def together(self) -> None:
        """Tests and sanitizer, while what will be timed is compiled."""
        seconds, dry = self.share("checks"), self.options.dry_run
        found: list[jobs.Job] = []
        sanitizer = jobs.find_sanitizer()
        if "sanitizer" in self.parts and sanitizer and not dry:
            small = self.command("small", 0.8 * seconds, os.devnull, SMALL, timed=False)
            found += jobs.sanitizer_jobs(sanitizer, small, seconds)
        elif "sanitizer" in self.parts:
            missing = {"status": jobs.MISSING, "seconds": 0.0, "code": None, "summary": ""}
            self.done({"job": "sanitizer", **missing})
        for name in () if dry else (name for name in self.parts if name in COMPILED):
            for n in (n for n in PARTS[name].sizes if n <= LARGEST):
                command = self.command(name, seconds, os.devnull, [n], timed=False)
                found.append(jobs.Job(f"compile {name} n={n}", command, seconds))
        if "tests" in self.parts:
            found += jobs.test_jobs(sys.executable, seconds, collect=dry)
        for job in found:
            job.environment = {**self.environment, **job.environment}
        jobs.run_together(found, self.done)

    def part(self, name: str) -> None:
        seconds, rows, dry = self.share(name), self.folder / f"{name}.jsonl", self.options.dry_run
        sizes = PARTS[name].tiny if dry else PARTS[name].sizes
        sizes = [n for n in sizes if n in (self.options.n or sizes)]
        limit, environment = seconds - min(GRACE, seconds / 4), self.environment
        if PARTS[name].compares:
            words = f"{PARTS[name].compares} --device {'cpu' if dry else 'cuda'} --seconds 1"
            words += f" --minutes {limit / 60} --out {self.folder / name} --n"
            command = [sys.executable, "-m", "bench.compare", *words.split(), *map(str, sizes)]
            environment = {k: v for k, v in environment.items() if k not in INTERPRETED}
        else:
            command = self.command(name, limit, str(rows), sizes)
        outcome = jobs.run(jobs.Job(name, command, seconds, environment), float("inf"))
        lines = rows.read_text().splitlines() if rows.exists() else []
        self.result["rows"] += report.rows_of(lines)
        for path in () if dry else (self.folder / name).glob("*.json"):
            compared = json.loads(path.read_text())["rows"]
            self.result["rows"] += [{**r, "part": name, "case": r["family"]} for r in compared]
        self.done(outcome)

    def command(
        self, part: str, seconds: float, rows: str, sizes: Sequence[int], *, timed: bool = True
    ) -> list[str]:
        told = {"part": part, "rows": rows, "sizes": sizes, "seconds": max(round(seconds, 1), 1)}
        told |= TINY if self.options.dry_run else {**FULL, "timed": timed}
        return [sys.executable, "-m", "bench.gpu", json.dumps(told)]


def chosen(only: Sequence[str] | None) -> list[str]:
    """Parts by name, in the order in which they run."""
    named = {*(only or (*CHECKS, *PARTS))} | {*(TIMINGS if "timings" in (only or ()) else ())}
    return [part for part in (*CHECKS, *PARTS) if part in named]


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    add("--only", nargs="+", choices=(*CHECKS, *PARTS, "timings"), help="parts")
    add("--output", type=Path, metavar="DIR", help="another folder for the result")
    add("--seconds", type=float, default=SECONDS, help="for all of it")
    add("--n", type=int, nargs="+", help="of the sizes of the parts, these")
    add("--commit", default="", help="where the checkout does not know its own")
    add("--dry-run", action="store_true", help="tiny, without a GPU, not recorded")
    return found


if __name__ == "__main__":
    sys.exit(main())
