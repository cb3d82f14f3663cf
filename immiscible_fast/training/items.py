"""Items of a data set: their images, and the noise that is drawn from a seed for each."""

from __future__ import annotations

import warnings
from collections.abc import Sized
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..validation import check_data, check_tensor

FINE = 2.0**-32  # uniform numbers are multiples of this
Images: TypeAlias = "Tensor | NDArray[Any] | Dataset[Any]"


def item_noise(seed: int, item: int, shape: tuple[int, ...], epoch: int = 0) -> NDArray[np.float32]:
    """The noise of an item: the same numbers whenever and wherever they are asked for.

    The bits are those of Philox with the key ``seed``, from the counter (0, 0, epoch, item), which
    NumPy guarantees not to change; Box and Muller make them Gaussian, up to 6.6 in size.
    """
    count = int(np.prod(shape, dtype=np.int64))
    stream = np.random.Philox(key=seed, counter=[0, 0, epoch, item])
    raw = stream.random_raw((count + 1) // 2)
    radius = np.sqrt(-2 * np.log(((raw >> np.uint64(32)) + np.uint64(1)) * FINE))
    angle = (2 * np.pi * FINE) * (raw & np.uint64(0xFFFFFFFF))
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return pairs.reshape(-1)[:count].reshape(shape).astype(np.float32)


class Source:
    """Images of an array or a Dataset."""

    def __init__(self, images: Any, place: str | int | None) -> None:
        if isinstance(images, np.ndarray):
            self.array: Tensor | None = _from_numpy(images)
        else:
            self.array = check_tensor("images", images) if isinstance(images, Tensor) else None
        if self.array is None and not (
            hasattr(images, "__getitem__") and isinstance(images, Sized)
        ):
            raise TypeError(
                "images must be a tensor, an array or a Dataset with a length, got "
                f"{type(images).__name__}"
            )
        if self.array is not None:
            check_data("images", self.array)
            if self.array.ndim < 1:
                raise ValueError("images must have shape (N, ...), got a single number")
            if not (self.array.is_floating_point() or self.array.dtype == torch.uint8):
                raise TypeError(f"images must be floats or uint8, got {self.array.dtype}")
        if place is not None and (isinstance(place, bool) or not isinstance(place, (str, int))):
            raise TypeError(f"image must be a string or an integer, got {type(place).__name__}")
        self.images, self.place = images, place
        self.shape = tuple(self.image(0).shape) if len(self) > 0 else ()

    def __len__(self) -> int:
        return len(self.images)

    def image(self, item: int) -> Tensor:
        """One image, as it comes."""
        if self.array is not None:
            return self.array[item]
        found = self.images[item]
        if self.place is not None:
            found = found[self.place]
        elif isinstance(found, (tuple, list)) and found:
            found = found[0]
        if isinstance(found, np.ndarray):
            found = torch.from_numpy(found)
        if not isinstance(found, Tensor):
            raise TypeError(f"images must give tensors or arrays, got {type(found).__name__}")
        return found

    def samples(self, items: NDArray[np.int64]) -> Tensor:
        """Images (b, ...) of these items in float32."""
        if self.array is not None:
            chosen = self.array[torch.from_numpy(items)].cpu()
        else:
            chosen = torch.stack([self.image(int(item)) for item in items]).cpu()
        if chosen.dtype == torch.uint8:
            return chosen.to(torch.float32).div_(127.5).sub_(1)
        return chosen.to(torch.float32)

    def with_noise(self, item: int, noise: Tensor) -> Any:
        if self.array is not None:
            return self.image(item), noise
        found = self.images[item]
        if isinstance(found, dict):
            return {**found, "noise": noise}
        if isinstance(found, (tuple, list)):
            if self.place is not None:
                return (*found, noise)
            return (found[0], noise, *found[1:])
        return found, noise


def _from_numpy(images: NDArray[Any]) -> Tensor:
    if images.dtype.kind not in "fu":
        raise TypeError(f"images must be floats or uint8, got {images.dtype}")
    if images.flags.writeable:
        return torch.from_numpy(images)
    with warnings.catch_warnings():  # of tensors that are not to be written to: none is
        warnings.simplefilter("ignore")
        return torch.from_numpy(images)
