"""Which backend solves a tensor: what a backend is, and the table of all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from .cpu import backend as cpu
from .devices import on_gpu, wants_graphs
from .types import Assigned, Assignment


class Assigns(Protocol):
    """What matches samples."""

    def assign(
        self,
        x: Tensor,
        noise: Tensor,
        labels: Tensor | None,
        metric: str,
        method: str,
        tol: float,
        proven: bool = False,
        /,
    ) -> Assigned:
        """Match samples (B, n, D) within labels (B, n); the gap is infinite unless ``proven``."""


class Backend(Assigns, Protocol):
    """A module of these functions: all that a device has to have."""

    def solve(self, cost: Tensor, method: str, tol: float, /) -> Assignment:
        """Solve (n, m) or (B, n, m) costs of any real dtype."""

    def columns(self, cost: Tensor, maximize: bool, limit: float, check: bool, /) -> Tensor:
        """The index (B, n) alone of an exact solve of (B, n, m) costs; see ``cost_limit``."""

    def cost_matrix(self, x: Tensor, y: Tensor, metric: str, /) -> Tensor:
        """``pairwise_cost`` (B, n, m) of samples (B, n, D) and (B, m, D)."""


class Device(NamedTuple):
    takes: Callable[[Tensor], bool]
    load: Callable[[], Backend]


@functools.cache
def _gpu() -> Backend:
    from .gpu import backend  # with Triton, when it is first wanted

    return backend


@functools.cache
def _graphs() -> Backend:
    from .gpu import graphs

    return graphs


@functools.cache
def _streaming() -> Assigns:
    from .streaming import backend  # with Numba

    return backend


# The first that takes a tensor; the CPU takes what none of them does, and copies it.
DEVICES = (Device(wants_graphs, _graphs), Device(on_gpu, _gpu))
TRACED = DEVICES[1:]  # a compiler has graphs of its own


def backend(tensor: Tensor, method: str = "auto", *, traced: bool = False) -> Backend:
    """The backend of this tensor's device; SciPy is on the CPU wherever the tensor is."""
    if method != "scipy":
        for device in TRACED if traced else DEVICES:
            if device.takes(tensor):
                return device.load()
    return cpu


def assigner(tensor: Tensor, method: str, *, traced: bool = False) -> Assigns:
    """Who matches samples: the backend of their device or, without a cost matrix, ``streaming``."""
    return _streaming() if method == "streaming" else backend(tensor, method, traced=traced)
