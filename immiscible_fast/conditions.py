"""Conditions: noise is kept near images whose captions or classes are like those that it was drawn
for.

1. Noise j was drawn with image j, and so stands for its condition c_j. To pair image i with it
   costs w (1 - cos(c_i, c_j)) beside their distance, or w [c_i != c_j] for classes.
2. With w = 0 that is the plain assignment, which lets the noise of one condition be unlike that of
   another; with w large each noise stays with its own condition.
3. The cost d(w) of the distances alone grows with w from d(0) to that of a noise that stays in
   its condition. The share of the gain that is kept,
   (d(as drawn) - d(w)) / (d(as drawn) - d(0)), falls with w, so that bisection finds the largest
   w, up to its resolution, at which a wanted share of the gain is kept.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from . import ops, validation
from .metrics import METRICS, working_dtype
from .products import mean

HALVINGS = 10  # of the search for a weight, each a solve


class Conditions(NamedTuple):
    """Embeddings (B, n, C) or classes (B, n), and the weight, or the share of the gain to keep."""

    values: Tensor
    weight: Tensor | None
    share: float | None


# index (B, n), and for each problem (B,) whether it converged, its gap, and the weight
Conditioned: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


def check_conditions(
    conditions: Any, weight: Any, share: Any, lead: torch.Size, device: torch.device
) -> Conditions | None:
    """The arguments of ``fast_assign``, for samples of leading sizes (n,) or (B, n)."""
    if conditions is None:
        for name, value in (("condition_weight", weight), ("condition_share", share)):
            if value is not None:
                raise ValueError(f"{name} must come with conditions, which are not given")
        return None
    if (weight is None) == (share is None):
        given = "neither" if weight is None else "both"
        raise ValueError(f"condition_weight or condition_share must be given, got {given}")
    values = validation.check_numbers("conditions", conditions)
    values = validation.check_tensor("conditions", values)
    validation.check_data("conditions", values)
    classes = not (values.is_floating_point() or values.is_complex())
    if classes:
        values = validation.check_labels(values, lead, "conditions")
    elif values.shape[:-1] != lead:
        wanted = ", ".join(map(str, lead))
        raise ValueError(f"conditions must have shape ({wanted}, C), got {tuple(values.shape)}")
    else:
        validation.check_floating("conditions", values)
        validation.check_values("conditions", values)
    values = values.to(device, non_blocking=True)
    values = values if len(lead) == 2 else values[None]
    if share is not None:
        share = validation.check_number("condition_share", share)
        if not 0 <= share <= 1:
            raise ValueError(f"condition_share must lie in [0, 1], got {share}")
        return Conditions(values, None, share)
    return Conditions(values, _checked_weight(weight).to(device, non_blocking=True), None)


def assign_with_conditions(
    x: Tensor,
    noise: Tensor,
    labels: Tensor | None,
    conditions: Conditions,
    metric: str,
    method: str,
    tol: float,
) -> Conditioned:
    """Assign samples (B, n, D), within labels (B, n), at the least sum of both costs."""
    cost = _assignment_cost(x, noise, metric)
    if labels is not None:
        cost.masked_fill_(labels[:, :, None] != labels[:, None, :], float("inf"))
    extra = _condition_cost(conditions.values).to(cost.dtype)
    if conditions.weight is not None:
        weight = conditions.weight.to(torch.float64).expand(len(cost))
        answer = ops.solve(_weighted(cost, weight, extra), method, tol)
        return answer.index, answer.converged, answer.gap, weight
    assert conditions.share is not None
    return _with_share(cost, extra, conditions.share, method, tol)


def _with_share(cost: Tensor, extra: Tensor, share: float, method: str, tol: float) -> Conditioned:
    """Point 3, without looking at a value: w is the ratio of the spreads of both costs times
    s / (1 - s), and s is halved into."""
    answer = ops.solve(cost, method, tol)
    index, converged, gap = answer.index, answer.converged, answer.gap
    drawn = cost.diagonal(dim1=1, dim2=2).sum(1, dtype=torch.float64)
    least = _paid(cost, index)
    scale = _spread(cost) / _spread(extra).clamp(min=torch.finfo(torch.float64).tiny)
    scale = torch.where(scale < torch.finfo(cost.dtype).max / 4**HALVINGS, scale, 0)
    low, high = torch.zeros_like(drawn), torch.ones_like(drawn)
    weight = torch.zeros_like(drawn)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        tried = scale * middle / (1 - middle)
        answer = ops.solve(_weighted(cost, tried, extra), method, tol)
        kept = drawn - _paid(cost, answer.index) >= share * (drawn - least)
        low, high = torch.where(kept, middle, low), torch.where(kept, high, middle)
        weight = torch.where(kept, tried, weight)
        index = torch.where(kept[:, None], answer.index, index)
        converged = torch.where(kept, answer.converged, converged)
        gap = torch.where(kept, answer.gap, gap)
    return index, converged, gap, weight


def _assignment_cost(x: Tensor, noise: Tensor, metric: str) -> Tensor:
    """Costs (B, n, n) that differ from those of the metric by constants of rows and columns: of
    products, those of samples less their means keep more digits."""
    definition, dtype = METRICS[metric], working_dtype(x, noise)
    if definition.factor is None or x.shape[1] == 0:
        return ops.pairwise_cost(x, noise, metric)
    samples = definition.factors(x, noise, dtype)
    x, noise = (part.to(dtype) - mean(part, dtype) for part in samples)
    return ops.pairwise_cost(x, noise, "dot") * definition.unit


def _condition_cost(values: Tensor) -> Tensor:
    """Point 1, (B, n, n)."""
    if values.is_floating_point():
        return ops.pairwise_cost(values, values, "cosine")
    return values[:, :, None] != values[:, None, :]


def _weighted(cost: Tensor, weight: Tensor, extra: Tensor) -> Tensor:
    return cost + weight.to(cost.dtype)[:, None, None] * extra


def _paid(cost: Tensor, index: Tensor) -> Tensor:
    pairs = torch.take_along_dim(cost, index[:, :, None], 2)
    return pairs.sum((1, 2), dtype=torch.float64)


def _spread(cost: Tensor) -> Tensor:
    """Standard deviation (B,) of the costs that are finite."""
    finite = cost.isfinite()
    count = finite.sum((1, 2)).clamp(min=1)
    wide = torch.where(finite, cost, 0).to(torch.float64)
    mean = wide.sum((1, 2)) / count
    deviation = torch.where(finite, wide - mean[:, None, None], 0)
    return (deviation.square().sum((1, 2)) / count).sqrt()


def _checked_weight(weight: Any) -> Tensor:
    if isinstance(weight, Tensor):
        tensor = validation.check_floating("condition_weight", weight)
        if tensor.ndim > 0:
            raise ValueError(f"condition_weight must be one number, got {tuple(tensor.shape)}")
    else:
        number = validation.check_number("condition_weight", weight)
        tensor = torch.tensor(number, dtype=torch.float64)
    if validation.may_look(tensor) and not bool(((tensor >= 0) & tensor.isfinite()).all()):
        raise ValueError(f"condition_weight must be >= 0 and finite, got {weight}")
    return tensor.to(torch.float64)
