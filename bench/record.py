"""Run the suite and write one small JSON file to bench/results/.

    python -m bench.record --quick                       # about five minutes on two cores
    python -m bench.record --full                        # about 25 minutes
    python -m bench.record --quick --compare FILE        # FILE: a recorded result
    python -m bench.record --quick --compare FILE --fail median:30%
    python -m bench.record --quick --only "photo and 1024"

--compare shows every benchmark beside the recorded one by pytest-benchmark's --benchmark-compare;
with --fail the command's exit code is 1 if a call of ours got slower than that. What peers take,
and the processes that measure memory, fail nothing.

A part of the suite (--only, --tiny) is no result to publish: it is written to output/bench/.
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
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from . import schema
from .floors import measured_floors

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
SCRATCH = ROOT / "output" / "bench"  # not in git
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
    began = time.perf_counter()
    options, before = parsed(argv)
    if options.threads:
        pin(options.threads)
    remark = other_device(before, options) if before else ""
    _warn(remark)
    # Floors first: what a method leaves warm or hot is no part of what the machine can do.
    load = [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []
    floors = measured_floors(options.device)
    code, raw = run_suite(options, before)
    if code not in (DONE, TESTS_FAILED) or not raw.get("benchmarks"):
        print(f"pytest ended with exit code {code}: nothing recorded", file=sys.stderr)
        return code or 1
    result = make_result(raw, floors, options, began)
    result["device"]["load_before"] = load
    path = options.out / file_name(result)
    write(result, path)
    print(
        f"{len(result['rows'])} benchmarks, {len(result['skipped'])} skipped, "
        f"in {result['seconds']:.0f} s, in {path}"
    )
    _warn(remark)  # again, below all the tables
    if before and options.fail and not passes(before, raw, options.fail):
        return code or TESTS_FAILED
    return code


def parsed(argv: list[str] | None) -> tuple[argparse.Namespace, schema.Result | None]:
    """The options, and the result that they want to be compared with."""
    parser = _parser()
    options = parser.parse_args(argv)
    whole = options.size != "tiny" and not options.only
    options.out = options.out or (RESULTS if whole else SCRATCH)
    if not options.compare:
        if options.fail:
            parser.error("argument --fail: needs --compare FILE, what nothing may be slower than")
        return options, None
    try:
        before = schema.read(options.compare)
        if not before["rows"] or not all("test" in row for row in before["rows"]):
            raise ValueError("no benchmarks of the suite in it")
    except (OSError, ValueError, LookupError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        parser.error(
            f"argument --compare: must be a result of bench.record, got {options.compare} ({why})"
        )
    if (options.size == "tiny") != (before["size"] == "tiny"):
        parser.error(
            f"argument --compare: must be a result with benchmarks of --{options.size}, "
            f"got {options.compare}, one of --{before['size']}: they have none in common"
        )
    return options, before


def other_device(before: schema.Result, options: argparse.Namespace) -> str:
    """What to say of a result from another machine or another number of threads, else nothing."""
    then = slug(before["device"])
    now = slug(device_facts(options.device, torch.get_num_threads()))
    if then == now:
        return ""
    return f"warning: {options.compare} is of {then}, this is {now}: the times do not compare"


def passes(before: schema.Result, raw: dict[str, Any], check: Any) -> bool:
    """Whether no call of ours got slower than ``check`` allows; says which did."""
    compared, slower = schema.slowed(before, raw, check)
    if not compared:
        print("--fail: no benchmark of ours is in both results", file=sys.stderr)
        return False
    print(f"{len(slower)} of {compared} benchmarks of ours got slower than --fail allows")
    print("".join(f"  {line}\n" for line in slower), end="")
    return not slower


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


def run_suite(
    options: argparse.Namespace, before: schema.Result | None = None
) -> tuple[int, dict[str, Any]]:
    """pytest's exit code and pytest-benchmark's JSON."""
    environment = {
        **os.environ,
        "IMMISCIBLE_BENCH": options.size,
        "IMMISCIBLE_BENCH_DEVICE": options.device,
    }
    with tempfile.TemporaryDirectory() as folder:
        raw, recorded = Path(folder) / "raw.json", Path(folder) / "before.json"
        command = [sys.executable, "-m", "pytest", "bench", f"--benchmark-json={raw}"]
        command += ["--benchmark-columns=min,median,iqr,rounds", "--benchmark-sort=min"]
        if options.only:
            command += ["-k", options.only]
        if before:
            recorded.write_text(json.dumps(schema.expanded(before)))
            command.append(f"--benchmark-compare={recorded}")
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        text = raw.read_text() if raw.exists() else ""
        return code, json.loads(text) if text else {}


def make_result(
    raw: dict[str, Any], floors: dict[str, float], options: argparse.Namespace, began: float
) -> schema.Result:
    own = raw["immiscible"]
    beside = options.device == "cpu" and not options.only
    profile, counts = (profiles(options.size), work()) if beside else ([], {})
    return {
        "schema": schema.VERSION,
        "created": now(),
        "size": options.size,
        "only": options.only,
        "tag": options.tag,
        "commit": commit(),
        "seconds": round(time.perf_counter() - began, 1),
        "device": device_facts(options.device, own["threads"]),
        "versions": versions(),
        "floors": floors,
        "peers": own["peers"],
        "rows": schema.compact_rows(raw),
        "skipped": own["skipped"],
        "profile": profile,
        "work": counts,
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
    write(result, path)
    return path


def write(result: schema.Result, path: Path) -> None:
    """Write a result; warn if it stands among the published ones for what no commit holds."""
    schema.write(result, path)
    if result["commit"].endswith("+") and path.resolve().is_relative_to(RESULTS.resolve()):
        _warn(
            f"warning: {path} was measured on a library that differs from commit "
            f"{result['commit'][:-1]}: commit the library and measure again before you publish it"
        )


def _warn(text: str) -> None:
    if text:
        print(text, file=sys.stderr, flush=True)


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


def _slowdown(text: str) -> Any:
    """pytest-benchmark's own check of one time against a recorded one."""
    from pytest_benchmark.utils import parse_compare_fail

    try:
        return parse_compare_fail(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"must be a time and what it may grow by, such as median:30% or min:0.002, got {text!r}"
        ) from None


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
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the result (default: bench/results; output/bench with --tiny or --only)",
    )
    parser.add_argument("--tag", default="", help="end of the file name, such as before or after")
    parser.add_argument(
        "--only", default="", metavar="EXPR", help="benchmarks that pytest's -k EXPR chooses"
    )
    parser.add_argument("--compare", type=Path, metavar="FILE", help="a recorded result")
    parser.add_argument(
        "--fail",
        type=_slowdown,
        metavar="EXPR",
        help="what --benchmark-compare-fail takes, such as median:30%%; needs --compare",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
