"""Each rank keeps the costs of its own images, and no rank all of them: for n beyond one memory.

1. The noise of all ranks travels, n D numbers; rank r computes the costs (n_r, n) of its images,
   centred by sums over all ranks and in units of their standard deviation.
2. Annealed Sinkhorn (``cpu/sinkhorn.py``): rows are updated where they are, and the
   sums of the columns, n numbers, are added over all ranks in each update.
3. With prices -g, the ``ROOM`` columns of each row with the least c_ij - g_j travel, and the row's
   own column i, so that a complete assignment exists among them: n (ROOM + 1) numbers.
4. Rank 0 assigns these lists at the least cost (LAPJVsp, by SciPy) and finds the prices that prove
   it: with w_ij the entries and m(i) the columns, the distances of the columns in the graph that
   leads from m(i) to j over w_ij - w_i,m(i) (Bellman and Ford). It sends both.
5. No assignment costs less than sum_i min_j (c_ij - g_j) + sum_j g_j, over all columns; both sums,
   and what the pairs cost, are over all ranks. Where the gap is above ``tol`` a row, longer lists
   are made from these prices.

Crouse, "On implementing 2D rectangular assignment algorithms", 2016; Jonker and Volgenant, 1987.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import validation
from ..cpu.sinkhorn import LEAST_SUM, annealing, powers
from ..metrics import METRICS, pair_costs, working_dtype
from ..products import product
from ..statistics import AssignmentStats
from .group import Group

MATRIX_BYTES = 1 << 32  # of float32 costs, above which "auto" has ranks share them
ROOM = 32  # columns of a list
TRIES = 4  # with lists of twice as many
PATHS, ROUNDING = 1000, 1e-9  # most edges of a shortest path; distances that are not worth another
STRIP = 1 << 24  # costs that are widened to float64 at a time


class Sharded(NamedTuple):
    index: Tensor  # type: ignore[assignment]  # (n,) int64, of the rows of all ranks
    gap: Tensor  # () float64: cost - optimum of the whole problem is at most this
    converged: bool  # whether that is within tol


def is_sharded(size: int, n: int, method: str) -> bool:
    """Whether ranks share the costs of a plain problem, rather than solve it each or on one."""
    large = method == "auto" and 4 * n * n > MATRIX_BYTES
    return size > 1 and n > 0 and (method == "sinkhorn" or large)


def solve(
    group: Group, counts: Sequence[int], x: Tensor, noise: Tensor, metric: str, tol: float
) -> Sharded:
    """Assign this rank's samples (n_r, D) to noise (n, D) of all ranks, which all of them hold."""
    cost, unit = _costs(group, x, noise, metric)
    n = noise.shape[0]
    g = _wide(group.of_first(_annealed(group, cost, n)))  # the same bits on all ranks
    room = ROOM
    for last in (k == TRIES - 1 for k in range(TRIES)):
        index, distance = _matched(group, counts, cost, g, min(room, n))
        g = g + distance
        gap = _proven_gap(group, counts, cost, g, index)
        if last or float(gap) <= tol * n:
            break
        room *= 2
    return Sharded(index, gap.clamp(min=0) * unit, bool(float(gap) <= tol * n))


def statistics(
    group: Group, x: Tensor, before: Tensor, after: Tensor, moved: Tensor, metric: Any, gap: Tensor
) -> AssignmentStats:
    """Of this rank's samples and noise, as it came and as it is, and how many of it moved."""
    parts = [pair_costs(x[None], noise[None], metric).sum(dtype=torch.float64)
             for noise in (before, after)]  # fmt: skip
    own = torch.stack([*parts, moved.to(torch.float64), gap.new_tensor(float(len(x)))])
    cost_before, cost_after, moves, n = group.total(own)
    return AssignmentStats(
        cost_before, cost_after, moves / n, gap, n.to(torch.int64), torch.zeros_like(gap)
    )


