"""Each stage of the GPU solver against a plain computation of the same: on a GPU where there is
one, else in Triton's interpreter."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest
import torch
from checks import assert_matching, optimum, spread

pytest.importorskip("triton")

from immiscible_fast.kernels.gpu.auction import auction
from immiscible_fast.kernels.gpu.certificate import Proof, certificate
from immiscible_fast.kernels.gpu.exact import exact_finish
from immiscible_fast.kernels.gpu.problems import Problems
from immiscible_fast.kernels.gpu.sinkhorn import FIRST_EPS, LAST_EPS, OVER_RELAXATION, sinkhorn
from immiscible_fast.kernels.gpu.statistics import DEGENERATE, INVALID, statistics

pytestmark = pytest.mark.emulated
EDGES = (0, 1, 4, 5, 13, 20)  # of groups, some of them of one sample
SHAPES = ((1, 1, 1), (2, 19, 19), (1, 65, 65), (1, 7, 40))


def problems_of(cost, device, edges=None):
    """The problems of (B, n, m) costs, or of the groups between ``edges``."""
    tensor = torch.as_tensor(cost).to(device)
    if edges is None:
        return Problems(tensor)
    sizes = np.diff(edges)
    first, last = (np.repeat(edge, sizes) for edge in (edges[:-1], edges[1:]))
    flat = [torch.tensor(np.tile(edge, len(cost)), dtype=torch.int32) for edge in (first, last)]
    return Problems(tensor, *(edge.to(device) for edge in flat))


def grouped_cost(rng, batch=2):
    """Costs that are poisoned wherever two groups meet."""
    n = EDGES[-1]
    cost = np.full((batch, n, n), np.nan, np.float32)
    for start, stop in itertools.pairwise(EDGES):
        cost[:, start:stop, start:stop] = rng.normal(size=(batch, stop - start, stop - start))
    return cost


def blocks(array):
    """(slot of the problem, its costs) of grouped ones."""
    for b, cost in enumerate(array):
        for start, stop in itertools.pairwise(EDGES):
            yield b * EDGES[-1] + start, cost[start:stop, start:stop]


def working(cost, units, slot, rows):
    centre, scale = (np.asarray(part.cpu(), np.float64) for part in units[:2])
    return (cost - centre[rows][:, None]) * scale[slot]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_units_are_those_of_the_centred_costs(rng, gpu_device, shape, dtype):
    cost = (3 + rng.normal(size=shape) + rng.normal(size=(shape[0], shape[1], 1))).astype(dtype)
    units, price = statistics(problems_of(cost, gpu_device))
    for b, one in enumerate(cost):
        scale, unit = float(units.scale[b]), float(units.unit[b])
        assert np.log2(scale) % 1 == 0
        if min(one.shape) == 1:
            continue
        assert unit / scale == pytest.approx(spread(one), rel=1e-5)
        assert 0.7 < unit < 1.5
        n, m = one.shape
        mean = (one.astype(float) - one.mean(1, dtype=float)[:, None]).mean(0)
        start = price[b * m : (b + 1) * m].cpu()
        np.testing.assert_allclose(start, -scale * mean if n == m else 0 * mean, atol=1e-3)


def test_flags_name_costs_that_are_invalid_or_have_no_unit(rng, gpu_device):
    cost = rng.normal(size=(5, 9, 9))
    cost[0, 3, 4] = np.nan
    cost[1, 0, 8] = -np.inf
    cost[2, 2, 2] = np.inf  # forbidden: as good as any other
    cost[3] = 7
    flags = statistics(problems_of(cost, gpu_device))[0].flags.tolist()
    assert flags == [INVALID.value, INVALID.value, 0, DEGENERATE.value, 0]


def sinkhorn_reference(cost, unit, price, updates):
    """The numbered steps of the kernel's text, in float64."""
    n, m = cost.shape
    for step in range(updates):
        eps = unit * FIRST_EPS * (LAST_EPS / FIRST_EPS) ** (step / (updates - 1))
        potential = -eps * np.logaddexp.reduce(-(cost + price) / eps, axis=1)
        target = eps * (np.logaddexp.reduce((potential[:, None] - cost) / eps) - np.log(n / m))
        omega = OVER_RELAXATION if step < updates - 1 else 1.0
        price = price + omega * (target - price)
    return price


@pytest.mark.parametrize("shape", [(2, 19, 19), (1, 40, 40), (1, 7, 40)])
def test_sinkhorn_prices_are_those_of_float64(rng, gpu_device, shape):
    cost = rng.normal(size=shape).astype(np.float32)
    problems = problems_of(cost, gpu_device)
    units, price = statistics(problems)
    start = np.asarray(price.cpu(), np.float64).reshape(shape[0], -1)
    sinkhorn(problems, units, price, updates=6)
    for b, one in enumerate(cost):
        rows = np.arange(b * shape[1], (b + 1) * shape[1])
        want = sinkhorn_reference(working(one, units, b, rows), float(units.unit[b]), start[b], 6)
        got = price.view(shape[0], -1)[b].cpu()
        np.testing.assert_allclose(got, want, atol=2e-4)


def test_groups_are_problems_of_their_own(rng, gpu_device):
    """Units, prices of Sinkhorn, assignment and proof are those of each group solved alone."""
    cost = grouped_cost(rng)
    together = solve(problems_of(cost, gpu_device, EDGES))
    for slot, one in blocks(cost):
        alone = solve(problems_of(one[None], gpu_device))
        rows, first = slice(slot, slot + len(one)), slot % EDGES[-1]
        assert torch.equal(together.column[rows] - first, alone.column)
        np.testing.assert_allclose(together.warm[rows].cpu(), alone.warm.cpu(), atol=1e-4)
        for got, want in zip(together.proof[2:], alone.proof[2:], strict=True):
            assert float(got[slot]) == pytest.approx(float(want[0]), abs=1e-9)


