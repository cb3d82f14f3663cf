"""Inputs that hurt assignment solvers, at sizes on both sides of every threshold inside ours."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from checks import assert_exact, optimum, total
from families import FAMILIES, LISTED, SIZES, big_m, make, wide_range

from immiscible_fast import solve_assignment

LARGE = ("uniform", "rows_eightfold", "small_integers", "images_and_noise", "sparse")


def solve(cost, **options):
    return solve_assignment(torch.from_numpy(cost), **options)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_solved_exactly_on_both_sides_of_every_threshold(family, n, rng):
    for dtype in ("float32", "float64"):
        cost = make(family, rng, n, n, dtype)
        assert_exact(cost, solve(cost))


@pytest.mark.parametrize("n", [512, 513, 1025])
@pytest.mark.parametrize("family", LARGE)
def test_large_problems_are_solved_exactly(family, n, rng):
    for dtype in ("float32", "float64"):
        cost = make(family, rng, n, n, dtype)
        assert_exact(cost, solve(cost))


@pytest.mark.parametrize("n", [2, 16, 17, 65, LISTED + 1])
@pytest.mark.parametrize("rank", range(1, 9))
def test_low_rank_costs_are_solved_exactly(rank, n, rng):
    cost = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, n))
    assert_exact(cost, solve(cost))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape", [(3, 3), (10, 10), (100, 100), (8, 9), (60, 45), (LISTED, LISTED)]
)
@pytest.mark.parametrize("family", [wide_range, big_m])
def test_optima_tiny_beside_the_largest_entries_are_found(family, shape, dtype, rng):
    for _ in range(20 if shape[0] <= 10 else 2):
        cost = family(rng, *shape).astype(dtype)
        answer = solve(cost)
        best = optimum(cost)
        assert total(cost, answer.index) == pytest.approx(best, rel=1e-9, abs=0)
        assert float(answer.cost) == pytest.approx(best, rel=1e-9, abs=0)


@pytest.mark.parametrize(
    ("cost", "best"),
    [
        ([[3.0, 5.0, 3.0], [1.0, 2.0, 1e18]], 4.0),
        ([[1.0, 5.0, 4.0], [5.0, 1e18, 5.0], [2.0, 1e18, 9.0]], 12.0),
        ([[1e-5, 1e15, 1e-13], [0.1, 1e-8, 1e18], [1.0, 1e-20, 1e-8]], 1.002e-5),
    ],
)
def test_small_costs_beside_huge_ones_are_told_apart(cost, best):
    assert float(solve(np.array(cost)).cost) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("n", range(1, 5))
def test_every_matrix_of_small_integers_of_size_two_and_random_ones_above(n, rng):
    """Brute force over permutations shares nothing with any solver."""
    count = 3 ** (n * n)
    numbers = range(count) if n <= 2 else rng.integers(0, count, 300)
    digits = 3 ** np.arange(n * n)
    costs = np.stack([(number // digits % 3).reshape(n, n) for number in numbers]).astype("float64")
    permutations = np.array(list(itertools.permutations(range(n))))
    best = costs[:, np.arange(n), permutations].sum(2).min(1)
    answer = solve(costs)
    assert answer.cost.tolist() == best.tolist()
    assert answer.lower_bound.tolist() == pytest.approx(best.tolist(), abs=1e-12)


def test_known_optimum_planted_under_potentials(rng):
    """c_ij = u_i + v_j + slack, slack 0 on a hidden permutation: the optimum is sum u + sum v."""
    for n in (7, 64, 333, LISTED + 3):
        u, v = rng.integers(-50, 50, n), rng.integers(-50, 50, n)
        slack = rng.integers(0, 20, (n, n))
        slack[np.arange(n), rng.permutation(n)] = 0
        answer = solve((u[:, None] + v + slack).astype(np.float64))
        assert float(answer.cost) == u.sum() + v.sum()


def test_shifting_rows_and_columns_and_permuting_them_changes_nothing_but_the_names(rng):
    n = 40
    cost = rng.integers(0, 1000, (n, n)).astype(np.float64)
    cost += rng.random((n, n)) / 1000  # one optimum
    rows, columns = rng.permutation(n), rng.permutation(n)
    shift = rng.integers(-99, 99, n)
    moved = (cost + shift[:, None] - shift)[rows][:, columns]
    index = solve(cost).index.numpy()
    assert np.array_equal(columns[solve(moved).index.numpy()], index[rows])
