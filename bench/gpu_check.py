"""Everything there is to check on a GPU, in one command that ends inside ten minutes.

    python -m bench.gpu_check                       # or: make gpu-check
    python -m bench.gpu_check --only timings        # tests, sanitizer, timings, pathologies, peers
    python -m bench.gpu_check --only calls,stages --output DIR
    python -m bench.gpu_check --tune 120            # a sweep over parameters, and nothing else
    python -m bench.gpu_check --dry-run             # without a GPU: nothing is timed or recorded

It needs neither a network nor an installation. It runs the GPU tests and compute-sanitizer beside
each other while the kernels are compiled, then measures part by part, each in a process of its own.
The result file is written after every part. Exit code: 0, 1 if something failed or was wrong (a
target that is missed is no failure), 2 without a GPU.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .gpu import jobs, report, targets

MODULES = {  # part -> its module and function
    "pairwise": ("products", "measure"),
    "calls": ("calls", "measure"),
    "stages": ("stages", "measure"),
    "batches": ("calls", "measure_batches"),
    "pathologies": ("pathologies", "measure"),
    "peers": ("rivals", "measure"),
    "tune": ("tune", "measure"),
}
WEIGHTS = {  # seconds of each part, if all run within SECONDS
    **{"checks": 170, "pairwise": 50, "calls": 110, "stages": 40, "batches": 40},
    **{"pathologies": 60, "peers": 60},
}
GROUPS = {"timings": ("pairwise", "calls", "stages", "batches")}
CHECKS = ("tests", "sanitizer")
SECONDS = 560.0
GRACE = 8.0  # seconds in which a part that knows its limit ends by itself
COMPILED = ("pairwise", "calls", "batches", "pathologies", "peers")  # ahead of the timings
INTERPRETED = {"TRITON_INTERPRET": "1", "IMMISCIBLE_BACKEND": "triton"}


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    if options.small or options.part:
        return inside(options)
    if not options.dry_run and not has_gpu():
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
        from . import record

        self.options, self.folder, self.begin = options, folder, time.monotonic()
        self.seconds = options.tune + 120 if options.tune else options.seconds
        self.parts = ["tune"] if options.tune else chosen(options.only)
        self.environment = {"PYTHONPATH": str(jobs.ROOT)}  # nothing has to be installed
        self.environment |= INTERPRETED if options.dry_run else {}
        self.result: report.Result = {
            "kind": "gpu-check",
            "created": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
            "commit": options.commit or record.commit(),
            "device": {} if options.dry_run else record.device_facts("cuda", os.cpu_count() or 1),
            "processor": record.processor_name(),
            "driver": driver(),
            "versions": record.versions(),
            "ceilings": {},
            "jobs": [],
            "rows": [],
            "targets": [],
        }
        self.paths: list[Path] = []
        if not options.dry_run:
            day, device = self.result["created"][:10], record.slug(self.result["device"])
            name = "-".join(filter(None, (day, device, options.tag)))
            folders = [record.RESULTS / "gpu", *([options.output] if options.output else [])]
            self.paths = [new_path(place, name) for place in folders]

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.begin)

    def all(self) -> None:
        self.together()
        for part in self.parts:
            if part in MODULES:
                self.part(part)

    def done(self, row: report.Row) -> None:
        """Note what became of a job, and write what there is."""
        from . import record

        print(f"{row['job']}: {row['status']} after {row['seconds']:.0f} s", flush=True)
        if not row["job"].startswith("compile "):  # what is wrong there shows when it is timed
            self.result["jobs"].append(row)
        self.result["targets"] = targets.judged(self.result["rows"])
        self.result["seconds"] = round(time.monotonic() - self.begin, 1)
        for path in self.paths:
            record.write(self.result, path)

    def share(self, part: str) -> float:
        """Seconds for a part: what is left goes to those that are left, by their weights."""
        waiting = [name for name in WEIGHTS if name in self.parts or name == "checks"]
        if part not in waiting:
            return self.left
        waiting = waiting[waiting.index(part) :]
        return self.left * WEIGHTS[part] / sum(WEIGHTS[name] for name in waiting)

    def together(self) -> None:
        """Tests and sanitizer, while what will be timed is compiled."""
        seconds, dry = self.share("checks"), self.options.dry_run
        found: list[jobs.Job] = []
        sanitizer = jobs.find_sanitizer()
        if "sanitizer" in self.parts and sanitizer and not dry:
            found += jobs.sanitizer_jobs(sys.executable, sanitizer, seconds)
        elif "sanitizer" in self.parts:
            missing = {"status": jobs.MISSING, "seconds": 0.0, "code": None, "summary": ""}
            self.done({"job": "sanitizer", **missing})
        for part in COMPILED if not dry else ():
            for n in sizes_of(part) if part in self.parts else ():
                command = self.command(part, Path(os.devnull), seconds)
                command += ["--untimed", "--n", str(n)]
                found.append(jobs.Job(f"compile {part} n={n}", command, seconds))
        if "tests" in self.parts:
            found += jobs.test_jobs(sys.executable, seconds, collect=dry)
        for job in found:
            job.environment = {**self.environment, **job.environment}
        jobs.run_together(found, self.done)

    def part(self, name: str) -> None:
        seconds = self.share(name)
        seconds = min(seconds, self.options.tune + GRACE) if name == "tune" else seconds
        rows = self.folder / f"{name}.jsonl"
        command = self.command(name, rows, seconds - min(GRACE, seconds / 4))
        if self.options.n:
            command += ["--n", ",".join(map(str, self.options.n))]
        outcome = jobs.run(jobs.Job(name, command, seconds, self.environment), float("inf"))
        if rows.exists():
            report.add_rows(self.result, rows.read_text().splitlines())
        self.done(outcome)

    def command(self, part: str, rows: Path, seconds: float) -> list[str]:
        command = [sys.executable, "-m", "bench.gpu_check", "--part", part, "--rows", str(rows)]
        command += ["--seconds", f"{max(seconds, 1):.1f}"]
        return command + (["--dry-run"] if self.options.dry_run else [])


def sizes_of(part: str) -> list[int]:
    """The n of a part's kernels."""
    from .gpu.setting import Sizes

    sizes = Sizes()
    if part == "batches":
        return sorted({n for _, n in sizes.batches} | {n for n, _ in sizes.groups})
    return [min(sizes.peers)] if part == "peers" else list(getattr(sizes, part))


