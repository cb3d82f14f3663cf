"""Which backend solves a tensor: the GPU's own, if there is Triton for it, else the CPU."""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings

import torch
from torch import Tensor


def on_gpu(tensor: Tensor) -> bool:
    """Whether the Triton backend takes this tensor: if it is on a GPU, unless the environment says
    ``IMMISCIBLE_BACKEND=cpu``; or ``triton``, which sends CPU tensors there, too, for tests of the
    kernels in Triton's interpreter (``TRITON_INTERPRET=1``)."""
    wanted = os.environ.get("IMMISCIBLE_BACKEND", "")
    if wanted and wanted not in ("cpu", "triton"):
        raise ValueError(f"IMMISCIBLE_BACKEND must be 'cpu' or 'triton', got {wanted!r}")
    if tensor.is_cuda:
        return wanted != "cpu" and has_triton()
    return wanted == "triton" and tensor.is_cpu


@functools.cache
def has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


_WARNED: set[str] = set()


def warn_solved_on_cpu(device: torch.device) -> None:
    """Say once per kind of device that the tensors are copied to the CPU and back."""
    if device.type not in _WARNED:
        _WARNED.add(device.type)
        why = ", for Triton is not installed" if device.type == "cuda" and not has_triton() else ""
        warnings.warn(
            f"immiscible_fast solves tensors on {device.type} on the CPU, and copies them there"
            + why,
            stacklevel=3,
        )
