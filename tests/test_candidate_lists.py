"""The solver with candidate lists from 16 columns on, so that small problems can try them.

A change of the threshold is compiled in, so this is a solver of its own, cached like the real one.
"""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch
from checks import assert_exact, assert_within
from families import FAMILIES, make
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from immiscible_fast.kernels.cpu import solver
from numba import njit

from immiscible_fast import Assignment, solve_assignment
from immiscible_fast.cpu import solver as cpu_solver

SHAPES = ((16, 16), (17, 17), (30, 30), (64, 64), (65, 65), (100, 100), (20, 30), (60, 100))


def renamed(function):
    """Compiled code is linked by name: two solvers of one name would get each other's parts."""
    name = f"{function.__name__}_with_lists"
    copy = types.FunctionType(
        function.__code__, function.__globals__, name, None, function.__closure__
    )
    copy.__qualname__ = name
    return copy


@pytest.fixture(scope="module")
def listed_solver():
    """``solve_range`` compiled anew, with another threshold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver, "LISTED_FROM", 16)
        patch.setattr(solver, "is_small", njit(lambda n, m: False))
        patch.setattr(solver, "_solve_one", njit(renamed(solver._solve_one.py_func)))
        entry = solver.make_solver(f"lists from 16 columns on {solver._source_digest()}")
        solve_range = njit(cache=True, nogil=True)(renamed(entry.py_func))
        for dtype in ("float32", "float64"):
            solve_with(solve_range, np.ones((1, 1, 16), dtype), exact=True, tol=0.1)
    return solve_range


def solve_with(solve_range, costs, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_solver, "solve_range", solve_range)
        return cpu_solver.solve(costs, **options)


@pytest.fixture
def solve(listed_solver):
    def solve_one(cost, exact=True, tol=0.01):
        solution = solve_with(listed_solver, cost[None], exact=exact, tol=tol)
        assert solution.work is not None
        fields = (torch.from_numpy(field)[0] for field in solution[:5])
        return Assignment(*fields), dict(zip(cpu_solver.COUNTERS, solution.work[0], strict=True))

    return solve_one


def test_lists_are_used_and_save_scans(solve, rng):
    _, work = solve(rng.random((100, 100)))
    assert 0 < work["bid_scans"] < work["bids"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_family_is_solved_exactly(family, dtype, solve, rng):
    for shape in SHAPES:
        for _ in range(3):
            cost = make(family, rng, *shape, dtype)
            assert_exact(cost, solve(cost)[0])


@pytest.mark.parametrize("family", [name for name in FAMILIES if "sparse" not in name])
def test_every_family_is_solved_within_the_tolerance(family, solve, rng):
    for shape in SHAPES:
        cost = make(family, rng, *shape)
        assert_within(cost, solve(cost, exact=False, tol=0.05)[0], 0.05)


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(
    cost=st.tuples(st.integers(1, 16), st.integers(16, 40)).flatmap(
        lambda shape: arrays.arrays(np.float64, shape, elements=st.integers(-3, 3).map(float))
    )
)
def test_ties_longer_than_a_list_are_no_trouble(cost, solve):
    assert_exact(cost, solve(cost)[0])


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(16, 90),
    values=st.lists(st.sampled_from([0.0, 1.0, 2.0, 1e6, np.inf]), min_size=1, max_size=3),
    forbidden=st.floats(0, 0.99),
)
def test_rows_with_few_finite_columns_and_many_equal_ones(seed, n, values, forbidden, solve):
    rng = np.random.default_rng(seed)
    cost = rng.choice(values, (n, n))
    cost[rng.random((n, n)) < forbidden] = np.inf
    cost[np.arange(n), rng.permutation(n)] = 1.0
    assert_exact(cost, solve(cost)[0])


def test_lists_and_whole_rows_give_one_optimum(solve, rng):
    cost = rng.random((80, 80))
    listed, whole = solve(cost)[0], solve_assignment(torch.from_numpy(cost))
    assert torch.equal(listed.index, whole.index)
