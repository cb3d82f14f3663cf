"""``fast_assign`` and ``assign_noise``: noise matched to the nearest images of its batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import validation
from .assignment import DEFAULT_TOL, as_solver_array, solve_wide
from .pairwise import (
    centred_product,
    cost_matrix,
    flatten_samples,
    normalized,
    working_dtype,
)


def fast_assign(
    x: Tensor,
    noise: Tensor,
    *,
    metric: str = "sqeuclidean",
    method: str = "auto",
    tol: float = DEFAULT_TOL,
    labels: Any = None,
    features: Callable[[Tensor], Tensor] | None = None,
    mask: Tensor | None = None,
    batched: bool = False,
) -> Tensor:
    """Match each image of a batch with one noise, so that their total distance is minimal.

    Parameters
    ----------
    x, noise : Tensor, shape (n, ...) or, with ``batched``, (B, n, ...)
        Images and as many noises, of any float dtype, on one device.
    metric : str
        Distance that is summed: "sqeuclidean", "euclidean" (the paper's code), "dot", "cosine" or
        "manhattan"; see ``pairwise_cost``. "dot" gives the same assignment as "sqeuclidean".
    method : str
        "auto" (exact), "exact", "auction", "sinkhorn" or "scipy"; see ``solve_assignment``.
    tol : float
        Tolerance of "auction" and "sinkhorn"; see ``solve_assignment``.
    labels : integers, shape (n,) or (B, n), optional
        Group of each image. A noise stays in the group of the image that it was drawn for, so a
        class-conditional model sees the whole Gaussian in every class.
    features : callable, optional
        Applied to ``x`` and to ``noise`` alike before the cost, and to nothing else: a crop, a
        projection. It must keep the number of samples.
    mask : Tensor, optional
        Weights >= 0 of the coordinates that the cost sees, broadcast to the shape of one sample
        (of one feature, if ``features`` is given): sum_d w_d (x_d - e_d)^2, and so on.
    batched : bool
        Whether the first dimension numbers independent problems.

    Returns
    -------
    Tensor, shape (n,) or (B, n), int64, on the device of ``x``
        ``noise[index]`` is paired with ``x``. Always a bijection: each noise is used once.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it got and what it wants. NaN and infinities are refused.

    Notes
    -----
    |x - e|^2 = |x|^2 + |e|^2 - 2 x.e, and constants of a row or a column change no assignment, so
    for squared distances one product of the centred samples is the whole cost.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[0.0], [5.0], [9.0]])
    >>> noise = torch.tensor([[8.0], [1.0], [4.0]])
    >>> fast_assign(x, noise)
    tensor([1, 2, 0])
    >>> fast_assign(x, noise, labels=[0, 0, 1])
    tensor([1, 0, 2])

    References
    ----------
    Y. Li et al., "Immiscible Diffusion: Accelerating Diffusion Training with Noise Assignment",
    NeurIPS 2024, arXiv 2406.12303.
    """
    validation.check_choice("metric", metric, validation.METRICS)
    validation.check_choice("method", method, validation.METHODS)
    tol = validation.check_tolerance(tol)
    images, noises = validation.check_pair("x", x, "noise", noise, batched, same_count=True)
    validation.check_data("x", images)
    groups = None
    if labels is not None:
        groups = validation.check_labels(labels, images.shape[: 1 + batched])
    plain = labels is None and features is None and mask is None
    if not plain or images.shape[int(batched)] < 2:  # else the solver finds what is not finite
        _check_finite(images, noises)
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        if features is not None:
            images, noises = validation.call_features(features, images, noises, batched)
        sample_shape = images.shape[1 + batched :]
        images, noises = flatten_samples(images, noises, batched)
        if mask is not None:
            weights = validation.check_mask(mask, sample_shape, images).reshape(-1)
            images, noises = _weighted(images, noises, weights, metric)
        if not batched:
            images, noises = images[None], noises[None]
            groups = groups[None] if groups is not None else None
        if groups is None:
            index = _assign(images, noises, metric, method, tol)
        else:
            index = _assign_groups(images, noises, groups, metric, method, tol)
    return index if batched else index[0]


def assign_noise(x: Tensor, noise: Tensor, *, batched: bool = False, **options: Any) -> Tensor:
    """The noise itself, permuted so that ``result[i]`` is paired with ``x[i]``.

    Parameters
    ----------
    x, noise : Tensor, shape (n, ...) or, with ``batched``, (B, n, ...)
        See ``fast_assign``. Neither is modified.
    batched : bool
        Whether the first dimension numbers independent problems.
    **options
        Other options of ``fast_assign``.

    Returns
    -------
    Tensor
        Shape, dtype and device of ``noise``. Use it to corrupt ``x`` *and* as the target.

    Raises
    ------
    TypeError, ValueError
        As ``fast_assign``.

    Examples
    --------
    >>> import torch
    >>> assign_noise(torch.tensor([[0.0], [5.0]]), torch.tensor([[4.0], [1.0]]))
    tensor([[1.],
            [4.]])
    """
    index = fast_assign(x, noise, batched=batched, **options)
    if not batched:
        return noise[index]
    batch = torch.arange(noise.shape[0], device=noise.device)[:, None]
    return noise[batch, index]


def _check_finite(x: Tensor, noise: Tensor) -> None:
    validation.check_values("x", x)
    validation.check_values("noise", noise)


def _weighted(x: Tensor, noise: Tensor, weights: Tensor, metric: str) -> tuple[Tensor, Tensor]:
    """Scale both so that the plain metric of the result is the weighted one of the inputs."""
    scale = weights if metric == "manhattan" else weights.sqrt()
    return x * scale, noise * scale


def _assign(x: Tensor, noise: Tensor, metric: str, method: str, tol: float) -> Tensor:
    """``fast_assign`` of checked (B, n, D) tensors: index (B, n)."""
    if x.numel() == 0 or x.shape[1] == 1:
        return torch.arange(x.shape[1], device=x.device).expand(x.shape[:2]).contiguous()
    costs = _assignment_cost(x, noise, metric)
    try:
        solution = solve_wide(as_solver_array(costs), method, tol)
    except ValueError as error:
        _check_finite(x, noise)
        raise ValueError(f"x and noise are too large, their {metric} cost overflows") from error
    return torch.from_numpy(solution.index).to(x.device)


def _assignment_cost(x: Tensor, noise: Tensor, metric: str) -> Tensor:
    """A square cost matrix with the same optimal assignments as ``metric``; what is a product is
    centred, which costs nothing: (x - mean x).(e - mean e) is the doubly centred x.e.
    """
    if metric in ("euclidean", "manhattan"):
        return cost_matrix(x, noise, metric)
    dtype = working_dtype(x, noise)
    if metric == "cosine":
        x, noise = normalized(x, dtype), normalized(noise, dtype)
    return centred_product(x, noise, dtype, -2.0 if metric == "sqeuclidean" else -1.0)


def _assign_groups(
    x: Tensor, noise: Tensor, labels: Tensor, metric: str, method: str, tol: float
) -> Tensor:
    """Assignment within equal labels (B, n): groups of one size are solved together, as one
    batch."""
    batch, n = labels.shape
    index = torch.arange(n, device=x.device).repeat(batch, 1)
    if labels.numel() == 0:
        return index
    labels = labels.to(x.device)
    _, group = torch.unique(labels, return_inverse=True)
    group = group + torch.arange(batch, device=x.device)[:, None] * (int(group.max()) + 1)
    flat = group.reshape(-1)
    order = torch.argsort(flat, stable=True)
    _, counts = torch.unique_consecutive(flat[order], return_counts=True)
    first = counts.cumsum(0) - counts
    x, noise = x.reshape(batch * n, -1), noise.reshape(batch * n, -1)
    result = index.reshape(-1)
    for size in torch.unique(counts).tolist():
        if size == 1:
            continue
        starts = first[counts == size]
        member = order[starts[:, None] + torch.arange(size, device=x.device)]  # (groups, size)
        local = _assign(x[member], noise[member], metric, method, tol)
        result[member] = torch.gather(member, 1, local) % n
    return index
