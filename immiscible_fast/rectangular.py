"""Problems with more rows than columns are solved transposed: there, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TILE = (512, 64)  # rows and columns that are copied at a time


def transposed(costs: NDArray[np.floating]) -> NDArray[np.floating]:
    """(B, m, n) contiguous costs of (B, n, m) ones; what has to be copied goes tile by tile, so
    that caches hold what is read and what is written."""
    turned = costs.transpose(0, 2, 1)
    if turned.flags.c_contiguous:
        return turned
    _, m, n = turned.shape
    copy = np.empty(turned.shape, turned.dtype)
    height, width = TILE
    for j in range(0, m, width):
        for i in range(0, n, height):
            copy[:, j : j + width, i : i + height] = turned[:, j : j + width, i : i + height]
    return copy


def inverse(rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Column of each of n rows (B, n), or -1, of the rows (B, m) of the columns."""
    batch, m = rows.shape
    index = np.empty((batch, n), np.int64)
    index.fill(-1)
    if batch > 1:
        rows = rows + n * np.arange(batch)[:, None]
    index.reshape(-1)[rows] = np.arange(m)
    return index
