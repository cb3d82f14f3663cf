"""Peak memory of one call beyond its inputs, each call in a process of its own.

    python -m bench.memory                       # to bench/results/memory
    python -m bench.memory --one exact 1024 3072 # a line of JSON

On Linux the kernel's own high-water mark of the resident set is used, set back just before the
call; elsewhere the process's ``ru_maxrss``, which cannot be set back.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from . import peers, record, tables
from .problems import Samples

METHODS = ("exact", "auction 0.01", "cdist + scipy", "product + lapjv", "product + scipy",
           "official broadcast fp16 + scipy")  # fmt: skip
SIZES = (  # n, D
    *((n, 3072) for n in (128, 256, 512, 1024, 2048, 4096, 8192)),
    *((n, 64) for n in (1024, 2048, 4096, 8192)),
    *((256, 16384), (64, 262144)),
)
LARGEST = 2048  # n of SciPy: memory of a slower solve is no news


def measure(name: str, n: int, dim: int) -> dict[str, Any]:
    """What the call needed at its peak beyond what was there before it."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(n, dim, generator=generator)
    x = torch.randn(n, dim, generator=generator).cumsum_(1).mul_(dim**-0.5)
    method = next(method for method in peers.PAIRS if method.name == name)
    method.solve(Samples(x[:32], noise[:32]))  # loads and compiles
    before = start_of_peak()
    method.solve(Samples(x, noise))
    beyond = peak() - before
    return {
        **{"method": name, "n": n, "dim": dim},
        "peak_mib": round(beyond / 2**20, 2),
        "inputs_mib": round(8 * n * dim / 2**20, 2),
        "of_matrix": round(beyond / (4 * n * n), 3),  # n x n float32 matrices
    }


def start_of_peak() -> int:
    """Sets the high-water mark back where the system can; what it says then, in bytes."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # freed memory that the allocator keeps
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+)", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def in_fresh_process(module: str, *words: object) -> dict[str, Any]:
    """The last line of ``python -m module --one words``, as JSON."""
    command = [sys.executable, "-m", module, "--one", *map(str, words)]
    done = subprocess.run(command, cwd=record.ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def table() -> str:
    lines = [
        [str(row["n"]), str(row["dim"]), row["method"], f"{row['peak_mib']:,.0f} MiB",
         f"{row['of_matrix']:.1f}"]
        for row in record.newest("memory")["rows"]
    ]  # fmt: skip
    head = ["n", "D", "method", "peak beyond the inputs", "in n x n float32 matrices"]
    return tables.markdown(head, lines)


def sentence() -> str:
    rows, typical = record.newest("memory")["rows"], ("exact", 1024, 3072)
    row = next(row for row in rows if (row["method"], row["n"], row["dim"]) == typical)
    return (
        f"{row['of_matrix']:.1f} n x n float32 matrices of memory beyond its inputs at "
        f"n = {row['n']}, D = {row['dim']}"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, metavar=("METHOD", "N", "D"), help="in this process")
    parser.add_argument("--n", type=int, nargs="+", help="of the sizes, these")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "memory")
    options = parser.parse_args(argv)
    if options.one:
        name, n, dim = options.one
        print(json.dumps(measure(name, int(n), int(dim))))
        return 0
    rows = []
    for n, dim in SIZES:
        for name in METHODS:
            broadcast = "broadcast" in name and 2 * n * n * dim > peers.BROADCAST_LIMIT
            if (options.n and n not in options.n) or broadcast or ("scipy" in name and n > LARGEST):
                continue
            rows.append(in_fresh_process("bench.memory", name, n, dim))
            print(rows[-1], flush=True)
    print(record.save(options.out, rows=rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
