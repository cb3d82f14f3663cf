"""Groups of samples that are solved apart: those of one size as one batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def groups_by_size(labels: Tensor) -> Iterator[NDArray[np.int64]]:
    """For each size, the places (groups, size) of groups of equal labels (B, n), as numbers of
    B n samples; a group is within one problem of the batch."""
    batch, n = labels.shape
    if batch * n == 0:
        return
    _, group = np.unique(labels.cpu().numpy(), return_inverse=True)
    problem = np.repeat(np.arange(batch), n)
    group = group.reshape(-1) + problem * (group.max() + 1)
    order = np.argsort(group, kind="stable")
    _, first, counts = np.unique(group[order], return_index=True, return_counts=True)
    for size in np.unique(counts):
        yield order[first[counts == size][:, None] + np.arange(size)]
