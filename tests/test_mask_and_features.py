"""mask= weighs coordinates, features= maps images and noise before the cost, and nothing more."""

from __future__ import annotations

import pytest
import torch
from checks import optimum
from samples import METRICS, assert_bijection, draw, naive, total

from immiscible_fast import assign_noise, fast_assign


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_a_mask_weighs_the_coordinates_in_every_metric(dtype, metric, rng):
    x, noise = draw(rng, 40, 7), draw(rng, 40, 7)
    mask = torch.from_numpy(rng.integers(0, 4, 7)).to(dtype)
    mask[0] = 1
    cost = naive(x, noise, metric, mask)
    index = fast_assign(x, noise, metric=metric, mask=mask)
    assert_bijection(index, 40)
    assert total(cost, index) == pytest.approx(optimum(cost.numpy()), abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_a_mask_of_zeros_and_ones_leaves_coordinates_out(metric, rng):
    x, noise = draw(rng, 30, 6), draw(rng, 30, 6)
    mask = torch.tensor([True, False, True, True, False, False])
    x[:, ~mask] *= 1e6  # what is left out must not count
    assert torch.equal(
        fast_assign(x, noise, metric=metric, mask=mask),
        fast_assign(x[:, mask], noise[:, mask], metric=metric),
    )


@pytest.mark.parametrize("metric", METRICS)
def test_a_mask_of_ones_is_no_mask_and_one_of_zeros_still_gives_a_bijection(metric, rng):
    x, noise = draw(rng, 20, 5), draw(rng, 20, 5)
    ones = fast_assign(x, noise, metric=metric, mask=torch.ones(5))
    assert torch.equal(ones, fast_assign(x, noise, metric=metric))
    assert_bijection(fast_assign(x, noise, metric=metric, mask=torch.zeros(5)), 20)


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1), (1, 4), (2, 1, 1), (2, 3, 4)])
def test_a_mask_is_broadcast_to_one_sample(shape, rng):
    x, noise = draw(rng, 16, 2, 3, 4), draw(rng, 16, 2, 3, 4)
    mask = torch.as_tensor(rng.random(shape) + 0.1)
    full = mask.expand(2, 3, 4).flatten()
    cost = naive(x.flatten(1), noise.flatten(1), "euclidean", full)
    index = fast_assign(x, noise, metric="euclidean", mask=mask)
    assert total(cost, index) == pytest.approx(optimum(cost.numpy()))
    batched = fast_assign(x[None], noise[None], metric="euclidean", mask=mask, batched=True)
    assert torch.equal(batched[0], index)


def test_a_mask_of_samples_that_are_numbers(rng):
    x, noise = draw(rng, 9), draw(rng, 9)
    assert torch.equal(fast_assign(x, noise, mask=torch.tensor(2.0)), fast_assign(x, noise))


@pytest.mark.parametrize("metric", METRICS)
def test_features_decide_the_assignment(metric, rng):
    x, noise, map_ = draw(rng, 30, 8), draw(rng, 30, 8), draw(rng, 8, 3)
    calls = []

    def features(samples):
        calls.append(samples.shape)
        return samples @ map_

    index = fast_assign(x, noise, metric=metric, features=features)
    assert torch.equal(index, fast_assign(x @ map_, noise @ map_, metric=metric))
    assert calls == [(30, 8), (30, 8)]


def test_features_see_whole_samples_and_the_assigned_noise_is_not_mapped(rng):
    x, noise = draw(rng, 10, 3, 8, 8), draw(rng, 10, 3, 8, 8)
    crop = slice(2, 6)
    assigned = assign_noise(x, noise, features=lambda samples: samples[:, :, crop, crop])
    index = fast_assign(x[:, :, crop, crop], noise[:, :, crop, crop])
    assert torch.equal(assigned, noise[index])


def test_features_may_change_rank_and_type(rng):
    x, noise = draw(rng, 12, 3, 4), draw(rng, 12, 3, 4)
    index = fast_assign(x, noise, features=lambda samples: samples.sum((1, 2)).float())
    assert torch.equal(index, fast_assign(x.sum((1, 2)).float(), noise.sum((1, 2)).float()))


def test_features_of_a_batch_get_the_batch(rng):
    x, noise = draw(rng, 3, 10, 4), draw(rng, 3, 10, 4)
    index = fast_assign(x, noise, batched=True, features=lambda samples: samples[..., :2])
    assert torch.equal(index, fast_assign(x[..., :2], noise[..., :2], batched=True))


def test_a_network_as_features_records_no_gradients(rng):
    layer = torch.nn.Linear(4, 2, dtype=torch.float64)
    x, noise = draw(rng, 8, 4).requires_grad_(), draw(rng, 8, 4)
    assert not fast_assign(x, noise, features=layer).requires_grad
    assert layer.weight.grad is None


def test_mask_features_and_labels_together(rng):
    x, noise = draw(rng, 24, 6), draw(rng, 24, 6)
    labels, mask = torch.arange(24) % 3, torch.tensor([1.0, 0.0, 2.0])
    index = fast_assign(x, noise, labels=labels, mask=mask, features=lambda samples: samples[:, :3])
    for label in range(3):
        member = (labels == label).nonzero()[:, 0]
        cost = naive(x[member][:, :3], noise[:, :3], "sqeuclidean", mask)
        assert total(cost, index[member]) == pytest.approx(optimum(cost[:, member].numpy()))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_mask_of_equal_weights_changes_nothing(dtype, metric, rng):
    x, noise = draw(rng, 40, 6).to(dtype), draw(rng, 40, 6).to(dtype)
    plain = fast_assign(x, noise, metric=metric)
    for weight in (0.3, 1e5, 1e-9, 1e30):
        mask = torch.full((6,), weight)
        assert torch.equal(fast_assign(x, noise, metric=metric, mask=mask), plain)
