"""Run the suite and write one small JSON file to bench/results/.

    python -m bench.record --quick                       # under five minutes on two cores
    python -m bench.record --full                        # about 25 minutes
    python -m bench.record --quick --compare bench/results/2026-01-31-some-cpu-2t-quick.json
    python -m bench.record --quick --compare FILE --fail median:30%

--compare shows every benchmark beside the recorded one by pytest-benchmark's --benchmark-compare;
with --fail the command's exit code is 1 if one got slower than that.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from . import schema
from .floors import measured_floors

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
VERSIONS = (
    "immiscible-fast",
    "torch",
    "numpy",
    "scipy",
    "numba",
    "llvmlite",
    "triton",
    "pytest-benchmark",
)
PROFILED = {  # n, D, method
    "tiny": [(32, 64, "exact")],
    "quick": [
        *((n, 3072, "exact") for n in (64, 256, 1024, 2048)),
        (1024, 64, "exact"),
        (1024, 3072, "auction"),
    ],
    "full": [
        *((n, 3072, "exact") for n in (64, 256, 512, 1024, 2048, 4096, 8192)),
        *((n, 64, "exact") for n in (256, 1024)),
        *((n, 16384, "exact") for n in (256, 1024)),
        *((n, 3072, "auction") for n in (256, 1024, 4096)),
    ],
}
DONE, TESTS_FAILED = 0, 1  # exit codes of pytest with which there are figures


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    if options.threads:
        pin(options.threads)
    # Floors first: what a method leaves warm or hot is no part of what the machine can do.
    load = [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []
    floors = measured_floors(options.device)
    code, raw = run_suite(options)
    if code not in (DONE, TESTS_FAILED) or not raw.get("benchmarks"):
        print(f"pytest ended with exit code {code}: nothing recorded", file=sys.stderr)
        return code or 1
    result = make_result(raw, floors, options)
    result["device"]["load_before"] = load
    path = options.out / file_name(result)
    schema.write(result, path)
    print(f"{len(result['rows'])} benchmarks, {len(result['skipped'])} skipped, in {path}")
    return code


def pin(threads: int) -> None:
    """Leave this process and its children so many threads, whatever library makes them."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for variable in (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "RAYON_NUM_THREADS",
    ):
        os.environ[variable] = str(threads)
    torch.set_num_threads(threads)


def run_suite(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """pytest's exit code and pytest-benchmark's JSON."""
    environment = {
        **os.environ,
        "IMMISCIBLE_BENCH": options.size,
        "IMMISCIBLE_BENCH_DEVICE": options.device,
    }
    with tempfile.TemporaryDirectory() as folder:
        raw, before = Path(folder) / "raw.json", Path(folder) / "before.json"
        command = [sys.executable, "-m", "pytest", "bench", f"--benchmark-json={raw}"]
        command += ["--benchmark-columns=min,median,iqr,rounds", "--benchmark-sort=min"]
        if options.compare:
            before.write_text(json.dumps(schema.expanded(schema.read(options.compare))))
            command.append(f"--benchmark-compare={before}")
            if options.fail:
                command.append(f"--benchmark-compare-fail={options.fail}")
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        text = raw.read_text() if raw.exists() else ""
        return code, json.loads(text) if text else {}


def make_result(
    raw: dict[str, Any], floors: dict[str, float], options: argparse.Namespace
) -> schema.Result:
    own = raw["immiscible"]
    on_cpu = options.device == "cpu"
    return {
        "schema": schema.VERSION,
        "created": now(),
        "size": options.size,
        "tag": options.tag,
        "commit": commit(),
        "device": device_facts(options.device, own["threads"]),
        "versions": versions(),
        "floors": floors,
        "peers": own["peers"],
        "rows": schema.compact_rows(raw),
        "skipped": own["skipped"],
        "profile": profiles(options.size) if on_cpu else [],
        "work": work() if on_cpu else {},
    }


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def save(folder: Path, device: dict[str, Any], **content: Any) -> Path:
    """Write what a bench beside the suite measured, by date and device; the path of its file."""
    result = {
        "schema": schema.VERSION,
        "created": now(),
        "commit": commit(),
        "device": device,
        "versions": versions(),
        **content,
    }
    path = folder / f"{result['created'][:10]}-{slug(device)}.json"
    schema.write(result, path)
    return path


def profiles(size: str) -> list[dict[str, Any]]:
    from .profile_call import profile

    return [profile(*call) for call in PROFILED[size]]


def work() -> dict[str, dict[str, int]]:
    from . import work_counts

    return {work_counts.case_name(*case): work_counts.counted(*case) for case in work_counts.CASES}


def file_name(result: schema.Result) -> str:
    parts = [result["created"][:10], slug(result["device"]), result["size"], result["tag"]]
    return "-".join(part for part in parts if part) + ".json"


def slug(device: dict[str, Any]) -> str:
    """The device in a file name: lower case, with the threads of a CPU."""
    name = re.sub(r"\((r|tm)\)|\bcpu\b|@.*", "", device["name"].lower())
    name = re.sub(r"[^a-z0-9]+", "-", name).strip("-")
    return f"{name}-{device['threads']}t" if device["kind"] == "cpu" else name


def device_facts(kind: str, threads: int) -> dict[str, Any]:
    name = processor_name() if kind == "cpu" else torch.cuda.get_device_name()
    return {
        "kind": kind,
        "name": name,
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gib": _memory_gib(kind),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


def processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib(kind: str) -> float:
    if kind != "cpu":
        return round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return 0.0


def versions() -> dict[str, str]:
    found = {}
    for package in VERSIONS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Short hash of HEAD, with "+" if the library or its kernels differ from it; "" outside git."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "immiscible_fast", "kernels"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if changed else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.record",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    size = parser.add_mutually_exclusive_group()
    for name in ("quick", "full", "tiny"):
        size.add_argument(f"--{name}", dest="size", action="store_const", const=name)
    parser.set_defaults(size="quick")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="for all libraries; 1 is steadiest where other programs run, too (default: all cores)",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--tag", default="", help="end of the file name, such as before or after")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="a recorded result")
    parser.add_argument("--fail", metavar="EXPR", help="such as median:30%%, with --compare")
    return parser


if __name__ == "__main__":
    sys.exit(main())
