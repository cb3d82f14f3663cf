"""Families of cost matrices: what users have, and what hurts assignment solvers.

Each takes a generator and a shape (n, m) and returns a float64 matrix.
"""

from __future__ import annotations

import numpy as np
from immiscible_fast.kernels.cpu.schedule import LISTED_FROM as LISTED

# Sizes on both sides of what changes inside the solver: rows of fewer than 16 columns are padded,
# rows are read 16 and 64 columns at a time, and from LISTED columns on they have candidate lists.
SIZES = (15, 16, 17, 31, 63, 64, 65, 127, 128, 321, LISTED - 1, LISTED, LISTED + 11)


def uniform(rng, n, m):
    return rng.random((n, m))


def gaussian(rng, n, m):
    return rng.normal(size=(n, m))


def all_equal(rng, n, m):
    return np.full((n, m), rng.normal())


def zeros(rng, n, m):
    return np.zeros((n, m))


def two_valued(rng, n, m):
    return rng.integers(0, 2, (n, m)).astype(np.float64)


def small_integers(rng, n, m):
    return rng.integers(-3, 4, (n, m)).astype(np.float64)


def modular(rng, n, m):
    """i * j mod 7: few distinct rows and columns, each many times, and integers at that."""
    return np.outer(np.arange(n), np.arange(m)) % 7.0


def rows_twice(rng, n, m):
    return _repeated_rows(rng, n, m, 2)


def rows_eightfold(rng, n, m):
    return _repeated_rows(rng, n, m, 8)


def rows_all_equal(rng, n, m):
    return _repeated_rows(rng, n, m, max(n, 1))


def columns_twice(rng, n, m):
    return _repeated_rows(rng, m, n, 2).T


def columns_all_equal(rng, n, m):
    return _repeated_rows(rng, m, n, max(m, 1)).T


