"""Which backend solves a tensor."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any

from torch import Tensor

from .devices import on_gpu

BACKENDS = {"cpu": "cpu.backend", "gpu": "gpu.backend", "streaming": "streaming.backend"}


def backend(tensor: Tensor, method: str = "auto") -> Any:
    """The module that solves this tensor; SciPy is on the CPU wherever the tensor is."""
    if method == "streaming":
        return module("streaming")
    return module("gpu" if method != "scipy" and on_gpu(tensor) else "cpu")


@functools.cache
def module(name: str) -> Any:
    """A backend, imported when it is first wanted."""
    return import_module(f".{BACKENDS[name]}", __package__)
