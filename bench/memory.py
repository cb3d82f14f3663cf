"""Peak memory of one call beyond its inputs, measured in a process of its own.

    python -m bench.memory exact 1024 3072

prints one line of JSON. On Linux the kernel's own high-water mark of the resident set is used, set
back just before the call; elsewhere the process's ``ru_maxrss``, which cannot be set back.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import torch

from . import pairs, peers
from .families import Samples

ROOT = Path(__file__).resolve().parent.parent
METHODS = {
    "exact": partial(pairs.own_pair, "exact", 0.01),
    "auction 0.01": partial(pairs.own_pair, "auction", 0.01),
    "cdist + scipy": pairs.cdist_then_scipy,
    "product + lapjv": partial(pairs.product_then, peers.lapjv_solve),
    "product + scipy": partial(pairs.product_then, peers.scipy_solve),
    "official broadcast fp16 + scipy": pairs.broadcast_then_scipy,
}
MODULES = {"product + lapjv": "lapjv"}  # what else has to be installed
OF_MATRIX = 2.2  # target of ``exact``, in n x n float32 matrices


def measure(name: str, n: int, dim: int) -> dict[str, float]:
    """Bytes that the call needed at its peak beyond what was there before it."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(n, dim, generator=generator)
    x = torch.randn(n, dim, generator=generator).cumsum_(1).mul_(dim**-0.5)
    call = METHODS[name]
    call(Samples(x[:32], noise[:32]))  # loads and compiles
    gc.collect()
    _give_back()
    before = _start_of_peak()
    begin = time.perf_counter()
    call(Samples(x, noise))
    seconds = time.perf_counter() - begin
    peak = _peak() - before
    matrix, inputs = 4 * n * n, 8 * n * dim
    return {
        "peak_mib": round(peak / 2**20, 2),
        "matrix_mib": round(matrix / 2**20, 2),
        "inputs_mib": round(inputs / 2**20, 2),
        "of_matrix": round(peak / matrix, 3),
        "seconds": round(seconds, 4),
    }


def in_fresh_process(name: str, n: int, dim: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.memory", name, str(n), str(dim)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _start_of_peak() -> int:
    """Sets the high-water mark back where the system can; what it says then, in bytes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()  # the meter that is read at the end, too: the resident set's may count otherwise


def _peak() -> int:
    try:
        return _status("VmHWM")
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {key} in /proc/self/status")


def _give_back() -> None:
    """Freed memory that the allocator keeps would hide what the call allocates."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
