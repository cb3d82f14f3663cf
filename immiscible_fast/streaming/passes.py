"""Passes over costs that come in blocks: lists of cheap columns, Sinkhorn's masses, the proof.

What is compiled (``kernels/cpu/shortlists.py``) has a readable reference here by torch, which also
is what runs where the samples are on a GPU: blocks are computed there, and lists come to the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..cpu.threads import share
from .blocks import CostBlocks

BLOCK = 1 << 24  # costs in a block, at most
ROWS = 512  # rows in one
THREADED = 1 << 20  # costs; for fewer, threads cost more than they save
SAMPLED = 2048  # rows that a sample has at least
PROOF_ROOM = 16  # columns of the lists for a proof


class Lists(NamedTuple):
    """The cheapest columns of each row; see ``kernels/cpu/shortlists.py``."""

    index: NDArray[np.uint32]  # type: ignore[assignment]  # (n, K) columns
    value: NDArray[np.float32]  # (n, K) their costs
    count: NDArray[np.int64]  # type: ignore[assignment]  # (n,) how many there are
    bound: NDArray[np.float32]  # (n,) no other column's cost and price was less


def new_lists(n: int, room: int) -> Lists:
    return Lists(
        np.zeros((n, room), np.uint32),
        np.full((n, room), np.inf, np.float32),
        np.zeros(n, np.int64),
        np.full(n, -np.inf, np.float32),
    )


class BlockPasses:
    """Passes over blocks of costs, of as many rows at a time as a block has room for."""

    def __init__(self, costs: CostBlocks, block: int = BLOCK) -> None:
        self.costs = costs
        self.rows = max(1, min(ROWS, costs.n, block // max(1, costs.m)))
        self._out = torch.empty(self.rows, costs.m, dtype=torch.float32, device=costs.device)
        self.computed = 0  # rows of costs
        self.threads = max(1, torch.get_num_threads())

    @property
    def compiled(self) -> bool:
        """Whether blocks are where compiled code reads them; on a GPU torch does."""
        return self.costs.device.type == "cpu"

    def blocks(
        self,
        rows: NDArray[np.int64],
        visit: Callable[[NDArray[np.int64], Tensor], None],
        lower: bool = False,
    ) -> None:
        """``visit(rows, costs)`` for all ``rows``, a block at a time."""
        for start in range(0, len(rows), self.rows):
            some = rows[start : start + self.rows]
            chosen = torch.from_numpy(some).to(self.costs.device)
            visit(some, self.costs.block(chosen, self._out, lower))
            self.computed += len(some)

    def part(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Costs of some rows and columns."""
        places = torch.from_numpy(columns).to(self.costs.device)
        parts: list[NDArray[np.float32]] = []
        self.blocks(rows, lambda _, cost: parts.append(cost.index_select(1, places).cpu().numpy()))
        return np.concatenate(parts)

    def in_parts(self, run: Callable[[int, int, int], None], count: int) -> None:
        """``run(part, begin, end)`` over the rows of a block, on several threads where that
        pays."""
        parts = min(self.threads, count) if count * self.costs.m >= THREADED else 1
        edges = [count * part // parts for part in range(parts + 1)]
        if parts == 1:
            run(0, 0, count)
        else:
            share(run, [(k, edges[k], edges[k + 1]) for k in range(parts)], parts)

    def shorten(
        self,
        rows: NDArray[np.int64],
        price: NDArray[np.float32],
        lists: Lists,
        lower: bool = False,
    ) -> None:
        """Make the lists of ``rows`` anew, at these prices."""
        if self.compiled:
            from immiscible_fast.kernels.cpu.shortlists import shorten

            def visit(some: NDArray[np.int64], cost: Tensor) -> None:
                array = cost.numpy()
                self.in_parts(lambda _, a, b: shorten(array, some, a, b, price, *lists), len(some))
        else:
            on_device = torch.from_numpy(price).to(self.costs.device)

            def visit(some: NDArray[np.int64], cost: Tensor) -> None:
                shorten_by_torch(cost, some, on_device, lists)

        self.blocks(rows, visit, lower)

    def mass(
        self, rows: NDArray[np.int64], price: NDArray[np.float32], eps: float
    ) -> NDArray[np.float64]:
        """What ``rows`` of Sinkhorn's plan give to each column (m,), one each."""
        total = np.zeros(self.costs.m)
        if self.compiled:
            from immiscible_fast.kernels.cpu.shortlists import add_mass

            parts = np.zeros((self.threads, self.costs.m), np.float32)

            def visit(some: NDArray[np.int64], cost: Tensor) -> None:
                array = cost.numpy()
                parts[:] = 0
                self.in_parts(
                    lambda k, a, b: add_mass(array, a, b, price, eps, parts[k]), len(some)
                )
                total[:] += parts.sum(0, dtype=np.float64)
        else:
            on_device = torch.from_numpy(price).to(self.costs.device)

            def visit(some: NDArray[np.int64], cost: Tensor) -> None:
                total[:] += mass_by_torch(cost, on_device, eps).to("cpu", torch.float64).numpy()

        self.blocks(rows, visit)
        return total


def shorten_by_torch(cost: Tensor, rows: NDArray[np.int64], price: Tensor, lists: Lists) -> None:
    """``shorten`` of costs (b, m) on any device, by ``torch.topk``: the readable reference."""
    room = min(lists.index.shape[1], cost.shape[1])
    value, index = (cost + price).topk(min(room + 1, cost.shape[1]), largest=False)
    lists.index[rows], lists.value[rows] = 0, np.inf
    lists.index[rows, :room] = index[:, :room].cpu().numpy()
    lists.value[rows, :room] = cost.gather(1, index[:, :room]).cpu().numpy()
    lists.count[rows] = room
    lists.bound[rows] = value[:, room].cpu().numpy() if room < cost.shape[1] else np.inf


def mass_by_torch(cost: Tensor, price: Tensor, eps: float) -> Tensor:
    """What the rows of a block (b, m) give to the columns (m,): the readable reference."""
    return torch.softmax((cost + price) / -eps, 1).sum(0)


def standard_deviation(passes: BlockPasses, order: NDArray[np.int64]) -> float:
    """Of the doubly centred costs, by as many rows as a block has, at least 2048 if there are."""
    some = np.sort(order[: max(passes.rows, min(SAMPLED, 2 * passes.rows))])
    sums = torch.zeros(3, passes.costs.m, dtype=torch.float64, device=passes.costs.device)

    def visit(_: NDArray[np.int64], cost: Tensor) -> None:
        wide = cost - cost.mean(1, keepdim=True)
        sums[0] += wide.sum(0, dtype=torch.float64)
        sums[1] += wide.square().sum(0, dtype=torch.float64)

    passes.blocks(some, visit)
    count = len(some)
    variance = float((sums[1] / count - (sums[0] / count).square()).mean())
    return float(np.sqrt(max(variance, 0.0) * count / max(1, count - 1)))


def proven_gap(passes: BlockPasses, index: NDArray[np.int64], price: NDArray[np.float32]) -> float:
    """What the assignment costs above a lower bound on all assignments, rounded up.

    With u_i <= min_j (c_ij + p_j), no assignment costs less than sum_i u_i - sum_j p_j, so the gap
    is at most sum_i (c_i,index(i) + p_index(i) - u_i). Rows' minima u_i are the least of what a
    list from lower bounds holds, in float64, and of the bound on what it does not hold.
    """
    costs, n = passes.costs, passes.costs.n
    lists = new_lists(n, PROOF_ROOM)
    everyone = np.arange(n)
    passes.shorten(everyone, price, lists, lower=True)
    beyond = lists.bound.astype(np.float64)  # of rounded sums with prices
    beyond -= np.abs(beyond) * 2.0**-23 + 1e-37
    wide = price.astype(np.float64)
    gap, step = 0.0, max(1, passes.rows)
    for start in range(0, n, step):
        some = everyone[start : start + step]
        columns = lists.index[some].astype(np.int64)
        columns[:, 1:] = np.where(
            np.isfinite(lists.value[some, 1:]), columns[:, 1:], columns[:, :1]
        )
        columns = np.concatenate([index[some, None], columns], 1)
        places = (torch.from_numpy(z).to(costs.device) for z in (some, columns))
        cost, error = (z.cpu().numpy() for z in costs.pairs(*places))
        value = cost + wide[columns]
        size = np.abs(cost).max(1) + np.abs(wide[columns]).max(1)
        error = error + size * 2.0**-51
        least = np.minimum(value.min(1) - error, beyond[some])
        slack = value[:, 0] + error - least
        gap += float(slack.sum()) * (1 + (len(some) + 4) * 2.0**-52)
    return gap * (1 + n * 2.0**-52)
