"""``cost_limit``: the least total of pairs and limits; by brute force, extension, and lapx."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from checks import optimum
from families import FAMILIES, make

from immiscible_fast import batch_linear_assignment, linear_sum_assignment

SHAPES = ((1, 1), (3, 3), (4, 4), (2, 5), (5, 2), (1, 6), (4, 3))


def worth(cost, rows, columns, limit):
    """What a matching costs: its pairs, and the limit for each that it could have had besides."""
    pairs = np.asarray(cost, np.float64)[rows, columns]
    return pairs.sum() + limit * (min(cost.shape) - len(pairs))


def every_matching(n, m):
    for size in range(min(n, m) + 1):
        for rows in itertools.combinations(range(n), size):
            for columns in itertools.permutations(range(m), size):
                yield list(rows), list(columns)


def assert_obeys(cost, rows, columns, limit):
    assert rows.dtype == columns.dtype == np.int64
    assert rows.shape == columns.shape
    assert (np.diff(rows) > 0).all()
    assert np.unique(columns).size == columns.size
    assert (np.asarray(cost, np.float64)[rows, columns] <= limit).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_no_matching_at_all_is_worth_less(shape, rng):
    matchings = list(every_matching(*shape))
    for _ in range(30):
        cost = rng.integers(-4, 9, shape).astype(float)
        cost[rng.random(shape) < 0.2] = np.inf
        for limit in (-5.0, 0.0, 2.5, 4.0, 100.0):
            rows, columns = linear_sum_assignment(cost, cost_limit=limit)
            assert_obeys(cost, rows, columns, limit)
            best = min(worth(cost, *pairs, limit) for pairs in matchings)
            assert worth(cost, rows, columns, limit) == best


@pytest.mark.parametrize("shape", [(30, 30), (20, 45), (45, 20), (7, 90)])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_costs_what_an_extended_matrix_costs(family, shape, rng):
    """The textbook way: m + n columns and rows, of which half the limit buys a dummy."""
    n, m = shape
    cost = make(family, rng, n, m, "float32")
    for share in (0.02, 0.5):
        limit = float(np.quantile(cost[np.isfinite(cost)].astype(float), share))
        extended = np.full((n + m, n + m), limit / 2)
        extended[:n, :m], extended[n:, m:] = cost, 0
        best = optimum(extended) - abs(n - m) * limit / 2
        rows, columns = linear_sum_assignment(cost, cost_limit=limit)
        assert_obeys(cost, rows, columns, limit)
        assert worth(cost, rows, columns, limit) == pytest.approx(
            best, abs=1e-12 * (n + m) * np.abs(extended[np.isfinite(extended)]).max()
        )


def test_a_floor_when_maximizing(rng):
    gain = rng.integers(0, 50, (12, 17))
    rows, columns = linear_sum_assignment(gain, maximize=True, cost_limit=47)
    assert (gain[rows, columns] >= 47).all()
    negated = linear_sum_assignment(-gain, cost_limit=-47)
    assert len(rows) == len(negated[0]) < 12
    assert gain[rows, columns].sum() == gain[negated].sum()
    unlimited = linear_sum_assignment(gain, maximize=True, cost_limit=-math.inf)
    assert np.array_equal(unlimited[1], linear_sum_assignment(gain, maximize=True)[1])


def test_nothing_is_infeasible_and_everything_may_be_too_dear():
    forbidden = np.full((3, 4), np.inf)
    for cost in (forbidden, np.ones((3, 4)), forbidden.T):
        rows, columns = linear_sum_assignment(cost, cost_limit=0.5)
        assert rows.shape == columns.shape == (0,)
    assert linear_sum_assignment(np.ones((3, 4)), cost_limit=1)[0].tolist() == [0, 1, 2]
    assert linear_sum_assignment(np.empty((0, 4)), cost_limit=1)[0].shape == (0,)
    assert linear_sum_assignment(np.empty((4, 0)), cost_limit=1)[0].shape == (0,)
    with pytest.raises(ValueError, match="infeasible"):
        linear_sum_assignment(forbidden, cost_limit=np.inf)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "bool"])
def test_the_limit_itself_is_not_rounded(dtype):
    """0.1 in float32 is more than 0.1, and so is too dear for a limit of 0.1."""
    cost = np.array([[0.1, 5.0], [5.0, 0.0]]).astype(dtype)
    rows, columns = linear_sum_assignment(cost, cost_limit=0.1)
    assert (cost[rows, columns].astype(float) <= 0.1).all()
    assert linear_sum_assignment(cost.astype("float32"), cost_limit=1e300)[0].tolist() == [0, 1]


def test_tensors_and_batches_mark_what_is_left_out():
    cost = torch.tensor([[[1.0, 9.0], [9.0, 9.0]], [[9.0, 1.0], [2.0, 9.0]]])
    rows, columns = linear_sum_assignment(cost, cost_limit=3)
    assert rows.tolist() == [[0, -1], [0, 1]]
    assert columns.tolist() == [[0, -1], [1, 0]]
    single = linear_sum_assignment(cost[0], cost_limit=3)
    assert [part.tolist() for part in single] == [[0], [0]]
    assert batch_linear_assignment(cost, cost_limit=3).tolist() == [[0, -1], [1, 0]]
    assert batch_linear_assignment(cost, cost_limit=-1).tolist() == [[-1, -1], [-1, -1]]
    assert batch_linear_assignment(cost[:, :, :0], cost_limit=3).tolist() == [[-1, -1]] * 2
    tall = linear_sum_assignment(cost[:, :, :1], cost_limit=3)
    assert [part.tolist() for part in tall] == [[[0], [1]], [[0], [0]]]


def test_the_input_stays_as_it_was(rng):
    cost = torch.from_numpy(rng.random((9, 9))).requires_grad_()
    kept = cost.detach().clone()
    batch_linear_assignment(cost[None], cost_limit=0.2)
    linear_sum_assignment(cost, maximize=True, cost_limit=0.2)
    assert torch.equal(cost.detach(), kept)


@pytest.mark.parametrize(
    ("limit", "maximize", "error"),
    [
        (math.nan, False, ValueError),
        (-math.inf, False, ValueError),
        (math.inf, True, ValueError),
        ("3", False, TypeError),
        (True, False, TypeError),
        (1j, False, TypeError),
        ([1.0], False, TypeError),
    ],
)
def test_bad_limits_are_refused_by_name(limit, maximize, error):
    with pytest.raises(error, match="cost_limit"):
        linear_sum_assignment(np.ones((2, 2)), maximize, cost_limit=limit)
    if not maximize:
        with pytest.raises(error, match="cost_limit"):
            batch_linear_assignment(torch.ones(1, 2, 2), cost_limit=limit)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_invalid_costs_are_still_refused(bad):
    cost = np.ones((3, 3))
    cost[1, 2] = bad
    with pytest.raises(ValueError, match="invalid numeric entries"):
        linear_sum_assignment(cost, cost_limit=0.5)
