"""Assignment of more samples than a cost matrix of them would fit for: costs come in blocks.

1. ``start_prices``: Sinkhorn's updates of column prices, the early and smooth ones on a sample of
   the rows: ten updates for the products of four or five.
2. One pass keeps the K cheapest columns of each row (``kernels/cpu/shortlists.py``).
3. The auction bids from these lists alone, in phases of falling eps. Rows whose lists no longer
   serve wait until nobody else can bid; then blocks of costs make their lists anew. Where few wait,
   the block is filled up with those whose lists serve the shortest; or they may bid from what they
   have, as long as what all of them could lose together is little beside ``tol``.
4. One last pass proves the gap: lists from lower bounds on the costs, of which the cheapest entries
   are computed in float64.

Nothing of size n x n is ever stored: beyond the samples there are the lists, n K eight-byte
entries, and one block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .blocks import CostBlocks
from .threads import share

ROOM = 64  # columns a list holds
PROOF_ROOM = 16  # and where they are only wanted for a proof
BLOCK = 1 << 24  # costs in a block, at most
ROWS = 512  # rows in one
FILLED_UP = 64  # rows: a block of fewer takes no less time
THREADED = 1 << 20  # costs; for fewer, threads cost more than they save
SAMPLED = 2048  # rows that a sample has at least
# (share of the rows, eps in standard deviations, over-relaxation) of Sinkhorn's updates
UPDATES = [
    (0.125 if k < 5 else 0.5 if k < 7 else 1.0, 10 ** (-k / 9), 1.6 if k < 9 else 1.0)
    for k in range(10)
]
LEAST_MASS = 1e-9  # of a column, so that a price cannot run away
FIRST_EPS, FACTOR = 0.05, 5.0  # of the spread of the lists; from phase to phase
LAST_EPS = 0.3  # of tol: rows lose about half of eps
SLACK = 0.25  # of eps, by which a list may be off
GRANTED = 0.1  # of eps a row, that rows whose lists no longer serve may lose together
WAR, MOST_BIDS, MOST_REFILLS = 24, 200, 60  # a row: in a phase, and in all
BIDS_AT_ONCE = 1 << 18  # between looks for an interrupt
LEAST_COLUMNS = 16  # a row scan reads so many


class Streamed(NamedTuple):
    """Answer to one problem (n, n)."""

    index: NDArray[np.int64]  # type: ignore[assignment]  # (n,) column of each row
    gap: float  # cost - optimum is at most this, in the metric's units
    deviation: float  # standard deviation of the doubly centred costs, in the same units
    converged: bool  # whether the gap is within tol
    prices: NDArray[np.float32]  # (n,) of columns, in units of ``CostBlocks.unit``
    passes: float  # products that were computed, in units of n x n
    bids: int


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

    def blocks(
        self, rows: NDArray[np.int64], visit: Callable[[NDArray[np.int64], Tensor], None], lower: bool = False
    ) -> None:
        """``visit(rows, costs)`` for all ``rows``, a block at a time."""
        for start in range(0, len(rows), self.rows):
            some = rows[start : start + self.rows]
            chosen = torch.from_numpy(some).to(self.costs.device)
            visit(some, self.costs.block(chosen, self._out, lower))
            self.computed += len(some)

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
        if self.costs.device.type == "cpu":
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
        if self.costs.device.type == "cpu":
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


def shorten_by_torch(
    cost: Tensor, rows: NDArray[np.int64], price: Tensor, lists: Lists
) -> None:
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
    return max(variance, 0.0) ** 0.5 * (count / max(1, count - 1)) ** 0.5


def start_prices(
    passes: BlockPasses, order: NDArray[np.int64], deviation: float
) -> NDArray[np.float32]:
    """Column prices by Sinkhorn's updates; samples of rows are the first of ``order``."""
    n, m = passes.costs.n, passes.costs.m
    price = np.zeros(m)
    for fraction, eps, relaxation in UPDATES:
        count = min(n, max(SAMPLED, int(n * fraction)))
        rows = np.sort(order[:count])
        mass = passes.mass(rows, price.astype(np.float32), eps * deviation) * (m / count)
        price += relaxation * eps * deviation * np.log(np.maximum(mass, LEAST_MASS))
        price -= price.mean()
    return price.astype(np.float32)


