"""What a metric is, in one table: to add one, name it in ``Metric`` and define it in ``METRICS``.

1. Some are ``factor`` x.y, of samples as they are or ``prepared``, but for terms of a row or of a
   column alone, which change no assignment of n to n. What solves takes that product for the
   costs, of samples less their means where digits would be lost.
2. The others are norms |x - y| of an ``order``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .products import large_mean, normalized, product, square_norms

Metric = Literal["sqeuclidean", "euclidean", "dot", "cosine", "manhattan"]

NARROW = 128  # coordinates; so few are copied with their norms beside them, for one product


def working_dtype(x: Tensor, y: Tensor) -> torch.dtype:
    """Costs are computed in float64 if either input is, else in float32."""
    return torch.float64 if torch.float64 in (x.dtype, y.dtype) else torch.float32


@dataclass(frozen=True)
class Definition:
    """What is to be known of a metric. Samples are (..., n, D) and (..., m, D)."""

    matrix: Callable[[Tensor, Tensor, torch.dtype], Tensor]  # costs (..., n, m): the reference
    pairs: Callable[[Tensor, Tensor], Tensor]  # costs (..., n) of x_i with y_i, in their type
    factor: float | None = None  # of the product (1); None: a norm (2)
    prepared: Callable[[Tensor, torch.dtype], Tensor] | None = None  # samples for the product
    order: float = 2.0  # of the norm; weights of coordinates w_d scale them by w_d ** (1 / order)
    epilogue: str | None = None  # of kernels/gpu/pairwise.py; None: a GPU takes ``matrix``
    shifted: bool = False  # whether that kernel keeps more digits of samples less a common mean

    @property
    def unit(self) -> float:
        """How much of the metric is one of -x.y, (1), or of what else stands for it."""
        return 1.0 if self.factor is None else -self.factor

    def factors(self, x: Tensor, y: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Samples for the product (1), in ``dtype`` if they had to be prepared."""
        if self.prepared is None:
            return x, y
        return self.prepared(x, dtype), self.prepared(y, dtype)


def _sqeuclidean(x: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
    shift = large_mean(x, dtype) if x.shape[-2] > 0 else None
    square_x, square_y = square_norms(x, dtype, shift), square_norms(y, dtype, shift)
    return product(x, y, dtype, -2, shift, shift, square_y.mT).add_(square_x).clamp_(min=0)


def _euclidean(x: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
    if x.shape[-1] > NARROW or x.device.type != "cpu":
        return _sqeuclidean(x, y, dtype).sqrt_()
    shift = large_mean(x, dtype) if x.shape[-2] > 0 else None
    x, y = x.to(dtype), y.to(dtype)
    return torch.cdist(x, y) if shift is None else torch.cdist(x - shift, y - shift)


def _cosine(x: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
    return product(normalized(x, dtype), normalized(y, dtype), dtype, -1).add_(1)


def _cosine_pairs(x: Tensor, y: Tensor) -> Tensor:
    return 1 - (normalized(x, x.dtype) * normalized(y, y.dtype)).sum(-1)


METRICS: dict[str, Definition] = {
    "sqeuclidean": Definition(
        matrix=_sqeuclidean,
        pairs=lambda x, y: (x - y).square().sum(-1),
        factor=-2.0,
        epilogue="sqeuclidean",
        shifted=True,
    ),
    "euclidean": Definition(
        matrix=_euclidean,
        pairs=lambda x, y: (x - y).square().sum(-1).sqrt(),
        epilogue="euclidean",
        shifted=True,
    ),
    "dot": Definition(
        matrix=lambda x, y, dtype: product(x, y, dtype, -1),
        pairs=lambda x, y: -(x * y).sum(-1),
        factor=-1.0,
        epilogue="dot",
    ),
    "cosine": Definition(
        matrix=_cosine,
        pairs=_cosine_pairs,
        factor=-1.0,
        prepared=normalized,
        epilogue="cosine",
    ),
    "manhattan": Definition(
        matrix=lambda x, y, dtype: torch.cdist(x.to(dtype), y.to(dtype), p=1),
        pairs=lambda x, y: (x - y).abs().sum(-1),
        order=1.0,
        epilogue="manhattan",
    ),
}


def cost_matrix(x: Tensor, y: Tensor, metric: str) -> Tensor:
    """``pairwise_cost`` of checked (..., n, D) and (..., m, D) tensors: the reference."""
    return METRICS[metric].matrix(x, y, working_dtype(x, y))


def pair_costs(x: Tensor, noise: Tensor, metric: str) -> Tensor:
    """Cost (B, n) of each sample with its noise, both (B, n, D); see ``pairwise_cost``."""
    dtype = working_dtype(x, noise)
    return METRICS[metric].pairs(x.to(dtype), noise.to(dtype))


def weighted(x: Tensor, noise: Tensor, weights: Tensor, metric: str) -> tuple[Tensor, Tensor]:
    """Scale both so that the plain metric of the result orders pairs as the weighted one does.

    Weights count relative to the largest, which changes no assignment: equal ones change nothing.
    """
    if weights.numel() == 0:
        return x, noise
    largest = weights.max()
    relative = weights / torch.where(largest > 0, largest, torch.ones_like(largest))
    dtype = working_dtype(x, noise)
    scale = relative ** (1 / METRICS[metric].order)
    scale = scale.to(device=x.device, dtype=dtype, non_blocking=True)
    return x.to(dtype) * scale, noise.to(dtype) * scale
