"""The vector primitives and the heap against numpy and heapq."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from immiscible_fast.kernels.cpu import heap, passes, scans, vector
from immiscible_fast.kernels.cpu.certificate import certificate
from immiscible_fast.kernels.cpu.work import SLOTS, Work
from numba import njit

from immiscible_fast.cpu import solver

WIDTHS = (*range(16, 131), vector.LONG, 1000)
TYPES = (("float32", "float32"), ("float64", "float64"), ("float32", "float64"))  # costs, prices
FLAVOURS = ("distinct", "tied", "forbidden", "mostly forbidden")


@njit
def group_min(cost, i, price, groups):
    scans.row_group_min(cost, i, price, groups)


@njit
def collect(cost, i, price, limit, index, value, q):
    return scans.row_collect(cost, i, price, limit, index, value, q)


@njit
def top2(cost, i, price):
    return scans.row_top2(cost, i, price)


@njit
def survey(cost, i, zeros):
    return passes.row_survey(cost, i, zeros)


@njit
def top2_of_list(value, i, price, index, count):
    return scans.list_top2(value, i, price, index, count)


@njit
def minimum(cost, i, price):
    return scans.row_min(cost, i, price)


@njit
def relax(cost, i, price, shift, floor, key, pred, owner):
    return passes.row_relax(cost, i, price, shift, floor, key, pred, owner)


def no_work():
    return Work(np.zeros(SLOTS, np.int64), np.zeros(1, np.int64))


def poisoned(rows, width, dtype):
    """A contiguous (rows, width) array amid minus infinities, which a stray read would find."""
    memory = np.full(rows * width + 64, -np.inf, dtype)
    return memory[7 : 7 + rows * width].reshape(rows, width)


def problem(rng, width, types, flavour):
    """(costs, prices, numpy's c + p of row 1, in the type of the prices)."""
    cost, price = poisoned(3, width, types[0]), poisoned(1, width, types[1])[0]
    cost[0], cost[2] = -np.inf, -np.inf  # other rows are none of its business
    if flavour == "tied":
        cost[1], price[:] = rng.integers(0, 3, width), rng.integers(0, 2, width)
    else:
        cost[1], price[:] = rng.normal(size=width), rng.normal(size=width)
    if "forbidden" in flavour:
        cost[1, rng.random(width) < (0.95 if "mostly" in flavour else 0.3)] = np.inf
    return cost, price, cost[1].astype(types[1]) + price


def cases(rng, types):
    for width in WIDTHS:
        for flavour in FLAVOURS:
            yield problem(rng, width, types, flavour)


@pytest.mark.parametrize("types", TYPES)
def test_row_min_is_the_minimum(types, rng):
    for cost, price, values in cases(rng, types):
        assert minimum(cost, 1, price) == values.min()


@pytest.mark.parametrize("types", TYPES)
def test_row_top2_finds_both_and_the_first_column_of_ties(types, rng):
    for cost, price, values in cases(rng, types):
        first, second, column = top2(cost, 1, price)
        assert (first, second) == tuple(np.sort(values)[:2])
        if first < np.inf:
            assert column == values.argmin()
        else:
            assert column < 0


@pytest.mark.parametrize("types", TYPES)
def test_row_top2_finds_minima_and_ties_in_every_place(types, rng):
    for width in (16, 17, 31, 32, 50, 127):
        cost, price, _ = problem(rng, width, types, "distinct")
        price[:] = 0
        for j in range(width):
            cost[1] = 5.0
            cost[1, j] = -1.0
            assert top2(cost, 1, price) == (-1.0, 5.0, j)
            other = int(rng.integers(width))
            cost[1, other] = -1.0
            assert top2(cost, 1, price)[0] == -1.0
            assert top2(cost, 1, price)[2] == min(j, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_row_survey_finds_sizes_both_minima_and_what_is_no_cost(dtype, rng):
    for cost, price, _ in cases(rng, (dtype, dtype)):
        for row in (cost[1].copy(), -np.sort(cost[1]), np.sort(-cost[1])[::-1]):
            if not (row > -np.inf).all():  # forbidden, and turned
                row = np.where(row > -np.inf, row, np.inf)
            cost[1] = row
            size, first, second, column = survey(cost, 1, price)
            assert size == np.abs(row[np.isfinite(row)]).max(initial=0)
            assert (first, second) == tuple(np.sort(row)[:2])
            assert column == (row.argmin() if first < np.inf else -1)
            cost[1, rng.integers(row.size)] = rng.choice([np.nan, -np.inf])
            assert np.isnan(survey(cost, 1, price)[0])


@pytest.mark.parametrize("types", TYPES[1:])
def test_row_relax_offers_a_row_and_prefers_a_free_column_of_those_that_tie(types, rng):
    for cost, price, values in cases(rng, types):
        key = rng.choice([0.0, 1.0, 2.0, np.inf], values.size)
        owner = rng.integers(-1, 2, values.size).astype(np.int32)
        pred = np.full(values.size, 7)
        offered = np.maximum(values + 0.5, -1.0)
        want = np.minimum(offered, key), np.where(offered < key, 1, 7)
        least, column = relax(cost, 1, price, 0.5, -1.0, key, pred, owner)
        assert np.array_equal(key, want[0])
        assert np.array_equal(pred, want[1])
        ties = np.flatnonzero(key == key.min())
        free = ties[owner[ties] < 0]
        assert least == key.min()
        assert column in (free if free.size else ties)


@pytest.mark.parametrize("types", TYPES)
def test_row_group_min_covers_the_row_by_values_of_the_row(types, rng):
    for cost, price, values in cases(rng, types):
        groups = np.full(vector.GROUPS, np.nan, types[1])
        group_min(cost, 1, price, groups)
        assert groups.min() == values.min()
        assert np.isin(groups, np.append(values, np.inf)).all()
        width = values.size
        if width % vector.WIDTH == 0:
            members = values.reshape(-1, vector.GROUPS)
            assert sorted(groups) == sorted(members.min(0))
        else:  # columns that are read twice may stand for two groups
            assert (values <= groups.max()).sum() >= vector.GROUPS / 2


@pytest.mark.parametrize("types", TYPES)
def test_row_collect_writes_the_columns_up_to_a_limit_in_order_while_there_is_room(types, rng):
    for cost, price, values in cases(rng, types):
        finite = values[np.isfinite(values)]
        for limit in (np.inf, *rng.choice(finite, min(2, finite.size)), -1e9):
            room = int(rng.choice([1, 5, 16, values.size]))
            index = np.full((3, room), 2**32 - 1, np.uint32)
            value = np.full((3, room), np.nan, types[0])
            count = collect(cost, 1, price, values.dtype.type(limit), index, value, 1)
            want = np.flatnonzero(values <= limit)
            assert count == want.size
            kept = min(room, count)
            assert np.array_equal(index[1, :kept], want[:kept])
            assert np.array_equal(value[1, :kept], cost[1, want[:kept]])
            assert (index[[0, 2]] == 2**32 - 1).all() and (index[1, kept:] == 2**32 - 1).all()
            assert np.isnan(value[[0, 2]]).all()


@pytest.mark.parametrize("types", TYPES)
def test_list_top2_is_row_top2_of_the_listed_columns(types, rng):
    for cost, price, _ in cases(rng, types):
        width = price.size
        count = int(rng.integers(1, min(width, 64) + 1))
        columns = np.sort(rng.permutation(width)[:count])
        index, value = np.zeros((3, 64), np.uint32), np.full((3, 64), np.inf, types[0])
        index[1, :count], value[1, :count] = columns, cost[1, columns]
        index[[0, 2]], value[[0, 2]] = 2**32 - 1, -np.inf
        first, second, column = top2_of_list(value, 1, price, index, count)
        values = np.append(cost[1, columns].astype(types[1]) + price[columns], np.inf)
        assert (first, second) == tuple(np.sort(values)[:2])
        if first < np.inf:
            assert column == columns[values.argmin()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_certificate_is_the_documented_sum(dtype, rng):
    for n, m in ((1, 16), (16, 16), (20, 33), (50, 50)):
        cost = rng.normal(size=(n, m)).astype(dtype)
        price, column, dual = rng.normal(size=m), rng.permutation(m)[:n], np.empty(n)
        total, bound = certificate(cost, price, column, m, dual, no_work())
        assert total == pytest.approx(cost[np.arange(n), column].sum(dtype=np.float64), abs=1e-12)
        least = (cost.astype(np.float64) + price).min(1)
        assert np.array_equal(dual, least)
        want = least.sum() - price.sum() + (m - n) * price.min()
        assert bound == pytest.approx(want, abs=1e-12)


def test_the_certificate_leaves_padding_out(rng):
    cost = np.full((3, 16), np.inf)
    cost[:, :5] = rng.normal(size=(3, 5))
    price = np.zeros(16)
    price[:5] = 1 + rng.random(5)
    _, bound = certificate(cost, price, np.array([0, 1, 2]), 5, np.empty(3), no_work())
    least = (cost[:, :5] + price[:5]).min(1)
    assert bound == pytest.approx(least.sum() - price[:5].sum() + 2 * price[:5].min(), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_the_heap_gives_codes_in_the_order_of_their_keys_while_keys_fall(ties, rng):
    codes = 60
    for _ in range(30):
        key = np.full(codes, np.inf)
        place, memory = np.full(codes, heap.OUTSIDE), np.empty(codes, np.int64)
        inside, size = {}, 0
        for _ in range(300):
            if size and rng.random() < 0.4:
                least = heapq.nsmallest(1, inside.values())[0]
                code = heap.heap_pop(memory, place, key, size)
                size -= 1
                assert inside.pop(code) == least
                assert place[code] == heap.OUTSIDE
            else:
                code = int(rng.integers(codes))
                value = float(rng.integers(8)) if ties else rng.random()
                key[code] = inside[code] = min(value, inside.get(code, np.inf))
                size = heap.heap_put(memory, place, key, size, code)
            assert size == len(inside)
            assert set(memory[:size]) == set(inside)
            assert all(memory[place[code]] == code for code in inside)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("ignore:overflow")
def test_costs_are_scaled_as_by_ldexp_whatever_their_size(dtype, rng):
    limits = np.finfo(dtype)
    for _ in range(300):
        powers = rng.integers(limits.minexp - 60, limits.maxexp, (3, 2, 5))
        costs = np.ldexp(rng.standard_normal((3, 2, 5)), powers).astype(dtype)
        costs[0, 0, 0] = np.inf
        exponent = rng.integers(-limits.maxexp - 30, limits.maxexp + 30, (3, 1, 1))
        exponent = np.int32(exponent * rng.random())
        shifted = solver._shifted(costs, exponent)
        assert shifted.dtype == dtype
        np.testing.assert_array_equal(shifted, np.ldexp(costs, exponent))