class ListAuction:
    """The auction on lists, and the blocks that make them anew."""

    def __init__(
        self, passes: BlockPasses, lists: Lists, price: NDArray[np.float32], deviation: float
    ) -> None:
        n, m = passes.costs.n, passes.costs.m
        self.passes, self.lists, self.price = passes, lists, price
        self.deviation = deviation
        self.owner, self.column = np.full(m, -1, np.int64), np.full(n + 1, -1, np.int64)
        self.slack = np.zeros(n, np.float32)
        self.stack, self.parked = np.empty(n, np.int64), np.empty(n, np.int64)
        self.excess, self.margin = np.empty(n, np.float32), np.empty(n, np.float32)
        self.bids, self.refills = 0, 0

    def spread(self) -> float:
        """Median distance from a row's best value to its twentieth best, over some rows."""
        index, value, count, _ = self.lists
        step = max(1, len(count) // 64)
        some = np.sort(value[::step] + self.price[index[::step]], axis=1)
        twentieth = some[:, min(20, some.shape[1] - 1)]
        distance = np.where(np.isfinite(twentieth), twentieth, some[:, 0]) - some[:, 0]
        return float(np.median(distance))

    def run(self, first_eps: float, last_eps: float) -> bool:
        """Phases from ``first_eps`` down; False if the budget of work was spent."""
        n = len(self.slack)
        eps = max(first_eps, last_eps)
        while True:
            truce = self.bids + WAR * n
            done = self._phase(eps, truce)
            if self.bids > MOST_BIDS * n or self.refills > MOST_REFILLS * n:
                return done and eps <= last_eps
            if not done:
                eps *= FACTOR
            elif eps <= last_eps:
                return True
            else:
                eps = max(eps / FACTOR, last_eps)

    def _phase(self, eps: float, truce: int) -> bool:
        from immiscible_fast.kernels.cpu.shortlists import bid, release

        n, least = len(self.slack), np.float32(SLACK * eps)
        lists, state = self.lists, (self.price, self.owner, self.column)
        self.slack[:] = least
        granted = 0.0
        top = release(*state, *lists, self.stack, np.float32((1 + SLACK) * eps))
        while top > 0:
            top, waiting, bids = bid(
                *(*state, *lists, self.slack, self.stack, top, self.parked, self.excess, eps),
                BIDS_AT_ONCE,
            )
            self.bids += bids
            if top > 0 and self.bids > truce:
                return False
            rows = self.parked[:waiting].copy()
            if top > 0 and waiting < self.passes.rows:
                self.stack[top : top + waiting] = rows  # bid again when all others have
                self.stack[: top + waiting] = np.roll(self.stack[: top + waiting], waiting)
                top += waiting
                continue
            needed = self.excess[:waiting] + 2 * least
            more = float((needed - self.slack[rows]).sum(dtype=np.float64))
            if waiting < FILLED_UP and granted + more <= GRANTED * eps * n:
                self.slack[rows] = needed
                granted += more
            elif waiting > 0:
                if self.refills > MOST_REFILLS * n:
                    return False
                granted -= self._refill(rows, least)
            self.stack[top : top + waiting] = rows[::-1]
            top += waiting
        return True

    def _refill(self, rows: NDArray[np.int64], least: np.float32) -> float:
        """New lists for these rows and, if they are few, for those that need theirs next; what
        they had been granted."""
        from immiscible_fast.kernels.cpu.shortlists import margins

        wanted = min(FILLED_UP, len(self.slack), self.passes.rows)
        if len(rows) < wanted:
            margins(self.price, *self.lists, self.slack, self.margin)
            self.margin[rows] = -np.inf
            rows = np.argpartition(self.margin, wanted - 1)[:wanted]
        rows = np.sort(rows)
        self.refills += len(rows)
        self.passes.shorten(rows, self.price, self.lists)
        back = float((self.slack[rows] - least).sum(dtype=np.float64))
        self.slack[rows] = least
        return back

    def complete(self) -> None:
        """Give what columns are left to what rows are left, in order."""
        rows, columns = np.flatnonzero(self.column[:-1] < 0), np.flatnonzero(self.owner < 0)
        self.column[rows], self.owner[columns] = columns, rows


def proven_gap(
    passes: BlockPasses, index: NDArray[np.int64], price: NDArray[np.float32]
) -> float:
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
        columns[:, 1:] = np.where(np.isfinite(lists.value[some, 1:]), columns[:, 1:], columns[:, :1])
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


def solve(
    x: Tensor,
    noise: Tensor,
    metric: str,
    tol: float,
    *,
    block: int = BLOCK,
    room: int = ROOM,
) -> Streamed:
    """Assign samples (n, D) to noises (n, D) within ``tol`` standard deviations a row.

    ``block`` is how many costs are held at a time, and ``room`` how many columns a list holds.
    """
    n = x.shape[0]
    if n < LEAST_COLUMNS:
        raise ValueError(f"n must be at least {LEAST_COLUMNS}, got {n}")
    costs = CostBlocks(x, noise, metric)
    passes = BlockPasses(costs, block)
    order = np.random.default_rng(0).permutation(n)
    deviation = standard_deviation(passes, order)
    unit = deviation if deviation > 0 else 1.0
    price = start_prices(passes, order, unit)
    lists = new_lists(n, room)
    passes.shorten(np.arange(n), price, lists)
    auction = ListAuction(passes, lists, price, unit)
    last = LAST_EPS * tol * unit
    auction.run(FIRST_EPS * auction.spread(), last)
    auction.complete()
    index = auction.column[:-1].copy()
    gap = proven_gap(passes, index, price)
    return Streamed(
        index,
        gap * costs.unit,
        deviation * costs.unit,
        bool(gap <= tol * unit * n),
        price,
        passes.computed / n,
        auction.bids,
    )
