"""labels=: a noise stays in the group of the image it was drawn for, and each group is optimal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checks import optimum
from families import LISTED
from samples import METHODS, METRICS, assert_bijection, draw, naive, total

from immiscible_fast import assign_noise, fast_assign


def assert_grouped(x, noise, labels, index, metric="sqeuclidean", slack=1e-9):
    """The index is a bijection within each group, at the least distance of the group."""
    labels = torch.as_tensor(np.asarray(labels).astype(np.int64))
    assert_bijection(index, x.shape[0])
    assert torch.equal(labels[index], labels)
    for label in labels.unique():
        member = (labels == label).nonzero()[:, 0]
        cost = naive(x[member], noise, metric)
        best = optimum(cost[:, member].numpy())
        assert total(cost, index[member]) <= best + slack * member.numel()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("groups", [1, 2, 3, 10, 40])
def test_each_group_is_optimal_by_itself(groups, metric, rng):
    x, noise, labels = draw(rng, 60, 5), draw(rng, 60, 5), rng.integers(0, groups, 60)
    index = fast_assign(x, noise, metric=metric, labels=torch.from_numpy(labels))
    assert_grouped(x, noise, labels, index, metric)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_groups(method, rng):
    x, noise, labels = draw(rng, 50, 5), draw(rng, 50, 5), rng.integers(0, 4, 50)
    index = fast_assign(x, noise, method=method, labels=labels)
    exact = method in ("auto", "exact", "scipy")
    assert_grouped(x, noise, labels, index, slack=1e-9 if exact else 0.2)


def test_one_label_for_all_is_no_label(rng):
    x, noise = draw(rng, 40, 6), draw(rng, 40, 6)
    assert torch.equal(fast_assign(x, noise, labels=[7] * 40), fast_assign(x, noise))


def test_a_label_of_its_own_for_each_image_leaves_the_noise_alone(rng):
    x, noise = draw(rng, 20, 6), draw(rng, 20, 6)
    assert fast_assign(x, noise, labels=list(range(20))[::-1]).tolist() == list(range(20))


@pytest.mark.parametrize(
    "convert",
    [
        list,
        tuple,
        torch.tensor,
        lambda labels: torch.tensor(labels, dtype=torch.uint8),
        lambda labels: torch.tensor(labels, dtype=torch.int16),
        lambda labels: np.array(labels, np.uint16),
        lambda labels: np.array(labels, np.uint64),
        lambda labels: np.array(labels[::-1])[::-1],
        lambda labels: np.array([labels, labels]).T[:, 0],
        lambda labels: [torch.tensor(label) for label in labels],
        lambda labels: [np.int64(label) for label in labels],
    ],
)
def test_labels_of_every_integer_type(convert, rng):
    labels = rng.integers(0, 3, 15).tolist()
    x, noise = draw(rng, 15, 4), draw(rng, 15, 4)
    want = fast_assign(x, noise, labels=labels)
    assert_grouped(x, noise, labels, want)
    assert torch.equal(fast_assign(x, noise, labels=convert(labels)), want)


@pytest.mark.parametrize("convert", [list, torch.tensor, np.array])
def test_labels_that_are_true_or_false(convert, rng):
    labels = (rng.random(30) < 0.4).tolist()
    x, noise = draw(rng, 30, 4), draw(rng, 30, 4)
    assert_grouped(x, noise, labels, fast_assign(x, noise, labels=convert(labels)))


def test_labels_far_apart_and_negative_are_only_names(rng):
    small = rng.integers(0, 3, 24)
    names = np.array([-(2**62), 0, 2**62])
    x, noise = draw(rng, 24, 4), draw(rng, 24, 4)
    index = fast_assign(x, noise, labels=names[small])
    assert torch.equal(index, fast_assign(x, noise, labels=small))


@pytest.mark.parametrize("labels", [[], torch.zeros(0, dtype=torch.int64), np.zeros(0, np.int32)])
def test_no_images_have_no_labels(labels):
    x = torch.ones(0, 3)
    assert fast_assign(x, x, labels=labels).shape == (0,)


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 3), (0, 0, 1)])
def test_batched_problems_of_nothing_have_labels_of_nothing(shape):
    x = torch.ones(shape)
    labels = torch.zeros(shape[:2], dtype=torch.int64)
    assert fast_assign(x, x, labels=labels, batched=True).shape == shape[:2]


@pytest.mark.parametrize("metric", METRICS)
def test_labels_of_a_batch_equal_a_loop(metric, rng):
    x, noise = draw(rng, 5, 24, 4), draw(rng, 5, 24, 4)
    labels = torch.from_numpy(rng.integers(0, 4, (5, 24)))
    index = fast_assign(x, noise, metric=metric, labels=labels, batched=True)
    assigned = assign_noise(x, noise, metric=metric, labels=labels, batched=True)
    for b in range(5):
        assert_grouped(x[b], noise[b], labels[b], index[b], metric)
        assert torch.equal(assigned[b], noise[b][index[b]])


def test_groups_of_one_size_in_unlike_problems_of_a_batch_are_not_mixed_up(rng):
    """All groups have size 2, so all are solved as one batch."""
    x, noise = draw(rng, 3, 8, 2), draw(rng, 3, 8, 2)
    labels = torch.stack(
        [torch.from_numpy(rng.permutation([0, 0, 1, 1, 2, 2, 3, 3])) for _ in range(3)]
    )
    index = fast_assign(x, noise, labels=labels, batched=True)
    for b in range(3):
        assert_grouped(x[b], noise[b], labels[b], index[b])


def test_large_and_small_groups_together(rng):
    sizes = (LISTED, 40, 16, 2, 1, 1)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x, noise = draw(rng, len(labels), 6), draw(rng, len(labels), 6)
    assert_grouped(x, noise, labels, fast_assign(x, noise, labels=labels))


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2], [0, 0, 0, 1, 1]])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["x", "noise"])
def test_what_is_not_finite_is_refused_in_any_group(name, value, labels, rng):
    for i in range(5):
        pair = {"x": draw(rng, 5, 3), "noise": draw(rng, 5, 3)}
        pair[name][i, 1] = value
        with pytest.raises(ValueError, match=f"{name} must be finite"):
            fast_assign(**pair, labels=labels)
