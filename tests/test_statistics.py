"""return_stats=, assign_noise_, and the warning of a call that has no choice."""

from __future__ import annotations

import warnings

import pytest
import torch
from checks import optimum
from samples import METHODS, METRICS, draw, naive, total

from immiscible_fast import AssignmentStats, assign_noise, assign_noise_, fast_assign
from immiscible_fast.api import fast_assign as pairing
from immiscible_fast.gpu import backend as gpu


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", METHODS)
def test_statistics_are_those_of_the_pairs(metric, method, rng):
    x, noise = draw(rng, 30, 5), draw(rng, 30, 5)
    index, stats = fast_assign(x, noise, metric=metric, method=method, return_stats=True)
    assert torch.equal(index, fast_assign(x, noise, metric=metric, method=method))
    cost = naive(x, noise, metric)
    assert stats.cost_before.item() == pytest.approx(total(cost, torch.arange(30)))
    assert stats.cost_after.item() == pytest.approx(total(cost, index))
    assert stats.reduction.item() == pytest.approx(1 - stats.cost_after / stats.cost_before)
    assert stats.moved.item() == (index != torch.arange(30)).double().mean()
    assert stats.largest_group.item() == 30
    assert stats.condition_weight.item() == 0
    excess = total(cost, index) - optimum(cost.numpy())
    assert stats.gap.item() >= excess - 1e-9
    assert (stats.gap.item() == float("inf")) == (method == "scipy")
    if method in ("auto", "exact"):
        assert stats.gap.item() < 1e-9


def test_statistics_of_a_batch_with_labels_are_those_of_its_problems(rng):
    x, noise = draw(rng, 4, 20, 3), draw(rng, 4, 20, 3)
    labels = torch.from_numpy(rng.integers(0, 4, (4, 20)))
    options = {"method": "auction", "tol": 0.3, "return_stats": True}
    index, stats = fast_assign(x, noise, labels=labels, batched=True, **options)
    assert all(field.shape == (4,) for field in stats)
    for b in range(4):
        alone, one = fast_assign(x[b], noise[b], labels=labels[b], **options)
        assert torch.equal(alone, index[b])
        assert stats.largest_group[b] == labels[b].bincount().max()
        for field, single in zip(stats, one, strict=True):
            assert torch.allclose(field[b], single)


def test_statistics_are_of_what_the_cost_sees(rng):
    x, noise = draw(rng, 12, 4), draw(rng, 12, 4)
    mask = torch.tensor([2.0, 0.0, 1.0, 2.0])
    _, stats = fast_assign(x, noise, mask=mask, features=torch.neg, return_stats=True)
    cost = naive(x, noise, "sqeuclidean", mask / 2)
    assert stats.cost_before.item() == pytest.approx(total(cost, torch.arange(12)))


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (3, 0), (0, 0)])
def test_statistics_of_nothing_and_of_one(shape):
    x = torch.ones(shape)
    index, stats = fast_assign(x, x, return_stats=True)
    assert index.tolist() == list(range(shape[0]))
    assert isinstance(stats, AssignmentStats)
    assert [float(value) for value in stats] == [0, 0, 0, 0, shape[0], 0]


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [False, True])
def test_the_gap_of_the_kernels_is_in_units_of_the_metric(labelled, rng, gpu_device):
    metric = "sqeuclidean"  # for which they multiply
    x, noise = (draw(rng, 2, 6, 4, dtype=torch.float32).to(gpu_device) for _ in range(2))
    labels = torch.from_numpy(rng.integers(0, 2, (2, 6))).to(gpu_device) if labelled else None
    index, _, gap = gpu.assign(x, noise, labels, metric, "auction", 0.5, True)
    for b in range(2):
        cost = naive(x[b].cpu(), noise[b].cpu(), metric)
        limited = cost if labels is None else cost + 1e6 * (labels[b][:, None] != labels[b]).cpu()
        excess = total(cost, index[b].cpu()) - optimum(limited.numpy())
        assert float(gap[b]) >= excess - 1e-4
        assert float(gap[b]) <= 6 * 2 * cost.std()  # as tol says, and some
    assert gpu.assign(x, noise, labels, metric, "auction", 0.5)[2].isinf().all()


def test_a_compiler_and_fake_tensors_see_the_statistics(rng):
    def step(x, noise):
        noise, stats = assign_noise(x, noise, return_stats=True)
        return noise, stats.reduction, stats.gap

    x, noise = draw(rng, 8, 3), draw(rng, 8, 3)
    compiled = torch.compile(step, backend="eager", fullgraph=True)
    for got, want in zip(compiled(x, noise), step(x, noise), strict=True):
        assert torch.equal(got, want)
    assert torch.compile(assign_noise, backend="eager", fullgraph=True)(x[:1], noise[:1]).ndim == 2


@pytest.mark.parametrize("batched", [False, True])
def test_noise_is_permuted_in_place(batched, rng):
    x, noise = draw(rng, 3, 6, 2), draw(rng, 3, 6, 2)
    want = assign_noise(x, noise, batched=batched, metric="cosine")
    views = [noise.clone(), noise.clone().mT.contiguous().mT, draw(rng, 7, 6, 2)[2:5]]
    views[2].copy_(noise)
    for view in views:
        assert assign_noise_(x, view, batched=batched, metric="cosine") is view
        assert torch.equal(view, want)
    before = noise.clone()
    same, stats = assign_noise_(x, noise, batched=batched, return_stats=True)
    assert same is noise
    plain = assign_noise(x, before, batched=batched, return_stats=True)
    assert torch.equal(noise, plain[0])
    assert torch.equal(stats.cost_after, plain[1].cost_after)


def test_noise_that_cannot_be_written_to_is_refused_and_left_alone(rng):
    x = draw(rng, 4, 3)
    leaf = draw(rng, 4, 3).requires_grad_()
    with pytest.raises(ValueError, match="noise must be writable, got a leaf that requires a grad"):
        assign_noise_(x, leaf)
    with torch.no_grad():
        assert assign_noise_(x, leaf) is leaf
    line = draw(rng, 9)
    for noise in (draw(rng, 4, 1).expand(4, 3), draw(rng, 3).expand(4, 3), line.unfold(0, 3, 2)):
        with pytest.raises(ValueError, match="noise must not overlap itself in memory, got shape"):
            assign_noise_(x, noise)
    with pytest.raises(TypeError, match=r"noise must be a torch.Tensor, got list"):
        assign_noise_(x, [1.0])
    with pytest.raises(TypeError, match=r"assign_noise_\(\) got an unexpected keyword"):
        assign_noise_(x, line, lables=[1])
    with pytest.raises(TypeError, match="return_stats must be True or False, got int"):
        assign_noise(x, x, return_stats=1)


@pytest.mark.parametrize(
    "n, labels, said",
    [
        (1, None, "with one image the noise stays as it is: NoisePool"),
        (4, [3, 1, 2, 0], "with a label of its own for each image the noise stays as it is"),
        (4, [3, 1, 1, 0], None),
        (4, None, None),
    ],
)
def test_a_call_without_a_choice_says_so_once(n, labels, said, rng, monkeypatch):
    monkeypatch.setattr(pairing, "_WARNED", set())
    x, noise = draw(rng, n, 3), draw(rng, n, 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            fast_assign(x, noise, labels=labels)
        fast_assign(x[None], noise[None], labels=labels and [labels], batched=True)
    assert [str(one.message).startswith(said or "") for one in caught] == [True] * bool(said)
    assert all(one.filename == __file__ for one in caught)
