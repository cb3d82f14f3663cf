"""Deterministic work counters: a slowdown by more work is caught without a clock.

The bounds are about three times what was counted when they were written.
"""

from __future__ import annotations

import numpy as np
import pytest
from families import FAMILIES, LISTED

from immiscible_fast.cpu import solver


def counted(cost, **options):
    solution = solver.solve(cost[None], **{"exact": True, "tol": 0.01, **options})
    names = solver.COUNTERS
    assert solution.work is not None
    assert solution.work.shape == (1, len(names))
    return dict(zip(names, solution.work[0].tolist(), strict=True))


def row_scans(work):
    """Whole rows that were looked at, for whatever purpose."""
    return work["bid_scans"] + work["dual_scans"] + work["reductions"] + work["row_relaxations"]


def photo_like(n, seed=0, dtype=np.float32):
    """Smooth signals of few degrees of freedom and a little noise, against white noise."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, 12)) @ rng.normal(size=(12, 256)) + 0.3 * rng.normal(size=(n, 256))
    return (-images @ rng.normal(size=(256, n))).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [200, 512, 1024])
def test_an_exact_solve_of_a_photo_like_problem_takes_few_row_scans(n, dtype):
    work = counted(photo_like(n, dtype=dtype))
    assert n <= work["bids"] <= 40 * n
    assert row_scans(work) <= 40 * n
    assert work["reductions"] <= 6 * n
    assert work["paths"] <= n / 2
    assert work["list_relaxations"] <= 5 * n


def test_candidate_lists_save_most_row_scans():
    n = 2 * LISTED
    work = counted(photo_like(n))
    assert row_scans(work) < work["bids"] / 3


HARD = ("low_rank", "uniform", "plane", "line", "hubs", "machol_wien")
WARS = ("all_equal", "zeros", "two_valued", "small_integers", "rows_all_equal", "modular")


@pytest.mark.parametrize("family", HARD + WARS)
def test_work_stays_in_proportion_on_hard_families(family):
    n = 400
    work = counted(FAMILIES[family](np.random.default_rng(1), n, n))
    assert row_scans(work) <= 250 * n


@pytest.mark.parametrize("method", ["exact", "auction"])
@pytest.mark.parametrize(
    "family", ["uniform", "plane", "boxes", "sparse_gates", "exponential_rows", "sparse_hub"]
)
def test_half_as_many_rows_as_columns_need_no_auction_and_no_search(family, method):
    n = 350
    work = counted(FAMILIES[family](np.random.default_rng(1), n, 2 * n), exact=method == "exact")
    assert work["bids"] == 0
    assert work["paths"] <= n / 10
    assert row_scans(work) <= 5 * n


@pytest.mark.parametrize("method", ["exact", "auction"])
@pytest.mark.parametrize("family", ["all_equal", "two_valued", "blocks", "modular", "sparse_ties"])
def test_ties_between_columns_left_over_end_every_search_at_once(family, method):
    n = 350
    work = counted(FAMILIES[family](np.random.default_rng(1), n, 2 * n), exact=method == "exact")
    assert work["bids"] == 0
    assert work["list_relaxations"] + work["row_relaxations"] <= 5 * n


@pytest.mark.parametrize("family", ["two_valued", "small_integers", "zeros"])
@pytest.mark.parametrize("shape", [(497, 503), (690, 700)])
def test_rows_whose_best_columns_tie_take_free_ones_in_one_pass(family, shape):
    work = counted(FAMILIES[family](np.random.default_rng(1), *shape), proven=False)
    assert row_scans(work) <= 2.1 * shape[0]
    assert work["paths"] + work["pass_scans"] <= shape[0] / 20


@pytest.mark.parametrize("family", ["hubs", "machol_wien", "steep", "low_rank", "images_and_noise"])
@pytest.mark.parametrize("shape", [(300, 700), (690, 700)])
def test_rows_that_want_the_same_columns_are_left_to_the_auction(family, shape):
    work = counted(FAMILIES[family](np.random.default_rng(1), *shape))
    assert row_scans(work) <= 300 * shape[0]


def test_prices_far_from_where_they_start_make_eps_grow():
    n = 700
    work = counted(FAMILIES["steep"](np.random.default_rng(1), n, n))
    assert row_scans(work) <= 420 * n


def test_a_near_optimal_solve_takes_less_than_an_exact_one():
    cost = photo_like(512)
    near, exact = counted(cost, exact=False, tol=0.1), counted(cost)
    assert near["paths"] == near["row_relaxations"] == near["list_relaxations"] == 0
    assert near["bids"] < 15 * 512
    assert sum(near.values()) < sum(exact.values())


def test_sinkhorn_prices_save_most_bids():
    from immiscible_fast.cpu import sinkhorn as annealed_sinkhorn

    cost = photo_like(512)
    prices = annealed_sinkhorn.column_prices(cost[None])
    cold = counted(cost, exact=False, tol=0.003)
    warm = counted(cost, exact=False, tol=0.003, prices=prices)
    assert warm["bids"] < 0.7 * cold["bids"]


def test_counts_are_the_same_each_time():
    assert counted(photo_like(512)) == counted(photo_like(512))
