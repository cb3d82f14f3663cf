"""Auction and Sinkhorn: within the asked tolerance of the optimum, with a bound that is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checks import assert_within, optimum
from families import FAMILIES, LISTED, make

from immiscible_fast import Assignment, solve_assignment

METHODS = ("auction", "sinkhorn")
FINITE = [name for name in FAMILIES if not name.startswith("sparse")]


def solve(cost, **options):
    return solve_assignment(torch.from_numpy(cost), **options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FINITE)
def test_every_family_is_solved_within_the_default_tolerance(family, method, rng):
    for n in (1, 2, 3, 10, 17, 64, 100, LISTED):
        for dtype in ("float32", "float64"):
            cost = make(family, rng, n, n, dtype)
            assert_within(cost, solve(cost, method=method), 0.01)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "shape", [(1, 9), (9, 1), (40, 60), (60, 40), (500, LISTED), (LISTED, 500)]
)
@pytest.mark.parametrize("family", ["gaussian", "small_integers", "columns_twice", "low_rank"])
def test_rectangles_are_solved_within_the_tolerance(family, shape, method, rng):
    cost = make(family, rng, *shape)
    for tol in (0.3, 0.01):
        assert_within(cost, solve(cost, method=method, tol=tol), tol)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tol", [3.0, 0.1, 1e-3, 1e-5, 1e-9])
def test_tolerances_are_kept(tol, method, rng):
    for n in (5, 60, LISTED):
        for dtype in ("float32", "float64"):
            cost = make("images_and_noise", rng, n, n, dtype)
            assert_within(cost, solve(cost, method=method, tol=tol), tol)


@pytest.mark.parametrize("method", METHODS)
def test_batches_of_small_problems_keep_the_tolerance(method, rng):
    for family in FINITE:
        costs = np.stack([make(family, rng, 7, 7) for _ in range(20)])
        for cost, *answer in zip(costs, *solve(costs, method=method), strict=True):
            assert_within(cost, Assignment(*answer), 0.01)


def test_a_looser_tolerance_does_less_work_and_a_tighter_one_pays_less(rng):
    from immiscible_fast.cpu import solver

    costs = make("images_and_noise", rng, 200, 200)[None]
    loose, tight = (solver.solve(costs, exact=False, tol=tol) for tol in (1.0, 1e-4))
    assert loose.work is not None
    assert tight.work is not None
    assert loose.work[0].sum() < tight.work[0].sum()
    assert tight.cost[0] < loose.cost[0]


@pytest.mark.parametrize("n", [8, 64, 256])
def test_sinkhorn_prices_alone_prove_a_close_bound(n, rng):
    """The prices before the auction: good duals are what Sinkhorn is for."""
    from checks import lower_bound

    from immiscible_fast.cpu import sinkhorn as annealed_sinkhorn

    costs = rng.normal(size=(3, n, n))
    prices = annealed_sinkhorn.column_prices(costs)
    assert prices.shape == (3, n)
    for cost, price in zip(costs, prices, strict=True):
        missing = optimum(cost) - lower_bound(cost, price)[0]
        assert -1e-9 <= missing <= 0.01 * n


def test_sinkhorn_prices_do_not_depend_on_scale_and_offset(rng):
    from immiscible_fast.cpu import sinkhorn as annealed_sinkhorn

    costs = rng.normal(size=(2, 30, 40))
    prices = annealed_sinkhorn.column_prices(costs)
    moved = annealed_sinkhorn.column_prices(1000 * costs + 50)
    centred = [p - p.mean(1, keepdims=True) for p in (prices, moved / 1000)]
    assert np.allclose(*centred, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 30, 30), (3, 20, 27), (2, 1, 5)])
def test_one_exponential_updates_as_two_do(shape, rng):
    from immiscible_fast.cpu import sinkhorn as annealed_sinkhorn

    batch, n, m = shape
    cost = torch.from_numpy(rng.normal(size=shape).astype(np.float32))
    cost[0, :, 0] += 100  # beside which exp of the others vanishes
    cost[-1, :, -1] += 5
    g = torch.from_numpy(rng.normal(size=(batch, m)).astype(np.float32))
    share = np.log(n / m)
    for eps in (1.0, 0.1, 0.01, 0.003):
        f = -eps * torch.logsumexp((g[:, None].double() - cost) / eps, 2)
        want = eps * (share - torch.logsumexp((f[:, :, None] - cost.double()) / eps, 1))
        room = torch.full_like(cost, torch.nan)
        found = annealed_sinkhorn.updated(g, cost, eps, share, room)
        assert (found - want).abs().max() <= 1e-6 * (1 + cost.abs().max())


@pytest.mark.parametrize("size", [1e4, 1e8, 1e10])
def test_constants_of_rows_and_columns_do_not_loosen_the_tolerance(size, rng):
    noise = rng.normal(size=(100, 100))
    for constants in (rng.normal(size=(100, 1)), rng.normal(size=100)):
        cost = noise + size * constants
        answer = solve(cost, method="auction", tol=0.01)
        assert float(answer.gap) <= 1.01 * 0.01 * 100 * noise.std() + 1e-13 * size * 100
