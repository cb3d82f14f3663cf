"""Invariants of the solver's parts: candidate lists, one auction phase, the exact finish."""

from __future__ import annotations

import numpy as np
import pytest
from families import FAMILIES
from families import make as make_any
from immiscible_fast.kernels.cpu.auction import auction_phase, new_buffers
from immiscible_fast.kernels.cpu.augment import exact_finish
from immiscible_fast.kernels.cpu.candidates import best_two, new_candidates, refill
from immiscible_fast.kernels.cpu.vector import GROUPS
from immiscible_fast.kernels.cpu.work import BIDS, SLOTS
from numba import njit

DTYPES = ("float32", "float64")
FINITE = [name for name in FAMILIES if "sparse" not in name]
WIDTHS = (16, 17, 40, 100, 257)


@njit
def two_best(cost, i, price, lists, work):
    index, value, count, bound, groups = lists
    return best_two(cost, i, price, index, value, count, bound, groups, work)


def lists_of(cost, listed):
    return (*new_candidates(cost, listed), np.empty(GROUPS, cost.dtype))


def make(family, rng, n, m, dtype):
    return np.ascontiguousarray(make_any(family, rng, n, m, dtype))


def no_work():
    return np.zeros(SLOTS, np.int64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_columns_outside_a_list_stay_at_its_bound_or_above_while_prices_rise(family, dtype, rng):
    for width in WIDTHS:
        cost = make(family, rng, 4, width, dtype)
        scale = np.abs(cost[np.isfinite(cost)]).max() + 1
        price = (scale * rng.normal(size=width)).astype(dtype)
        index, value, count, bound, groups = lists_of(cost, True)
        for i in range(4):
            refill(cost, i, price, index, value, count, bound, groups)
            listed = index[i, : count[i]]
            assert count[i] >= 1
            assert np.array_equal(value[i, : count[i]], cost[i, listed])
            assert (index[i, count[i] :] == 0).all()
            assert np.isposinf(value[i, count[i] :]).all()
            dearer = price + (scale * rng.random(width)).astype(dtype)
            for prices in (price, dearer):
                values = cost[i] + prices
                assert (np.delete(values, listed) >= bound[i]).all()
            assert (cost[i] + price).min() == (cost[i] + price)[listed].min()


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_best_value_is_exact_and_the_second_never_too_large(family, dtype, listed, rng):
    for width in WIDTHS:
        cost = make(family, rng, 3, width, dtype)
        scale = np.abs(cost[np.isfinite(cost)]).max() + 1
        price = np.zeros(width, dtype)
        lists, work = lists_of(cost, listed), no_work()
        for _ in range(30):
            i = int(rng.integers(3))
            first, second, column = two_best(cost, i, price, lists, work)
            values = cost[i] + price
            assert first == values.min() == values[column]
            assert first <= second <= np.sort(values)[1]
            if not listed:
                assert second == np.sort(values)[1]
                assert column == values.argmin()
            price[column] += dtype_of(price, scale * rng.random() / 4)


def dtype_of(array, value):
    return array.dtype.type(value)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FINITE)
