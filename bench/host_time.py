"""What a call to the GPU's solver costs on the host, measured by a driver that does nothing.

    python -m bench.host_time                 # n = 1024
    python -m bench.host_time --out bench/results/host_time

Kernels are not compiled, and a launch ends where CUDA's own would begin: what is timed is Python,
Triton's runtime and torch's operations, those on CPU tensors with few coordinates. A device adds
two to three microseconds for each launch. ``ordinary`` goes through ``JITFunction.run`` each time,
``planned`` through the launches that the first call has prepared.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import triton
from immiscible_fast.kernels.gpu import launch
from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel
from triton.runtime.jit import JITFunction

from immiscible_fast import fast_assign

from . import record

NUMBERS = itertools.count()
DIM, REPEATS = 8, 400
METHODS = ("auto", "exact")


class Kernel(CompiledKernel):
    """What a compilation would have given, with a name that says what was to be compiled."""

    def __init__(self, source: Any, options: Any, run: Callable[..., None]) -> None:
        held = {name: value for name, value in vars(source).items() if name != "fn"}
        self.__dict__ |= {
            "name": source.fn.__name__,
            "src": None,
            "module": 0,
            "function": repr((source.fn.__name__, held, options)),
            "packed_metadata": (),
            "run": run,
            "_run": run,
        }


class Driver:
    """As much of Triton's driver as launches ask for, on a device of its own."""

    def __init__(self, capability: int) -> None:
        self.capability, self.number, self.stream = capability, next(NUMBERS), 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.number

    def get_current_stream(self, device: int) -> int:
        return self.stream


@contextlib.contextmanager
def nothing_runs(
    run: Callable[..., None] = lambda *_: None, capability: int = 90, *, planned: bool = True
) -> Iterator[Driver]:
    """CPU tensors go to the GPU's backend inside, and launches to ``run``, with the arguments of
    Triton's launcher; what tensors hold does not matter."""
    before = JITFunction.run
    driver = Driver(capability)

    def compiling(source: Any, target: Any = None, options: Any = None, **_: Any) -> Kernel:
        return Kernel(source, options, run)

    def launching(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        self.compile = compiling  # which some Tritons look up for each device, others only once
        return before(self, *args, grid=grid, warmup=warmup, **options)

    triton.runtime.driver.set_active(driver)
    with (
        patch.dict(os.environ, {"IMMISCIBLE_BACKEND": "triton"}),
        patch.object(JITFunction, "run", launching),
        patch.object(triton.compiler, "compile", compiling),
        patch.object(launch, "PLANNED", ("cuda", "cpu") if planned else ()),
    ):
        try:
            yield driver
        finally:
            launch.PLANS.clear()


def milliseconds(call: Callable[[], Any], repeats: int) -> dict[str, float]:
    call()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - begin))
    return {"least_ms": round(min(taken), 4), "median_ms": round(statistics.median(taken), 4)}


def measured(n: int, method: str, repeats: int) -> list[dict[str, Any]]:
    """A row for each way to launch."""
    launches = [0]

    def run(*_: Any) -> None:
        launches[0] += 1

    x, noise = torch.randn(n, DIM), torch.randn(n, DIM)
    rows = []
    for planned in (False, True):
        with nothing_runs(run, planned=planned):
            fast_assign(x, noise, method=method)
            before = launches[0]
            fast_assign(x, noise, method=method)
            count = launches[0] - before
            times = milliseconds(lambda: fast_assign(x, noise, method=method), repeats)
        way = "planned" if planned else "ordinary"
        rows.append({"n": n, "method": method, "way": way, "launches": count, **times})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--out", type=Path, help="folder of the result")
    options = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        parser.error("what is interpreted is not launched: unset TRITON_INTERPRET")
    torch.set_num_threads(1)
    rows = [row for method in METHODS for row in measured(options.n, method, options.repeats)]
    print(*rows, sep="\n")
    if options.out:
        print(record.save(options.out, rows=rows))


if __name__ == "__main__":
    main()
