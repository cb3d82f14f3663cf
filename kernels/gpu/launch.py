"""The door that launches go through, and what launchers ask about a device: how new it is, and
what it can hold.

A call is a fixed sequence of launches, and Triton looks at all of their arguments anew each time.
``planned`` calls remember the compiled kernels instead: one key of all that decides how a call's
kernels are compiled (shapes, strides, types, alignments, device) finds the list of them, and each
launch hands its tensors to the next one. A launch that is not the one on the list, or that Triton's
hooks want to see, goes the ordinary way; so do all where kernels are interpreted.

AMD's own numbers would collide with NVIDIA's (a MI200 calls itself 9.0, as an H100 does), so one
stands for all of them: ``AMD``, older than any NVIDIA device.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
import triton
from torch import Tensor
from triton.compiler import CompiledKernel
from triton.runtime.jit import JITFunction

P = ParamSpec("P")
R = TypeVar("R")
Tensors = tuple[Tensor | None, ...]
Arguments = tuple[Tensor | float | None, ...]  # tensors, and numbers of their own for each launch
Options = dict[str, Any]  # what a kernel is told by name, beside its tensors

AMD = (0, 0)

# Without a GPU, kernels are interpreted or compiled ahead of time: for this capability.
WITHOUT_A_GPU = (9, 0)

# Bytes of shared memory that one block may have, and multiprocessors of the largest device.
KIB = 1024
SHARED_MEMORY = {
    AMD: 64 * KIB,
    (8, 0): 163 * KIB,
    (8, 6): 99 * KIB,
    (8, 7): 163 * KIB,
    (8, 9): 99 * KIB,
    (9, 0): 227 * KIB,
    (10, 0): 227 * KIB,
    (10, 3): 227 * KIB,
    (12, 0): 99 * KIB,
    (12, 1): 99 * KIB,
}
PROCESSORS = {AMD: 304, (8, 0): 108, (8, 6): 84, (8, 9): 128, (9, 0): 132, (10, 0): 148}


def cdiv(a: int, b: int) -> int:
    """a / b rounded up; Triton's own takes a microsecond."""
    return -(-a // b)


def next_power_of_2(n: int) -> int:
    """The least power of two that is not below n > 0."""
    return 1 << (n - 1).bit_length()


MOST_PLANS = 256
PLANNED = ("cuda",)  # types of devices
PLANS: dict[Hashable, list[Prepared]] = {}
ACTIVE = threading.local()
# Older ones hand a launcher only what is not known when it is compiled.
WITH_CONSTANTS = tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 3)


class Prepared(NamedTuple):
    """A launch whose kernel is compiled."""

    known: tuple[JITFunction, Options]  # all that decides how it is compiled but the plan's key
    run: Callable[..., None]
    function: Any
    metadata: Any
    tail: list[Any]  # the options that the launcher takes


class Plan:
    """The launches of one call, as they were prepared, or are to be."""

    def __init__(self, prepared: list[Prepared] | None) -> None:
        self.recording = prepared is None
        self.prepared: list[Prepared] = prepared or []
        self.fits = True
        self.at = 0
        driver = triton.runtime.driver.active
        self.stream = driver.get_current_stream(driver.get_current_device())

    def launch(
        self, kernel: JITFunction, programs: int, tensors: Arguments, options: Options
    ) -> None:
        at = self.at
        self.at += 1
        if at < len(self.prepared):
            known, run, function, metadata, tail = self.prepared[at]
            if known == (kernel, options):
                run(
                    programs, 1, 1, self.stream, function, metadata,
                    None, None, None, *tensors, *tail,
                )  # fmt: skip
                return
        compiled = kernel[(programs,)](*tensors, **options)
        if self.recording and isinstance(compiled, CompiledKernel) and no_tensor_in(options):
            self.prepared.append(prepare(kernel, compiled, len(tensors), options))
        else:
            self.fits = False

    def launch_by_turns(
        self, kernel: JITFunction, programs: int, sets: Sequence[Arguments], times: int,
        options: Options,
    ) -> None:  # fmt: skip
        found = self.prepared[self.at : self.at + len(sets)]
        if [one.known for one in found] != [(kernel, options)] * len(sets):
            for tensors in sets:
                self.launch(kernel, programs, tensors, options)
            for k in range(len(sets), times):
                kernel[(programs,)](*sets[k % len(sets)], **options)
            return
        self.at += len(sets)
        grid, none = (programs, 1, 1, self.stream), (None, None, None)
        calls = [
            (one.run, (*grid, one.function, one.metadata, *none, *tensors, *one.tail))
            for one, tensors in zip(found, sets, strict=True)
        ]
        for k in range(times):
            run, arguments = calls[k % len(calls)]
            run(*arguments)


