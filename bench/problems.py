"""The problems of the benchmarks: images and noise, and matrices of costs.

A family of samples gives images and noise; its cost matrix is computed from them in two forms:

- ``centred``: -2 (x - mean x).(e - mean e), the doubly centred squared distance without constants;
- ``euclidean``: |x - e|, what the papers' code hands to SciPy (another objective).

A family of costs gives one matrix as it is. Everything follows from an integer seed. ``hard`` makes
a matrix of one of the families that all tests run on (tests/families.py).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests import families

Matrix = NDArray[np.float32]
FORMS = ("centred", "euclidean")
GROUPS = 10  # classes of the class-group family
DIGITS = 1797  # how many digits scikit-learn has


@dataclass(frozen=True)
class Samples:
    """Images, as many noises, and the class of each image where the family has classes."""

    x: Tensor  # (n, channels, height, width) float32
    noise: Tensor  # the same
    labels: Tensor | None = None  # (n,) int64


@dataclass(frozen=True)
class Problem:
    """One assignment problem of a family; matrices are made when they are first wanted."""

    family: str
    n: int
    seed: int = 0

    @property
    def forms(self) -> tuple[str, ...]:
        """Forms of the cost that this family has: a plain matrix has only one."""
        return FORMS if self.family in SAMPLE_FAMILIES else FORMS[:1]

    @cached_property
    def samples(self) -> Samples:
        return samples(self.family, self.n, self.seed)

    @property
    def dim(self) -> int:
        return self.samples.x[0].numel() if self.family in SAMPLE_FAMILIES else 0

    @cached_property
    def centred(self) -> Matrix:
        if self.family in COST_FAMILIES:
            rng = np.random.default_rng([self.seed, 2])
            return np.ascontiguousarray(COST_FAMILIES[self.family](rng, self.n), np.float32)
        return centred_cost(self.samples.x, self.samples.noise)

    @cached_property
    def euclidean(self) -> Matrix:
        distance: Matrix = torch.cdist(
            self.samples.x.flatten(1), self.samples.noise.flatten(1)
        ).numpy()
        return distance


@lru_cache(maxsize=2)  # a matrix of n = 8192 takes 256 MiB in each form
def problem(family: str, n: int, seed: int = 0) -> Problem:
    """The named problem; the last ones are kept, so that all methods see one matrix."""
    return Problem(family, n, seed)


def samples(family: str, n: int, seed: int = 0) -> Samples:
    """``n`` images of the family and as many noises from N(0, I)."""
    rng = np.random.default_rng([seed, 0])
    images = np.ascontiguousarray(SAMPLE_FAMILIES[family](rng, n), np.float32)
    noise = np.random.default_rng([seed, 1]).standard_normal(images.shape, dtype=np.float32)
    labels = None
    if family == "groups":  # as classes fall in a batch: of unequal sizes
        labels = torch.from_numpy(rng.integers(GROUPS, size=n))
    return Samples(torch.from_numpy(images), torch.from_numpy(noise), labels)


def centred_cost(x: Tensor, noise: Tensor) -> Matrix:
    """Squared distances less their row and column means; the same optimal assignments."""
    left, right = x.flatten(1), noise.flatten(1)
    cost = (left - left.mean(0)).mul_(-2) @ (right - right.mean(0)).T
    matrix: Matrix = np.ascontiguousarray(cost.numpy())
    return matrix


def batch_of_costs(batch: int, n: int, seed: int = 0) -> Matrix:
    """(batch, n, n) centred costs of photo patches: what label groups and many ranks give."""
    drawn = samples("photo", batch * n, seed)
    x = drawn.x.reshape(batch, n, -1)
    noise = drawn.noise.reshape(batch, n, -1)
    cost = (x - x.mean(1, keepdim=True)).mul_(-2) @ (noise - noise.mean(1, keepdim=True)).mT
    matrix: Matrix = np.ascontiguousarray(cost.numpy())
    return matrix


def photo(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Patches of 3 x 32 x 32 cut from scikit-learn's two photographs, scaled to [-1, 1]."""
    return photo_patches(rng, n)[0]


