"""Images and noise, and their costs by the plain formulas, broadcast in float64."""

from __future__ import annotations

import torch

from immiscible_fast.metrics import METRICS  # noqa: F401

METHODS = ("auto", "exact", "auction", "sinkhorn", "scipy")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def draw(rng, *shape, dtype=torch.float64):
    return torch.from_numpy(rng.normal(size=shape)).to(dtype)


def naive(x, y, metric, weights=None):
    """Every pair on its own; x (..., n, D), y (..., m, D), weights (D,) inside the sums."""
    x, y = x.double()[..., :, None, :], y.double()[..., None, :, :]
    w = torch.ones(x.shape[-1], dtype=torch.float64) if weights is None else weights.double()
    if metric == "sqeuclidean":
        return (w * (x - y).square()).sum(-1)
    if metric == "euclidean":
        return (w * (x - y).square()).sum(-1).sqrt()
    if metric == "manhattan":
        return (w * (x - y).abs()).sum(-1)
    product = (w * x * y).sum(-1)
    if metric == "dot":
        return -product
    return 1 - product / ((w * x * x).sum(-1).sqrt() * (w * y * y).sum(-1).sqrt())


def total(cost, index):
    """Sum of the costs (n, m) of the pairs of ``index`` (n,)."""
    return float(cost.gather(-1, index[..., None]).sum())


def assert_bijection(index, n):
    assert index.dtype == torch.int64
    assert torch.equal(index.sort(-1).values, torch.arange(n).expand(index.shape))