def _costs(group: Group, x: Tensor, noise: Tensor, metric: str) -> tuple[Tensor, Tensor]:
    """This rank's rows of the doubly centred costs, over their standard deviation; and that."""
    dtype, n = working_dtype(x, noise), max(1, noise.shape[0])
    definition = METRICS[metric]
    if definition.factor is None:
        cost = definition.matrix(x, noise, dtype)
    else:  # constants of rows and columns would cost digits
        left, right = definition.factors(x, noise, dtype)
        mean = group.total(left.sum(0, dtype=torch.float64)) / n
        shift = right.mean(0, keepdim=True, dtype=torch.float64).to(dtype)
        cost = product(left, right, dtype, definition.factor, mean[None].to(dtype), shift)
    cost -= cost.mean(1, keepdim=True, dtype=torch.float64).to(dtype)
    cost -= (group.total(cost.sum(0, dtype=torch.float64)) / n).to(dtype)
    squares = torch.stack(
        [_wide(strip).square().sum() for strip in _strips(cost)] or [_wide(x[:0]).sum()]
    )
    unit = (group.total(squares.sum()) / n / n).sqrt()
    if not bool(unit.isfinite()):  # the same on all ranks
        raise validation.overflow(metric)
    unit = unit.clamp(min=torch.finfo(torch.float32).tiny)
    return cost.div_(unit.to(dtype)), unit


def _annealed(group: Group, cost: Tensor, n: int) -> Tensor:
    """Column potentials (n,) float32. Columns whose sum vanishes move by as much as its least value
    says."""
    narrow = cost.to(torch.float32)
    kernel, g = torch.empty_like(narrow), narrow.new_zeros(n)
    for eps, relaxation in annealing():
        powers(g, narrow, eps, kernel)
        column_sum = group.total((1 / kernel.sum(1)) @ kernel).clamp(min=LEAST_SUM)
        g = g - relaxation * eps * column_sum.log()
    return g


def _matched(
    group: Group, counts: Sequence[int], cost: Tensor, g: Tensor, room: int
) -> tuple[Tensor, Tensor]:
    """Points 3 and 4: the column of each row of all ranks, and what to add to g; both (n,)."""
    own = torch.arange(counts[group.rank], device=cost.device) + sum(counts[: group.rank])
    reduced = cost.to(torch.float32) - g.to(torch.float32)
    value, column = reduced.topk(room, 1, largest=False, sorted=False)
    column = torch.cat([column, own[:, None]], 1)
    value = _wide(cost.gather(1, column)) - g[column]
    lists = group.rows(counts, [column.to(torch.int32), value])
    index, distance = group.from_first(lambda: cheapest(*(part.cpu().numpy() for part in lists)))
    return torch.from_numpy(index).to(cost.device), torch.from_numpy(distance).to(cost.device)


def cheapest(
    column: NDArray[np.int32], value: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Point 4 of lists (n, k): the column of each row, and the distance <= 0 of each column. The
    last of each list is the row's own, and may be listed twice."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    n = len(column)
    keep = np.ones(column.shape, np.bool_)
    keep[:, -1] = (column[:, :-1] != column[:, -1:]).all(1)
    row, listed = np.nonzero(keep)[0], column[keep]
    entry = (value - value.min(1, keepdims=True))[keep] + 1.0  # SciPy takes zero for no edge
    graph = csr_matrix((entry, (row, listed)), (n, n))
    index = np.asarray(min_weight_full_bipartite_matching(graph)[1], np.int64)
    length = entry - entry[listed == index[row]][row]
    order = np.argsort(listed, kind="stable")  # every column is in the list of its own row
    starts = np.searchsorted(listed[order], np.arange(n))
    length, before = length[order], index[row[order]]
    distance = np.zeros(n)
    for _ in range(PATHS):
        shorter = np.minimum(np.minimum.reduceat(distance[before] + length, starts), distance)
        if (distance - shorter).max(initial=0.0) <= ROUNDING:
            break
        distance = shorter
    return index, distance


def _proven_gap(
    group: Group, counts: Sequence[int], cost: Tensor, g: Tensor, index: Tensor
) -> Tensor:
    """Point 5, () float64, in the units of the costs."""
    wide = _wide(g)
    own = torch.split(index, list(counts))[group.rank]
    gap = _wide(cost.gather(1, own[:, None])).sum()
    for strip in _strips(cost):
        gap -= (_wide(strip) - wide).amin(1).sum()
    if group.rank == 0:
        gap -= wide.sum()
    return group.total(gap)


def _strips(cost: Tensor) -> list[Tensor]:
    """Some rows at a time."""
    return list(torch.split(cost, max(1, STRIP // max(1, cost.shape[1])))) if len(cost) else []


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.float64)