def photo_patches(
    rng: np.random.Generator, n: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Those patches (n, 3, 32, 32), and the number of the photograph that each is from (n,)."""
    pictures = _photographs()
    out, source = np.empty((n, 3, 32, 32), np.float32), np.empty(n, np.int64)
    for k in range(n):
        source[k] = rng.integers(len(pictures))
        picture = pictures[source[k]]
        top, left = rng.integers(picture.shape[0] - 32), rng.integers(picture.shape[1] - 32)
        out[k] = picture[top : top + 32, left : left + 32].transpose(2, 0, 1)
    return out, source


def digits(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Handwritten digits of 8 x 8, scaled to [-1, 1]; D = 64, so that noise can really fit."""
    from sklearn.datasets import load_digits

    if n > DIGITS:
        raise ValueError(f"n must be at most {DIGITS} for digits, got {n}")
    images = load_digits().images.astype(np.float32) / 8 - 1
    return images[rng.permutation(DIGITS)[:n], None]


def onef(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Gaussian images of 3 x 32 x 32 with the 1/f spectrum of photographs, but no clusters."""
    return 0.5 * _power_law(rng, (n, 3, 32, 32), 1.0)


def latents(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """4 x 64 x 64, unit variance, flatter than images: what a VAE of Stable Diffusion gives."""
    return _power_law(rng, (n, 4, 64, 64), 0.5)


def wide_latents(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """16 x 128 x 128: the 262,144 numbers of a Flux latent at 1024 pixels."""
    return _power_law(rng, (n, 16, 128, 128), 0.5)


def duplicates(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Photo patches, each twice: equal rows fight over the same columns."""
    return np.repeat(photo(rng, -(-n // 2)), 2, axis=0)[:n]


def uniform(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    return rng.random((n, n), dtype=np.float32)


def integers(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Whole numbers below 100: many ties, and sums that are exact."""
    return rng.integers(0, 100, (n, n)).astype(np.float32)


def machol_wien(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """i * j, on which Hungarian methods take the most steps (Machol and Wien 1976)."""
    steps = np.arange(1, n + 1, dtype=np.float32)
    return np.outer(steps, steps)


def _power_law(
    rng: np.random.Generator, shape: tuple[int, int, int, int], power: float
) -> NDArray[np.float32]:
    """Gaussian fields of unit variance whose amplitudes fall like frequency ** -power."""
    n, channels, height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1 / height
    weight = (frequency**-power).astype(np.float32)
    out = np.empty(shape, np.float32)
    for k in range(n):  # one sample at a time: float64 spectra of all would be four times the data
        white = rng.standard_normal((channels, height, width), dtype=np.float32)
        out[k] = np.fft.irfft2(np.fft.rfft2(white) * weight, s=(height, width))
    # The variance of the filter, not of the draw, so that image k is the same for every n.
    impulse = np.zeros((height, width))
    impulse[0, 0] = 1
    response = np.fft.irfft2(np.fft.rfft2(impulse) * weight, s=(height, width))
    return out / np.float32(np.sqrt((response**2).sum()))


@lru_cache(maxsize=1)
def _photographs() -> list[NDArray[np.float32]]:
    from PIL import Image

    spec = importlib.util.find_spec("sklearn")  # which takes a second to import
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("photographs are those of scikit-learn: pip install scikit-learn")
    folder = Path(spec.origin).parent / "datasets" / "images"
    pictures = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.jpg"))]
    return [picture.astype(np.float32) / 127.5 - 1 for picture in pictures]


def one_over_f(rng: np.random.Generator, n: int, m: int) -> Any:
    """Images whose spectrum falls as that of photographs, against noise."""
    frequency = np.fft.fftfreq(16)
    falls = 1 / np.maximum(np.hypot(frequency[:, None], frequency), 1 / 16)
    images = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, 16, 16))) * falls).real
    return -images.reshape(n, -1) @ rng.normal(size=(256, m))


HARD = families.FAMILIES | {"one_over_f": one_over_f}


def hard(family: str, seed: Any, n: int, m: int, dtype: str = "float32") -> NDArray[Any]:
    return np.ascontiguousarray(HARD[family](np.random.default_rng(seed), n, m), dtype)


Images = Callable[[np.random.Generator, int], NDArray[np.float32]]
SAMPLE_FAMILIES: dict[str, Images] = {
    "photo": photo,
    "digits": digits,
    "onef": onef,
    "latents": latents,
    "wide_latents": wide_latents,
    "duplicates": duplicates,
    "groups": photo,
}
COST_FAMILIES: dict[str, Images] = {
    "uniform": uniform,
    "integers": integers,
    "machol_wien": machol_wien,
}
