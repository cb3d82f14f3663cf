"""Peak memory of one call beyond its inputs, each call in a process of its own.

    python -m bench.memory                       # to bench/results/memory

It is the high-water mark of the resident set that Linux keeps, set back just before the call.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
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
LOADING = 300  # images from which on a call has loaded all that larger ones need


def peak_of(call: Callable[[], Any]) -> tuple[Any, int]:
    """What a call returns, and the bytes that it needed at its peak beyond those before it."""
    gc.collect()
    with contextlib.suppress(OSError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # freed memory that the allocator keeps
        Path("/proc/self/clear_refs").write_text("5")
    before = _high_water()
    answer = call()
    return answer, _high_water() - before


def _high_water() -> int:
    return 1024 * int(re.findall(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[0])


def in_fresh_process(work: Callable[..., Any], *arguments: object) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def measure(name: str, n: int, dim: int) -> record.Row:
    """What a method needs for n images and noises of D numbers."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(n, dim, generator=generator)
    x = torch.randn(n, dim, generator=generator).cumsum_(1).mul_(dim**-0.5)
    (method,) = peers.named(peers.PAIRS, name)
    for count in (32, LOADING):  # loads and compiles
        method.solve(Samples(*torch.randn(2, count, 4)))
    _, beyond = peak_of(lambda: method.solve(Samples(x, noise)))
    return {
        **{"method": name, "n": n, "dim": dim},
        "peak_mib": round(beyond / 2**20, 2),
        "inputs_mib": round(8 * n * dim / 2**20, 2),
        "of_matrix": round(beyond / (4 * n * n), 3),  # n x n float32 matrices
    }


def table() -> str:
    cells = {
        "n": "{n}",
        "D": "{dim}",
        "method": "{method}",
        "peak beyond the inputs": "{peak_mib:,.0f} MiB",
        "in n x n float32 matrices": "{of_matrix:.1f}",
    }
    return tables.formatted(record.newest("memory")["rows"], cells)


def sentence() -> str:
    rows, typical = record.newest("memory")["rows"], ("exact", 1024, 3072)
    row = next(row for row in rows if (row["method"], row["n"], row["dim"]) == typical)
    return (
        f"{row['of_matrix']:.1f} n x n float32 matrices of memory beyond its inputs at "
        f"n = {row['n']}, D = {row['dim']}"
    )


def main(n: tuple[int, ...] = (), out: Path = record.RESULTS / "memory") -> None:
    """Measure all sizes, or those of these ``n``."""
    rows = []
    for size, dim in SIZES:
        for name in METHODS:
            broadcast = "broadcast" in name and 2 * size**2 * dim > peers.BROADCAST_LIMIT
            if (n and size not in n) or broadcast or ("scipy" in name and size > LARGEST):
                continue
            rows.append(in_fresh_process(measure, name, size, dim))
            print(rows[-1], flush=True)
    print(record.save(out, rows=rows))


if __name__ == "__main__":
    import tyro

    tyro.cli(main, description=__doc__)
