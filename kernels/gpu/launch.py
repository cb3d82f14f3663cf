"""The door that launches go through, and what launchers ask about a device: how new it is, and
what it can hold.

AMD's own numbers would collide with NVIDIA's (a MI200 calls itself 9.0, as an H100 does), so one
stands for all of them: ``AMD``, older than any NVIDIA device.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

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


def launch(kernel: Any, programs: int, /, *args: Any, **options: Any) -> None:
    """Launch so many programs of a kernel, in one dimension."""
    kernel[(programs,)](*args, **options)


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
