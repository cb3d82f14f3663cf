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

from families import make
from immiscible_fast.kernels.gpu import augment, workspace
from immiscible_fast.kernels.gpu import sinkhorn as sinkhorn_module
from immiscible_fast.kernels.gpu.augment import augment_rows
from immiscible_fast.kernels.gpu.certificate import Proof, certificate
from immiscible_fast.kernels.gpu.problems import Problems
from immiscible_fast.kernels.gpu.sinkhorn import (
    AT_LAST,
    FIRST_EPS,
    LAST_EPS,
    OVER_RELAXATION,
    sinkhorn,
)
from immiscible_fast.kernels.gpu.statistics import DEGENERATE, INVALID, statistics
from immiscible_fast.kernels.gpu.workspace import Workspace, grow_forests, start_matching
from stages import assert_forests_do_what_their_reference_does

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
    cost = np.vstack([cost, np.zeros((int(m > n), m))])
    supply = np.append(np.ones(n), [m - n] * int(m > n))
    for step in range(updates):
        eps = unit * FIRST_EPS * (LAST_EPS / FIRST_EPS) ** min(step / (updates - AT_LAST), 1.0)
        plan = -(cost + price) / eps
        plan = supply[:, None] * np.exp(plan - np.logaddexp.reduce(plan, axis=1)[:, None])
        omega = OVER_RELAXATION if step < updates - 1 else 1.0
        price = price + omega * eps * np.log(np.maximum(plan.sum(0), 1e-6))
    return np.maximum(price, np.sort(price)[m - n - 1]) if m > n else price


@pytest.mark.parametrize("widest", [8192, 0])  # rows that are read once, and twice
@pytest.mark.parametrize("shape", [(2, 19, 19), (1, 40, 40), (1, 7, 40), (1, 300, 3)])
def test_sinkhorn_prices_are_those_of_float64(rng, gpu_device, monkeypatch, shape, widest):
    monkeypatch.setattr(sinkhorn_module, "WIDEST", widest)
    batch, n, m = shape if shape[1] <= shape[2] else (shape[0], shape[2], shape[1])
    cost = rng.normal(size=(batch, n, m)).astype(np.float32)
    problems = problems_of(cost, gpu_device)
    units, price = statistics(problems)
    start = np.asarray(price.cpu(), np.float64).reshape(batch, -1)
    got = sinkhorn(problems, units, price, updates=6).view(batch, -1).cpu()
    for b, one in enumerate(cost):
        rows = np.arange(b * n, (b + 1) * n)
        want = sinkhorn_reference(working(one, units, b, rows), float(units.unit[b]), start[b], 6)
        np.testing.assert_allclose(got[b], want, atol=5e-4)


@pytest.mark.parametrize("length", [2, 8, 32])
@pytest.mark.parametrize("family", ["gaussian", "small_integers", "sparse", "zeros", "rows_twice"])
def test_lists_hold_the_cheapest_and_bound_the_rest(rng, gpu_device, monkeypatch, family, length):
    monkeypatch.setattr(workspace, "list_length", lambda *_: length)
    n = int(rng.integers(3, 40))
    cost = make(family, rng, n, n)
    problems, work, price = matching_of(cost[None], gpu_device, bids=False)
    value = cost * float(statistics(problems)[0].scale[0]) + price[0]
    listed, costs = (part.view(n, length).cpu().numpy() for part in (work.listed, work.value))
    for i, row in enumerate(value):
        kept = listed[i][np.isfinite(costs[i])]
        assert np.unique(kept).size == kept.size >= 1
        rest = np.delete(row, kept)
        assert float(work.bound[i]) == (rest.min() if rest.size else np.inf)
        assert row[kept].max() <= rest.min(initial=np.inf) or np.unique(row).size < n
        np.testing.assert_array_equal(costs[i][np.isfinite(costs[i])] + price[0][kept], row[kept])
        assert float(work.least[i]) == row.min()


