"""Pairwise cost matrices: the readable reference, as fast as torch's own products allow."""

from __future__ import annotations

import torch
from torch import Tensor

from .validation import METRICS, check_choice, check_pair


def pairwise_cost(
    x: Tensor, y: Tensor, *, metric: str = "sqeuclidean", batched: bool = False
) -> Tensor:
    """Cost of pairing every sample of ``x`` with every sample of ``y``.

    Parameters
    ----------
    x : Tensor, shape (n, ...) or, with ``batched``, (B, n, ...)
        Any float dtype; the trailing sizes are flattened.
    y : Tensor, shape (m, ...) or (B, m, ...)
        The same device and trailing sizes as ``x``.
    metric : str
        ``"sqeuclidean"`` |x-y|^2, ``"euclidean"`` |x-y|, ``"manhattan"`` sum |x_d - y_d|,
        ``"dot"`` -x.y and ``"cosine"`` 1 - x.y / (|x| |y|). All are costs: less is better.
    batched : bool
        Whether the first dimension numbers independent problems.

    Returns
    -------
    Tensor, shape (n, m) or (B, n, m)
        float64 if either input is, else float32; sums are accumulated in that type, whatever
        the inputs' type, and outside autocast. No gradient flows through it.

    Raises
    ------
    TypeError
        If an input is not a dense floating-point tensor.
    ValueError
        If shapes or devices do not fit, or ``metric`` is unknown.

    Notes
    -----
    Euclidean distances are taken from |x|^2 + |y|^2 - 2 x.y after the mean of ``x`` was subtracted
    from both, which changes no distance and keeps the digits that a common offset would cost.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    >>> pairwise_cost(x, x, metric="euclidean")
    tensor([[0., 5.],
            [5., 0.]])
    """
    check_choice("metric", metric, METRICS)
    first, second = check_pair("x", x, "y", y, batched)
    with torch.no_grad(), torch.autocast(first.device.type, enabled=False):
        return cost_matrix(*flatten_samples(first, second, batched), metric)


def flatten_samples(x: Tensor, y: Tensor, batched: bool) -> tuple[Tensor, Tensor]:
    """Both as (B, n, D) or (n, D), in float64 if either is, else in float32."""
    wide = torch.float64 in (x.dtype, y.dtype)
    dtype = torch.float64 if wide else torch.float32
    size = x.shape[1 + batched :].numel()
    return (
        x.to(dtype).reshape(*x.shape[: 1 + batched], size),
        y.to(dtype).reshape(*y.shape[: 1 + batched], size),
    )


def cost_matrix(x: Tensor, y: Tensor, metric: str) -> Tensor:
    """``pairwise_cost`` of checked (..., n, D) and (..., m, D) float32 or float64 tensors."""
    if metric == "manhattan":
        return torch.cdist(x, y, p=1)
    if metric == "dot":
        return -(x @ y.mT)
    if metric == "cosine":
        return 1 - normalized(x) @ normalized(y).mT
    if x.shape[-2] > 0:
        mean = x.mean(-2, keepdim=True)
        x, y = x - mean, y - mean
    square = _squared_distances(x, y)
    return square.sqrt_() if metric == "euclidean" else square


def normalized(x: Tensor) -> Tensor:
    """Rows of length one; a zero row stays zero, so that its cosine with anything is 0."""
    return torch.nn.functional.normalize(x, dim=-1, eps=torch.finfo(x.dtype).tiny)


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    square_x = (x * x).sum(-1, keepdim=True)
    square_y = (y * y).sum(-1, keepdim=True)
    cost = torch.matmul(x, y.mT).mul_(-2)
    return cost.add_(square_x).add_(square_y.mT).clamp_(min=0)
