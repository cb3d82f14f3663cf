"""conditions=: the distances and the cost of other conditions, at the least sum."""

from __future__ import annotations

import pytest
import torch
from checks import optimum
from samples import METHODS, METRICS, assert_bijection, draw, naive, total

from immiscible_fast import assign_many, fast_assign, windowed


def unlikeness(conditions):
    """w = 1: of every pair on its own."""
    if conditions.is_floating_point():
        return naive(conditions, conditions, "cosine")
    return (conditions[:, None] != conditions).double()


def drawn_conditions(rng, n, classes):
    return torch.from_numpy(rng.integers(0, classes, n)) if classes else draw(rng, n, 4)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("weight", [0.0, 0.3, 2.0])
def test_the_sum_of_both_costs_is_least(weight, classes, metric, rng):
    x, noise, conditions = draw(rng, 25, 5), draw(rng, 25, 5), drawn_conditions(rng, 25, classes)
    index, stats = fast_assign(
        x, noise, metric=metric, conditions=conditions, condition_weight=weight, return_stats=True
    )
    assert_bijection(index, 25)
    cost = naive(x, noise, metric) + weight * unlikeness(conditions)
    assert total(cost, index) == pytest.approx(optimum(cost.numpy()))
    assert stats.gap.item() < 1e-9
    assert stats.condition_weight.item() == weight
    assert stats.cost_after.item() == pytest.approx(total(naive(x, noise, metric), index))


@pytest.mark.parametrize("method", METHODS)
def test_a_large_weight_is_a_label(method, rng):
    x, noise = draw(rng, 30, 4), draw(rng, 30, 4)
    classes = torch.from_numpy(rng.integers(0, 3, 30))
    options = {"method": method, "conditions": classes, "condition_weight": torch.tensor(1e4)}
    index = fast_assign(x, noise, **options)
    assert torch.equal(classes[index], classes)
    labelled = fast_assign(x, noise, labels=classes)
    cost = naive(x, noise, "sqeuclidean")
    assert total(cost, index) <= total(cost, labelled) + 1e-9 + 30 * (method in METHODS[2:4]) * 50


def test_labels_and_conditions_together(rng):
    x, noise, conditions = draw(rng, 24, 3), draw(rng, 24, 3), draw(rng, 24, 4)
    labels = torch.from_numpy(rng.integers(0, 3, 24))
    index = fast_assign(x, noise, labels=labels, conditions=conditions, condition_weight=1.0)
    assert torch.equal(labels[index], labels)
    cost = naive(x, noise, "sqeuclidean") + unlikeness(conditions)
    limited = cost + 1e6 * (labels[:, None] != labels)
    assert total(cost, index) == pytest.approx(optimum(limited.numpy()))


@pytest.mark.parametrize("classes", [0, 4])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_the_weight_found_keeps_the_share_and_a_larger_one_does_not(share, classes, rng):
    n = 40
    x, noise = draw(rng, 2, n, 6), draw(rng, 2, n, 6)
    conditions = torch.stack([drawn_conditions(rng, n, classes) for _ in range(2)])
    index, stats = fast_assign(
        x, noise, conditions=conditions, condition_share=share, batched=True, return_stats=True
    )
    for b in range(2):
        cost, extra = naive(x[b], noise[b], "sqeuclidean"), unlikeness(conditions[b])
        drawn, least = total(cost, torch.arange(n)), optimum(cost.numpy())
        kept = (drawn - total(cost, index[b])) / (drawn - least)
        assert kept >= share - 1e-9
        weight = float(stats.condition_weight[b])
        both = cost + weight * extra
        assert total(both, index[b]) == pytest.approx(optimum(both.numpy()))
        alone = fast_assign(
            x[b], noise[b], conditions=conditions[b], condition_weight=max(1e-3, 1.2 * weight)
        )
        further = (drawn - total(cost, alone)) / (drawn - least)
        within = optimum((cost + 1e6 * extra).numpy()) if classes else drawn
        assert further < share or share <= (drawn - within) / (drawn - least) + 1e-9 or share == 1


def test_conditions_without_differences_change_nothing(rng):
    x, noise = draw(rng, 20, 3), draw(rng, 20, 3)
    want = fast_assign(x, noise)
    for conditions in (torch.zeros(20, dtype=torch.int64), torch.ones(20, 2)):
        for how in ({"condition_weight": 3.0}, {"condition_share": 0.5}):
            assert torch.equal(fast_assign(x, noise, conditions=conditions, **how), want)


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (2, 0)])
def test_conditions_of_nothing_and_of_one(shape):
    x = torch.ones(shape)
    for how in ({"condition_weight": 3.0}, {"condition_share": 0.5}):
        index = fast_assign(x, x, conditions=torch.ones(shape[0], 2), **how)
        assert_bijection(index, shape[0])


def test_conditions_are_kept_with_their_images_by_lists_and_windows(rng):
    xs, noises = ([draw(rng, 4, 3) for _ in range(3)] for _ in range(2))
    captions = [draw(rng, 4, 2) for _ in range(3)]
    want = assign_many(xs, noises, conditions=captions, condition_weight=2.0)
    index = fast_assign(
        torch.cat(xs), torch.cat(noises), conditions=torch.cat(captions), condition_weight=2.0
    )
    assert torch.equal(torch.cat(want), torch.cat(noises)[index])
    seeded = [torch.Generator().manual_seed(1) for _ in range(2)]
    loader = list(zip(xs, captions, strict=True))
    loop = windowed(loader, 3, conditions=1, condition_weight=2.0, generator=seeded[0])
    want = assign_many(xs, generator=seeded[1], conditions=captions, condition_weight=2.0)
    assert all(torch.equal(noise, one) for (_, noise), one in zip(loop, want, strict=True))
    with pytest.raises(ValueError, match="conditions must have one entry for each of 4 images"):
        assign_many(xs, noises, conditions=[captions[0][:3]] * 3, condition_weight=1.0)


def test_a_compiler_sees_conditions(rng):
    def step(x, noise, conditions):
        return fast_assign(x, noise, conditions=conditions, condition_share=0.5)

    arguments = draw(rng, 8, 3), draw(rng, 8, 3), draw(rng, 8, 2)
    compiled = torch.compile(step, backend="eager", fullgraph=True)
    assert torch.equal(compiled(*arguments), step(*arguments))
