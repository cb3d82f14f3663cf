"""Every launch that ships, compiled for every device without having one.

The launchers themselves are called, on tensors without data, while ``JITFunction.run`` is replaced
by one that notes what the runtime would compile. Nothing is listed twice: a launch parameter that
changes is compiled as it is.

``python -m tests.ahead_of_time`` prints a table; ``--all`` compiles all cases for all targets.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import triton
from immiscible_fast.kernels.gpu import launch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from tests.ahead_of_time_cases import CASES, EVERYWHERE, MAIN, SOME, Case
from tests.ptx_emulator.encode import encode
from tests.ptx_emulator.ptx import UnsupportedPTX, parse

MAIN_TARGET, OTHER_TARGETS = "sm_90", ("sm_80", "gfx942")
TARGETS = {
    f"sm_{major}{minor}": (GPUTarget("cuda", 10 * major + minor, 32), (major, minor))
    for major, minor in ((8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
} | {"gfx942": (GPUTarget("hip", "gfx942", 64), launch.AMD)}
NUMBERS = itertools.count()
TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
GRID = (2**31 - 1, 65535, 65535)
JOBS: list[Any] = []  # what is being compiled, for the processes that do it


@dataclass
class Job:
    """What one compilation needs."""

    case: str
    target: str
    module: str
    kernel: str
    source: dict[str, Any]  # what Triton's own class for it holds, besides the function
    options: dict[str, Any]

    def key(self) -> str:
        return repr([getattr(self, name) for name in vars(self) if name != "case"])


@dataclass
class Row:
    """What a compiled kernel takes; spills are bytes on NVIDIA, registers on AMD."""

    case: str
    target: str
    kernel: str
    block: str = ""
    warps: int = 0
    stages: int = 0
    registers: int = 0
    shared: int = 0
    limit: int = 0
    stack: int = 0
    spills: int = 0
    matrix: list[str] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""
    unknown: str = ""  # what the emulator does not know of it


def cases() -> list[Case]:
    """All that ships."""
    return [case for kernels in CASES for case in kernels()]


class Device:
    """As much of Triton's driver as choosing what to compile asks for."""

    def __init__(self, target: GPUTarget, number: int):
        self.target, self.number = target, number

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return self.number

    def get_current_stream(self, device: int) -> int:
        return 0


@contextlib.contextmanager
def recorded(target: str, case: str, jobs: dict[str, Job]) -> Iterator[None]:
    """Add to ``jobs`` what launches inside would compile for ``target``."""
    launched = JITFunction.run

    def run(self, *args, grid, warmup, **kwargs):
        assert all(0 < size <= most for size, most in zip(grid, GRID, strict=False)), (case, grid)
        self.compile = compile_  # which some Tritons look up for each device, others only once
        return launched(self, *args, grid=grid, warmup=True, **kwargs)

    def compile_(source, target=None, options=None, **_):
        held = {name: value for name, value in vars(source).items() if name != "fn"}
        job = Job(case, name, source.fn.__module__, source.fn.__name__, held, dict(options))
        jobs.setdefault(job.key(), job)

    name = target
    gpu, capability = TARGETS[target]
    before = JITFunction.run, launch.WITHOUT_A_GPU, triton.compiler.compile
    # What was compiled for another device does not count: this one is new.
    triton.runtime.driver.set_active(Device(gpu, next(NUMBERS)))
    JITFunction.run, launch.WITHOUT_A_GPU, triton.compiler.compile = run, capability, compile_
    try:
        yield
    finally:
        JITFunction.run, launch.WITHOUT_A_GPU, triton.compiler.compile = before


def record(everything: bool) -> list[Job]:
    jobs: dict[str, Job] = {}
    for target in TARGETS:
        wanted = [EVERYWHERE]
        wanted += [SOME] if target in (MAIN_TARGET, *OTHER_TARGETS) else []
        wanted += [MAIN] if target == MAIN_TARGET else []
        for case in cases():
            if everything or case.where in wanted:
                with recorded(target, case.name, jobs):
                    case.call()
    return list(jobs.values())


def compile_job(number: int) -> Row:
    job = JOBS[number]
    row = Row(job.case, job.target, job.kernel)
    target, capability = TARGETS[job.target]
    row.limit = launch.shared_memory(capability)
    row.warps, row.stages = job.options["num_warps"], job.options["num_stages"]
    start = time.perf_counter()
    try:
        source = source_of(job)
        row.block = "x".join(map(str, blocks_of(source)))
        binary = triton.compile(source, target=target, options=job.options)
        row.shared = binary.metadata.shared
        read_usage(row, binary.asm)
    except Exception as error:
        row.error = f"{type(error).__name__}: {error}"[-2000:]
    row.seconds = round(time.perf_counter() - start, 2)
    return row


