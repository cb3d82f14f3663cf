"""Costs of samples for the CPU's solvers: by torch, in eight bits where that pays."""

from __future__ import annotations

import torch
from torch import Tensor

from ..metrics import METRICS, working_dtype
from ..products import centred_product, product

LARGE_CONSTANTS = 300.0  # times the standard deviation: float32 keeps four digits of what is left
NEAR_OPTIMAL = ("auction", "sinkhorn")
QUANTISED_DTYPES = {torch.float32, torch.float16, torch.bfloat16}


class LargeConstants(Exception):
    """Constants of rows and columns outweigh what matters to an assignment."""


def most_constants(metric: str) -> float:
    """How large costs may be beside their standard deviation before ``LargeConstants`` is raised:
    only products can be centred."""
    return float("inf") if METRICS[metric].factor is None else LARGE_CONSTANTS


def assignment_cost(
    x: Tensor,
    noise: Tensor,
    metric: str,
    method: str = "exact",
    tol: float = 0.0,
    centred: bool = False,
) -> Tensor:
    """A square cost matrix with the same optimal assignments as ``metric``. What is a product is
    centred if it has to be: (x - mean x).(e - mean e) is the doubly centred x.e. For a near-optimal
    method it may be rounded, by much less than ``tol`` allows.
    """
    definition, dtype = METRICS[metric], working_dtype(x, noise)
    if definition.factor is None:
        return definition.matrix(x, noise, dtype)
    x, noise = definition.factors(x, noise, dtype)
    if centred or method == "scipy":  # which cannot say that it would be better to be centred
        return centred_product(x, noise, dtype, definition.factor)
    if method in NEAR_OPTIMAL and x.is_cpu and {x.dtype, noise.dtype} <= QUANTISED_DTYPES:
        from . import int8

        if int8.pays(x.shape[1], x.shape[2], tol):
            cost = int8.product(x, noise, definition.factor, tol)
            if cost is not None:
                return cost
    return product(x, noise, dtype, definition.factor)