def test_a_phase_leaves_every_row_within_eps_of_its_best_column(family, dtype, listed, rng):
    for n, m in ((16, 16), (40, 40), (30, 50)):
        cost = make(family, rng, n, m, dtype)
        scale = float(np.abs(cost).max()) + 1e-30
        price, lists, work = np.zeros(m, dtype), lists_of(cost, listed), no_work()
        owner, column = np.full(m, -1), np.full(n + 1, -1)
        buffers = new_buffers(n, price)
        for eps in (0.3 * scale, 0.03 * scale):  # the second keeps what is good enough
            before = price.copy()
            step = dtype_of(price, eps)
            assert auction_phase(cost, price, owner, column, lists, step, 10**7, buffers, work)[0]
            chosen = column[:n]
            assert column[n] == -1
            assert np.unique(chosen).size == n
            assert np.array_equal(owner[chosen], np.arange(n))
            assert (owner >= 0).sum() == n
            values = cost.astype(np.float64) + price
            slack = values[np.arange(n), chosen] - values.min(1)
            rounding = 8 * np.finfo(dtype).eps * (scale + np.abs(price).max())
            assert slack.max() <= eps + rounding
            assert (price >= before).all()
            assert (price[owner < 0] == before[owner < 0]).all()
        assert work[BIDS] >= n


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_phase_stops_when_its_budget_of_bids_is_spent(dtype, rng):
    cost = make("rows_all_equal", rng, 30, 30, dtype)
    price, lists, work = np.zeros(30, dtype), lists_of(cost, False), no_work()
    owner, column, buffers = np.full(30, -1), np.full(31, -1), new_buffers(30, price)
    step = dtype_of(price, 1e-6)
    assert not auction_phase(cost, price, owner, column, lists, step, 100, buffers, work)[0]
    assert work[BIDS] == 100
    assert column[30] == -1
    assigned = np.flatnonzero(column >= 0)  # what there is, is a matching
    assert np.array_equal(owner[column[assigned]], assigned)
    assert (owner >= 0).sum() == assigned.size


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_phase_gives_up_on_a_row_without_finite_costs(dtype):
    cost = np.zeros((20, 20), dtype)
    cost[7] = np.inf
    for listed in (False, True):
        owner, column, price = np.full(20, -1), np.full(21, -1), np.zeros(20, dtype)
        arguments = price, owner, column, lists_of(cost, listed), dtype_of(price, 0.1), 10**6
        assert not auction_phase(cost, *arguments, new_buffers(20, price), no_work())[0]
        assigned = np.flatnonzero(column >= 0)
        assert np.array_equal(owner[column[assigned]], assigned)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_exact_finish_makes_any_start_optimal(family, dtype, listed, rng):
    """From arbitrary prices and no assignment, or from those that an auction left."""
    for n, m in ((16, 16), (25, 25), (20, 30)):
        cost = make(family, rng, n, m, dtype)
        scale = float(np.abs(cost[np.isfinite(cost)]).max()) + 1e-30
        low = (scale * rng.random(m)).astype(dtype) if n == m else np.zeros(m, dtype)
        lists = lists_of(cost, listed)
        owner, column = np.full(m, -1), np.full(n + 1, -1)
        buffers, work = new_buffers(n, low), no_work()
        step = dtype_of(low, 0.1 * scale)
        if rng.random() < 0.5:
            auction_phase(cost, low, owner, column, lists, step, 100 * n, buffers, work)
        price = low.astype(np.float64)
        before = price.copy()
        assert exact_finish(cost, price, owner, column, lists, False, True, work)
        assert np.unique(column[:n]).size == n
        values = cost.astype(np.float64) + price
        slack = values[np.arange(n), column[:n]] - values.min(1)
        assert slack.max() <= 1e-12 * (scale + np.abs(price).max())
        assert (price >= before).all()
        unused = np.setdiff1d(np.arange(m), column[:n])
        rounding = 1e-12 * (scale + np.abs(price).max())
        assert unused.size == 0 or price[unused].max() <= price.min() + rounding


def test_the_exact_finish_says_that_a_problem_is_infeasible():
    for listed in (False, True):
        cost = np.zeros((20, 20))
        cost[:4, 3:] = np.inf
        owner, column = np.full(20, -1), np.full(21, -1)
        lists = lists_of(cost, listed)
        for tied in (False, True):
            owner[:], column[:] = -1, -1
            assert not exact_finish(cost, np.zeros(20), owner, column, lists, tied, True, no_work())


@pytest.mark.parametrize("dtype", DTYPES)
def test_lists_that_run_dry_are_given_up(dtype, rng):
    cost = np.outer(np.arange(1, 201), np.arange(1, 201)).astype(dtype)  # Machol and Wien
    price, lists, work = np.zeros(200, dtype), lists_of(cost, True), no_work()
    owner, column, buffers = np.full(200, -1), np.full(201, -1), new_buffers(200, price)
    assigned, dry = auction_phase(
        cost, price, owner, column, lists, dtype_of(price, 100), 10**7, buffers, work
    )
    assert assigned
    assert dry
    assert np.unique(column[:200]).size == 200
