"""``OTPlanSampler`` in the place of torchcfm's: the same plans, and pairs that leave none out."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from other_projects import project

from immiscible_fast.adapters.torchcfm import OTPlanSampler

project("torchcfm")
from torchcfm import conditional_flow_matching as flow  # noqa: E402
from torchcfm.optimal_transport import OTPlanSampler as Theirs  # noqa: E402


def populations(rng, n, m, shape=(2, 3)):
    x0, x1 = rng.normal(size=(n, *shape)), 0.5 * rng.normal(size=(m, *shape)) + 1
    return torch.from_numpy(x0).float(), torch.from_numpy(x1).float()


def cost(x0, x1):
    return torch.cdist(x0.flatten(1).double(), x1.flatten(1).double()).square().numpy()


@pytest.mark.parametrize(("n", "m"), [(1, 1), (64, 64), (64, 32), (32, 64), (60, 40), (1, 5)])
def test_an_exact_plan_costs_what_theirs_does(rng, n, m):
    x0, x1 = populations(rng, n, m)
    plan, theirs = OTPlanSampler("exact").get_map(x0, x1), Theirs("exact").get_map(x0, x1)
    assert (plan * cost(x0, x1)).sum() == pytest.approx((theirs * cost(x0, x1)).sum(), rel=1e-6)
    assert np.allclose(plan.sum(1), 1 / n, rtol=1e-12)
    assert np.allclose(plan.sum(0), 1 / m, rtol=1e-12)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (48, 48), (64, 32), (20, 30)])
@pytest.mark.parametrize("normalize", [False, True])
def test_an_entropic_plan_is_close_to_theirs(rng, n, m, normalize):
    x0, x1 = populations(rng, n, m)
    options = {"reg": 0.1 if normalize else 2.0, "normalize_cost": normalize}
    plan = OTPlanSampler("sinkhorn", **options).get_map(x0, x1)
    theirs = Theirs("sinkhorn", **options).get_map(x0, x1)
    assert np.abs(plan - theirs).sum() < 1e-5


def test_a_small_regularisation_that_theirs_cannot_do_gives_nearly_the_exact_plan(rng):
    """Costs of 3,000 and a ``reg`` of 0.05: exp(-60,000) is zero in any float."""
    x0, x1 = populations(rng, 16, 16, (1500,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Theirs("sinkhorn").get_map(x0, x1)
    assert np.allclose(theirs, 1 / 256)
    plan = OTPlanSampler("sinkhorn", warn=False).get_map(x0, x1)
    exact = OTPlanSampler("exact").get_map(x0, x1)
    assert (plan * cost(x0, x1)).sum() == pytest.approx((exact * cost(x0, x1)).sum(), rel=1e-3)


def test_a_plan_that_is_far_from_converged_is_told_unless_told_not_to(rng):
    x0, x1 = populations(rng, 30, 31)
    with pytest.warns(UserWarning, match="not converged.* reg = 1e-05"):
        OTPlanSampler("sinkhorn", reg=1e-5).get_map(x0, x1)
    OTPlanSampler("sinkhorn", reg=1e-5, warn=False).get_map(x0, x1)


@pytest.mark.parametrize("method", ["exact", "sinkhorn"])
@pytest.mark.parametrize(("n", "m"), [(24, 24), (24, 12), (512, 256), (12, 24)])
def test_pairs_take_every_sample_as_evenly_as_the_sizes_allow(rng, method, n, m):
    x0, x1 = torch.arange(n)[:, None].float(), torch.arange(m)[:, None].float()
    chosen, x1_out = OTPlanSampler(method, reg=n / 4, warn=False).sample_plan(x0, x1)
    columns = x1_out[:, 0].long()
    assert (columns.diff() >= 0).all()  # x1 stays in order
    counts = columns.bincount(minlength=m)
    assert counts.min() >= n // m
    assert counts.max() <= -(-n // m)
    if method == "exact" and n % m == 0:
        assert chosen[:, 0].sort().values.equal(x0[:, 0])


def test_pairs_of_an_entropic_plan_come_as_often_as_the_plan_says(rng):
    x0, x1 = populations(rng, 5, 5)
    sampler = OTPlanSampler("sinkhorn", 4.0, generator=torch.Generator().manual_seed(1))
    plan = sampler.get_map(x0, x1)
    for replace in (False, True):
        seen = np.zeros((5, 5))
        for _ in range(400):
            np.add.at(seen, sampler.sample_map(plan, 50, replace), 1 / 20000)
        assert np.abs(seen - plan).max() < 0.015  # five standard deviations of the commonest


def test_with_replacement_pairs_are_those_of_the_permutation(rng):
    x0, x1 = populations(rng, 200, 200)
    sampler = OTPlanSampler("exact")
    partner, _ = sampler.sample_plan(x0, x1)
    some, images = sampler.sample_plan(x0, x1, replace=True)
    row = (images[:, None] == x1[None]).flatten(2).all(2).float().argmax(1)
    assert some.equal(partner[row])
    assert row.unique().numel() < 160


def test_noise_stays_in_the_class_of_the_image_it_came_with(rng):
    x0, x1 = populations(rng, 60, 60)
    y1 = torch.from_numpy(rng.integers(0, 3, 60))
    sampler = OTPlanSampler("exact", per_label=True)
    _, _, classes, _ = sampler.sample_plan_with_labels(x0, x1, y1, y1)
    assert classes.equal(y1)
    with pytest.raises(ValueError, match="y1 must be given"):
        sampler.sample_plan_with_labels(x0, x1)


def test_a_trajectory_is_theirs(rng):
    X = torch.from_numpy(rng.normal(size=(20, 4, 3))).float()
    assert np.array_equal(
        OTPlanSampler("exact").sample_trajectory(X), Theirs("exact").sample_trajectory(X)
    )
    moved = OTPlanSampler("sinkhorn", 1.0).sample_trajectory(X)
    assert moved.shape == (20, 4, 3)
    assert all(row in X[:, 3].tolist() for row in moved[:, 3].tolist())


def test_inside_their_flow_matcher_the_velocity_is_that_of_the_pair(rng):
    """x_t = (1 - t) x0 + t x1 and velocity x1 - x0 give both ends back: x1 as it was, x0 whole."""
    x0, x1 = populations(rng, 64, 64)
    labels = torch.arange(64)
    matcher = flow.ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)
    matcher.ot_sampler = OTPlanSampler("exact")
    t, x_t, u, _, y1 = matcher.guided_sample_location_and_conditional_flow(x0, x1, y1=labels)
    t = t[:, None, None]
    assert torch.allclose(x_t + (1 - t) * u, x1, atol=1e-5)
    assert y1.equal(labels)
    start = x_t - t * u
    index = torch.cdist(start.flatten(1), x0.flatten(1)).argmin(1)
    assert torch.allclose(start, x0[index], atol=1e-5)
    assert index.sort().values.equal(torch.arange(64))
    assert cost(start, x1).trace() == pytest.approx(
        64 * (Theirs("exact").get_map(x0, x1) * cost(x0, x1)).sum(), rel=1e-5
    )


@pytest.mark.parametrize("method", ["exact", "sinkhorn"])
def test_inside_their_schrodinger_bridge_x_t_is_on_the_bridge_of_the_pair(rng, method):
    x0, x1 = populations(rng, 32, 32)
    matcher = flow.SchrodingerBridgeConditionalFlowMatcher(sigma=0.5, ot_method=method)
    matcher.ot_sampler = OTPlanSampler(method, reg=2 * matcher.sigma**2)
    t = torch.full((32,), 0.5)  # where the velocity is x1 - x0
    _, x_t, u, eps = matcher.sample_location_and_conditional_flow(x0, x1, t, return_noise=True)
    middle = x_t - 0.25 * eps
    assert torch.allclose(middle + u / 2, x1, atol=1e-5)
    assert cost(middle - u / 2, x0).min(1).max() < 1e-8


def test_what_is_random_comes_from_the_generator_alone(rng):
    x0, x1 = populations(rng, 16, 16)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    drawn = []
    for _ in range(2):
        sampler = OTPlanSampler("sinkhorn", 5.0, generator=torch.Generator().manual_seed(3))
        drawn.append(torch.cat(sampler.sample_plan(x0, x1, replace=True)))
    assert drawn[0].equal(drawn[1])
    assert torch.get_rng_state().equal(before[0])
    assert np.random.get_state()[1].tolist() == before[1]
