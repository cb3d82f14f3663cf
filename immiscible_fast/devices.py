"""Which devices the kernels take: a GPU with Triton for it; all else is solved on the CPU."""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings

import torch
from torch import Tensor

# What compiles all kernels, ahead of time and without spills that matter: `make aot-oldest`. On
# older devices a thread would keep tens of kilobytes of its registers in memory.
OLDEST_TRITON = (3, 2)
OLDEST_CAPABILITY = (8, 0)


def on_gpu(tensor: Tensor) -> bool:
    """Whether the Triton backend takes this tensor: if it is on a GPU, unless the environment says
    ``IMMISCIBLE_BACKEND=cpu``; or ``triton``, which sends CPU tensors there, too, for tests of the
    kernels in Triton's interpreter (``TRITON_INTERPRET=1``)."""
    wanted = os.environ.get("IMMISCIBLE_BACKEND", "")
    if wanted and wanted not in ("cpu", "triton"):
        raise ValueError(f"IMMISCIBLE_BACKEND must be 'cpu' or 'triton', got {wanted!r}")
    if tensor.is_cuda:
        return wanted != "cpu" and has_triton(tensor.device)
    return wanted == "triton" and tensor.is_cpu


def wants_graphs(tensor: Tensor) -> bool:
    """Whether calls on this GPU are to be replayed from CUDA graphs (``IMMISCIBLE_GRAPH=1``), and
    nobody else is capturing one."""
    wanted = os.environ.get("IMMISCIBLE_GRAPH", "0")
    if wanted not in ("", "0", "1"):
        raise ValueError(f"IMMISCIBLE_GRAPH must be '0' or '1', got {wanted!r}")
    return wanted == "1" and on_gpu(tensor) and not torch.cuda.is_current_stream_capturing()


def has_triton(device: torch.device) -> bool:
    return not why_no_triton(device)


@functools.cache
def why_no_triton(device: torch.device) -> str:
    """What keeps the kernels from this CUDA device; empty if nothing does."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    from triton import __version__ as version

    major, minor = version.split(".")[:2]
    if (int(major), int(minor)) < OLDEST_TRITON:
        return f"Triton {version} is older than {'.'.join(map(str, OLDEST_TRITON))}"
    if torch.version.hip is None and torch.cuda.is_available():
        capability = torch.cuda.get_device_capability(device)
        if capability < OLDEST_CAPABILITY:
            found, wanted = ("{}.{}".format(*pair) for pair in (capability, OLDEST_CAPABILITY))
            return f"its compute capability is {found}, and the kernels take {wanted} or newer"
    return ""


_WARNED: set[str] = set()


def warn_solved_on_cpu(device: torch.device) -> None:
    """Say once per kind of device that the tensors are copied to the CPU and back."""
    if device.type not in _WARNED:
        _WARNED.add(device.type)
        why = why_no_triton(device) if device.type == "cuda" else ""
        warnings.warn(
            f"immiscible_fast solves tensors on {device.type} on the CPU, and copies them there"
            + (f": {why}" if why else ""),
            stacklevel=3,
        )
