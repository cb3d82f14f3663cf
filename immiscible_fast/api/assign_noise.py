"""``assign_noise`` and ``assign_noise_``: the noise itself, permuted."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor
from typing_extensions import Unpack

from .. import validation
from ..samples import draw_noise, permuted
from ..statistics import AssignmentStats
from .fast_assign import fast_assign
from .options import AssignOptions, check_options


@overload
def assign_noise(
    x: Tensor,
    noise: Tensor | torch.Generator,
    *,
    batched: bool = False,
    return_stats: Literal[False] = False,
    **options: Unpack[AssignOptions],
) -> Tensor: ...


@overload
def assign_noise(
    x: Tensor,
    noise: Tensor | torch.Generator,
    *,
    batched: bool = False,
    return_stats: Literal[True],
    **options: Unpack[AssignOptions],
) -> tuple[Tensor, AssignmentStats]: ...


def assign_noise(
    x: Tensor,
    noise: Tensor | torch.Generator,
    *,
    batched: bool = False,
    return_stats: bool = False,
    **options: Unpack[AssignOptions],
) -> Tensor | tuple[Tensor, AssignmentStats]:
    """The noise itself, permuted so that ``result[i]`` is paired with ``x[i]``.

    Parameters
    ----------
    x, noise : Tensor, shape (n, ...) or, with ``batched``, (B, n, ...)
        See ``fast_assign``. Neither is modified. In the place of ``noise``, a ``torch.Generator``
        draws it: with a ``process_group`` for all ranks, if all have it in the same state, so that
        no noise has to travel; else for this one.
    batched : bool
        Whether the first dimension numbers independent problems.
    return_stats : bool
        Whether to return statistics, too; see ``fast_assign``.
    **options
        Other options of ``fast_assign``.

    Returns
    -------
    Tensor
        Shape, dtype and device of ``noise``, or of ``x`` if a generator draws it. Use it to corrupt
        ``x`` *and* as the target.
    AssignmentStats
        If ``return_stats``.

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
    assigned, stats = _assigned("assign_noise", x, noise, batched, return_stats, options)
    return assigned if stats is None else (assigned, stats)


@overload
def assign_noise_(
    x: Tensor,
    noise: Tensor,
    *,
    batched: bool = False,
    return_stats: Literal[False] = False,
    **options: Unpack[AssignOptions],
) -> Tensor: ...


@overload
def assign_noise_(
    x: Tensor,
    noise: Tensor,
    *,
    batched: bool = False,
    return_stats: Literal[True],
    **options: Unpack[AssignOptions],
) -> tuple[Tensor, AssignmentStats]: ...


def assign_noise_(
    x: Tensor,
    noise: Tensor,
    *,
    batched: bool = False,
    return_stats: bool = False,
    **options: Unpack[AssignOptions],
) -> Tensor | tuple[Tensor, AssignmentStats]:
    """Permute the noise itself, in place, so that ``noise[i]`` is paired with ``x[i]``.

    For loops where the noise is drawn in one place and used in others that are not to be edited.

    Parameters
    ----------
    x : Tensor, shape (n, ...) or, with ``batched``, (B, n, ...)
        See ``fast_assign``. Not modified.
    noise : Tensor, of the shape of ``x``
        It is what is modified, so it has to be the tensor that is used for corruption *and* target.
        A temporary is permuted for nothing: ``noise.to(device)`` of another device or dtype,
        ``noise[mask]``, and ``noise + 0.1 * torch.randn_like(noise)`` are tensors of their own.
    batched, return_stats, **options
        See ``assign_noise``.

    Returns
    -------
    Tensor
        ``noise``, the same object.
    AssignmentStats
        If ``return_stats``, of the noise as it came and as it is now.

    Raises
    ------
    TypeError, ValueError
        As ``fast_assign``, and if ``noise`` cannot be written to: because it overlaps itself in
        memory, as what ``expand`` gives, or is a leaf of the graph that requires a gradient.

    Examples
    --------
    >>> import torch
    >>> noise = torch.tensor([[4.0], [1.0]])
    >>> _ = assign_noise_(torch.tensor([[0.0], [5.0]]), noise)
    >>> noise
    tensor([[1.],
            [4.]])
    """
    check_options("assign_noise_", options)
    _check_writable("noise", noise)
    assigned, stats = _assigned("assign_noise_", x, noise, batched, return_stats, options)
    noise.copy_(assigned)
    return noise if stats is None else (noise, stats)


def _assigned(
    caller: str,
    x: Tensor,
    noise: Tensor | torch.Generator,
    batched: bool,
    return_stats: bool,
    options: AssignOptions,
) -> tuple[Tensor, AssignmentStats | None]:
    """``assign_noise``, with the statistics if they are wanted."""
    group = options.pop("process_group", None)
    if group is not None:
        from ..distributed.replicated import assign_over_ranks

        _, rows, stats = assign_over_ranks(
            fast_assign, caller, x, noise, group, batched, return_stats, options
        )
        assert rows is not None
        return rows, stats
    if isinstance(noise, torch.Generator):
        noise = draw_noise(validation.check_samples("x", x, batched), noise)
    if validation.check_flag("return_stats", return_stats):
        index, stats = fast_assign(x, noise, batched=batched, return_stats=True, **options)
        return permuted(noise, index), stats
    return permuted(noise, fast_assign(x, noise, batched=batched, **options)), None


def _check_writable(name: str, value: object) -> None:
    """Raise for a tensor that cannot be copied to; by its strides, one that overlaps itself."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.requires_grad and value.is_leaf and torch.is_grad_enabled():
        raise ValueError(f"{name} must be writable, got a leaf that requires a gradient")
    if value.layout != torch.strided or value.is_nested:
        return  # an error of the checks that follow
    extent = 1  # of the entries that the dimensions with smaller strides reach
    for stride, size in sorted(zip(value.stride(), value.shape, strict=True)):
        if size > 1 and stride < extent:
            raise ValueError(
                f"{name} must not overlap itself in memory, got shape {tuple(value.shape)} with "
                f"strides {value.stride()}: copy it first"
            )
        extent += (size - 1) * stride
