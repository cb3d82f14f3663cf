"""What solves, behind one door: called directly, and as opaque torch ops where it is traced.

A compiler sees ``torch.ops.immiscible_fast.solve``, ``.assign``, ``.columns`` and
``.pairwise_cost`` with the shapes of their results, and nothing of what is inside, so sizes can be
dynamic. Their arguments are detached: an index has no gradient. Under ``torch.func.vmap`` the
problems of all calls become those of one.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from .cpu import backend as cpu
from .dispatch import assigner, backend
from .types import Assigned, Assignment
from .validation import is_traced


def solve(cost: Tensor, method: str, tol: float) -> Assignment:
    """Solve (n, m) or (B, n, m) costs of any real dtype; ``method`` as in ``solve_assignment``."""
    if is_traced(cost):
        return Assignment(*torch.ops.immiscible_fast.solve(cost, method, tol))
    return backend(cost, method).solve(cost, method, tol)


def assign(
    x: Tensor,
    noise: Tensor,
    labels: Tensor | None,
    metric: str,
    method: str,
    tol: float,
    proven: bool,
) -> Assigned:
    """Match samples (B, n, D) within labels (B, n); the gap is infinite unless ``proven``."""
    options = labels, metric, method, tol, proven
    if is_traced(x, noise):
        return Assigned(*torch.ops.immiscible_fast.assign(x, noise, *options))
    return assigner(x, method).assign(x, noise, *options)


def assign_plain(x: Tensor, noise: Tensor, metric: str, method: str, tol: float) -> Tensor:
    """Index (n,) of two plain tensors (n, ...), see ``validation.is_plain_pair``, on the CPU."""
    return cpu.assign_plain(x, noise, metric, method, tol)


def columns(cost: Tensor, maximize: bool, limit: float, *, check: bool) -> Tensor:
    """Column of each row of (B, n, m) costs, (B, n), or -1; see ``cost_limit``."""
    if is_traced(cost):
        index: Tensor = torch.ops.immiscible_fast.columns(cost, maximize, limit, check)
        return index
    return backend(cost).columns(cost, maximize, limit, check)


array_pairs, complete_pairs = cpu.array_pairs, cpu.complete_pairs  # nothing traces arrays


def pairwise_cost(x: Tensor, y: Tensor, metric: str) -> Tensor:
    """Costs (B, n, m) of samples (B, n, D) and (B, m, D)."""
    if is_traced(x, y):
        cost: Tensor = torch.ops.immiscible_fast.pairwise_cost(x, y, metric)
        return cost
    return backend(x).cost_matrix(x, y, metric)


def _define(schema: str) -> Any:
    """Decorate the implementation of an op, which sees no gradients, with its schema, by which it
    is named; what is returned registers the shapes of its results."""
    name = f"immiscible_fast::{schema.partition('(')[0]}"

    def implemented(call):  # type: ignore[no-untyped-def]
        torch.library.define(name, schema[schema.index("(") :])
        torch.library.impl(name, "CompositeExplicitAutograd", call)
        if hasattr(torch.library, "register_vmap"):  # torch 2.4 loops instead
            torch.library.register_vmap(name, functools.partial(_vmapped, name))
        return functools.partial(torch.library.register_fake, name)

    return implemented


def _vmapped(name: str, info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
    """One call of the op for all those that ``vmap`` stands for, as a larger batch."""
    size = info.batch_size
    first = args[0] if in_dims[0] is None else args[0].movedim(in_dims[0], 0)[0]
    flat = []
    for value, dim in zip(args, in_dims, strict=True):
        if isinstance(value, Tensor):
            value = value.expand(size, *value.shape) if dim is None else value.movedim(dim, 0)
            value = value if first.ndim == 2 else value.flatten(0, 1)  # (n, m) is no batch yet
        flat.append(value)
    results = getattr(torch.ops.immiscible_fast, name.partition("::")[2])(*flat)
    parts = [results] if isinstance(results, Tensor) else results
    if first.ndim > 2:
        parts = [part.unflatten(0, (size, first.shape[0])) for part in parts]
    return (parts[0], 0) if isinstance(results, Tensor) else (tuple(parts), (0,) * len(parts))


@_define("solve(Tensor cost, str method, float tol) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")
def _solve_op(cost, method, tol):  # type: ignore[no-untyped-def]
    return tuple(backend(cost, method, traced=True).solve(cost, method, tol))


@_solve_op
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
    "assign(Tensor x, Tensor noise, Tensor? labels, str metric, str method, float tol,"
    " bool proven=False) -> (Tensor, Tensor, Tensor)"
)
def _assign_op(x, noise, labels, metric, method, tol, proven=False):  # type: ignore[no-untyped-def]
    solver = assigner(x, method, traced=True)
    return tuple(solver.assign(x, noise, labels, metric, method, tol, proven))


@_assign_op
def _(x, noise, labels, metric, method, tol, proven=False):  # type: ignore[no-untyped-def]
    index = x.new_empty(x.shape[0], x.shape[1], dtype=torch.int64)
    batch = x.shape[0]
    return index, x.new_empty(batch, dtype=torch.bool), x.new_empty(batch, dtype=torch.float64)


@_define("columns(Tensor cost, bool maximize, float limit, bool check) -> Tensor")
def _columns_op(cost, maximize, limit, check):  # type: ignore[no-untyped-def]
    return backend(cost, traced=True).columns(cost, maximize, limit, check)


@_columns_op
def _(cost, maximize, limit, check):  # type: ignore[no-untyped-def]
    return cost.new_empty(cost.shape[:2], dtype=torch.int64)


@_define("pairwise_cost(Tensor x, Tensor y, str metric) -> Tensor")
def _pairwise_op(x, y, metric):  # type: ignore[no-untyped-def]
    return backend(x, traced=True).cost_matrix(x, y, metric)


@_pairwise_op
def _(x, y, metric):  # type: ignore[no-untyped-def]
    wide = torch.float64 in (x.dtype, y.dtype)
    dtype = torch.float64 if wide else torch.float32
    return x.new_empty(x.shape[0], x.shape[1], y.shape[1], dtype=dtype)
