"""``fast_assign``: noise matched to the nearest images of its batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal, overload

import torch
from torch import Tensor
from typing_extensions import Unpack

from .. import ops, validation
from ..choices import DEFAULT_TOL, METHODS, Method
from ..conditions import assign_with_conditions, check_conditions
from ..devices import on_gpu
from ..metrics import METRICS, Metric, weighted
from ..samples import flatten_samples, outside_autocast
from ..statistics import AssignmentStats, statistics
from ..streaming import memory
from .options import AssignOptions, ConditionsLike, Group, Labels


@overload
def fast_assign(
    x: Tensor,
    noise: Tensor,
    *,
    batched: bool = False,
    return_stats: Literal[False] = False,
    **options: Unpack[AssignOptions],
) -> Tensor: ...


@overload
def fast_assign(
    x: Tensor,
    noise: Tensor,
    *,
    batched: bool = False,
    return_stats: Literal[True],
    **options: Unpack[AssignOptions],
) -> tuple[Tensor, AssignmentStats]: ...


def fast_assign(
    x: Tensor,
    noise: Tensor,
    *,
    metric: Metric = "sqeuclidean",
    method: Method = "auto",
    tol: float = DEFAULT_TOL,
    labels: Labels | None = None,
    conditions: ConditionsLike | None = None,
    condition_weight: float | Tensor | None = None,
    condition_share: float | None = None,
    features: Callable[[Tensor], Tensor] | None = None,
    mask: Tensor | None = None,
    batched: bool = False,
    check: bool = False,
    return_stats: bool = False,
    process_group: Group | None = None,
    max_memory: float | None = None,
) -> Tensor | tuple[Tensor, AssignmentStats]:
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
        see ``solve_assignment``. "streaming" is within ``tol`` without the n x n matrix, for any n
        that fits as samples; "auto" is that where the matrix would not fit into ``max_memory``.
    tol : float
        Tolerance of the near-optimal methods; see ``solve_assignment``. On a CPU it refers to the
        cost as they compute it: for large batches of dot-product metrics in eight bits, if those
        are off by no more than 2 ``tol`` (and 0.05) standard deviations, as measured on a block
        of each call, and if ``tol`` is at least 0.005. See Notes.
    labels : integers, shape (n,) or (B, n), optional
        Group of each image. A noise stays in the group of the image that it was drawn for, so a
        class-conditional model sees the whole Gaussian in every class.
    conditions : floats (n, C) or (B, n, C), or integers (n,) or (B, n), optional
        Embeddings of captions, say, or classes. To give an image a noise that was drawn for another
        one costs ``condition_weight`` times 1 - the cosine of both embeddings, or times 1 if the
        classes differ: a soft kind of ``labels``, for captions and for many classes.
    condition_weight : float or Tensor of one number, optional
        In units of the metric; 0 is to leave the conditions out, and with a large one no noise goes
        to another condition.
    condition_share : float, optional
        In its place: search for the largest weight, for each problem, at which this share of the
        gain (the cost that is saved without conditions) is kept, 0 to 1. The search solves eleven
        problems for one, so do it now and then, and pass on the ``condition_weight`` of the
        statistics.
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
    return_stats : bool
        Whether to return statistics, too; see ``AssignmentStats``. That takes a pass over the
        pairs, and over the costs to prove the gap, and waits for nothing.
    process_group : torch.distributed.ProcessGroup or DeviceMesh of one dimension, optional
        One assignment over the batches of all ranks of the group. What is given is this rank's,
        of any number of rows, and the options are the same on all ranks. Every rank has to call,
        and waits for the others. With ``method="sinkhorn"``, and "auto" from n > 32,768, ranks
        share the costs of plain problems, within ``tol``; see docs/distributed.md.
    max_memory : float, optional
        Bytes that "auto" may take for a cost matrix and its solver; None: half of what is free (on
        a GPU, of what it has in all) or, with a ``process_group``, as many as it wants.
        "streaming" takes some 600 bytes a sample and 200 MB beyond the samples.

    Returns
    -------
    Tensor, shape (n,) or (B, n), int64, on the device of ``x``
        ``noise[index]`` is paired with ``x``. Always a bijection: each noise is used once. With a
        ``process_group``, the part of it that belongs to this rank's images, and an index into
        the noise of all ranks, one after another.
    AssignmentStats
        If ``return_stats``: costs before and after, share of noises that moved, gap (of the costs
        as they were computed, rounded products and conditions included), largest group; with a
        ``process_group``, of the batch of all ranks.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it got and what it wants. NaN and infinities are refused (on a
        GPU, if ``check``). With a ``process_group`` every rank raises, if one does, if options
        differ or if anything is not finite.
    RuntimeError
        If a rank of the ``process_group`` raised something, died, or did not come within the
        group's time-out.

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
    H. K. Cheng, A. Schwing, "The Curse of Conditions: Analyzing and Improving Optimal Transport for
    Conditional Flow-Based Generation", arXiv 2503.10636 (the cost of conditions).
    """
    if process_group is not None:
        from ..distributed.replicated import assign_over_ranks

        options: AssignOptions = {
            "metric": metric, "method": method, "tol": tol, "labels": labels,
            "conditions": conditions, "condition_weight": condition_weight,
            "condition_share": condition_share, "features": features, "mask": mask, "check": check,
            "max_memory": max_memory,
        }  # fmt: skip
        index, _, all_stats = assign_over_ranks(
            fast_assign, "fast_assign", x, noise, process_group, batched, return_stats, options
        )
        return index if all_stats is None else (index, all_stats)
    validation.check_choice("metric", metric, METRICS)
    validation.check_choice("method", method, METHODS)
    tol = validation.check_positive("tol", tol)
    validation.check_flag("check", check)
    plain = features is None and mask is None
    unconditioned = conditions is None and condition_weight is None and condition_share is None
    one = plain and unconditioned and labels is None and batched is False and return_stats is False
    one = one and method != "streaming" and max_memory is None
    if one and validation.is_plain_pair(x, noise) and x.shape[0] < memory.LARGE and not on_gpu(x):
        return ops.assign_plain(x, noise, metric, method, tol)
    images, noises = validation.check_pair("x", x, "noise", noise, batched, same_count=True)
    validation.check_data("x", images)
    groups = None
    if labels is not None:
        groups = validation.check_labels(labels, images.shape[: 1 + batched])
    soft = check_conditions(
        conditions, condition_weight, condition_share, images.shape[: 1 + batched], images.device
    )
    validation.check_flag("return_stats", return_stats)
    max_memory = _check_max_memory(max_memory)
    if method == "streaming" and soft is not None:
        raise ValueError("conditions cannot be had with method='streaming'")
    if method == "auto" and soft is None and memory.too_large(images, groups, batched, max_memory):
        method = "streaming"
    _warn_if_nothing_can_move(images, groups, batched)
    solver_looks = plain and soft is None and images.shape[int(batched)] > 1
    if not solver_looks:  # for what is not finite
        validation.check_finite(images, noises)
    with outside_autocast(images):
        if features is not None:
            with torch.no_grad():
                images, noises = validation.call_features(features, images, noises, batched)
        sample_shape = images.shape[1 + batched :]
        images, noises = flatten_samples(images, noises, batched)
        if mask is not None:
            weights = _check_mask(mask, sample_shape).reshape(-1)
            images, noises = weighted(images, noises, weights, metric)
        if not batched:
            images, noises = images[None], noises[None]
            groups = groups[None] if groups is not None else None
        groups = groups.to(images.device, non_blocking=True) if groups is not None else None
        weight = None
        if soft is None:
            index, converged, gap = ops.assign(
                images, noises, groups, metric, method, tol, return_stats
            )
        else:
            index, converged, gap, weight = assign_with_conditions(
                images, noises, groups, soft, metric, method, tol
            )
        stats = None
        if return_stats:
            stats = statistics(images, noises, index, groups, metric, gap, weight)
    if check and not validation.may_look(images):
        validation.check_finite(x, noise, even_on_gpu=True)
    if check and not bool(converged.all()):
        raise validation.overflow(metric)
    index = index if batched else index[0]
    if stats is None:
        return index
    return index, stats if batched else AssignmentStats(*[field[0] for field in stats])