def chosen(only: str) -> list[str]:
    """Parts by name, in the order in which they run."""
    every = [*CHECKS, *(part for part in MODULES if part != "tune")]
    named: set[str] = set()
    for name in only.split(",") if only else every:
        if name not in every and name not in GROUPS:
            known = ", ".join([*every, *GROUPS])
            raise SystemExit(f"--only takes some of {known}, got {name!r}")
        named.update(GROUPS.get(name, (name,)))
    return [part for part in every if part in named]


def inside(options: argparse.Namespace) -> int:
    """What the command starts in processes of their own: rows of one part, or small cases."""
    if options.dry_run:
        os.environ.update(INTERPRETED)
    device = "cpu" if options.dry_run else "cuda"
    if options.small:
        from .gpu import small

        return small.run(device, options.seconds)
    from .gpu.setting import TINY, Setting, Sizes

    timed = not (options.dry_run or options.untimed)
    sizes = TINY if options.dry_run else Sizes()
    setting = Setting(device, timed, sizes, options.seconds, options.n)
    module, function = MODULES[options.part]
    measure = getattr(importlib.import_module(f"bench.gpu.{module}"), function)
    with options.rows.open("a", encoding="utf-8") as file:
        for row in measure(setting):
            file.write(report.as_line({"part": options.part, **row}) + "\n")
            file.flush()
    return 0


def new_path(folder: Path, name: str) -> Path:
    """A file that does not exist yet."""
    path, k = folder / f"{name}.json", 1
    while path.exists():
        k += 1
        path = folder / f"{name}-{k}.json"
    return path


def has_gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        asked = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return asked.stdout.split("\n")[0].strip()


def numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def parser() -> argparse.ArgumentParser:
    found: Any = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--only", default="", metavar="PARTS", help="names, with commas between")
    found.add_argument("--output", type=Path, metavar="DIR", help="another folder for the result")
    found.add_argument("--seconds", type=float, default=SECONDS, help="for all of it")
    found.add_argument("--tune", type=float, default=0, metavar="SECONDS", help="sweep, only")
    found.add_argument("--n", type=numbers, default=(), help="of the sizes of the parts, these")
    found.add_argument("--tag", default="", help="end of the file name")
    found.add_argument("--commit", default="", help="where the checkout does not know its own")
    found.add_argument("--dry-run", action="store_true", help="tiny, without a GPU, not recorded")
    for name, kind in (("--part", str), ("--rows", Path)):
        found.add_argument(name, type=kind, help=argparse.SUPPRESS)
    for name in ("--small", "--untimed"):
        found.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    return found  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main())
