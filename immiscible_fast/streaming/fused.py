"""Passes on a GPU over costs that are products, by kernels that store no block of them
(``kernels/gpu/streaming.py``); lists come to the CPU.

1. Prices are no more than a start: products of float32 samples are made in TF32. For lists they are
   as good as float32 unless torch may use TF32, and for the proof float32 itself, whose errors are
   bounded.
2. Samples in 16 bits are multiplied as they are where the metric is a product, except for the
   proof: see ``CostBlocks.factors``.
3. Rows of whose costs too many tie or crowd get their lists from a block, as without the kernels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from immiscible_fast.kernels.gpu import streaming as kernels
from immiscible_fast.kernels.gpu.streaming import Product

from ..gpu.costs import precision
from .blocks import CostBlocks
from .passes import BLOCK, BlockPasses, Lists

ROWS = 1 << 14  # at a time: what is found takes some 20 KiB of each, while it is sorted
BYTES = 1 << 28  # of rows that are converted at a time


class FusedPasses(BlockPasses):
    """The same passes, without blocks but for what few rows need."""

    def __init__(self, costs: CostBlocks, block: int = BLOCK) -> None:
        super().__init__(costs, block)
        self._at_once = max(1, min(ROWS, BYTES // (8 * costs.dim)))

    def shorten(
        self,
        rows: NDArray[np.int64],
        price: NDArray[np.float32],
        lists: Lists,
        lower: bool = False,
    ) -> None:
        """Make the lists of ``rows`` anew, at these prices."""
        costs, room = self.costs, lists.index.shape[1]
        on_device = torch.from_numpy(price).to(costs.device)
        arithmetic = "ieee" if lower else precision(costs.device)  # (1)
        every = kernels.sampled(costs.m)
        crowded = []
        for some, chosen in self._chunks(rows):
            least: Tensor | None = None
            for part, one in self._products(chosen, arithmetic, lower):
                least = kernels.minima(one, on_device[part], room + 1, every, least)
            assert least is not None  # there are columns
            limit = least.amax(1)
            found = kernels.nothing(len(some), costs.device)
            for part, one in self._products(chosen, arithmetic, lower):
                more = kernels.collect(one, on_device[part], limit, part.start)
                found = kernels.cheapest(found, more, on_device, chosen, room + 1)
            count = found.cost.isfinite().sum(1).clamp(max=room)
            bound = limit
            if found.cost.shape[1] > room:
                bound = limit.minimum(found.cost[:, room] + on_device[found.column[:, room]])
            width = min(room, found.cost.shape[1])
            lists.index[some], lists.value[some] = 0, np.inf
            lists.index[some, :width] = found.column[:, :width].cpu().numpy()
            lists.value[some, :width] = found.cost[:, :width].cpu().numpy()
            lists.count[some], lists.bound[some] = count.cpu().numpy(), bound.cpu().numpy()
            crowded.append(some[~found.whole.cpu().numpy()])
            self.computed += len(some) + len(some) // every
        left = np.concatenate(crowded)
        if len(left) > 0:
            super().shorten(left, price, lists, lower)

    def mass(
        self, rows: NDArray[np.int64], price: NDArray[np.float32], eps: float
    ) -> NDArray[np.float64]:
        """What ``rows`` of Sinkhorn's plan give to each column (m,), one each."""
        costs = self.costs
        on_device = torch.from_numpy(price).to(costs.device)
        total = torch.zeros(costs.m, dtype=torch.float64, device=costs.device)
        for some, chosen in self._chunks(rows):
            sums = torch.full((len(some),), -torch.inf, device=costs.device)
            for part, one in self._products(chosen, "tf32"):
                sums = torch.logaddexp2(sums, kernels.row_sums(one, on_device[part], eps))
            for part, one in self._products(chosen, "tf32"):
                total[part] += kernels.column_masses(one, on_device[part], sums, eps)
            self.computed += 2 * len(some)
        return total.cpu().numpy()

    def _chunks(self, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        for start in range(0, len(rows), self._at_once):
            some = rows[start : start + self._at_once]
            yield some, torch.from_numpy(some).to(self.costs.device)

    def _products(
        self, rows: Tensor, arithmetic: str, lower: bool = False
    ) -> Iterator[tuple[slice, Product]]:
        for one in self.costs.factors(rows, lower):
            yield (
                one.part,
                Product(
                    kernels.padded(one.x),
                    kernels.padded(one.y),
                    one.row,
                    one.column,
                    one.factor,
                    one.root,
                    one.shrink,
                    arithmetic,
                ),
            )
