"""Results: where they are, how they are written and read.

A result is one JSON file in ``bench/results/<group>/<date>-<device>.json``: "created", "commit"
(with "+" if the library differs from it), "device", "versions", and what the group measured.

A comparison (``bench.compare``) has "rows", one for each problem: "family", "n", "m" (columns),
"batch", "dim", "dtype"; "case", by which its group knows it; "ms", the median of each method;
"share" of the gain where it is not all of it; "gap_sd", our proven gap; "left_out", why a method
was not compared; "fastest_peer", the exact one, and "ratio", our time over its time. Older rows
have more, of what the benches of their time kept.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
VERSIONS = ("immiscible-fast", "torch", "numpy", "scipy", "numba", "llvmlite", "triton")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
OPTIMAL = 1 - 2e-6  # share of the gain that is all of it, but for the rounding of the records
Result = dict[str, Any]
Row = dict[str, Any]


def pin(threads: int) -> None:
    """Leave this process and its children so many threads, whatever library makes them."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    torch.set_num_threads(threads)


def save(folder: Path, device: dict[str, Any] | None = None, tag: str = "", **content: Any) -> Path:
    """Write what was measured, by date and device (and tag); the path of its file."""
    device = device or device_facts("cpu", torch.get_num_threads())
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    head = {"created": now, "commit": commit(), "device": device, "versions": versions()}
    path = path_of(folder, device, tag)
    write({**head, **content}, path)
    if head["commit"].endswith("+") and path.resolve().is_relative_to(RESULTS):
        print(f"warning: {path} was measured on a library that no commit holds", file=sys.stderr)
    return path


def path_of(folder: Path, device: dict[str, Any], tag: str = "") -> Path:
    day = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}"
    return folder / f"{'-'.join(filter(None, (day, slug(device), tag)))}.json"


def of_today(folder: Path, device: dict[str, Any]) -> Result:
    """What ``save`` wrote today on this machine, at this commit; empty, if there is none."""
    path = path_of(folder, device)
    found: Result = json.loads(path.read_text()) if path.exists() else {}
    return found if found.get("commit") == commit() else {}


def write(result: Result, path: Path) -> None:
    """Lists of rows have one row on a line, so that a difference of two files can be read."""
    parts = []
    for key, value in result.items():
        text = json.dumps(value)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[\n" + ",\n".join(f"    {json.dumps(entry)}" for entry in value) + "\n  ]"
        parts.append(f"  {json.dumps(key)}: {text}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def device_facts(kind: str, threads: int) -> dict[str, Any]:
    if kind == "cpu":
        name = processor_name()
        more: dict[str, Any] = {"load": round(os.getloadavg()[0], 2)}
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        found = torch.cuda.get_device_properties(0)
        name, memory = found.name, found.total_memory
        more = {"capability": f"{found.major}.{found.minor}"}
        more["multiprocessors"] = found.multi_processor_count
    return {
        "kind": kind,
        "name": name,
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        **more,
    }


def processor_name() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text() if info.exists() else "")
    return found[1] if found else platform.processor() or platform.machine()


def slug(device: dict[str, Any]) -> str:
    """The device in a file name: lower case, with the threads of a CPU."""
    name = re.sub(r"\((r|tm)\)|\bcpu\b|@.*", "", device["name"].lower())
    name = re.sub(r"[^a-z0-9]+", "-", name).strip("-")
    return f"{name}-{device['threads']}t" if device["kind"] == "cpu" else name


def version(package: str) -> str:
    try:
        return metadata.version(package.replace("_", "-"))
    except metadata.PackageNotFoundError:
        return "unknown"


def versions() -> dict[str, str]:
    found = {package: version(package) for package in VERSIONS}
    return {package: known for package, known in found.items() if known != "unknown"}


def commit() -> str:
    """Short hash of HEAD, with "+" if the library or its kernels differ from it; "" outside git."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "immiscible_fast", "kernels")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def newest(folder: str) -> Result:
    """The result with the last name; of one day, the one with most threads."""
    found: Result = json.loads(max((RESULTS / folder).glob("*.json")).read_text())
    return found
