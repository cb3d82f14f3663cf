"""Run Triton kernels, compiled for a GPU, on CPU tensors: ``with Emulator("sm_90"):`` around what
launches them."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

from .compilation import Executable, Launch, Target, load_machine
from .findings import Findings, FoundError, Report
from .memory import CELL, Allocation, Memory
from .ptx import BITS

ORDERS = ("ascending", "descending", "random", "preemptive")
MOST_REPORTS = 256
SCALARS = {"f32": np.float32, "f64": np.float64}


class Ctx(ctypes.Structure):
    """``Ctx`` of runtime/memory.h."""

    _fields_ = [
        ("allocations", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("n_allocations", "n_reports")),
        ("reports", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("most_reports", "check")),
        *((name, ctypes.c_uint32) for name in ("epoch", "launch", "launch_first")),
        *(
            (name, ctypes.c_uint32)
            for name in ("program_first", "sync", "asked_epoch", "asked_only")
        ),
        *((name, ctypes.c_uint32 * 3) for name in ("cta", "grid")),
        *((name, ctypes.c_uint32) for name in ("program", "last", "seed")),
        ("order", ctypes.c_int32),
        *((name, ctypes.c_uint64) for name in ("instructions", "barriers", "limit")),
        *((name, ctypes.c_uint64) for name in ("bytes_read", "bytes_written", "sectors")),
        *((name, ctypes.c_void_p) for name in ("profile", "lists", "parameters")),
        *((name, ctypes.c_int32) for name in ("read_undefined", "stop", "stopped", "pad")),
    ]


@dataclass
class Work:
    """What the launches of one kernel did, in all."""

    launches: int = 0
    programs: int = 0
    instructions: int = 0  # of warps
    barriers: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    sectors: int = 0
    seconds: float = 0.0
    opcodes: Counter[str] = field(default_factory=Counter)


class Emulator:
    """Compiles every launch for ``target`` and runs it here, checking each access.

    Parameters
    ----------
    target : str
        ``sm_80``, ``sm_90``, ...
    order : str
        In which order warps run between two barriers, and the programs of a launch: one of
        ``ORDERS``; ``preemptive`` is random, and a warp is interrupted every few blocks.
    seed : int
        Of that order.
    fusion : bool
        Whether multiplications and additions are contracted, as in what ships; without, arithmetic
        is that of Triton's interpreter.
    limit : int
        Instructions of one launch's warps after which it counts as a deadlock.
    asked_only : bool
        Whether accesses to global memory are ordered only by the barriers that the source asks for
        (``tl.debug_barrier``), not by those that its reductions happen to have when compiled.
    stop : bool
        Whether a launch ends, and ``FoundError`` is raised, at its first error.
    """

    def __init__(
        self,
        target: str = "sm_90",
        order: str = "ascending",
        *,
        seed: int = 1,
        fusion: bool = True,
        limit: int = 2 * 10**9,
        poison: int = 0x7F,
        asked_only: bool = False,
        stop: bool = False,
    ):
        if order not in ORDERS:
            raise ValueError(f"order must be one of {ORDERS}, got {order!r}")
        self.target, self.order = Target(target), ORDERS.index(order)
        self.seed, self.fusion, self.limit = seed, fusion, limit
        self.poison = poison
        self.asked_only, self.stop = asked_only, stop
        self.executables: dict[str, Executable] = {}
        self.memory = Memory(poison)
        self.findings = Findings()
        self.work: dict[str, Work] = defaultdict(Work)
        self.epoch = self.launches = 1
        self.compile_seconds = 0.0

    def __enter__(self) -> Emulator:
        self._inside = contextlib.ExitStack()
        self._inside.enter_context(self._instead_of_the_runtime())
        self._inside.enter_context(self.memory)
        return self

    def __exit__(self, *error: Any) -> None:
        self._inside.close()

    @contextlib.contextmanager
    def _instead_of_the_runtime(self) -> Iterator[None]:
        from immiscible_fast.kernels.gpu import launch

        emulator = self

        def run(function, *args, grid, warmup, **kwargs):  # type: ignore[no-untyped-def]
            emulator.run(function, args, grid, kwargs)

        before = JITFunction.run, InterpretedFunction.run, launch.WITHOUT_A_GPU
        JITFunction.run = InterpretedFunction.run = run
        launch.WITHOUT_A_GPU = self.target.capability
        try:
            yield
        finally:
            JITFunction.run, InterpretedFunction.run, launch.WITHOUT_A_GPU = before

    def executable(self, launch: Launch) -> Executable:
        key = launch.key()
        if key not in self.executables:
            start = time.perf_counter()
            self.executables[key] = launch.executable()
            self.compile_seconds += time.perf_counter() - start
        return self.executables[key]

    def run(self, function: Any, args: Any, grid: Any, kwargs: dict[str, Any]) -> None:
        """One launch."""
        if "WIDEN" in kwargs:  # of the interpreter only
            kwargs = kwargs | {"WIDEN": False}
        if not self.fusion:
            kwargs = kwargs | {"enable_fp_fusion": False}
        with torch.utils._python_dispatch._disable_current_modes():
            launch = Launch(function, args, kwargs, self.target)
            executable = self.executable(launch)
            grid = grid(launch.bound) if callable(grid) else grid
            self._execute(executable, launch.arguments(), grid)

    def run_ptx(
        self, ptx: str, *arguments: Tensor | float, grid: tuple[int, ...] = (1,), shared: int = 0
    ) -> None:
        """Launch PTX that is at hand, with so many bytes of shared memory."""
        with torch.utils._python_dispatch._disable_current_modes():
            executable = Executable(ptx, shared)
            names = (name for name, _ in executable.kernel.parameters)
            self._execute(executable, list(zip(names, arguments, strict=True)), grid)

    def _execute(
        self, executable: Executable, arguments: list[tuple[str, Any]], grid: tuple[int, ...]
    ) -> None:
        kernel = executable.kernel
        parameters = np.zeros((len(kernel.parameters), 8), np.uint8)
        views: dict[int, list[tuple[int, str, Tensor]]] = defaultdict(list)
        for k, (name, value) in enumerate(arguments):
            kind = kernel.parameters[k][1]
            if isinstance(value, Tensor):
                bits = np.array([value.data_ptr()], np.uint64)
                if value.numel():
                    views[value.untyped_storage().data_ptr()].append((k, name, value))
            else:
                of = SCALARS[f"f{BITS[kind]}"] if isinstance(value, float) else np.uint64
                of = SCALARS.get(kind, of)
                bits = np.array([value & 2**64 - 1 if of is np.uint64 else value], of)
            raw = bits.view(np.uint8)[: BITS[kind] // 8]
            parameters[k, : len(raw)] = raw
        self.launches += 1
        allocations = (Allocation * (1 + len(views)))()
        shared = np.zeros(executable.shared + 64, np.uint8)
        shared_cells = np.zeros((executable.shared >> executable.shift) + 1, CELL)
        base = -(-shared.ctypes.data // 64) * 64
        allocations[0] = Allocation(
            base, executable.shared, shared_cells.ctypes.data, executable.shift, 0
        )
        names, alive = ["shared memory"], []
        for k, given in enumerate(views.values(), 1):
            read_only = not any(number in executable.written for number, _, _ in given)
            tensors = [tensor for _, _, tensor in given]
            allocations[k], cells = self.memory.allocation(tensors, read_only, self.launches)
            alive.append(cells)
            names.append(", ".join(dict.fromkeys(name for _, name, _ in given)))
        self._call(executable, allocations, names, parameters, (*grid, 1, 1)[:3])

    def _call(
        self, executable: Executable, allocations: Any, names: list[str], parameters: Any, grid: Any
    ) -> None:
        reports = (Report * MOST_REPORTS)()
        profile = np.zeros(len(executable.kernel.blocks), np.uint64)
        context = Ctx(
            allocations=ctypes.addressof(allocations), n_allocations=len(allocations),
            reports=ctypes.addressof(reports), most_reports=MOST_REPORTS, check=True,
            epoch=self.epoch, launch=self.launches, grid=(ctypes.c_uint32 * 3)(*grid),
            asked_only=self.asked_only, stop=self.stop,
            seed=self.seed * 2654435761 % 2**32 or 1, order=self.order,
            limit=self.limit, profile=profile.ctypes.data,
            lists=executable.encoded.lists.ctypes.data, parameters=parameters.ctypes.data,
        )  # fmt: skip
        start = time.perf_counter()
        program = executable.encoded.program(parameters)
        load_machine().launch(
            ctypes.byref(context), ctypes.byref(program), ctypes.c_uint32(self.poison)
        )
        seconds = time.perf_counter() - start
        self.seed += 1
        self.epoch = context.epoch + 1
        if self.epoch > 2**31:
            raise OverflowError("too many barriers for one emulator")
        for report in reports[: context.n_reports]:
            self.findings.add(executable.kernel, report, names)
        self._count(executable, context, profile, grid, seconds)
        if self.stop:
            self.assert_clean()

    def _count(
        self, executable: Executable, context: Ctx, profile: Any, grid: Any, seconds: float
    ) -> None:
        work = self.work[executable.kernel.name]
        work.launches += 1
        work.programs += int(np.prod(grid))
        work.seconds += seconds
        for name in ("instructions", "barriers", "bytes_read", "bytes_written", "sectors"):
            setattr(work, name, getattr(work, name) + getattr(context, name))
        for block, times in zip(executable.kernel.blocks, profile.tolist(), strict=True):
            if times:
                for one in block.instructions:
                    work.opcodes[one.name] += times

    def table(self) -> str:
        """What ran."""
        head = (
            "kernel",
            "launches",
            "programs",
            "instructions",
            "barriers",
            "MB read",
            "MB written",
        )
        rows: list[tuple[str, ...]] = [(*head, "sectors", "seconds")]
        for name, work in self.work.items():
            counts = work.launches, work.programs, work.instructions, work.barriers
            megabytes = (f"{count / 1e6:.3f}" for count in (work.bytes_read, work.bytes_written))
            rows.append(
                (name, *map(str, counts), *megabytes, str(work.sectors), f"{work.seconds:.3f}")
            )
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        return "\n".join(
            "  ".join(text.ljust(width) if k == 0 else text.rjust(width) for k, (text, width) in
                      enumerate(zip(row, widths, strict=True)))
            for row in rows
        )  # fmt: skip

    def assert_clean(self) -> None:
        """Raise FoundError, an AssertionError, with what was found, notes aside."""
        if self.findings.errors:
            raise FoundError("the emulator found\n" + self.findings.text(notes=False))