_WARNED: set[str] = set()


def _warn_if_nothing_can_move(x: Tensor, labels: Tensor | None, batched: bool) -> None:
    """Say once, of each kind of call that has no choice; labels on a GPU are not looked at."""
    if x.numel() == 0 or validation.is_traced(x):
        return
    if x.shape[int(batched)] == 1:
        what, others = "one image", "NoisePool and windowed are for small batches"
    elif labels is not None and validation.may_look(labels):
        what, others = "a label of its own for each image", "there are NoisePool and conditions="
        if what in _WARNED or bool((labels.sort(-1).values.diff(dim=-1) == 0).any()):
            return
    else:
        return
    if what not in _WARNED:
        _WARNED.add(what)
        warnings.warn(f"with {what} the noise stays as it is: {others}", stacklevel=3)


def _check_max_memory(max_memory: object) -> float | None:
    if max_memory is None:
        return None
    value = validation.check_number("max_memory", max_memory, "a number of bytes or None")
    if not value >= 0:
        raise ValueError(f"max_memory must not be negative, got {max_memory}")
    return value


def _check_mask(mask: object, sample_shape: torch.Size) -> Tensor:
    """Non-negative weights of the coordinates, broadcast to the shape of one sample, in float32 or
    float64."""
    weights = validation.check_tensor("mask", mask)
    validation.check_data("mask", weights)
    if weights.is_complex():
        raise TypeError(f"mask must have a real dtype, got {weights.dtype}")
    if not weights.is_floating_point() or weights.dtype.itemsize < 4:
        weights = weights.to(torch.float32)
    weights = validation.check_broadcast("mask", weights, sample_shape)
    if validation.may_look(weights) and bool((weights < 0).any()):
        raise ValueError("mask must not be negative")
    return weights