def no_tensor_in(options: Options) -> bool:
    return not any(isinstance(value, Tensor) for value in options.values())


def prepare(
    kernel: JITFunction, compiled: CompiledKernel, given: int, options: Options
) -> Prepared:
    """A launch with so many arguments without a name before its options."""
    rest = [one for one in kernel.params[given:] if WITH_CONSTANTS or not one.is_constexpr]
    tail = [options[one.name] for one in rest]
    run, function = compiled.run, compiled.function
    return Prepared((kernel, options), run, function, compiled.packed_metadata, tail)


def launch(kernel: JITFunction, programs: int, /, *tensors: Tensor | None, **options: Any) -> None:
    """Launch so many programs of a kernel, in one dimension, with tensors and named options."""
    plan = getattr(ACTIVE, "plan", None)
    if plan is None:
        kernel[(programs,)](*tensors, **options)
    else:
        plan.launch(kernel, programs, tensors, options)


def launch_by_turns(
    kernel: JITFunction, programs: int, sets: Sequence[Arguments], times: int, options: Options
) -> None:
    """Launch so many times, with one set of tensors (and numbers) after another: most of what a
    launch costs the host is then paid once."""
    sets = sets[:times]
    plan = getattr(ACTIVE, "plan", None)
    if plan is not None:
        plan.launch_by_turns(kernel, programs, sets, times, options)
        return
    for k in range(times):
        kernel[(programs,)](*sets[k % len(sets)], **options)


def planned(key: Hashable, call: Callable[P, R], /, *args: P.args, **options: P.kwargs) -> R:
    """Call what launches, with the kernels that the last call of this key has compiled. The key
    decides all about its launches but where tensors lie and what is in them."""
    if hooked() or getattr(ACTIVE, "plan", None) is not None:
        return call(*args, **options)
    key = (key, JITFunction.run, triton.runtime.driver.active)
    plan = ACTIVE.plan = Plan(PLANS.get(key))
    try:
        result = call(*args, **options)
    finally:
        ACTIVE.plan = None
    if not plan.fits or plan.at < len(plan.prepared):  # what a setting has changed, say
        PLANS.pop(key, None)
    elif plan.recording:
        if len(PLANS) >= MOST_PLANS:
            PLANS.clear()
        PLANS[key] = plan.prepared
    return result


def hooked() -> bool:
    """Whether somebody wants to see launches as Triton makes them."""
    knobs = getattr(triton, "knobs", None)  # since 3.4
    if knobs is None:
        hooks = [CompiledKernel.launch_enter_hook, CompiledKernel.launch_exit_hook]
    else:
        hooks = [knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook]
        if knobs.runtime.debug or getattr(knobs.compilation, "instrumentation_mode", ""):
            return True
    return any(hook is not None and getattr(hook, "calls", True) for hook in hooks)


def properties(value: object) -> Hashable:
    """Of an argument of a call: all that may decide how its kernels are compiled."""
    if isinstance(value, Tensor):
        aligned = value.data_ptr() % 16 == 0
        return value.shape, value.stride(), value.dtype, value.device, aligned
    return value


def capability(device: torch.device) -> tuple[int, int]:
    """(major, minor) of a CUDA device, ``AMD`` for any of theirs."""
    return _reported(device) if device.type == "cuda" else WITHOUT_A_GPU


def shared_memory(of: tuple[int, int]) -> int:
    """Bytes a block may have; of an unknown device, what any of them gives."""
    return SHARED_MEMORY.get(of, 64 * KIB)


def processors(of: tuple[int, int]) -> int:
    return PROCESSORS.get(of, 128)


def registers(device: torch.device, most: int) -> dict[str, int]:
    """The launch option by which a thread may have so many, where there is one. NVIDIA's assembler
    else spills some to memory, for more warps at a time than are launched."""
    return {} if capability(device) == AMD else {"maxnreg": most}


@functools.cache
def _reported(device: torch.device) -> tuple[int, int]:
    if torch.version.hip is not None:
        return AMD
    major, minor = torch.cuda.get_device_capability(device)
    return major, minor
