"""Problems of few columns, which shortest paths solve alone: against SciPy, and the two entries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checks import assert_exact, assert_matching, optimum, rounding, total
from families import FAMILIES, make, wide_range
from immiscible_fast.kernels.cpu.schedule import SMALL, SMALL_COLUMNS, SMALL_ROWS

from immiscible_fast import linear_sum_assignment, solve_assignment
from immiscible_fast.cpu import solver
from immiscible_fast.rectangular import TILE, inverse, transposed

SHAPES = ((1, 1), (1, 9), (5, 5), (15, 16), (16, 16), (17, 17), (20, 63), (32, 32), (63, 64))
SHAPES = (*SHAPES, (SMALL, SMALL), (SMALL + 1, SMALL + 1), (3, SMALL + 1), (40, 17), (20, 3))
SHAPES = (*SHAPES, (SMALL_ROWS, 140), (140, SMALL_ROWS), (SMALL_ROWS + 1, 140))
SHAPES = (*SHAPES, (5, SMALL_COLUMNS), (3, SMALL_COLUMNS + 1), (SMALL_COLUMNS + 1, 3))
SHAPES = (*SHAPES, (1, SMALL_COLUMNS + 1), (SMALL_COLUMNS + 1, 1))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_family_is_solved_exactly_and_alike_by_both_entries(family, dtype, rng):
    for n, m in SHAPES:
        cost = make(family, rng, n, m, dtype)
        answer = solve_assignment(torch.from_numpy(cost))
        assert_exact(cost, answer)
        rows, columns = linear_sum_assignment(cost)
        index = np.full(n, -1)
        index[rows] = columns
        assert np.array_equal(index, answer.index)


def test_random_small_problems_cost_what_scipy_pays(rng):
    for _ in range(2000):
        n, m = np.sort(rng.integers(1, 24, 2))
        cost = rng.random((n, m)) if rng.random() < 0.5 else rng.integers(0, 4, (n, m)) + 0.0
        cost[rng.random((n, m)) < 0.4 * rng.random()] = np.inf
        try:
            best = optimum(cost)
        except ValueError:
            with pytest.raises(ValueError, match="infeasible"):
                linear_sum_assignment(cost)
            continue
        columns = linear_sum_assignment(cost)[1]
        assert_matching(columns, n, m)
        assert abs(total(cost, columns) - best) <= rounding(cost)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_invalid_entry_anywhere_is_found(bad, dtype, rng):
    for n, m in (
        (1, 1),
        (1, 40),
        (40, 1),
        (1, SMALL_COLUMNS + 1),
        (2, 999),
        (7, 11),
        (17, 19),
        (19, 19),
    ):
        cost = rng.random((n, m)).astype(dtype)
        cost[rng.integers(n), rng.integers(m)] = bad
        with pytest.raises(ValueError, match="invalid numeric entries"):
            linear_sum_assignment(cost)
        with pytest.raises(ValueError, match="invalid numeric entries"):
            solve_assignment(torch.from_numpy(cost))


def test_costs_that_large_entries_would_drown_are_still_paid_exactly(rng):
    for n in (2, 9, 20, SMALL):
        cost = wide_range(rng, n, n)
        columns = linear_sum_assignment(cost)[1]
        assert total(cost, columns) == pytest.approx(optimum(cost), rel=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(4, 1, 5), (2, 2, 4), (4, 5, 2), (3, 10, 10), (2, 20, 40)])
def test_batches_that_large_entries_would_drown_are_still_paid_exactly(shape, dtype, rng):
    """Prices that an auction has raised alike are zero in the end, but have cost digits."""
    for _ in range(60):
        costs = np.stack([wide_range(rng, *shape[1:]) for _ in range(shape[0])]).astype(dtype)
        for cost, index in zip(costs, solver.assign(costs), strict=True):
            assert total(cost, index) == pytest.approx(optimum(cost), rel=1e-9, abs=0)


def test_costs_near_the_ends_of_float64(rng):
    for scale in (1e300, 1e-300):
        cost = rng.random((12, 12)) * scale
        columns = linear_sum_assignment(cost)[1]
        assert total(cost, columns) == pytest.approx(optimum(cost / scale) * scale, rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_that_are_locked_or_unaligned_compile_nothing_new(dtype, rng):
    cost = rng.random((20, 20)).astype(dtype)
    best = linear_sum_assignment(cost)[1]
    kinds = len(solver.solve_range.overloads), len(solver.small_pairs.overloads)
    locked = cost.copy()
    locked.flags.writeable = False
    buffer = np.empty(cost.nbytes + 1, np.uint8)
    unaligned = buffer[1:].view(dtype).reshape(cost.shape)
    unaligned[:] = cost
    for view in (locked, unaligned, np.asfortranarray(cost)):
        assert np.array_equal(linear_sum_assignment(view)[1], best)
    now = len(solver.solve_range.overloads), len(solver.small_pairs.overloads)
    assert now[0] <= kinds[0] + 1  # the other entry, if nothing has called it yet
    assert now[1] == kinds[1]


def test_transposition_by_tiles_and_inverse_indices(rng):
    height, width = TILE
    for shape in ((2, 3, 5), (1, height + 9, width + 9), (2, 2 * height, 1)):
        costs = rng.random(shape)
        turned = transposed(costs)
        assert turned.flags.c_contiguous
        assert np.array_equal(turned, costs.transpose(0, 2, 1))
        assert np.shares_memory(transposed(turned.transpose(0, 2, 1)), turned)
    rows = np.argsort(rng.random((3, 7)), axis=1)[:, :4]
    index = inverse(rows, 7)
    assert np.array_equal(np.take_along_axis(index, rows, 1), np.tile(np.arange(4), (3, 1)))
    assert (np.sort(index, 1)[:, :3] == -1).all()


@pytest.mark.parametrize("shape", [(7, 3), (40, 20), (300, 5)])
def test_tall_problems_that_have_no_answer_raise(rng, shape):
    """And write nowhere else."""
    cost = rng.random(shape)
    for bad, words in ((np.nan, "invalid"), (-np.inf, "invalid"), (np.inf, "infeasible")):
        wrong = cost.copy()
        wrong[:, 1] = bad
        for _ in range(50):
            with pytest.raises(ValueError, match=words):
                linear_sum_assignment(wrong)