class Solved(NamedTuple):
    warm: torch.Tensor  # prices of Sinkhorn
    column: torch.Tensor
    proof: Proof


def solve(problems):
    """All stages, to the optimum."""
    units, price = statistics(problems)
    if problems.cost.shape[1] == problems.cost.shape[2]:
        sinkhorn(problems, units, price, updates=6)
    warm = price.clone()
    column, left = auction(problems, units, price, 0.02, cold=False)
    every, wide, proof = torch.ones_like(left), price.double(), Proof.empty(problems)
    exact_finish(problems, units, wide, column, every)
    certificate(problems, units, wide, column, proof, every, left, 0.0)
    return Solved(warm, column, proof)


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("shape", [(2, 19, 19), (1, 40, 40), (1, 7, 40)])
def test_auction_leaves_every_row_within_eps_of_its_best(rng, gpu_device, shape, cold):
    cost = rng.normal(size=shape).astype(np.float32)
    problems, eps = problems_of(cost, gpu_device), 0.05
    units, price = statistics(problems)
    column, left = auction(problems, units, price, eps, cold=cold and shape[1] == shape[2])
    assert left.tolist() == [0] * shape[0]
    prices = np.asarray(price.cpu(), np.float64).reshape(shape[0], -1)
    for b, one in enumerate(cost):
        rows = np.arange(b * shape[1], (b + 1) * shape[1])
        index = column.view(shape[0], -1)[b].to(torch.int64).cpu()
        assert_matching(index, *one.shape)
        value = working(one, units, b, rows) + prices[b]
        slack = value[np.arange(len(one)), index] - value.min(1)
        assert slack.max() <= eps * float(units.unit[b]) * (1 + 1e-4) + 1e-5
        free = np.setdiff1d(np.arange(one.shape[1]), index)
        assert (prices[b][free] == 0).all()  # columns that are left over stay the cheapest


@pytest.mark.parametrize("shape", [(2, 19, 19), (1, 40, 40), (1, 7, 40), (1, 20, 22), (1, 1, 3)])
def test_exact_finish_is_optimal_from_any_prices(rng, gpu_device, shape):
    cost = rng.normal(size=shape)
    problems = problems_of(cost, gpu_device)
    units, _ = statistics(problems)
    batch, n, m = shape
    noise = rng.normal(size=batch * m) if n == m else np.zeros(batch * m)
    price = torch.tensor(noise, device=gpu_device)
    column = torch.full((batch * n,), -1, dtype=torch.int32, device=gpu_device)
    wanted = torch.ones(batch, dtype=torch.int32, device=gpu_device)
    infeasible = exact_finish(problems, units, price, column, wanted)
    assert infeasible.tolist() == [0] * batch
    proof = Proof.empty(problems)
    certificate(problems, units, price, column, proof, wanted, torch.empty_like(wanted), 0.0)
    for b, one in enumerate(cost):
        index = column.view(batch, n)[b].to(torch.int64).cpu()
        assert_matching(index, n, m)
        scale = float(units.scale[b])
        for value in (proof.cost, proof.bound):
            assert float(value[b]) / scale == pytest.approx(optimum(one), rel=1e-12, abs=1e-12)


def test_what_is_not_wanted_is_not_touched(rng, gpu_device):
    cost = rng.normal(size=(2, 9, 9))
    problems = problems_of(cost, gpu_device)
    units, _ = statistics(problems)
    price = torch.zeros(18, dtype=torch.float64, device=gpu_device)
    column = torch.full((18,), -1, dtype=torch.int32, device=gpu_device)
    wanted = torch.tensor([0, 1], dtype=torch.int32, device=gpu_device)
    exact_finish(problems, units, price, column, wanted)
    assert (column[:9] == -1).all()
    assert (price[:9] == 0).all()
    assert_matching(column[9:].to(torch.int64).cpu(), 9, 9)


def test_certificate_marks_what_is_not_as_good_as_asked(rng, gpu_device):
    cost = rng.normal(size=(2, 30, 30))
    problems = problems_of(cost, gpu_device)
    units, _ = statistics(problems)
    column = torch.arange(30, dtype=torch.int32, device=gpu_device).repeat(2)
    price = torch.zeros(60, dtype=torch.float64, device=gpu_device)
    wanted = torch.tensor([1, 0], dtype=torch.int32, device=gpu_device)
    left, proof = torch.zeros_like(wanted), Proof.empty(problems)
    certificate(problems, units, price, column, proof, wanted, left, 0.01)
    assert left.tolist() == [1, 0]
    scale = float(units.scale[0])
    assert float(proof.cost[0]) / scale == pytest.approx(np.trace(cost[0]))
    assert float(proof.bound[0]) / scale == pytest.approx(cost[0].min(1).sum())


@pytest.mark.parametrize("shape", [(2, 37, 37), (1, 21, 50)])
def test_large_problems_are_read_in_pieces(rng, gpu_device, monkeypatch, shape):
    """With blocks as small as this, a small problem takes as many as a large one."""
    monkeypatch.setattr(Problems, "lanes", property(lambda self: 16))
    monkeypatch.setattr(Problems, "rows_per_block", property(lambda self: 16))
    cost = rng.normal(size=shape).astype(np.float32)
    problems = problems_of(cost, gpu_device)
    got = solve(problems)
    n, m = shape[1:]
    for b, one in enumerate(cost):
        assert_matching(got.column.view(-1, n)[b].to(torch.int64).cpu(), n, m)
        scale = float(statistics(problems)[0].scale[b])
        for value in (got.proof.cost, got.proof.bound):
            assert float(value[b]) / scale == pytest.approx(optimum(one), rel=1e-12)
