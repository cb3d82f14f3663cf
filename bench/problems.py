"""The problems of the benchmarks: images and noise, and matrices of costs.

A family of samples gives images and noise, and their centred costs: -2 (x - mean x).(e - mean e),
the doubly centred squared distance without constants. A family of costs gives one matrix as it is.
Everything follows from an integer seed. ``hard`` makes a matrix of one of the families that all
tests run on (tests/families.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests import checks, families

Array = NDArray[Any]
CENTRED, EUCLIDEAN, SAMPLES = "centred", "euclidean", "samples"  # what methods take
CLASSES = 10  # of the family "groups"
DIGITS = 1797  # how many digits scikit-learn has


class Samples(NamedTuple):
    """Images, as many noises, and the class of each image where the family has classes."""

    x: Tensor  # (n, channels, height, width) float32
    noise: Tensor  # the same
    labels: Tensor | None = None  # (n,) int64


@dataclass
class Problem:
    """One assignment problem, or a batch, and what an answer is judged by."""

    family: str
    cost: Array  # (n, m) or (B, n, m)
    samples: Samples | None = None
    device: str = "cpu"  # where methods find it

    @property
    def n(self) -> int:
        return int(self.cost.shape[-2])

    @property
    def m(self) -> int:
        return int(self.cost.shape[-1])

    @property
    def costs(self) -> Array:
        """(B, n, m)."""
        return self.cost.reshape(-1, self.n, self.m)

    @property
    def facts(self) -> dict[str, Any]:
        """Entries of a row."""
        shape = {"n": self.n, "m": self.m, "batch": len(self.costs)}
        dim = self.samples.x[0].numel() if self.samples else 0
        return {"family": self.family, **shape, "dim": dim, "dtype": str(self.cost.dtype)}

    @cached_property
    def forms(self) -> dict[str, Any]:
        """What methods take; Euclidean distances are what the papers' code hands to SciPy (another
        objective)."""
        found: dict[str, Any] = {CENTRED: torch.from_numpy(self.cost)}
        if self.samples:
            x, noise = (part.flatten(1) for part in self.samples[:2])
            found[EUCLIDEAN] = torch.cdist(x, noise)
            given = (part if part is None else part.to(self.device) for part in self.samples)
            found[SAMPLES] = Samples(*given)
        return {k: v if k == SAMPLES else v.to(self.device) for k, v in found.items()}

    @cached_property
    def best(self) -> float:
        """The optimum, by SciPy in float64."""
        return float(sum(map(checks.optimum, self.costs)))

    @cached_property
    def promised(self) -> float:
        """What an exact method must pay: the optimum, within labels if there are any."""
        if self.samples is None or self.samples.labels is None:
            return self.best
        labels = self.samples.labels.numpy()
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        return float(sum(checks.optimum(self.cost[np.ix_(rows, rows)]) for rows in groups))

    @cached_property
    def identity(self) -> float:
        """Without assignment; of rectangles, which have no such pairs, the optimum."""
        if self.n != self.m:
            return self.best
        return float(np.trace(self.cost, axis1=-2, axis2=-1, dtype=np.float64).sum())


@lru_cache(maxsize=2)  # a matrix of n = 8192 takes 256 MiB in each form
def problem(family: str, n: int, seed: int = 0) -> Problem:
    """The named problem; the last ones are kept, so that all methods see one matrix."""
    if make := COST_FAMILIES.get(family):
        cost = np.ascontiguousarray(make(np.random.default_rng([seed, 2]), n), np.float32)
        return Problem(family, cost)
    drawn = samples(family, n, seed)
    return Problem(family, centred_cost(*drawn[:2]), drawn)


def hard(family: str, n: int, m: int, dtype: str = "float32", seed: Any = None) -> Problem:
    """One of the tests' families, (n, m)."""
    seed = [n, 5] if n == m and seed is None else n + m if seed is None else seed
    cost = HARD[family](np.random.default_rng(seed), n, m)
    return Problem(family, np.ascontiguousarray(cost, dtype))


def batch(family: str, n: int, m: int, count: int) -> Problem:
    if family == "photo":
        return Problem(family, batch_of_costs(count, n))
    return Problem(family, np.stack([hard(family, n, m, seed=k).cost for k in range(count)]))


def in_classes(family: str, n: int, classes: int) -> Problem:
    """Random labels, as classes fall in a batch: of unequal sizes."""
    whole = problem(family, n)
    labels = torch.from_numpy(np.random.default_rng([n, classes]).integers(0, classes, n))
    drawn = whole.samples and whole.samples._replace(labels=labels)
    return Problem(f"{family}, {classes} classes", whole.cost, drawn)


