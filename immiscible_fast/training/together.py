"""``assign_many``: the noise of several batches, assigned as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from .. import validation
from ..api.assign_noise import assign_noise
from ..api.options import ConditionsLike, Labels, OptionsOfAll, check_options
from ..samples import draw_noise


def assign_many(
    xs: Sequence[Tensor],
    noises: Sequence[Tensor] | None = None,
    *,
    generator: torch.Generator | None = None,
    labels: Sequence[Labels] | None = None,
    conditions: Sequence[ConditionsLike] | None = None,
    **options: Unpack[OptionsOfAll],
) -> list[Tensor]:
    """Noise for several batches at once: all those of one shape are assigned as one problem.

    For the micro-batches of gradient accumulation, and for the buckets of differing sizes that a
    step is made of. A noise may go to an image of another batch, and the more images are assigned
    at once, the more there is to gain.

    Parameters
    ----------
    xs : sequence of Tensor, each of shape (n, ...)
        Batches of images or latents, of any float dtypes, sizes and devices. Batches whose samples
        have one shape, dtype and device are assigned together.
    noises : sequence of Tensor, optional
        Noise of the shape of each batch; permuted, not modified. Drawn, if not given.
    generator : torch.Generator, optional
        Draws the noise, batch after batch, on its own device. Without it, torch's global one does.
    labels : sequence of integers (n,), optional
        For each batch the labels of its images: noise stays within a class, of all batches.
    conditions : sequence of floats (n, C) or integers (n,), optional
        For each batch the conditions of its images; see ``fast_assign``.
    **options
        Other options of ``fast_assign``, the same for all.

    Returns
    -------
    list of Tensor
        For each batch its noise, in the shape of the batch: what corrupts it *and* is its target.
        Those that were assigned together share memory.

    Raises
    ------
    TypeError, ValueError
        As ``fast_assign``, and where one of the lists is not as long as ``xs``.

    Examples
    --------
    >>> import torch
    >>> xs = [torch.tensor([[0.0]]), torch.tensor([[5.0], [9.0]])]
    >>> assign_many(xs, [torch.tensor([[8.0]]), torch.tensor([[1.0], [4.0]])])
    [tensor([[1.]]), tensor([[4.],
            [8.]])]
    """
    check_options("assign_many", options)
    images = [
        validation.check_samples(f"xs[{i}]", x, False) for i, x in enumerate(_several("xs", xs))
    ]
    validation.check_generator(generator)
    if noises is None:
        noises = [draw_noise(x, generator) for x in images]
    for name, given in (("noises", noises), ("labels", labels), ("conditions", conditions)):
        if given is not None and len(_several(name, given)) != len(images):
            raise ValueError(f"{name} must be as many as xs, {len(images)}, got {len(given)}")
    together: dict[Any, list[int]] = {}
    for i, (x, noise) in enumerate(zip(images, noises, strict=True)):
        validation.check_pair(f"xs[{i}]", x, f"noises[{i}]", noise, False, same_count=True)
        together.setdefault((x.shape[1:], x.dtype, noise.dtype, x.device), []).append(i)
    assigned: list[Tensor] = [torch.empty(0)] * len(images)
    for members in together.values():
        x, noise = (_joined([batches[i] for i in members]) for batches in (images, noises))
        others = {
            name: _alike(name, [_numbers(name, given[i], images[i]) for i in members])
            for name, given in (("labels", labels), ("conditions", conditions))
            if given is not None
        }
        pairing = assign_noise(
            x, noise, labels=others.get("labels"), conditions=others.get("conditions"), **options
        )
        parts = pairing.split_with_sizes([len(images[i]) for i in members])
        for i, part in zip(members, parts, strict=True):
            assigned[i] = part
    return assigned


def _several(name: str, values: object) -> Sequence[Any]:
    if isinstance(values, (list, tuple)):
        return values
    raise TypeError(f"{name} must be a list, one entry a batch, got {type(values).__name__}")


def _numbers(name: str, values: Any, x: Tensor) -> Tensor:
    """Labels or conditions of the images ``x`` as a tensor; more is checked when it is joined."""
    numbers = validation.check_numbers(name, values)
    if numbers.shape[:1] != x.shape[:1]:
        shape = tuple(numbers.shape)
        raise ValueError(f"{name} must have one entry for each of {len(x)} images, got {shape}")
    return numbers.to(x.device, non_blocking=True)


def _alike(name: str, parts: list[Tensor]) -> Tensor:
    if len({part.shape[1:] for part in parts}) > 1:
        shapes = " and ".join(str(tuple(part.shape)) for part in parts)
        raise ValueError(f"{name} must have equal trailing sizes in all batches, got {shapes}")
    return _joined(parts)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