def matching_of(cost, device, *, bids=True):
    """(problems, workspace with lists and a matching, prices before) of (B, n, m) costs."""
    problems = problems_of(cost, device)
    units, start = statistics(problems)
    price = sinkhorn(problems, units, start, updates=3)
    before = price.cpu().numpy().copy().reshape(len(cost), -1)
    work = Workspace.of(problems, price)
    start_matching(problems, units, work, torch.ones_like(units.flags), bids=bids)
    return problems, work, before


@pytest.mark.parametrize("family", ["gaussian", "small_integers", "rows_eightfold", "line"])
@pytest.mark.parametrize("shape", [(30, 30), (20, 31), (1, 9)])
def test_matchings_start_from_tight_pairs(rng, gpu_device, monkeypatch, family, shape):
    monkeypatch.setattr(workspace, "list_length", lambda *_: 8)
    cost = make(family, rng, *shape)
    problems, work, _ = matching_of(cost[None], gpu_device)
    value = cost * float(statistics(problems)[0].scale[0]) + work.price.cpu().numpy()
    column, owner = work.column.cpu().numpy(), work.owner.cpu().numpy()
    held = np.flatnonzero(column >= 0)
    assert held.size > 0
    np.testing.assert_array_equal(owner[column[held]], held)
    np.testing.assert_allclose(value[held, column[held]], value[held].min(1), rtol=0, atol=1e-12)
    assert (np.asarray(work.least.cpu())[column < 0] <= value[column < 0].min(1) + 1e-12).all()
    n, m = shape
    assert (owner == -2).sum() == m - n
    assert (owner == -1).sum() == (column < 0).sum()
    assert (work.price.cpu().numpy()[owner == -2] == work.price.min().item()).all()


@pytest.mark.parametrize("patience", [0, 2])
@pytest.mark.parametrize("length", [4, 16])
@pytest.mark.parametrize("family", ["images_and_noise", "small_integers", "rows_twice", "uniform"])
def test_forests_do_what_their_reference_does(
    rng, gpu_device, monkeypatch, family, length, patience
):
    monkeypatch.setattr(workspace, "list_length", lambda *_: length)
    monkeypatch.setattr(workspace, "PATIENCE", 2)
    assert_forests_do_what_their_reference_does(
        family, rng, int(rng.integers(20, 36)), gpu_device, length=length, patience=patience
    )


def proof_of(problems, units, work):
    proof, every = Proof.empty(problems), torch.ones_like(units.flags)
    certificate(
        problems, units, work.price, work.column, proof, every, torch.empty_like(every), 0.0
    )
    return proof


@pytest.mark.parametrize("shape", [(2, 40, 40), (1, 20, 44), (1, 30, 31)])
@pytest.mark.parametrize("length", [2, 16])
def test_near_optimal_forests_pay_what_they_prove(rng, gpu_device, monkeypatch, shape, length):
    monkeypatch.setattr(workspace, "list_length", lambda *_: length)
    cost = rng.normal(size=shape).astype(np.float32)
    problems, work, _ = matching_of(cost, gpu_device)
    units, price = statistics(problems)[0], work.price.clone()
    left = grow_forests(problems, units, work, torch.ones_like(units.flags), exact=False)
    assert torch.equal(work.price, price)
    proof = proof_of(problems, units, work)
    for b, one in enumerate(cost):
        if left[b]:  # lists as short as that may lack a way
            continue
        index = work.column.view(shape[:2])[b].to(torch.int64).cpu()
        assert_matching(index, *one.shape)
        scale = float(units.scale[b])
        assert float(proof.bound[b]) / scale <= optimum(one) + 1e-9
        near = 0.05 if length > 2 else 0.5  # of two columns there may be no cheap choice
        assert float(proof.cost[b]) / scale <= optimum(one) + near * len(one)
    assert length == 2 or not left.any()


