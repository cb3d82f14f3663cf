"""``pairwise_cost``: samples in, the costs of their pairs out."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import ops
from ..metrics import METRICS, Metric
from ..samples import flatten_samples, outside_autocast
from ..validation import check_choice, check_data, check_pair


def pairwise_cost(
    x: Tensor, y: Tensor, *, metric: Metric = "sqeuclidean", batched: bool = False
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
    Euclidean distances are taken from |x|^2 + |y|^2 - 2 x.y. Where the mean of ``x`` outweighs the
    deviations from it by far, it is subtracted from both first: that changes no distance and keeps
    the digits that a common offset would cost.

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
    check_data("x", first)
    with torch.no_grad(), outside_autocast(first):
        x, y = flatten_samples(first, second, batched)
        if not batched:
            return ops.pairwise_cost(x[None], y[None], metric)[0]
        return ops.pairwise_cost(x, y, metric)
