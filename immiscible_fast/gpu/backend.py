"""The GPU's backend: tensors in, tensors out, and nothing that waits for the device."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from immiscible_fast.kernels.gpu import launch
from immiscible_fast.kernels.gpu.launch import planned, properties
from immiscible_fast.kernels.gpu.problems import Problems

from .. import cost_limit, rectangular, validation
from ..metrics import METRICS
from ..types import Assigned, Assignment, Solution
from . import costs, solver
from .costs import assignment_cost
from .groups import sort_groups

P = ParamSpec("P")
R = TypeVar("R")


def on_its_device(function: Callable[P, R]) -> Callable[P, R]:
    """Launch on the device of the first argument, whichever is the current one, with the kernels
    that a call like this one had before."""

    @functools.wraps(function)
    def launching(*args: P.args, **options: P.kwargs) -> R:
        device = cast(Tensor, args[0]).device
        if device.type not in launch.PLANNED:
            return function(*args, **options)
        given = map(properties, (*args, *options.items()))
        key = function.__name__, *given
        here = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
        with here:
            return planned(key, function, *args, **options)

    return launching


@on_its_device
def solve(cost: Tensor, method: str, tol: float) -> Assignment:
    """Solve (n, m) or (B, n, m) costs of any real dtype; ``method`` as in ``solve_assignment``."""

    def solve_wide(cost: Tensor) -> Solution:
        batch, n, m = cost.shape
        if cost.stride(2) != 1:
            cost = cost.contiguous()
        found = solver.solve(Problems(cost), method, tol, proven=True)
        scale = found.units.scale
        return Solution(
            found.column.view(batch, n).to(torch.int64),
            found.proof.cost / scale,
            found.proof.bound / scale,
            found.converged,
            found.price.view(batch, m) / scale[:, None],
            found.proof.least.view(batch, n) / scale[:, None],
        )

    batch = _floating(cost if cost.ndim == 3 else cost.unsqueeze(0))
    answer = rectangular.solve(batch, solve_wide)[:5]
    return Assignment(*(answer if cost.ndim == 3 else [field.squeeze(0) for field in answer]))


@on_its_device
def assign(
    x: Tensor,
    noise: Tensor,
    labels: Tensor | None,
    metric: str,
    method: str,
    tol: float,
    proven: bool = False,
) -> Assigned:
    """Match samples (B, n, D) within labels (B, n); the gap is infinite unless ``proven``."""
    batch, n, _ = x.shape
    if x.numel() == 0 or n == 1:
        index = torch.arange(n, device=x.device).expand(batch, n).contiguous()
        gap = torch.zeros(batch, dtype=torch.float64, device=x.device)
        return Assigned(index, torch.ones(batch, dtype=torch.bool, device=x.device), gap)
    gap = torch.full((batch,), torch.inf, dtype=torch.float64, device=x.device)
    within = 0.0 if solver.is_exact(method, n) else tol
    if labels is None:
        problems = Problems(assignment_cost(x, noise, metric, within=within))
        found = solver.solve(problems, method, tol, proven=proven)
        index = found.column.view(batch, n).to(torch.int64)
        return Assigned(index, found.converged, _gap(found, metric) if proven else gap)
    order, first, last = sort_groups(labels)
    x = torch.take_along_dim(costs.multipliable(x), order[:, :, None], 1)
    noise = torch.take_along_dim(costs.multipliable(noise), order[:, :, None], 1)
    cost = assignment_cost(x, noise, metric, first, within=within)
    problems = Problems(cost, first.reshape(-1), last.reshape(-1))
    found = solver.solve(problems, method, tol, proven=proven)
    column = found.column.view(batch, n).to(torch.int64)
    index = torch.empty_like(order).scatter_(1, order, torch.gather(order, 1, column))
    if proven:
        begins = first == torch.arange(n, device=x.device)  # the slots that hold a group
        gap = torch.where(begins, _gap(found, metric).view(batch, n), 0).sum(1)
    return Assigned(index, found.converged.view(batch, n).all(1), gap)


def columns(cost: Tensor, maximize: bool, limit: float, check: bool) -> Tensor:
    """Column (B, n) of each row of (B, n, m) costs, or -1; see ``cost_limit``. Costs that cannot be
    solved raise SciPy's errors if ``check``, which waits for the answer."""
    given = _floating(cost)
    signed = -given if maximize else given
    answer = solve(cost_limit.clipped(signed, limit), "exact", 1.0)
    if check and not bool(answer.converged.all()):
        raise validation.unsolvable(signed)
    return cost_limit.kept(signed, answer.index, limit)


@on_its_device
def cost_matrix(x: Tensor, y: Tensor, metric: str) -> Tensor:
    """``pairwise_cost`` of (B, n, D) and (B, m, D) samples."""
    return costs.cost_matrix(x, y, metric)


def _floating(cost: Tensor) -> Tensor:
    """In a type that the kernels read."""
    if cost.is_floating_point() and cost.dtype.itemsize > 1:
        return cost
    return cost.to(torch.float32 if cost.is_floating_point() else torch.float64)


def _gap(found: solver.Solution, metric: str) -> Tensor:
    """Of each problem, in the units of the metric."""
    gap: Tensor = (found.proof.cost - found.proof.bound) / found.units.scale
    return METRICS[metric].unit * gap
