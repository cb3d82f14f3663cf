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

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import validation
from ..cpu import solver
from ..cpu.groups import groups_by_size
from ..devices import on_gpu, warn_solved_on_cpu
from ..types import Assigned
from .blocks import CostBlocks
from .passes import BLOCK, SAMPLED, BlockPasses, Lists, new_lists, proven_gap, standard_deviation

ROOM = 64  # columns a list holds
FILLED_UP = 64  # rows: a block of fewer takes no less time
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
WAR, MOST_BIDS, MOST_REFILLS = 24, 300, 40  # a row: in a phase, and in all
BIDS_AT_ONCE = 1 << 18  # between looks for an interrupt
SMALL = 64  # samples: so few are one block, and solved exactly
LEFT = 2048  # rows and columns that are completed at a time
LEAST_UNIT = 1e-6  # of the costs: a smaller deviation is rounding
TRIES, FINER = 3, 3.0  # auctions, each of a finer eps, until the gap is within tol


class Streamed(NamedTuple):
    """Answer to one problem (n, n)."""

    index: NDArray[np.int64]  # type: ignore[assignment]  # (n,) column of each row
    gap: float  # cost - optimum is at most this, in the metric's units
    deviation: float  # standard deviation of the doubly centred costs, in the same units
    converged: bool  # whether the gap is within tol
    prices: NDArray[np.float32]  # (n,) of columns, in units of ``CostBlocks.unit``
    passes: float  # products that were computed, in units of n x n
    bids: int


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
        """Give what columns are left to what rows are left, at the least cost of a part of both."""
        rows, columns = np.flatnonzero(self.column[:-1] < 0), np.flatnonzero(self.owner < 0)
        for start in range(0, len(rows), LEFT):
            some, other = rows[start : start + LEFT], columns[start : start + LEFT]
            cost = self.passes.part(some, other)
            index = solver.solve(cost[None], exact=True, tol=1.0).index[0]
            self.column[some], self.owner[other[index]] = other[index], some


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

    ``block`` is how many costs are held at a time, and ``room``, a multiple of 16, how many columns
    a list holds. Up to 64 samples are solved exactly, in float64.
    """
    n = x.shape[0]
    costs = CostBlocks(x, noise, metric)
    if n <= SMALL:
        return _solve_small(costs)
    passes = _passes(costs, block)
    order = np.random.default_rng(0).permutation(n)
    deviation = standard_deviation(passes, order)
    unit = max(deviation, LEAST_UNIT * costs.magnitude) or LEAST_UNIT
    price = start_prices(passes, order, unit)
    lists = new_lists(n, room)
    passes.shorten(np.arange(n), price, lists)
    auction = ListAuction(passes, lists, price, unit)
    first, last = FIRST_EPS * auction.spread(), LAST_EPS * tol * unit
    for _ in range(TRIES):
        finished = auction.run(first, last)
        auction.complete()
        index = auction.column[:-1].copy()
        gap = proven_gap(passes, index, price)
        if gap <= tol * unit * n or not finished:
            break
        first = last = last / FINER
    return Streamed(
        index,
        gap * costs.unit,
        deviation * costs.unit,
        bool(gap <= tol * unit * n),
        price,
        passes.computed / n,
        auction.bids,
    )


def _passes(costs: CostBlocks, block: int) -> BlockPasses:
    """By kernels that keep no block, on a GPU and where costs are products."""
    if on_gpu(costs.x) and costs.multiplied:
        from .fused import FusedPasses  # with Triton

        return FusedPasses(costs, block)
    return BlockPasses(costs, block)


def _solve_small(costs: CostBlocks) -> Streamed:
    n = costs.n
    everyone = torch.arange(n, device=costs.device)
    cost, error = costs.pairs(everyone, everyone.expand(n, n))
    exact = solver.solve(cost.cpu().numpy()[None], exact=True, tol=1.0)
    gap = float(exact.cost[0] - exact.lower_bound[0]) + 2.0001 * float(error.sum())
    centred = cost - cost.mean(0)
    deviation = float((centred - centred.mean(1, keepdim=True)).square().mean().sqrt())
    price = exact.prices[0].astype(np.float32)
    return Streamed(exact.index[0], gap * costs.unit, deviation * costs.unit, True, price, 1.0, 0)


def assign(
    x: Tensor,
    noise: Tensor,
    labels: Tensor | None,
    metric: str,
    method: str,
    tol: float,
    proven: bool = False,
) -> Assigned:
    """Match samples (B, n, D) within labels (B, n), one problem after another; the gap is known
    whether it is to be ``proven`` or not."""
    device = x.device
    if device.type != "cpu" and not on_gpu(x):
        warn_solved_on_cpu(device)
        x, noise = x.cpu(), noise.cpu()
    validation.check_finite(x, noise)
    batch, n = x.shape[:2]
    index = np.tile(np.arange(n), (batch, 1))
    converged, gap = np.ones(batch, np.bool_), np.zeros(batch)
    for b, member in _groups(labels, batch, n) if x.numel() > 0 else ():
        if member is None:
            answer = solve(x[b], noise[b], metric, tol)
            index[b] = answer.index
        elif len(member) == 1:
            continue
        else:
            places = torch.from_numpy(member).to(x.device)
            chosen, drawn = (z[b].index_select(0, places) for z in (x, noise))
            answer = solve(chosen, drawn, metric, tol)
            index[b, member] = member[answer.index]
        converged[b] &= answer.converged
        gap[b] += answer.gap
    return Assigned(*[torch.from_numpy(field).to(device) for field in (index, converged, gap)])


def _groups(
    labels: Tensor | None, batch: int, n: int
) -> Iterator[tuple[int, NDArray[np.int64] | None]]:
    """(problem, members) of each group; None is everybody."""
    if labels is None:
        yield from ((b, None) for b in range(batch))
    else:
        for groups in groups_by_size(labels):
            yield from ((int(member[0] // n), member % n) for member in groups)
