"""``fast_assign`` and ``assign_noise``: noise matched to the nearest images of its batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from typing_extensions import Unpack

from . import ops, validation
from .assignment import DEFAULT_TOL
from .backends.select import on_gpu
from .choices import METHODS, METRICS, Method, Metric
from .options import AssignOptions, Labels, check_options
from .pairwise import flatten_samples, outside_autocast, working_dtype


def fast_assign(
    x: Tensor,
    noise: Tensor,
    *,
    metric: Metric = "sqeuclidean",
    method: Method = "auto",
    tol: float = DEFAULT_TOL,
    labels: Labels | None = None,
    features: Callable[[Tensor], Tensor] | None = None,
    mask: Tensor | None = None,
    batched: bool = False,
    check: bool = False,
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
        "auto" (on a GPU, within ``tol`` if large), "exact", "auction", "sinkhorn" or "scipy";
        see ``solve_assignment``.
    tol : float
        Tolerance of the near-optimal methods; see ``solve_assignment``. On a CPU it refers to the
        cost as they compute it: for large batches of dot-product metrics in eight bits, if those
        are off by no more than 2 ``tol`` (and 0.05) standard deviations, as measured on a block
        of each call, and if ``tol`` is at least 0.005. See Notes.
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
    check : bool
        On a GPU, wait for the answer, and raise if the inputs are not finite. Without it the call
        never waits, and such inputs give some bijection.

    Returns
    -------
    Tensor, shape (n,) or (B, n), int64, on the device of ``x``
        ``noise[index]`` is paired with ``x``. Always a bijection: each noise is used once.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it got and what it wants. NaN and infinities are refused (on a
        GPU, if ``check``).

    Notes
    -----
    |x - e|^2 = |x|^2 + |e|^2 - 2 x.e, and constants of a row or a column change no assignment, so
    for squared distances one product is the whole cost: of the samples as they are or, where those
    constants would leave few digits of what matters, of the samples less their means.

    Products in eight bits ("auction" and "sinkhorn" on CPUs with AVX-512 VNNI, from n = 256 for
    each thread) cost the assignment itself 0.0004 standard deviations a row or less for images and
    Gaussian noise, 0.02 % of the gain, and 0.002 for the worst samples that were tried and not
    refused. "exact" never uses them, and ``solve_assignment`` takes its costs as they are.

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
    validation.check_choice("metric", metric, METRICS)
    validation.check_choice("method", method, METHODS)
    tol = validation.check_tolerance(tol)
    validation.check_flag("check", check)
    plain = features is None and mask is None
    one = plain and labels is None and batched is False
    if one and validation.is_plain_pair(x, noise) and not on_gpu(x):
        return ops.assign_plain(x, noise, metric, method, tol)
    images, noises = validation.check_pair("x", x, "noise", noise, batched, same_count=True)
    validation.check_data("x", images)
    groups = None
    if labels is not None:
        groups = validation.check_labels(labels, images.shape[: 1 + batched])
    if not plain or images.shape[int(batched)] < 2:  # else the solver finds what is not finite
        _check_finite(images, noises)
    with outside_autocast(images):
        if features is not None:
            with torch.no_grad():
                images, noises = validation.call_features(features, images, noises, batched)
        sample_shape = images.shape[1 + batched :]
        images, noises = flatten_samples(images, noises, batched)
        if mask is not None:
            weights = validation.check_mask(mask, sample_shape).reshape(-1)
            images, noises = _weighted(images, noises, weights, metric)
        if not batched:
            images, noises = images[None], noises[None]
            groups = groups[None] if groups is not None else None
        groups = groups.to(images.device, non_blocking=True) if groups is not None else None
        index, converged = ops.assign(images, noises, groups, metric, method, tol)
    if check and not validation.may_look(images):
        _check_finite(x, noise, even_on_gpu=True)
    if check and not bool(converged.all()):
        raise ValueError(f"x and noise are too large, their {metric} cost overflows")
    return index if batched else index[0]


def assign_noise(
    x: Tensor, noise: Tensor, *, batched: bool = False, **options: Unpack[AssignOptions]
) -> Tensor:
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
    check_options("assign_noise", options)
    index = fast_assign(x, noise, batched=batched, **options)
    if not batched:
        return noise[index]
    batch = torch.arange(noise.shape[0], device=noise.device)[:, None]
    return noise[batch, index]


def _check_finite(x: Tensor, noise: Tensor, even_on_gpu: bool = False) -> None:
    validation.check_values("x", x, even_on_gpu)
    validation.check_values("noise", noise, even_on_gpu)


def _weighted(x: Tensor, noise: Tensor, weights: Tensor, metric: str) -> tuple[Tensor, Tensor]:
    """Scale both so that the plain metric of the result orders pairs as the weighted one does.

    Weights count relative to the largest, which changes no assignment: equal ones change nothing.
    """
    if weights.numel() == 0:
        return x, noise
    largest = weights.max()
    relative = weights / torch.where(largest > 0, largest, torch.ones_like(largest))
    dtype = working_dtype(x, noise)
    scale = relative if metric == "manhattan" else relative.sqrt()
    scale = scale.to(device=x.device, dtype=dtype, non_blocking=True)
    return x.to(dtype) * scale, noise.to(dtype) * scale
