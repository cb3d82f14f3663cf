"""Matching by ties: the tight pairs that it leaves are a maximum matching of them."""

from __future__ import annotations

import numpy as np
import pytest
from families import make
from immiscible_fast.kernels.cpu import ties
from immiscible_fast.kernels.cpu.auction import value_spread
from immiscible_fast.kernels.cpu.matching import Duals, new_matching
from immiscible_fast.kernels.cpu.schedule import TIE_PHASES
from immiscible_fast.kernels.cpu.vector import GROUPS
from immiscible_fast.kernels.cpu.work import COUNTERS, SLOTS, TIE_SCANS, Work
from numba import njit
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from immiscible_fast.cpu import solver

TIED = ("all_equal", "two_valued", "small_integers", "modular", "blocks", "diagonal", "sparse_ties")


@njit
def reduced_columns(cost, m, price, work):
    ties.reduce_columns(cost, m, price, work)


def match(cost):
    """(prices, duals, column of each row) after column reduction and matching."""
    n, m = cost.shape
    work = Work(np.zeros(SLOTS, np.int64), np.zeros(1, np.int64))
    low = np.zeros(m, cost.dtype)
    reduced_columns(cost, m, low, work)
    duals, matching = Duals(low.astype(np.float64), low, np.zeros(n + 1)), new_matching(n, m)
    free = np.empty(n, np.int64)
    left = ties.match_ties(cost, duals, matching, free, work)
    owner, column = matching.row4col, matching.col4row[:n]
    assert np.array_equal(np.sort(free[:left]), np.flatnonzero(column < 0))
    matched = np.flatnonzero(column >= 0)
    assert np.array_equal(owner[column[matched]], matched)
    assert (owner >= 0).sum() == matched.size
    assert work.counts[TIE_SCANS] <= TIE_PHASES * n
    return duals.price, duals.row[:n], column


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", TIED)
def test_tight_pairs_are_matched_and_nearly_as_many_as_can_be(family, dtype, rng):
    for n in (16, 17, 50, 130):
        cost = np.ascontiguousarray(make(family, rng, n, n, dtype))
        price, dual, column = match(cost)
        finite = np.where(np.isfinite(cost), cost, np.inf).min(0)
        assert np.array_equal(price, -finite.astype(np.float64))
        values = cost.astype(np.float64) + price
        assert np.array_equal(dual, values.min(1))
        matched = np.flatnonzero(column >= 0)
        assert (values[matched, column[matched]] == dual[matched]).all()
        tight = csr_array(values == dual[:, None])
        most = (maximum_bipartite_matching(tight, perm_type="column") >= 0).sum()
        assert matched.size >= most - n // 20


@pytest.mark.parametrize("family", ["all_equal", "zeros", "rows_all_equal", "diagonal", "offset"])
def test_what_ties_solve_takes_neither_bids_nor_paths(family, rng):
    cost = make(family, rng, 300, 300, "float32")
    counted = solver.solve(cost[None], exact=True, tol=0.01).work[0]
    work = dict(zip(COUNTERS, counted.tolist(), strict=True))
    assert work["bids"] == work["paths"] == work["row_relaxations"] == 0
    assert work["dual_scans"] + work["tie_scans"] <= 1500  # 450 as a rule, 950 in one of 1000


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_costs_that_all_differ_have_no_ties_whatever_their_number(dtype, rng):
    """The last vector of a row overlaps the one before it."""
    for n in range(16, 120):
        cost = rng.permutation(n * n).reshape(n, n).astype(dtype)
        assert tie_share(cost) == 0
        cost[:, n // 2] = cost.min(1)  # each row's best, once more
        assert tie_share(cost) > 0.5


@njit
def tie_share(cost):
    groups = np.empty(GROUPS, cost.dtype)
    return value_spread(cost, np.zeros(cost.shape[1], cost.dtype), groups)[1]
