"""Every family is solved to its optimum, on both sides of every threshold inside, in squares and in
rectangles, whose longer side is left over; and optima that no solver had to find."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from checks import assert_exact, optimum, total
from families import FAMILIES, LISTED, SIZES, big_m, make, wide_range

from immiscible_fast import solve_assignment

METHODS = ("auto", "exact", "auction", "sinkhorn", "scipy")
SQUARE = tuple((n, n) for n in SIZES)
RECTANGULAR = ((45, 60), (60, 45), (LISTED - 40, LISTED), (LISTED, 500))
LARGE = ((512, 512), (513, 513), (1025, 1025))
WIDE = (
    (1, 1), (1, 2), (1, 500), (2, 15), (2, 16), (15, 16), (16, 17), (63, 65), (10, 1000),
    (300, 400), (400, 401), (LISTED - 1, LISTED), (9, LISTED + 1), (20, 10_000),
)  # fmt: skip
TALL = tuple((m, n) for n, m in WIDE)
EMPTY = ((0, 0), (0, 3), (3, 0), (2, 0, 0), (2, 0, 3), (2, 3, 0), (0, 3, 3), (0, 3, 2), (0, 0, 0))


def solve(cost, **options):
    return solve_assignment(torch.from_numpy(cost), **options)


@pytest.mark.parametrize("shape", SQUARE + RECTANGULAR)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family, shape, rng):
    for dtype in ("float32", "float64"):
        cost = make(family, rng, *shape, dtype)
        assert_exact(cost, solve(cost))


@pytest.mark.parametrize("shape", LARGE + WIDE + TALL)
@pytest.mark.parametrize("family", ["gaussian", "small_integers", "rows_eightfold", "sparse"])
def test_some_families_in_every_shape(family, shape, rng):
    for dtype in ("float32", "float64"):
        cost = make(family, rng, *shape, dtype)
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


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_problem_and_its_transpose_have_one_optimum(method, rng):
    cost = rng.integers(0, 100, (12, 30)).astype(np.float64)
    wide, tall = solve(cost, method=method, tol=1e-6), solve(cost.T.copy(), method=method, tol=1e-6)
    assert float(wide.cost) == float(tall.cost) == optimum(cost)
    assert (tall.index == -1).sum() == 18


@pytest.mark.parametrize("shape", EMPTY)
@pytest.mark.parametrize("method", METHODS)
def test_no_problems_and_problems_without_rows_or_columns_cost_nothing(shape, method):
    answer = solve(np.zeros(shape), method=method)
    assert answer.index.shape == shape[:-1]
    assert (answer.index == -1).all()
    assert answer.prices.shape == shape[:-2] + shape[-1:]
    for value in (answer.cost, answer.lower_bound):
        assert value.shape == shape[:-2]
        assert not value.any()
    assert answer.converged.all()
