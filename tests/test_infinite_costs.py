"""inf forbids a pair; NaN and -inf are refused; infeasible problems are called so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checks import assert_exact, assert_matching, total
from families import LISTED, sparse, sparse_ties

from immiscible_fast import solve_assignment

METHODS = ("auto", "exact", "auction", "sinkhorn", "scipy")
INF, NAN = float("inf"), float("nan")
SMALL = ((2, 2), (5, 5), (16, 16), (40, 40), (6, 9), (9, 6), (322, 340), (340, 322))
SHAPES = (*SMALL, (LISTED, LISTED), (500, LISTED + 9), (LISTED, 510))


def solve(cost, **options):
    return solve_assignment(torch.as_tensor(cost), **options)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", [sparse, sparse_ties])
def test_forbidden_pairs_are_never_used(family, shape, rng):
    cost = family(rng, *shape)
    assert_exact(cost, solve(cost))
    for method in ("auction", "sinkhorn"):
        answer = solve(cost, method=method)
        assert_matching(answer.index, *shape)
        assert np.isfinite(total(cost, answer.index))


@pytest.mark.parametrize("n", [1, 5, 17, LISTED])
def test_one_complete_assignment_left(n, rng):
    permutation = rng.permutation(n)
    cost = np.full((n, n), np.inf)
    cost[np.arange(n), permutation] = rng.normal(size=n)
    for method in METHODS:
        assert solve(cost, method=method).index.tolist() == permutation.tolist()


def infeasible_costs():
    row = torch.rand(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    row[3] = INF
    column = row.T.contiguous()
    hall = torch.zeros(40, 40)
    hall[:4, 3:] = INF  # four rows want three columns
    hall_listed = torch.zeros(LISTED, LISTED)
    hall_listed[:100, 99:] = INF
    return {
        "a whole row": row,
        "a whole column": column,
        "everything": torch.full((3, 3), INF),
        "one pair": torch.full((1, 1), INF),
        "four rows want three columns": hall,
        "a hundred rows want 99 columns": hall_listed,
        "a whole row of a wide problem": torch.cat([row, row], 1),
        "a whole column of a tall problem": torch.cat([column, column], 0),
        "one problem of a batch": torch.stack([torch.zeros(5, 5), row.float(), torch.ones(5, 5)]),
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", infeasible_costs())
def test_infeasible_problems_are_refused_in_scipys_words(name, method):
    with pytest.raises(ValueError, match="cost matrix is infeasible"):
        solve(infeasible_costs()[name], method=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [NAN, -INF])
@pytest.mark.parametrize(
    "shape", [(1, 1), (2, 2), (20, 20), (3, 20), (20, 3), (2, 4, 4), (LISTED, LISTED)]
)
def test_nan_and_minus_infinity_are_refused_in_scipys_words(shape, value, method, rng):
    cost = torch.from_numpy(rng.random(shape))
    cost[(*rng.integers(0, shape),)] = value
    with pytest.raises(ValueError, match="matrix contains invalid numeric entries"):
        solve(cost, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_nan_is_refused_beside_infinities_of_both_signs(method):
    for entries in ([NAN, INF], [-INF, INF], [NAN, -INF]):
        cost = torch.zeros(4, 4)
        cost[0, :2] = torch.tensor(entries)
        with pytest.raises(ValueError, match="matrix contains invalid numeric entries"):
            solve(cost, method=method)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_largest_finite_costs_are_not_taken_for_infinities(dtype):
    largest = torch.finfo(dtype).max
    cost = torch.tensor([[largest, 1.0], [INF, largest]], dtype=dtype)
    answer = solve(cost)
    assert answer.index.tolist() == [0, 1]
    assert float(answer.cost) == 2 * largest
