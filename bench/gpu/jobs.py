"""Commands that run beside each other, each with a limit, and what they are made of."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TAIL = 3000  # characters of a log that are recorded
SANITIZER_FOLDERS = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer", "/opt/cuda/bin")
SANITIZER_TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
FOUND_ERRORS = 86  # exit code of the sanitizer if it found any
NEED_NO_GPU = ("test_gpu_ahead_of_time", "test_gpu_check")
# In a group that can be ended whole; yet what ends this session is to end it, too.
OWN_GROUP: dict[str, Any] = (
    {"process_group": 0} if sys.version_info >= (3, 11) else {"start_new_session": True}
)
OK, FAILED, STOPPED, MISSING = "ok", "failed", "stopped", "not installed"


@dataclass
class Job:
    """A command and its limit."""

    name: str
    command: Sequence[str]
    seconds: float
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """What became of it."""

    name: str
    status: str
    seconds: float = 0.0
    code: int | None = None
    tail: str = ""

    def row(self) -> dict[str, Any]:
        row = {"job": self.name, "status": self.status, "seconds": round(self.seconds, 1)}
        row |= {"code": self.code, "summary": summary_line(self.tail)}
        return row if self.status == OK else row | {"tail": self.tail}


def summary_line(tail: str) -> str:
    """The line in which pytest or the sanitizer says what it found, if there is one."""
    words = re.compile(r"(\d+ (passed|failed|error|skipped|tests? collected)|SUMMARY: )")
    lines = [line.strip("= ") for line in tail.splitlines() if words.search(line)]
    return lines[-1][:200] if lines else ""


def run_together(
    jobs: Sequence[Job], folder: Path, done: Callable[[Outcome], None], parallel: int = 0
) -> None:
    """Run the jobs, some at a time; call ``done`` as each ends. The limit of all is the longest."""
    parallel = parallel or max(2, (os.cpu_count() or 2) - 4)
    until = time.monotonic() + max((job.seconds for job in jobs), default=0)
    waiting, running = list(jobs), []
    try:
        while waiting or running:
            while waiting and len(running) < parallel and time.monotonic() < until:
                running.append(_Running(waiting.pop(0), folder, until))
            if not running:
                break
            time.sleep(0.05)
            for one in list(running):
                outcome = one.outcome()
                if outcome is not None:
                    running.remove(one)
                    done(outcome)
    finally:
        for one in running:
            one.end()
    for job in waiting:
        done(Outcome(job.name, STOPPED, tail="there was no time to start it"))


class _Running:
    """A job that was started, in a process group of its own."""

    def __init__(self, job: Job, folder: Path, until: float) -> None:
        self.job, self.begin = job, time.monotonic()
        self.until = min(until, self.begin + job.seconds)
        self.log = folder / (re.sub(r"[^A-Za-z0-9_.-]+", "-", job.name) + ".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                job.command,
                cwd=ROOT,
                env={**os.environ, **job.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **OWN_GROUP,
            )

    def outcome(self) -> Outcome | None:
        """None while it runs."""
        code = self.process.poll()
        late = code is None and time.monotonic() > self.until
        if code is None and not late:
            return None
        if late:
            self.end()
        status = STOPPED if late else OK if code == 0 else FAILED
        tail = self.log.read_text(errors="replace")[-TAIL:]
        return Outcome(self.job.name, status, time.monotonic() - self.begin, code, tail)

    def end(self) -> None:
        """The whole group: a tool may have started the program that it looks at."""
        for name in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, name)
            except (ProcessLookupError, PermissionError):
                return
            try:
                self.process.wait(5)
                return
            except subprocess.TimeoutExpired:
                continue


def install(folder: Path) -> tuple[str, dict[str, str]]:
    """(Python, environment) with which the checkout can be imported, without a network.

    A venv that sees the packages of this Python, into which the checkout is installed as editable;
    where that fails, a folder of links that stands for it.
    """
    venv = folder / "venv"
    shutil.rmtree(venv, ignore_errors=True)
    for command in install_commands(venv):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"installing failed, links do:\n{done.stderr[-TAIL:]}", file=sys.stderr)
            return sys.executable, linked(folder / "linked")
        if command[1:3] == ["-m", "venv"]:
            _show_packages(venv)
    return str(_python(venv)), {}


def install_commands(venv: Path) -> list[list[str]]:
    offline = ["--no-index", "--no-build-isolation", "--no-deps", "--quiet"]
    return [
        [sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", str(venv)],
        [str(_python(venv)), "-m", "pip", "install", *offline, "-e", str(ROOT)],
    ]


def _python(venv: Path) -> Path:
    return venv / "bin" / "python"


def _show_packages(venv: Path) -> None:
    """A venv made from a venv sees the packages of neither unless it is told."""
    paths = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    lines = [f"import site; site.addsitedir({path!r})" for path in sorted(paths)]
    (found,) = venv.glob("lib/python*/site-packages")
    (found / "packages_of_parent.pth").write_text("\n".join(lines) + "\n")


def linked(folder: Path) -> dict[str, str]:
    """An environment in which the package is found by links; ``kernels`` moves into it."""
    shutil.rmtree(folder, ignore_errors=True)
    package = folder / "immiscible_fast"
    package.mkdir(parents=True)
    for entry in (ROOT / "immiscible_fast").iterdir():
        if entry.name != "__pycache__":
            (package / entry.name).symlink_to(entry)
    (package / "kernels").symlink_to(ROOT / "kernels")
    (folder / "bench").symlink_to(ROOT / "bench")
    return {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}


def test_jobs(python: str, seconds: float, *, collect: bool = False) -> list[Job]:
    """pytest, a process for each file that tests the GPU backend; ``collect`` only looks."""
    files = [*sorted((ROOT / "tests").glob("test_gpu_*.py")), ROOT / "tests" / "test_ops.py"]
    options = ["--collect-only"] if collect else ["--tb=short", "--durations=5"]
    options += ["-p", "no:cacheprovider"]
    if '"slow' in (ROOT / "pyproject.toml").read_text():  # pytest knows the marker
        options += ["-m", "not slow"]
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
        if path.exists() and not path.name.startswith(NEED_NO_GPU)
    ]


def find_sanitizer() -> str | None:
    found = shutil.which("compute-sanitizer")
    if found:
        return found
    folders = [
        *SANITIZER_FOLDERS,
        *(f"{os.environ.get(v)}/bin" for v in ("CUDA_HOME", "CUDA_PATH")),
    ]
    places = (Path(folder) / "compute-sanitizer" for folder in folders)
    return next((str(place) for place in places if os.access(place, os.X_OK)), None)


def sanitizer_jobs(python: str, sanitizer: str, seconds: float) -> list[Job]:
    """One job a tool. Every tensor gets memory of its own: what is out of bounds is noticed."""
    small = [python, "-m", "bench.gpu_check", "--small", "--seconds", f"{0.8 * seconds:.0f}"]
    options = ["--error-exitcode", str(FOUND_ERRORS), "--print-limit", "20"]
    options += ["--target-processes", "application-only"]
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "PYTHONUNBUFFERED": "1"}
    return [
        Job(f"{tool}", [sanitizer, "--tool", tool, *options, *small], seconds, environment)
        for tool in SANITIZER_TOOLS
    ]
