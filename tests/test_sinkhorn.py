"""``sinkhorn``: marginals, optimality by duality, and costs that a kernel of floats cannot hold."""

from __future__ import annotations

import math

import pytest
import torch

from immiscible_fast import sinkhorn, solve_assignment


def costs(rng, *shape):
    return torch.from_numpy(rng.random(shape))


def readable(cost, eps, updates):
    """Sinkhorn as the books have it, one update of both potentials in the log domain at a time."""
    n, m = cost.shape
    g = torch.zeros(m, dtype=torch.float64)
    for _ in range(updates):
        f = -eps * torch.logsumexp((g - cost) / eps + math.log(n), 1)
        g = -eps * torch.logsumexp((f[:, None] - cost) / eps + math.log(m), 0)
    return ((f[:, None] + g - cost) / eps).exp()


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 4), (7, 7), (30, 20), (20, 30)])
@pytest.mark.parametrize("eps", [10.0, 0.1])
def test_the_plan_is_that_of_plain_updates_and_has_its_marginals(rng, n, m, eps):
    cost = costs(rng, n, m)
    answer = sinkhorn(cost, eps, max_updates=20_000)
    assert answer.error <= 1e-9
    assert torch.allclose(answer.plan.sum(0), torch.full((m,), 1 / m).double(), rtol=1e-12)
    assert torch.allclose(answer.plan.sum(1), torch.full((n,), 1 / n).double(), atol=1e-9)
    assert (answer.plan - readable(cost, eps, 1000)).abs().sum() < 1e-6
    potentials = (answer.f[:, None] + answer.g - cost) / eps
    assert answer.plan.equal(potentials.exp())


def test_every_problem_of_a_batch_gets_its_own_plan_whatever_its_scale(rng):
    cost = costs(rng, 3, 8, 8) * torch.tensor([1.0, 5.0, 1e-3])[:, None, None]
    together = sinkhorn(cost, 0.5)
    assert (together.error <= 1e-9).all()
    for one, plan in zip(cost, together.plan, strict=True):
        assert (sinkhorn(one, 0.5).plan - plan).abs().sum() < 1e-6


def test_as_eps_falls_the_plan_tends_to_the_assignment(rng):
    cost = costs(rng, 12, 12) * 1e4
    answer = sinkhorn(cost, 1.0)
    best = solve_assignment(cost)
    assert float((answer.plan * cost).sum()) == pytest.approx(float(best.cost) / 12, rel=1e-3)


def test_forbidden_pairs_get_nothing(rng):
    cost = costs(rng, 6, 6)
    cost[torch.eye(6, dtype=torch.bool)] = math.inf
    answer = sinkhorn(cost, 0.1)
    assert answer.error <= 1e-9
    assert answer.plan.diag().eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_types_are_solved_in_float64(rng, dtype):
    cost = costs(rng, 5, 5).to(dtype).requires_grad_()
    assert sinkhorn(cost, 0.1).plan.equal(sinkhorn(cost.double(), 0.1).plan)


def test_without_a_look_at_the_values_it_converges_all_the_same(rng, monkeypatch):
    """As on a GPU, where to look would be to wait."""
    from immiscible_fast import validation

    cost = costs(rng, 2, 9, 9) * torch.tensor([1.0, 1e4])[:, None, None]
    seen = sinkhorn(cost, 0.5).plan
    monkeypatch.setattr(validation, "may_look", lambda value: False)
    answer = sinkhorn(cost, 0.5)
    assert (answer.plan[0] - seen[0]).abs().sum() < 1e-6
    assert answer.error[0] <= 1e-9
    assert answer.error[1] < 0.1


def test_nothing_to_transport(rng):
    assert sinkhorn(torch.zeros(0, 3, 3), 0.1).plan.shape == (0, 3, 3)
    assert torch.allclose(sinkhorn(torch.zeros(2, 2), 0.1).plan, torch.tensor(0.25).double())
