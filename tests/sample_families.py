"""Families of images and noises: what users have, and what hurts assignment solvers.

Each takes a generator and a count and returns two float64 arrays (n, D).
"""

from __future__ import annotations

import numpy as np


def smooth(rng, n):
    """Smooth signals against white noise, the cost that this library is for."""
    return np.cumsum(rng.normal(size=(n, 48)), axis=1), rng.normal(size=(n, 48))


def clusters(rng, n):
    centres = rng.normal(size=(5, 24))
    return centres[rng.integers(0, 5, n)] + 0.05 * rng.normal(size=(n, 24)), rng.normal(
        size=(n, 24)
    )


def one_dimension(rng, n):
    return rng.normal(size=(n, 1)), rng.normal(size=(n, 1))


def two_dimensions(rng, n):
    return rng.random((n, 2)), rng.random((n, 2))


def images_twice(rng, n):
    return np.repeat(rng.normal(size=(-(-n // 2), 16)), 2, axis=0)[:n], rng.normal(size=(n, 16))


def images_eightfold(rng, n):
    return np.repeat(rng.normal(size=(-(-n // 8), 16)), 8, axis=0)[:n], rng.normal(size=(n, 16))


def noises_eightfold(rng, n):
    return images_eightfold(rng, n)[::-1]


def all_equal(rng, n):
    return np.ones((n, 8)), np.full((n, 8), 3.0)


def images_equal(rng, n):
    return np.tile(rng.normal(size=8), (n, 1)), rng.normal(size=(n, 8))


def noises_equal(rng, n):
    return images_equal(rng, n)[::-1]


def integers(rng, n):
    """Costs with many ties."""
    return rng.integers(0, 3, (n, 6)).astype(float), rng.integers(0, 3, (n, 6)).astype(float)


def one_bit(rng, n):
    return rng.integers(0, 2, (n, 4)).astype(float), rng.integers(0, 2, (n, 4)).astype(float)


def machol_wien(rng, n):
    """Inner products -i * j."""
    steps = np.arange(1.0, n + 1)[:, None]
    return steps, -steps


def hubs(rng, n):
    """Images that are all along one direction, of many lengths."""
    return np.exp(2 * rng.normal(size=(n, 1))) * np.ones((1, 8)), rng.normal(size=(n, 8))


def lengths(rng, n):
    """Some images far longer than others."""
    return 10 ** rng.uniform(-3, 3, (n, 1)) * rng.normal(size=(n, 12)), rng.normal(size=(n, 12))


def offset(rng, n):
    """Differences of which float32 keeps few bits."""
    return 1000 + rng.normal(size=(n, 32)), 500 + rng.normal(size=(n, 32))


def huge(rng, n):
    return 1e25 * rng.normal(size=(n, 20)), 1e12 * rng.normal(size=(n, 20))


def tiny(rng, n):
    return 1e-25 * rng.normal(size=(n, 20)), 1e-12 * rng.normal(size=(n, 20))


def the_same(rng, n):
    """Each image is one of the noises."""
    x = rng.normal(size=(n, 16))
    return x, x[rng.permutation(n)]


def mostly_zeros(rng, n):
    return rng.normal(size=(n, 12)) * (rng.random((n, 1)) < 0.1), rng.normal(size=(n, 12))


FAMILIES = {
    family.__name__: family
    for family in (
        smooth, clusters, one_dimension, two_dimensions, images_twice, images_eightfold,
        noises_eightfold, all_equal, images_equal, noises_equal, integers, one_bit, machol_wien,
        hubs, lengths, offset, huge, tiny, the_same, mostly_zeros,
    )
}  # fmt: skip
