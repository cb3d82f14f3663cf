"""Costs of samples by the kernels of ``kernels/gpu/pairwise.py``; in float64, by torch."""

from __future__ import annotations

import torch
from torch import Tensor

from immiscible_fast.kernels.gpu.launch import AMD, capability
from immiscible_fast.kernels.gpu.pairwise import pairwise

from .. import metrics
from ..metrics import METRICS, Definition

# Near-optimal methods take products of samples that are rounded to bfloat16, where it is one pass
# instead of three that matters, and no finer tolerance asks for better costs.
LEAST_TOL = 0.005
ROUNDED_FROM = 1 << 28  # n n D: rounding takes two launches more

# Capabilities whose cores make three TF32 products in no less time than one of float32.
PLAIN_FLOAT32 = (AMD, (8, 6), (8, 9), (12, 0), (12, 1))


def cost_matrix(x: Tensor, y: Tensor, metric: str) -> Tensor:
    """``pairwise_cost`` of (B, n, D) and (B, m, D) samples."""
    definition = METRICS[metric]
    if torch.float64 in (x.dtype, y.dtype) or definition.epilogue is None:
        return metrics.cost_matrix(x, y, metric)
    return _by_epilogue(multipliable(x), multipliable(y), definition)


def assignment_cost(
    x: Tensor, noise: Tensor, metric: str, first: Tensor | None = None, *, within: float = 0.0
) -> Tensor:
    """Square costs (B, n, n), in units of ``Definition.unit``, with the same optimal assignments as
    ``metric``; with ``first`` (B, n), see ``gpu.groups``, of pairs within a group alone. For an
    assignment ``within`` a tolerance, large products may be of rounded samples.

    Products stand for metrics that have one, of samples less their means.
    """
    definition = METRICS[metric]
    if torch.float64 in (x.dtype, noise.dtype):
        return _in_float64(x.to(torch.float64), noise.to(torch.float64), definition)
    if definition.factor is None and definition.epilogue is None:
        return metrics.cost_matrix(x, noise, metric)
    x, noise = multipliable(x), multipliable(noise)
    prepares = definition.prepared is not None and definition.epilogue is not None
    if definition.factor is None or prepares:
        return _by_epilogue(x, noise, definition, first)
    x, noise = definition.factors(x, noise, torch.float32)
    batch, n, dim = x.shape
    rounded = within >= LEAST_TOL and batch * n * n * dim >= ROUNDED_FROM
    return _launch(x, noise, "dot", _mean(x), _mean(noise), first, rounded=rounded)


def multipliable(x: Tensor) -> Tensor:
    """In a type that the kernels or torch can multiply: float8 is too narrow."""
    return x.to(torch.float32) if x.dtype.itemsize == 1 else x


def precision(device: torch.device) -> str:
    """TF32 only if torch may use it, too; else three of them, which are as good as float32, or that
    itself where it is as fast."""
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # once that is set, the older name raises
        allowed = matmul.fp32_precision == "tf32"
    else:
        allowed = torch.get_float32_matmul_precision() != "highest"
    if allowed:
        return "tf32"
    return "ieee" if capability(device) in PLAIN_FLOAT32 else "tf32x3"


def _in_float64(x: Tensor, noise: Tensor, definition: Definition) -> Tensor:
    if definition.factor is None:
        return torch.cdist(x, noise, definition.order, "donot_use_mm_for_euclid_dist")
    x, noise = definition.factors(x, noise, torch.float64)
    return -((x - x.mean(1, keepdim=True)) @ (noise - noise.mean(1, keepdim=True)).mT)


def _by_epilogue(
    x: Tensor, y: Tensor, definition: Definition, first: Tensor | None = None
) -> Tensor:
    assert definition.epilogue is not None
    shift = _mean(x) if definition.shifted and x.shape[1] > 0 else None
    return _launch(x, y, definition.epilogue, shift, shift, first)


def _mean(x: Tensor) -> Tensor:
    return x.mean(1, dtype=torch.float32)


def _launch(
    x: Tensor,
    y: Tensor,
    epilogue: str,
    shift_x: Tensor | None,
    shift_y: Tensor | None,
    first: Tensor | None,
    *,
    rounded: bool = False,
) -> Tensor:
    out = torch.empty(*x.shape[:2], y.shape[1], dtype=torch.float32, device=x.device)
    pairwise(
        x,
        y,
        out,
        metric=epilogue,
        precision="bf16" if rounded else precision(x.device),
        shift_x=shift_x,
        shift_y=shift_y,
        group=first,
    )
    return out