@pytest.mark.parametrize("forest", [True, False])
@pytest.mark.parametrize("shape", [(2, 19, 19), (1, 40, 40), (1, 7, 40), (1, 20, 22), (1, 1, 3)])
def test_exact_stages_are_optimal_from_any_prices(rng, gpu_device, shape, forest):
    cost = rng.normal(size=shape)
    problems = problems_of(cost, gpu_device)
    units, _ = statistics(problems)
    batch, n, m = shape
    noise = rng.normal(size=batch * m) if n == m else np.zeros(batch * m)
    work = Workspace.of(problems, torch.tensor(noise, device=gpu_device))
    wanted = torch.ones_like(units.flags)
    start_matching(problems, units, work, wanted)
    if forest:
        assert not grow_forests(problems, units, work, wanted, exact=True).any()
    assert augment_rows(problems, units, work, wanted).tolist() == [0] * batch
    assert forest or n != 40 or work.report[0, 7] > 0
    proof = proof_of(problems, units, work)
    for b, one in enumerate(cost):
        index = work.column.view(batch, n)[b].to(torch.int64).cpu()
        assert_matching(index, n, m)
        scale = float(units.scale[b])
        for value in (proof.cost, proof.bound):
            assert float(value[b]) / scale == pytest.approx(optimum(one), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("shape", [(1, 30, 30), (1, 20, 33)])
def test_spent_scans_leave_a_bijection_that_has_failed(rng, gpu_device, monkeypatch, shape):
    monkeypatch.setattr(augment, "SCANS", 0)  # 64 scans are given all the same
    cost = np.outer(np.arange(1.0, shape[1] + 1), np.arange(1.0, shape[2] + 1))[None]
    problems = problems_of(cost, gpu_device)
    units, _ = statistics(problems)
    price = torch.zeros(shape[2], dtype=torch.float64, device=gpu_device)
    work, wanted = Workspace.of(problems, price), torch.ones_like(units.flags)
    start_matching(problems, units, work, wanted, bids=False)
    assert augment_rows(problems, units, work, wanted).tolist() == [1]
    assert work.report[0, 7] == 64
    assert_matching(work.column.to(torch.int64).cpu(), *shape[1:])


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
    units, start = statistics(problems)
    price = sinkhorn(problems, units, start, updates=6)
    warm, work = price.clone(), Workspace.of(problems, price)
    every = torch.ones_like(units.flags)
    start_matching(problems, units, work, every)
    grow_forests(problems, units, work, every, exact=True)
    augment_rows(problems, units, work, every)
    return Solved(warm, work.column, proof_of(problems, units, work))


def test_what_is_not_wanted_is_not_touched(rng, gpu_device):
    cost = rng.normal(size=(2, 9, 9))
    problems = problems_of(cost, gpu_device)
    units, _ = statistics(problems)
    work = Workspace.of(problems, torch.zeros(18, dtype=torch.float64, device=gpu_device))
    work.column.fill_(-7)
    wanted = torch.tensor([0, 1], dtype=torch.int32, device=gpu_device)
    start_matching(problems, units, work, wanted)
    grow_forests(problems, units, work, wanted, exact=True)
    augment_rows(problems, units, work, wanted)
    assert (work.column[:9] == -7).all()
    assert (work.price[:9] == 0).all()
    assert_matching(work.column[9:].to(torch.int64).cpu(), 9, 9)


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
    monkeypatch.setattr(Problems, "lanes", 16)
    monkeypatch.setattr(Problems, "rows_per_block", 16)
    cost = rng.normal(size=shape).astype(np.float32)
    problems = problems_of(cost, gpu_device)
    got = solve(problems)
    n, m = shape[1:]
    for b, one in enumerate(cost):
        assert_matching(got.column.view(-1, n)[b].to(torch.int64).cpu(), n, m)
        scale = float(statistics(problems)[0].scale[b])
        for value in (got.proof.cost, got.proof.bound):
            assert float(value[b]) / scale == pytest.approx(optimum(one), rel=1e-12)