def small_batch(family: str, n: int, waiting: int) -> Problem:
    """Images of a small batch, and as noise what waits in a pool."""
    drawn = samples(family, waiting)
    return Problem(family, np.zeros((n, n), np.float32), Samples(drawn.x[:n], drawn.noise))


def samples(family: str, n: int, seed: int = 0) -> Samples:
    """``n`` images of the family and as many noises from N(0, I)."""
    rng = np.random.default_rng([seed, 0])
    images = np.ascontiguousarray(SAMPLE_FAMILIES[family](rng, n), np.float32)
    noise = np.random.default_rng([seed, 1]).standard_normal(images.shape, dtype=np.float32)
    labels = None
    if family == "groups":
        labels = torch.from_numpy(rng.integers(CLASSES, size=n))
    return Samples(torch.from_numpy(images), torch.from_numpy(noise), labels)


def centred_cost(x: Tensor, noise: Tensor) -> Array:
    """Squared distances less their row and column means; the same optimal assignments."""
    return _centred(x.flatten(1), noise.flatten(1))


def batch_of_costs(batch: int, n: int, seed: int = 0) -> Array:
    """(batch, n, n) centred costs of photo patches: what label groups and many ranks give."""
    drawn = samples("photo", batch * n, seed)
    return _centred(*(part.reshape(batch, n, -1) for part in drawn[:2]))


def _centred(x: Tensor, noise: Tensor) -> Array:
    left, right = (part - part.mean(-2, keepdim=True) for part in (x, noise))
    return np.ascontiguousarray((left.mul_(-2) @ right.mT).numpy())


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


def power_law(
    rng: np.random.Generator, n: int, shape: tuple[int, int, int], power: float, scale: float = 1.0
) -> NDArray[np.float32]:
    """Gaussian images whose amplitudes fall like frequency ** -power, as those of photographs do
    with 1, but without clusters; of standard deviation ``scale``."""
    channels, height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1 / height
    weight = (frequency**-power).astype(np.float32)
    out = np.empty((n, *shape), np.float32)
    for k in range(n):  # one sample at a time: float64 spectra of all would be four times the data
        white = rng.standard_normal((channels, height, width), dtype=np.float32)
        out[k] = np.fft.irfft2(np.fft.rfft2(white) * weight, s=(height, width))
    # The variance of the filter, not of the draw, so that image k is the same for every n.
    impulse = np.zeros((height, width))
    impulse[0, 0] = 1
    response = np.fft.irfft2(np.fft.rfft2(impulse) * weight, s=(height, width))
    return out / np.float32(np.sqrt((response**2).sum()) / scale)


@lru_cache(maxsize=1)
def _photographs() -> list[NDArray[np.float32]]:
    from sklearn.datasets import load_sample_images

    return [picture.astype(np.float32) / 127.5 - 1 for picture in load_sample_images().images]


def one_over_f(rng: np.random.Generator, n: int, m: int) -> Any:
    """Images whose spectrum falls as that of photographs, against noise."""
    frequency = np.fft.fftfreq(16)
    falls = 1 / np.maximum(np.hypot(frequency[:, None], frequency), 1 / 16)
    images = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, 16, 16))) * falls).real
    return -images.reshape(n, -1) @ rng.normal(size=(256, m))


HARD = families.FAMILIES | {"one_over_f": one_over_f}
latents = partial(power_law, shape=(4, 64, 64), power=0.5)  # flatter than images: a VAE's
Make = Callable[[np.random.Generator, int], NDArray[np.float32]]
SAMPLE_FAMILIES: dict[str, Make] = {
    "photo": photo,
    "digits": digits,
    "onef": partial(power_law, shape=(3, 32, 32), power=1.0, scale=0.5),
    "latents": latents,
    "wide_latents": partial(power_law, shape=(16, 128, 128), power=0.5),  # Flux, 1024 pixels
    "duplicates": lambda rng, n: np.repeat(photo(rng, -(-n // 2)), 2, axis=0)[:n],
    "groups": photo,
}
COST_FAMILIES: dict[str, Make] = {
    "uniform": lambda rng, n: rng.random((n, n), dtype=np.float32),
    "integers": lambda rng, n: rng.integers(0, 100, (n, n)),  # many ties, and sums that are exact
    "machol_wien": lambda rng, n: families.machol_wien(rng, n, n),
}