def _repeated_rows(rng, n, m, times):
    return np.repeat(rng.random((-(-n // times), m)), times, axis=0)[:n]


def machol_wien(rng, n, m):
    """i * j, on which Hungarian methods take the most steps."""
    return np.outer(np.arange(1.0, n + 1), np.arange(1.0, m + 1))


def huge(rng, n, m):
    return rng.random((n, m)) * 1e30


def tiny(rng, n, m):
    return rng.random((n, m)) * 1e-30


def offset(rng, n, m):
    """Differences of which float32 keeps four bits."""
    return 1e6 + rng.random((n, m))


def negative(rng, n, m):
    return -1 - rng.random((n, m))


def hubs(rng, n, m):
    """Rank one: every row wants the same columns."""
    return np.outer(rng.random(n), rng.random(m))


def low_rank(rng, n, m):
    rank = int(rng.integers(1, 9))
    return rng.normal(size=(n, rank)) @ rng.normal(size=(rank, m))


def line(rng, n, m):
    return np.abs(rng.random(n)[:, None] - rng.random(m))


def plane(rng, n, m):
    return np.linalg.norm(rng.random((n, 1, 2)) - rng.random((m, 2)), axis=-1)


def blocks(rng, n, m):
    values = rng.integers(0, 5, (-(-n // 7), -(-m // 7)))
    return np.kron(values, np.ones((7, 7)))[:n, :m]


def diagonal(rng, n, m):
    return 1.0 - np.eye(n, m)


def images_and_noise(rng, n, m):
    """Inner products of smooth signals with white noise, the cost that this library is for."""
    images = np.cumsum(rng.normal(size=(n, 48)), axis=1)
    return -images @ rng.normal(size=(48, m))


def sparse(rng, n, m):
    """Most pairs forbidden, yet a complete assignment exists."""
    cost = np.where(rng.random((n, m)) < 0.8, np.inf, rng.random((n, m)))
    short = min(n, m)
    rows, columns = rng.permutation(n)[:short], rng.permutation(m)[:short]
    cost[rows, columns] = rng.random(short)
    return cost


def sparse_ties(rng, n, m):
    return np.ceil(2 * sparse(rng, n, m))


def boxes(rng, n, m):
    """Objects against predicted boxes, as a DETR matches them: 5 L1 - 2 GIoU - class probability.

    Boxes are (centre, size) in a unit square; half of the predictions are near an object.
    """
    if n > m:
        return boxes(rng, m, n).T
    objects = np.hstack([rng.random((n, 2)), 0.02 + 0.4 * rng.random((n, 2))])
    found = np.hstack([rng.random((m, 2)), 0.02 + 0.4 * rng.random((m, 2))])
    if n:
        near = rng.random(m) < 0.5
        found[near] = objects[rng.integers(0, n, near.sum())]
        found[near] = np.abs(found[near] + 0.03 * rng.normal(size=(near.sum(), 4))) + 0.01
    score = np.exp(rng.normal(size=(m, 20)))
    score /= score.sum(1, keepdims=True)
    one, other = objects[:, None], found[None]
    distance = np.abs(one - other).sum(-1)
    (low, high), (floor, top) = (
        (b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2) for b in (one, other)
    )
    overlap = np.minimum(high, top) - np.maximum(low, floor)
    hull = (np.maximum(high, top) - np.minimum(low, floor)).prod(-1)
    both = np.maximum(overlap, 0).prod(-1)
    union = one[..., 2:].prod(-1) + other[..., 2:].prod(-1) - both
    giou = both / union - (hull - union) / hull
    return 5 * distance - 2 * giou - score[:, rng.integers(0, 20, n)].T


def sparse_gates(rng, n, m):
    """Tracks against detections: distances, infinite beyond a gate, and a match for each track."""
    if n > m:
        return sparse_gates(rng, m, n).T
    tracks, detections = rng.random((n, 2)), rng.random((m, 2))
    seen = rng.permutation(m)[:n]
    detections[seen] = tracks + 0.3 / np.sqrt(n + 1) * rng.normal(size=(n, 2))
    distance = np.linalg.norm(tracks[:, None] - detections, axis=-1)
    gated = np.where(distance > 6 / np.sqrt(m + 1), np.inf, distance)
    gated[np.arange(n), seen] = distance[np.arange(n), seen]
    return gated


def exponential_rows(rng, n, m):
    return rng.random((n, m)) * np.exp(5 * np.arange(n) / max(n, 1))[:, None]


def sparse_hub(rng, n, m):
    """Rows of many scales, nearly all pairs forbidden, and a column that is cheap for all."""
    cost = sparse(rng, n, m) * np.exp(8 * rng.random((n, 1)))
    cost[:, :1] = 1e-3 * rng.random((n, min(m, 1)))
    return cost


def steep(rng, n, m):
    """(i j)^3.2: from the first row to the last the costs grow by many orders of magnitude."""
    return machol_wien(rng, n, m) ** 3.2


def wide_range(rng, n, m):
    """Entries over forty orders of magnitude; the optimum is tiny beside the largest of them."""
    return 10 ** rng.uniform(-20, 20, (n, m))


def big_m(rng, n, m):
    """Pairs forbidden by a number that is meant to be large, where inf would have been better."""
    cost = sparse(rng, n, m)
    return np.where(np.isinf(cost), 1e18, cost)


FAMILIES = {
    family.__name__: family
    for family in (
        uniform, gaussian, all_equal, zeros, two_valued, small_integers, modular, rows_twice,
        rows_eightfold, rows_all_equal, columns_twice, columns_all_equal, machol_wien, huge, tiny,
        offset, negative, hubs, low_rank, line, plane, blocks, diagonal, images_and_noise, sparse,
        sparse_ties, boxes, sparse_gates, exponential_rows, sparse_hub, steep,
    )
}  # fmt: skip


def make(name, rng, n, m, dtype="float64"):
    """Costs of the named family, in the given type."""
    return FAMILIES[name](rng, n, m).astype(dtype)
