"""Fewer rows than columns, and more: the longer side is left over, and the bound still holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checks import assert_exact, assert_within, optimum
from families import FAMILIES, LISTED, make

from immiscible_fast import Assignment, solve_assignment

SHAPES = (
    (1, 1),
    (1, 2),
    (1, 500),
    (2, 15),
    (2, 16),
    (15, 16),
    (16, 17),
    (63, 65),
    (10, 1000),
    (300, 400),
    (400, 401),
    (500, 330),
    (LISTED - 1, LISTED),
    (9, LISTED + 1),
    (20, 10_000),
)
TALL = tuple((m, n) for n, m in SHAPES if n != m)


def solve(cost, **options):
    return solve_assignment(torch.from_numpy(cost), **options)


@pytest.mark.parametrize("shape", SHAPES + TALL)
@pytest.mark.parametrize("family", ["gaussian", "small_integers", "rows_eightfold", "sparse"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rectangular_problems_are_solved_exactly(family, shape, dtype, rng):
    cost = make(family, rng, *shape, dtype)
    assert_exact(cost, solve(cost))


@pytest.mark.parametrize("shape", [(45, 60), (60, 45), (LISTED - 40, LISTED), (LISTED, 500)])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_solved_exactly(family, shape, rng):
    cost = make(family, rng, *shape)
    assert_exact(cost, solve(cost))


@pytest.mark.parametrize("method", ["auction", "sinkhorn"])
@pytest.mark.parametrize(
    "shape", [(1, 9), (9, 1), (40, 60), (60, 40), (500, LISTED), (LISTED, 500)]
)
@pytest.mark.parametrize("family", ["gaussian", "small_integers", "columns_twice", "low_rank"])
def test_near_optimal_methods_keep_the_tolerance(family, shape, method, rng):
    cost = make(family, rng, *shape)
    for tol in (0.3, 0.01):
        assert_within(cost, solve(cost, method=method, tol=tol), tol)


@pytest.mark.parametrize(
    "shape", [(4, 3, 7), (4, 7, 3), (3, 100, 103), (3, LISTED, 301), (3, 301, LISTED)]
)
def test_batches_equal_a_loop(shape, rng):
    costs = rng.normal(size=shape)
    for method in ("exact", "auction"):
        answers = solve(costs, method=method)
        for b, answer in enumerate(zip(*answers, strict=True)):
            single = solve(costs[b], method=method)
            for got, want in zip(answer, single, strict=True):
                assert torch.equal(got, want)


@pytest.mark.parametrize("method", ["exact", "auction", "sinkhorn", "scipy"])
def test_a_problem_and_its_transpose_have_one_optimum(method, rng):
    cost = rng.integers(0, 100, (12, 30)).astype(np.float64)
    wide, tall = solve(cost, method=method, tol=1e-6), solve(cost.T.copy(), method=method, tol=1e-6)
    assert float(wide.cost) == float(tall.cost) == optimum(cost)
    assert (tall.index == -1).sum() == 18


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 0, 0), (2, 0, 3), (2, 3, 0)])
@pytest.mark.parametrize("method", ["auto", "exact", "auction", "sinkhorn", "scipy"])
def test_problems_without_rows_or_columns_cost_nothing(shape, method):
    answer = solve(np.zeros(shape), method=method)
    assert answer.index.shape == shape[:-1]
    assert (answer.index == -1).all()
    assert answer.prices.shape == shape[:-2] + shape[-1:]
    for total in (answer.cost, answer.lower_bound):
        assert total.shape == shape[:-2]
        assert not total.any()
    assert answer.converged.all()


@pytest.mark.parametrize("shape", [(0, 3, 3), (0, 3, 2), (0, 2, 3), (0, 0, 0)])
@pytest.mark.parametrize("method", ["auto", "exact", "auction", "sinkhorn", "scipy"])
def test_a_batch_of_no_problems_has_no_answers(shape, method):
    answer = solve(np.zeros(shape), method=method)
    assert answer.index.shape == shape[:2]
    assert answer.prices.shape == (0, shape[2])
    assert answer.cost.shape == answer.lower_bound.shape == answer.converged.shape == (0,)


def test_the_bound_of_a_tall_problem_counts_only_rows_that_can_all_be_used(rng):
    """From prices of zero: the m cheapest rows, at their cheapest."""
    cost = rng.random((9, 4))
    answer = solve(cost)
    assert isinstance(answer, Assignment)
    assert float(answer.lower_bound) > np.sort(cost.min(1))[:4].sum() - 1e-12
