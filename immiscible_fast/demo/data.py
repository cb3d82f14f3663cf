"""Real images without a download: scikit-learn's digits, or a folder of one's own."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .settings import OptionError

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
MOST_IMAGES = 5000  # of a folder; more would only make the demo slower to start


@dataclass(frozen=True)
class ImageSet:
    """Images in memory; pixels in [-1, 1]."""

    pixels: Tensor  # (n, d) float32, d = height * width * channels
    shape: tuple[int, ...]  # of one image: (height, width) if grey, else (height, width, 3)
    name: str

    def pictures(self, pixels: Tensor) -> NDArray[np.float32]:
        """Samples (k, d) as pictures (k, *shape) with values in [0, 1]."""
        shown = (pixels.clamp(-1, 1) + 1) / 2
        array: NDArray[np.float32] = shown.reshape(-1, *self.shape).numpy()
        return array


def load_images(folder: Path | None, size: int) -> ImageSet:
    """The digits, or the pictures in ``folder`` and below as colour squares of ``size`` pixels.

    Raises
    ------
    OptionError
        If the folder does not exist, holds fewer than two readable images, or one that would take
        too much memory.
    """
    return _load_digits() if folder is None else _load_folder(folder, size)


def _load_digits() -> ImageSet:
    from sklearn.datasets import load_digits

    pixels = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1  # levels are 0 to 16
    return ImageSet(pixels, (8, 8), f"{len(pixels)} handwritten digits, 8 x 8 pixels")


def _load_folder(folder: Path, size: int) -> ImageSet:
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not folder.is_dir():
        raise OptionError(f"--data must be a folder of images, {folder} is none")
    paths = sorted(  # files only: to open a pipe would wait for who writes to it
        path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    squares = []
    for path in paths[:: max(1, -(-len(paths) // MOST_IMAGES))]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path) as image:
                    square = ImageOps.fit(image.convert("RGB"), (size, size))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise OptionError(f"--data: {path}: {error}") from error
        except (OSError, UnidentifiedImageError):
            continue  # a broken file among good ones should not end the demo
        squares.append(np.asarray(square, dtype=np.float32))
    if len(squares) < 2:
        kinds = " ".join(sorted(SUFFIXES))
        raise OptionError(
            f"--data needs at least 2 readable images, found {len(squares)} in {folder} ({kinds})"
        )
    pixels = torch.from_numpy(np.stack(squares)).reshape(len(squares), -1) / 127.5 - 1
    name = f"{len(squares)} images of the folder {folder.name}, {size} x {size} pixels"
    return ImageSet(pixels, (size, size, 3), name)
