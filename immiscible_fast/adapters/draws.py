"""Pairing the noise that somebody else's function draws, while it runs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Pair = Callable[[Tensor, Tensor], Tensor]


class PairedDraw(TorchFunctionMode):
    """Within it, the first ``torch.randn`` or ``torch.randn_like`` in the shape of ``x`` gives
    ``pair(images, noise)`` in the place of the noise.

    ``randn_like`` names the images itself (they may be ``x`` rescaled); else they are ``x``. Later
    draws are left alone: they are perturbations, or the model's. Several noises for each image, to
    choose from, raise a RuntimeError: what is paired after them would be a perturbation.

    Parameters
    ----------
    x : Tensor, shape (n, ...)
        The batch that is trained on.
    pair : callable
        From images and noise, both (n, ...), to the noise to use, of the same shape.
    """

    def __init__(self, x: Tensor, pair: Pair) -> None:
        super().__init__()
        self.x, self.pair, self.drawn = x, pair, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.drawn or (func is not torch.randn and func is not torch.randn_like):
            return result
        if result.shape != self.x.shape:
            sample = self.x.shape[1:]
            if len(sample) > 0 and result.shape[-len(sample) :] == sample and len(result) > 0:
                raise RuntimeError(
                    f"noise of shape {tuple(result.shape)} was drawn for images "
                    f"{tuple(self.x.shape)}, to choose from: switch that off where noise is "
                    "paired, or pair by select_noise"
                )
            return result
        self.drawn = True
        images = self.x
        if func is torch.randn_like:
            images = args[0] if args else kwargs["input"]
        return self.pair(images, result)


# A compiler that traces the entry of a mode leaves it out, silently.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def paired_call(
    function: Callable[..., Any], name: str, x: Tensor, pair: Pair, /, *args: Any, **kwargs: Any
) -> Any:
    """``function(*args, **kwargs)``, its first noise in the shape of x paired with its images.

    Raises
    ------
    RuntimeError
        If it drew none: another version of somebody else's code. ``name`` says whose.
    """
    with PairedDraw(x, pair) as draw:
        result = function(*args, **kwargs)
    if not draw.drawn:
        raise RuntimeError(
            f"{name} drew no noise in the shape of its images, {tuple(x.shape)}: this version of "
            "it cannot be adapted so"
        )
    return result


def pairing_draws(function: Callable[..., Any], images: str, pair: Pair) -> Callable[..., Any]:
    """``function`` with the first noise that it draws paired with its argument ``images``."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        x = signature.bind(*args, **kwargs).arguments[images]
        return paired_call(function, function.__name__, x, pair, *args, **kwargs)

    return marked(wrapped)


def marked(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    """The same, known to ``is_wrapped``: others wrap functions, too, as ``torch.no_grad`` does."""
    wrapped.paired_by_immiscible_fast = True  # type: ignore[attr-defined]
    return wrapped


def is_wrapped(function: Any) -> bool:
    """Whether an adapter has been here before, under what others may have put on top."""
    return getattr(function, "paired_by_immiscible_fast", False) is True
