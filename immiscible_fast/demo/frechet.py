"""Frechet distance between Gaussians fitted to two sets of images.

1. d^2 = |m - m'|^2 + tr C + tr C' - 2 tr (C^1/2 C' C^1/2)^1/2 (Dowson, Landau 1982; Heusel et al.
   2017 take it of network features, as FID).
2. The digits have pixels that never change, so C is singular, and the square root of the
   unsymmetric product C C' is numerically unsound. The symmetric form needs eigenvalues of
   symmetric matrices only; rounding below zero is clipped.
3. Features are the coordinates on the principal axes of the real images, 64 at most and not
   rescaled: for 64 pixels that is a rotation, which leaves the distance of the raw pixels as it is;
   for more, it keeps the covariance estimable.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from torch import Tensor

MOST_AXES = 64

Array = NDArray[np.float64]


class Gaussian(NamedTuple):
    mean: Array  # (d,)
    covariance: Array  # (d, d)


def fit_gaussian(samples: Array) -> Gaussian:
    """Mean and covariance of samples (n, d), n >= 2."""
    return Gaussian(samples.mean(0), np.atleast_2d(np.cov(samples, rowvar=False)))


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """The squared Frechet (2-Wasserstein) distance of two Gaussians, as FID reports it."""
    root = _square_root(first.covariance)
    shared = linalg.eigvalsh(root @ second.covariance @ root).clip(min=0)
    traces = np.trace(first.covariance) + np.trace(second.covariance)
    shift = np.square(first.mean - second.mean).sum()
    return float(max(shift + traces - 2 * np.sqrt(shared).sum(), 0))


def _square_root(covariance: Array) -> Array:
    values, axes = linalg.eigh(covariance)
    root: Array = (axes * np.sqrt(values.clip(min=0))) @ axes.T
    return root


class FrechetMeter:
    """Measures how far samples are from the images that it was made with.

    Parameters
    ----------
    images : Tensor, shape (n, d)
        Real images, n >= 2.
    """

    def __init__(self, images: Tensor) -> None:
        real = _as_array(images)
        self._origin = real.mean(0)
        _, _, axes = linalg.svd(np.cov(real, rowvar=False))
        self._axes = axes[:MOST_AXES].T  # (d, axes)
        self._reference = fit_gaussian((real - self._origin) @ self._axes)

    def distance(self, samples: Tensor) -> float:
        """Frechet distance of ``samples`` (k, d), k >= 2, to the images, in squared pixel units."""
        return frechet_distance(
            self._reference, fit_gaussian((_as_array(samples) - self._origin) @ self._axes)
        )


def _as_array(samples: Tensor) -> Array:
    return samples.numpy().astype(np.float64)
