"""Everything there is to check on a GPU, in one command that ends inside ten minutes.

    python -m bench.gpu_check                       # or: make gpu-check
    python -m bench.gpu_check --only timings        # tests, sanitizer, timings, pathologies, peers
    python -m bench.gpu_check --only calls,stages --output DIR
    python -m bench.gpu_check --tune 120            # a sweep over parameters, and nothing else
    python -m bench.gpu_check --dry-run             # without a GPU: nothing is timed or recorded

It installs the checkout without a network, runs the GPU tests and compute-sanitizer beside each
other while the kernels are compiled, then measures part by part, each in a process of its own. The
result file is written after every part. Exit code: 0, 1 if something failed or was wrong (a target
that is missed is no failure), 2 without a GPU.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .gpu import jobs, report

RESULTS = jobs.ROOT / "bench" / "results" / "gpu"
MODULES = {  # part -> its module
    "pairwise": "products",
    "calls": "calls",
    "stages": "stages",
    "batches": "batches",
    "pathologies": "pathologies",
    "peers": "rivals",
    "tune": "tune",
}
WEIGHTS = {  # seconds of each part, if all run within SECONDS
    "checks": 170,
    "pairwise": 50,
    "calls": 110,
    "stages": 40,
    "batches": 40,
    "pathologies": 60,
    "peers": 60,
}
GROUPS = {"timings": ("pairwise", "calls", "stages", "batches")}
CHECKS = ("tests", "sanitizer")
SECONDS = 560.0
GRACE = 8.0  # seconds in which a part that knows its limit ends by itself
COMPILED = ("pairwise", "calls", "batches", "pathologies", "peers")  # ahead of the timings
INTERPRETED = {"TRITON_INTERPRET": "1", "IMMISCIBLE_BACKEND": "triton"}


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    if options.small or options.part:
        return _inside(options)
    if not options.dry_run and not _has_gpu():
        print("there is no GPU that torch can use; --dry-run goes through it without one")
        return 2
    begin = time.monotonic()
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and what was started ends
    try:
        with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
            run = Run(options, Path(folder), begin)
            run.all()
    finally:
        signal.signal(signal.SIGTERM, before)
    print(report.text(run.result))
    for path in run.paths:
        print(f"written to {path}")
    return 1 if report.failures(run.result) else 0


class Run:
    """One run of the command, and what it has found so far."""

    def __init__(self, options: argparse.Namespace, folder: Path, begin: float) -> None:
        self.options, self.folder, self.begin = options, folder, begin
        self.seconds = options.tune + 120 if options.tune else options.seconds
        self.parts = ["tune"] if options.tune else chosen(options.only)
        self.python, self.environment = sys.executable, {}
        self.result = report.empty(**_head(options))
        self.paths: list[Path] = []
        if not options.dry_run:
            name = "-".join(filter(None, (*_name(self.result), options.tag)))
            folders = [RESULTS, *([options.output] if options.output else [])]
            self.paths = [report.new_path(place, name) for place in folders]

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.begin)

    def all(self) -> None:
        if self.options.install:
            self.python, self.environment = jobs.install(self.folder)
        if self.options.dry_run:
            self.environment = {**self.environment, **INTERPRETED}
        self.together()
        for part in self.parts:
            if part in MODULES:
                self.part(part)
        self.write()

    def write(self) -> None:
        from .gpu.targets import judged

        if not self.options.tune:
            self.result["targets"] = judged(self.result["rows"])
        self.result["seconds"] = round(time.monotonic() - self.begin, 1)
        report.write(self.result, self.paths)

    def done(self, outcome: jobs.Outcome) -> None:
        print(f"{outcome.name}: {outcome.status} after {outcome.seconds:.0f} s", flush=True)
        if not outcome.name.startswith("compile "):
            self.result["jobs"].append(outcome.row())
        elif outcome.status != jobs.OK:  # what is wrong shows when it is timed
            print(outcome.tail[-500:], flush=True)
        self.write()

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
        if "sanitizer" in self.parts:
            sanitizer = jobs.find_sanitizer()
            if sanitizer is None or dry:
                for tool in jobs.SANITIZER_TOOLS:
                    self.done(jobs.Outcome(tool, jobs.MISSING))
            else:
                found += jobs.sanitizer_jobs(self.python, sanitizer, seconds)
        if not dry:
            found += self._compiling(seconds)
        if "tests" in self.parts:
            found += jobs.test_jobs(self.python, seconds, collect=dry)
        for job in found:
            job.environment = {**self.environment, **job.environment}
        jobs.run_together(found, self.folder, self.done)

    def _compiling(self, seconds: float) -> list[jobs.Job]:
        from .gpu.setting import Sizes

        found = []
        sizes = Sizes()
        for part in (part for part in COMPILED if part in self.parts):
            numbers = set(getattr(sizes, part))
            if part == "batches":
                numbers = {n for _, n in sizes.batches} | {n for n, _ in sizes.groups}
            if part == "peers":
                numbers = {min(sizes.peers)}  # the CPU's solver
            for n in sorted(numbers):
                command = self._command(part, self.folder / "none", seconds)
                command += ["--untimed", "--n", str(n)]
                found.append(jobs.Job(f"compile {part} n={n}", command, seconds))
        return found

    def part(self, name: str) -> None:
        seconds = self.share(name)
        if name == "tune":
            seconds = min(seconds, self.options.tune + GRACE)
        if seconds < 5:
            self.done(jobs.Outcome(name, jobs.STOPPED, tail="no time left"))
            return
        rows = self.folder / f"{name}.jsonl"
        command = self._command(name, rows, seconds - min(GRACE, seconds / 4))
        if self.options.n:
            command += ["--n", ",".join(str(n) for n in self.options.n)]
        found = jobs.Job(name, command, seconds, self.environment)
        ended: list[jobs.Outcome] = []
        jobs.run_together([found], self.folder, ended.append)
        if rows.exists():
            report.add_rows(self.result, rows.read_text().splitlines())
        for outcome in ended:
            self.done(outcome)

    def _command(self, part: str, rows: Path, seconds: float) -> list[str]:
        command = [self.python, "-m", "bench.gpu_check", "--part", part, "--rows", str(rows)]
        command += ["--seconds", f"{seconds:.1f}"]
        return command + (["--dry-run"] if self.options.dry_run else [])


def chosen(only: str) -> list[str]:
    """Parts by name, in the order in which they run."""
    every = [*CHECKS, *(part for part in MODULES if part != "tune")]
    if not only:
        return every
    named: set[str] = set()
    for name in only.split(","):
        if name not in every and name not in GROUPS:
            known = ", ".join([*every, *GROUPS])
            raise SystemExit(f"--only takes some of {known}, got {name!r}")
        named.update(GROUPS.get(name, (name,)))
    return [part for part in every if part in named]


def measure_part(
    name: str, rows: Path, seconds: float, *, dry: bool, untimed: bool, only_n: tuple[int, ...]
) -> int:
    """Run one part here, and append its rows as they come. Exit code."""
    from .gpu.clock import EventClock, NoClock
    from .gpu.setting import TINY, Setting, Sizes

    measure: Callable[[Setting], Any] = importlib.import_module(
        f"bench.gpu.{MODULES[name]}"
    ).measure
    device, sizes = ("cpu", TINY) if dry else ("cuda", Sizes())
    clock = NoClock() if dry or untimed else EventClock()
    setting = Setting(device, clock, sizes, seconds, only_n)
    with rows.open("a", encoding="utf-8") as file:
        for row in measure(setting):
            file.write(report.as_line({"part": name, **row}) + "\n")
            file.flush()
    return 0


def _inside(options: argparse.Namespace) -> int:
    """What the command starts in processes of their own."""
    if options.dry_run:
        os.environ.update(INTERPRETED)
    if options.small:
        from .gpu import small

        return small.run("cpu" if options.dry_run else "cuda", options.seconds)
    return measure_part(
        options.part,
        Path(os.devnull) if options.untimed else options.rows,
        options.seconds,
        dry=options.dry_run,
        untimed=options.untimed,
        only_n=options.n,
    )


def _has_gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def _head(options: argparse.Namespace) -> dict[str, Any]:
    from . import record

    now = datetime.datetime.now(datetime.timezone.utc)
    if options.dry_run:
        device = {"kind": "cpu", "name": "no GPU", "threads": 1, "driver": ""}
    else:
        device = {**record.device_facts("cuda", os.cpu_count() or 1), **_gpu_facts()}
    return {
        "created": now.isoformat(timespec="seconds"),
        "commit": options.commit or record.commit(),
        "device": device,
        "versions": {**record.versions(), **_own_versions()},
    }


def _gpu_facts() -> dict[str, Any]:
    import torch

    found = torch.cuda.get_device_properties(0)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        asked = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
        driver = asked.stdout.split("\n")[0].strip()
    except (OSError, subprocess.SubprocessError):
        driver = ""
    return {
        "capability": f"{found.major}.{found.minor}",
        "multiprocessors": found.multi_processor_count,
        "driver": driver,
        "processor": _processor(),
    }


def _processor() -> str:
    from . import record

    return record.processor_name()


def _own_versions() -> dict[str, str]:
    import torch

    import immiscible_fast

    cuda = {"cuda": torch.version.cuda} if torch.version.cuda else {}
    return {"immiscible-fast": immiscible_fast.__version__, **cuda}


def _name(result: report.Result) -> tuple[str, str]:
    from . import record

    return result["created"][:10], record.slug(result["device"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", metavar="PARTS", help="names, with commas between")
    parser.add_argument("--output", type=Path, metavar="DIR", help="another folder for the result")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all of it")
    parser.add_argument("--tune", type=float, default=0, metavar="SECONDS", help="sweep, only")
    parser.add_argument("--n", type=_numbers, default=(), help="of the sizes of the parts, these")
    parser.add_argument("--tag", default="", help="end of the file name")
    parser.add_argument("--commit", default="", help="where the checkout does not know its own")
    parser.add_argument("--dry-run", action="store_true", help="tiny, without a GPU, not recorded")
    parser.add_argument(
        "--no-install", dest="install", action="store_false", help="this Python has the package"
    )
    for name in ("--part", "--rows"):
        parser.add_argument(name, type=Path if name == "--rows" else str, help=argparse.SUPPRESS)
    for name in ("--small", "--untimed"):
        parser.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
