"""What solves, behind one door: called directly, and as opaque torch ops under ``torch.compile``.

A compiler sees ``torch.ops.immiscible_fast.solve``, ``.assign`` and ``.pairwise_cost`` with the
shapes of their results, and nothing of what is inside, so sizes can be dynamic.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from .backends.select import on_gpu
from .backends.solution import Answer


def backend(tensor: Tensor, method: str = "auto") -> Any:
    """The module that solves this tensor; SciPy is on the CPU wherever the tensor is."""
    return _module("triton_gpu" if method != "scipy" and on_gpu(tensor) else "cpu")


@cache
def _module(name: str) -> Any:
    return import_module(f".backends.{name}", __package__)


def solve(cost: Tensor, method: str, tol: float) -> Answer:
    """Solve (n, m) or (B, n, m) costs of any real dtype; ``method`` as in ``solve_assignment``."""
    if torch.compiler.is_compiling():
        return Answer(*torch.ops.immiscible_fast.solve(cost, method, tol))
    answer: Answer = backend(cost, method).solve(cost, method, tol)
    return answer


def assign(
    x: Tensor, noise: Tensor, labels: Tensor | None, metric: str, method: str, tol: float
) -> tuple[Tensor, Tensor]:
    """(index (B, n) int64, converged (B,) bool) of samples (B, n, D) and labels (B, n)."""
    if torch.compiler.is_compiling():
        index, converged = torch.ops.immiscible_fast.assign(x, noise, labels, metric, method, tol)
    else:
        solver = backend(x, method)
        index, converged = solver.assign(x, noise, labels, metric, method, tol)
    return index, converged


def pairwise_cost(x: Tensor, y: Tensor, metric: str) -> Tensor:
    """Costs (B, n, m) of samples (B, n, D) and (B, m, D)."""
    if torch.compiler.is_compiling():
        cost: Tensor = torch.ops.immiscible_fast.pairwise_cost(x, y, metric)
    else:
        cost = backend(x).cost_matrix(x, y, metric)
    return cost


def _define(name: str, schema: str) -> Any:
    return torch.library.custom_op(f"immiscible_fast::{name}", mutates_args=(), schema=schema)


@_define(
    "solve", "(Tensor cost, str method, float tol) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)
def _solve_op(cost, method, tol):  # type: ignore[no-untyped-def]
    return tuple(backend(cost, method).solve(cost, method, tol))


@_solve_op.register_fake
def _(cost, method, tol):  # type: ignore[no-untyped-def]
    *batch, n, m = cost.shape
    return (
        cost.new_empty(*batch, n, dtype=torch.int64),
        cost.new_empty(batch, dtype=torch.float64),
        cost.new_empty(batch, dtype=torch.float64),
        cost.new_empty(batch, dtype=torch.bool),
        cost.new_empty(*batch, m, dtype=torch.float64),
    )


@_define(
    "assign",
    "(Tensor x, Tensor noise, Tensor? labels, str metric, str method, float tol)"
    " -> (Tensor, Tensor)",
)
def _assign_op(x, noise, labels, metric, method, tol):  # type: ignore[no-untyped-def]
    return backend(x, method).assign(x, noise, labels, metric, method, tol)


@_assign_op.register_fake
def _(x, noise, labels, metric, method, tol):  # type: ignore[no-untyped-def]
    index = x.new_empty(x.shape[0], x.shape[1], dtype=torch.int64)
    return index, x.new_empty(x.shape[0], dtype=torch.bool)


@_define("pairwise_cost", "(Tensor x, Tensor y, str metric) -> Tensor")
def _pairwise_op(x, y, metric):  # type: ignore[no-untyped-def]
    return backend(x).cost_matrix(x, y, metric)


@_pairwise_op.register_fake
def _(x, y, metric):  # type: ignore[no-untyped-def]
    wide = torch.float64 in (x.dtype, y.dtype)
    dtype = torch.float64 if wide else torch.float32
    return x.new_empty(x.shape[0], x.shape[1], y.shape[1], dtype=dtype)
