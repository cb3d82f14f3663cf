"""Problems that hypothesis makes up, with a shrunk example where one fails."""

from __future__ import annotations

import numpy as np
import torch
from checks import assert_exact, assert_within
from families import FAMILIES, SIZES
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from immiscible_fast import solve_assignment

SIDES = st.integers(1, 20)
SHAPES = st.tuples(SIDES, SIDES)
EDGES = st.sampled_from(SIZES)
FEW_VALUES = st.lists(st.integers(-1000, 1000), min_size=1, max_size=4)


def solve(cost, **options):
    return solve_assignment(torch.from_numpy(cost), **options)


def matrices(elements, shapes=SHAPES, dtype=np.float64):
    return shapes.flatmap(lambda shape: arrays.arrays(dtype, shape, elements=elements))


def reals(low, high):
    """Floats whose squares, and whose scaled prices, are not lost to underflow."""
    return st.floats(low, high).map(lambda value: value if abs(value) > 1e-100 else 0.0)


@settings(max_examples=500)
@given(matrices(st.integers(-4, 4).map(float)))
def test_small_integers(cost):
    assert_exact(cost, solve(cost))
    assert_exact(cost.astype(np.float32), solve(cost.astype(np.float32)))


@settings(max_examples=500)
@given(matrices(reals(-1e6, 1e6)))
def test_any_moderate_floats(cost):
    assert_exact(cost, solve(cost))


@settings(max_examples=300)
@given(matrices(st.floats(-1e6, 1e6, width=32), dtype=np.float32))
def test_any_moderate_float32(cost):
    assert_exact(cost, solve(cost))


@settings(max_examples=300)
@given(
    matrices(st.floats(allow_nan=False, allow_infinity=False, max_value=1e300, min_value=-1e300))
)
def test_floats_of_any_size_subnormal_ones_included(cost):
    assert_exact(cost, solve(cost))


@settings(max_examples=300)
@given(matrices(st.one_of(st.just(np.inf), st.integers(0, 3).map(float))))
def test_forbidden_pairs_feasible_or_not(cost):
    """Infeasible problems raise; SciPy says which they are."""
    try:
        answer = solve(cost)
    except ValueError as error:
        assert str(error) == "cost matrix is infeasible"
        forbidden = np.isinf(cost).astype(np.float64)
        assert float(solve(forbidden).cost) > 0
    else:
        assert_exact(cost, answer)


@settings(max_examples=150)
@given(EDGES, st.integers(-2, 2), FEW_VALUES, st.floats(0, 0.99), st.integers(0, 2**32 - 1))
def test_few_values_around_the_thresholds_where_few_pairs_may_be_left(
    n, extra, values, forbidden, seed
):
    """Ties longer than a candidate list, and rows with fewer finite costs than one holds."""
    rng = np.random.default_rng(seed)
    cost = rng.choice(np.array(values, np.float64), (n, n + extra))
    if rng.random() < 0.5:
        cost[rng.random(cost.shape) < forbidden] = np.inf
        short = min(cost.shape)
        cost[rng.permutation(n)[:short], rng.permutation(n + extra)[:short]] = 1.0
    assert_exact(cost, solve(cost))


@settings(max_examples=150)
@given(
    st.sampled_from(sorted(FAMILIES)),
    st.sampled_from(sorted(FAMILIES)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([1e-20, 1e-3, 1.0, 1e6, 1e20]),
    st.integers(0, 2**32 - 1),
)
def test_sums_of_two_families_at_unlike_scales(first, second, shape, scale, seed):
    rng = np.random.default_rng(seed)
    cost = FAMILIES[first](rng, *shape) + scale * FAMILIES[second](rng, *shape)
    try:
        answer = solve(cost)
    except ValueError as error:  # two sparse ones may leave nothing
        assert str(error) == "cost matrix is infeasible"
        assert "sparse" in first
        assert "sparse" in second
    else:
        assert_exact(cost, answer)


@settings(max_examples=300)
@given(matrices(reals(-1e3, 1e3)), st.sampled_from(["auction", "sinkhorn"]), st.floats(1e-9, 10))
def test_near_optimal_methods_keep_to_any_tolerance(cost, method, tol):
    assert_within(cost, solve(cost, method=method, tol=tol), tol)


@settings(max_examples=200)
@given(SHAPES, st.integers(1, 5), st.integers(0, 2**32 - 1), st.data())
def test_repeated_rows_and_columns_with_forbidden_pairs(shape, kinds, seed, data):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 3, (kinds, kinds)).astype(np.float64)
    small[0, data.draw(st.integers(0, kinds - 1))] = np.inf
    small[-1, -1] = 1.0
    n, m = shape
    cost = small[rng.integers(0, kinds, n)][:, rng.integers(0, kinds, m)]
    short = min(n, m)
    cost[rng.permutation(n)[:short], rng.permutation(m)[:short]] = 2.0
    assert_exact(cost, solve(cost))