def source_of(job: Job) -> ASTSource:
    source = ASTSource.__new__(ASTSource)
    kernel = getattr(importlib.import_module(job.module), job.kernel)
    vars(source).update(job.source, fn=kernel)
    return source


def blocks_of(source: ASTSource) -> Iterator[int]:
    """Values of the kernel's sizes; older Tritons name what is constant, newer ones number it."""
    for i, name in enumerate(source.fn.arg_names):
        if name.startswith(("BLOCK", "ROWS")):
            yield source.constants.get((i,), source.constants.get(name))


def read_usage(row: Row, asm: dict[str, Any]) -> None:
    """Registers, stack, spills and matrix instructions, from the assembler's own account."""
    if "ptx" in asm:
        try:
            encode(parse(asm["ptx"]))
        except UnsupportedPTX as error:
            row.unknown = str(error)
        log = assembled(asm["ptx"])
        row.registers = total(r"Used (\d+) registers", log)
        row.stack = total(r"(\d+) bytes stack frame", log)
        row.spills = total(r"(\d+) bytes spill", log)
        found = r"wgmma\.mma_async|tcgen05\.mma|mma\.sync"
        row.matrix = sorted(set(re.findall(found, asm["ptx"])))
        if "wgmma.mma_async" in row.matrix and "HGMMA" in sass(asm["cubin"]):
            row.matrix.append("HGMMA")
        if "Potential Performance Loss" in log:
            row.matrix.append("serialized")
    else:
        row.registers = total(r"\.vgpr_count:\s+(\d+)", asm["amdgcn"])
        row.stack = total(r"\.private_segment_fixed_size:\s+(\d+)", asm["amdgcn"])
        row.spills = total(r"\.vgpr_spill_count:\s+(\d+)", asm["amdgcn"])
        if row.stack:  # else scalar registers spilled to lanes of vector ones, not to memory
            row.spills += total(r"\.sgpr_spill_count:\s+(\d+)", asm["amdgcn"])
        row.matrix = ["v_mfma"] if "v_mfma" in asm["amdgcn"] else []


def total(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    if not found:
        raise ValueError(f"{pattern!r} is not in what the assembler says:\n{text[:1000]}")
    return sum(int(number) for number in found)


def assembled(ptx: str) -> str:
    """What the assembler that comes with Triton says of its work, which Triton keeps to itself."""
    (target,) = re.findall(r"^\.target (sm_\d+a?)", ptx, re.MULTILINE)
    blackwell = TOOLS / "ptxas-blackwell"  # a newer one, for newer devices only
    newer = blackwell.exists() and int(re.sub(r"\D", "", target)) >= 100
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        Path(file.name).write_text(ptx)
        command = [blackwell if newer else TOOLS / "ptxas", "-v", f"--gpu-name={target}"]
        return run_tool(*command, file.name, "-o", "/dev/null").stderr


def sass(cubin: bytes) -> str:
    """The machine code, by the disassembler that comes with Triton."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        return run_tool(TOOLS / "cuobjdump", "-sass", file.name).stdout


def run_tool(*command: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True)


def compile_all(jobs: list[Job], processes: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRITON_CACHE_DIR"] = cache
        JOBS[:] = jobs
        context = multiprocessing.get_context("fork")  # not all that a job holds can be pickled
        with ProcessPoolExecutor(processes, mp_context=context) as pool:
            yield from pool.map(compile_job, range(len(jobs)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="all cases for all targets")
    parser.add_argument("--only", default="", help="cases whose name matches this expression")
    parser.add_argument("--target", default="", help="targets whose name matches this expression")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--may-spill", action="store_true", help="as under an old Triton")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        parser.error("what is interpreted is not compiled: unset TRITON_INTERPRET")
    jobs = [
        job
        for job in record(options.all)
        if re.search(options.only, job.case) and re.search(options.target, job.target)
    ]
    rows = []
    for row in compile_all(jobs, options.processes):
        rows.append(row)
        sys.stdout.write(line(row))
        sys.stdout.flush()
    seconds = sum(row.seconds for row in rows)
    sys.stdout.write(f"{len(rows)} kernels, {seconds:.0f} s of compilation\n")
    if options.json:
        lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
        options.json.write_text(f'{{"triton": "{triton.__version__}", "rows": [\n{lines}\n]}}\n')
    spilled = any(row.spills for row in rows) and not options.may_spill
    return int(spilled or any(row.error or row.shared > row.limit for row in rows))


def line(row: Row) -> str:
    if row.error:
        return f"{row.target:7} {row.kernel:18} {row.case}: {row.error.splitlines()[-1]}\n"
    return (
        f"{row.target:7} {row.kernel:18} {row.case:34} {row.block:12} {row.warps:2}w {row.stages}s "
        f"{row.registers:3} registers {row.shared:6} of {row.limit} B shared {row.stack} B stack "
        f"{row.spills} spilled {row.seconds:5.1f} s {' '.join(row.matrix)}\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
