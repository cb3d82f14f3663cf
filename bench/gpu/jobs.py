"""Commands that run beside each other, each with a limit, and what they are made of."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TAIL = 3000  # characters of a log that are recorded
SANITIZER_FOLDERS = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer", "/opt/cuda/bin")
SANITIZER_TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
NEED_NO_GPU = ("test_gpu_ahead_of_time", "test_gpu_check")
OK, FAILED, STOPPED, MISSING = "ok", "failed", "stopped", "not installed"
SUMMARY = re.compile(r"(\d+ (passed|failed|error|skipped|tests? collected)|SUMMARY: )")


@dataclass
class Job:
    """A command and its limit."""

    name: str
    command: Sequence[str]
    seconds: float
    environment: dict[str, str] = field(default_factory=dict)


def run_together(jobs: Sequence[Job], done: Callable[[dict[str, Any]], None]) -> None:
    """Run the jobs, some at a time; call ``done`` with the row of each as it ends. The limit of all
    is the longest."""
    until = time.monotonic() + max((job.seconds for job in jobs), default=0)
    with ThreadPoolExecutor(max(2, (os.cpu_count() or 2) - 4)) as pool:
        for row in pool.map(lambda job: run(job, until), jobs):
            done(row)


def run(job: Job, until: float) -> dict[str, Any]:
    """What became of a job that may take its seconds, and no longer than ``until``."""
    begin = time.monotonic()
    row = {"job": job.name, "seconds": 0.0, "code": None, "summary": ""}
    if begin >= until:
        return row | {"status": STOPPED, "tail": "there was no time to start it"}
    process = subprocess.Popen(
        job.command, cwd=ROOT, env={**os.environ, **job.environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        log, _ = process.communicate(timeout=min(job.seconds, until - begin))
        status = OK if process.returncode == 0 else FAILED
    except subprocess.TimeoutExpired:  # the whole group: a tool may have started what it looks at
        os.killpg(process.pid, signal.SIGKILL)
        log, _ = process.communicate()
        status = STOPPED
    tail = log.decode(errors="replace")[-TAIL:]
    said = [line.strip("= ")[:200] for line in tail.splitlines() if SUMMARY.search(line)]
    row |= {"status": status, "seconds": round(time.monotonic() - begin, 1)}
    row |= {"code": process.returncode, "summary": said[-1] if said else ""}
    return row if status == OK else row | {"tail": tail}


def test_jobs(python: str, seconds: float, *, collect: bool = False) -> list[Job]:
    """pytest, a process for each file that tests the GPU backend; ``collect`` only looks."""
    files = [*sorted((ROOT / "tests").glob("test_gpu_*.py")), ROOT / "tests" / "test_ops.py"]
    options = ["--collect-only"] if collect else ["--tb=short", "--durations=5"]
    options += ["-p", "no:cacheprovider"]
    if importlib.util.find_spec("xdist") and not collect:  # most of the time goes to a compiler
        options += ["-n", str(max(1, (os.cpu_count() or 1) // 4))]
    return [
        Job(
            f"tests {path.name}",
            [python, "-m", "pytest", f"tests/{path.name}", *options],
            seconds,
            {"PYTHONHASHSEED": "0"},  # so that workers that share a file agree on its order
        )
        for path in files
        if not path.name.startswith((*NEED_NO_GPU, *(("test_gpu_device",) if collect else ())))
    ]


def find_sanitizer() -> str | None:
    homes = (os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH"))
    folders = [*SANITIZER_FOLDERS, *(f"{home}/bin" for home in homes if home)]
    return shutil.which("compute-sanitizer", path=os.pathsep.join([os.environ["PATH"], *folders]))


def sanitizer_jobs(sanitizer: str, small: Sequence[str], seconds: float) -> list[Job]:
    """One job a tool. Every tensor gets memory of its own: what is out of bounds is noticed."""
    options = ["--error-exitcode", "86", "--print-limit", "20"]
    options += ["--target-processes", "application-only"]
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "PYTHONUNBUFFERED": "1"}
    return [
        Job(tool, [sanitizer, "--tool", tool, *options, *small], seconds, environment)
        for tool in SANITIZER_TOOLS
    ]
