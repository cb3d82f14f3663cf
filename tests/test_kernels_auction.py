"""Invariants of the solver's parts: candidate lists, one auction phase, the exact finish."""

from __future__ import annotations

import numpy as np
import pytest
from families import FAMILIES
from families import make as make_any
from immiscible_fast.kernels.cpu.auction import auction_phase, new_bidders
from immiscible_fast.kernels.cpu.augment import FROM_AUCTION, FROM_TIES, exact_finish
from immiscible_fast.kernels.cpu.candidates import best_two, new_lists, refill
from immiscible_fast.kernels.cpu.matching import new_matching
from immiscible_fast.kernels.cpu.work import BIDS, SLOTS, Work
from numba import njit

DTYPES = ("float32", "float64")
FINITE = [name for name in FAMILIES if "sparse" not in name]
WIDTHS = (16, 17, 40, 100, 257)


@njit
def two_best(cost, i, price, lists, work):
    return best_two(cost, i, price, lists, work)


def make(family, rng, n, m, dtype):
    return np.ascontiguousarray(make_any(family, rng, n, m, dtype))


def no_work():
    return Work(np.zeros(SLOTS, np.int64), np.zeros(1, np.int64))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_columns_outside_a_list_stay_at_its_bound_or_above_while_prices_rise(family, dtype, rng):
    for width in WIDTHS:
        cost = make(family, rng, 4, width, dtype)
        scale = np.abs(cost[np.isfinite(cost)]).max() + 1
        price = (scale * rng.normal(size=width)).astype(dtype)
        lists = new_lists(cost, True)
        index, value, count, bound, _ = lists
        for i in range(4):
            refill(cost, i, price, lists)
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
        lists, work = new_lists(cost, listed), no_work()
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
        price, lists, work = np.zeros(m, dtype), new_lists(cost, listed), no_work()
        matching = new_matching(n, m)
        owner, column = matching
        bidders = new_bidders(n, price)
        for eps in (0.3 * scale, 0.03 * scale):  # the second keeps what is good enough
            before = price.copy()
            step = dtype_of(price, eps)
            assert auction_phase(cost, price, matching, lists, step, 10**7, bidders, work)[0]
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
        assert work.counts[BIDS] >= n


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_phase_stops_when_its_budget_of_bids_is_spent(dtype, rng):
    cost = make("rows_all_equal", rng, 30, 30, dtype)
    price, lists, work = np.zeros(30, dtype), new_lists(cost, False), no_work()
    matching, bidders = new_matching(30, 30), new_bidders(30, price)
    owner, column = matching
    step = dtype_of(price, 1e-6)
    assert not auction_phase(cost, price, matching, lists, step, 100, bidders, work)[0]
    assert work.counts[BIDS] == 100
    assert column[30] == -1
    assigned = np.flatnonzero(column >= 0)  # what there is, is a matching
    assert np.array_equal(owner[column[assigned]], assigned)
    assert (owner >= 0).sum() == assigned.size


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_phase_gives_up_on_a_row_without_finite_costs(dtype):
    cost = np.zeros((20, 20), dtype)
    cost[7] = np.inf
    for listed in (False, True):
        matching, price = new_matching(20, 20), np.zeros(20, dtype)
        owner, column = matching
        arguments = price, matching, new_lists(cost, listed), dtype_of(price, 0.1), 10**6
        assert not auction_phase(cost, *arguments, new_bidders(20, price), no_work())[0]
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
        lists = new_lists(cost, listed)
        matching = new_matching(n, m)
        column = matching.col4row
        bidders, work = new_bidders(n, low), no_work()
        step = dtype_of(low, 0.1 * scale)
        if rng.random() < 0.5:
            auction_phase(cost, low, matching, lists, step, 100 * n, bidders, work)
        price = low.astype(np.float64)
        before = price.copy()
        assert exact_finish(cost, price, matching, lists, FROM_AUCTION, work)
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
        lists = new_lists(cost, listed)
        for start in (FROM_AUCTION, FROM_TIES):
            matching = new_matching(20, 20)
            assert not exact_finish(cost, np.zeros(20), matching, lists, start, no_work())


@pytest.mark.parametrize("dtype", DTYPES)
def test_lists_that_are_exhausted_too_fast_are_given_up(dtype, rng):
    cost = np.outer(np.arange(1, 201), np.arange(1, 201)).astype(dtype)  # Machol and Wien
    price, lists, work = np.zeros(200, dtype), new_lists(cost, True), no_work()
    matching, bidders = new_matching(200, 200), new_bidders(200, price)
    assigned, exhausted = auction_phase(
        cost, price, matching, lists, dtype_of(price, 100), 10**7, bidders, work
    )
    assert assigned
    assert exhausted
    assert np.unique(matching.col4row[:200]).size == 200
