"""The proof of quality: its formula, recomputed; its meaning, by brute force; its fields."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from checks import assert_rounded_up, cheapest_pairs, excess, lower_bound, optimum, pairs
from families import FAMILIES, LISTED, make

from immiscible_fast import Assignment, solve_assignment
from tests import certificates

PROVING = ("auto", "exact", "auction", "sinkhorn")


def cheapest_of_all(cost):
    """Least cost over every injection of the shorter side into the longer."""
    cost = cost if cost.shape[0] <= cost.shape[1] else cost.T
    n, m = cost.shape
    return min(
        sum(cost[i, j] for i, j in enumerate(js)) for js in itertools.permutations(range(m), n)
    )


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (5, 2), (4, 5), (5, 4)])
def test_the_documented_formula_bounds_every_assignment_for_any_prices(shape, rng):
    """This is a check of the oracle in checks.py, against no solver at all."""
    for _ in range(50):
        cost = rng.normal(size=shape)
        prices = rng.normal(size=shape[1]) * rng.choice([0, 0.1, 1, 10])
        assert lower_bound(cost, prices)[0] <= cheapest_of_all(cost) + 1e-12
        assert optimum(cost) == pytest.approx(cheapest_of_all(cost), abs=1e-12)


@pytest.mark.parametrize("method", PROVING)
@pytest.mark.parametrize("shape", [(50, 50), (LISTED, LISTED), (40, 60), (60, 40)])
def test_the_reported_bound_is_the_one_that_the_prices_prove(shape, method, rng):
    for family in FAMILIES:
        cost = make(family, rng, *shape, "float32" if rng.random() < 0.5 else "float64")
        try:
            answer = solve_assignment(torch.from_numpy(cost), method=method, tol=0.5)
        except ValueError as error:
            raise AssertionError(f"{family} {cost.dtype} is feasible") from error
        bound, error = lower_bound(cost, answer.prices)
        assert float(answer.lower_bound) <= bound + error
        if shape[0] <= shape[1]:
            assert float(answer.lower_bound) >= bound - error
        assert excess(float(answer.lower_bound), cheapest_pairs(cost)) <= 0


@pytest.mark.parametrize("method", PROVING)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.bool])
def test_the_bound_speaks_of_the_costs_as_they_were_given(dtype, method, rng):
    cost = torch.from_numpy(rng.normal(size=(30, 30)) * 3).to(dtype)
    answer = solve_assignment(cost, method=method)
    bound, error = lower_bound(cost.double(), answer.prices)
    assert abs(float(answer.lower_bound) - bound) <= error
    assert_rounded_up(answer.cost, pairs(cost.double(), answer.index))


def test_the_gap_is_cost_less_bound_for_each_problem_of_a_batch(rng):
    costs = torch.from_numpy(rng.normal(size=(6, 100, 100)))
    answer = solve_assignment(costs, method="auction", tol=1.0)
    assert torch.equal(answer.gap, answer.cost - answer.lower_bound)
    assert answer.gap.shape == (6,)
    assert (answer.gap > 0).all()


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (2, 3, 3), (2, 3, 5), (2, 5, 3)])
@pytest.mark.parametrize("method", [*PROVING, "scipy"])
def test_fields_have_the_documented_shapes_and_types(shape, method, rng):
    answer = solve_assignment(torch.from_numpy(rng.random(shape)), method=method)
    assert isinstance(answer, Assignment)
    lead = shape[:-2]
    wanted = {
        "index": (shape[:-1], torch.int64),
        "cost": (lead, torch.float64),
        "lower_bound": (lead, torch.float64),
        "converged": (lead, torch.bool),
        "prices": (lead + shape[-1:], torch.float64),
    }
    for name, (size, dtype) in wanted.items():
        field = getattr(answer, name)
        assert (field.shape, field.dtype) == (size, dtype), name
        assert not field.requires_grad
    assert answer.converged.all()


def test_scipy_claims_no_proof(rng):
    for shape in ((5, 5), (3, 5), (5, 3)):
        answer = solve_assignment(torch.from_numpy(rng.random(shape)), method="scipy")
        assert answer.lower_bound == -np.inf
        assert answer.gap == np.inf
        assert answer.prices.isnan().all()


def test_no_certificate_lies_in_exact_arithmetic(rng):
    found = certificates.run(3000, int(rng.integers(2**31)))
    assert found["lies"] == []
    gaps = found["largest_gap_of_exact"]
    for family in ("uniform", "normal", "two values", "offset", "near the top", "forbidden"):
        assert gaps[family] <= 1e-12, family
    assert gaps["integers"] == 0


@pytest.mark.parametrize(
    ("cost", "index", "best"),
    [
        ([[1e25, 0.377], [1.05, 1e25]], [1, 0], 1.427),
        ([[1e300, 1e-100, 1e-200]], [2], 1e-200),
        ([[1.7e308, 1.0, 2.0], [1.0, 1.7e308, 1.7e308], [5.0, 3.0, 1.7e308]], [2, 0, 1], 6.0),
    ],
)
def test_bounds_stay_tight_beside_huge_costs(cost, index, best):
    for given in (cost, np.transpose(cost)):
        answer = solve_assignment(torch.tensor(np.array(given)))
        assert float(answer.cost) == best
        assert 0 <= float(answer.gap) <= 1e-15 * best
        assert answer.prices.isfinite().all()
    assert solve_assignment(torch.tensor(cost, dtype=torch.float64)).index.tolist() == index
