"""fast_assign and assign_noise: the least total distance, for every metric and method."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from checks import optimum
from families import LISTED
from samples import DTYPES, METHODS, METRICS, assert_bijection, draw, naive, total

from immiscible_fast import assign_noise, fast_assign


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", METRICS)
def test_small_batches_have_the_least_distance_of_all_permutations(metric, method, rng):
    for n in range(1, 6):
        x, noise = draw(rng, n, 3), draw(rng, n, 3)
        cost = naive(x, noise, metric)
        best = min(total(cost, torch.tensor(p)) for p in itertools.permutations(range(n)))
        index = fast_assign(x, noise, metric=metric, method=method, tol=1e-9)
        assert_bijection(index, n)
        assert total(cost, index) == pytest.approx(best, abs=1e-8)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [2, 17, 64, LISTED])
def test_the_fast_path_finds_what_scipy_finds_on_the_plain_costs(n, metric, rng):
    x, noise = draw(rng, n, 12), draw(rng, n, 12)
    cost = naive(x, noise, metric)
    index = fast_assign(x, noise, metric=metric)
    assert_bijection(index, n)
    assert total(cost, index) == pytest.approx(optimum(cost.numpy()), abs=1e-9 * n)


@pytest.mark.parametrize("method", ["auto", "auction", "sinkhorn"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_assigned_near_its_optimum(dtype, metric, method, rng):
    x, noise = draw(rng, 100, 48, dtype=dtype), draw(rng, 100, 48, dtype=dtype)
    cost = naive(x, noise, metric)
    centred = cost - cost.mean(0) - cost.mean(1, keepdim=True) + cost.mean()
    index = fast_assign(x, noise, metric=metric, method=method)
    assert_bijection(index, 100)
    excess = total(cost, index) - optimum(cost.numpy())
    allowed = 1e-5 if method == "auto" else 0.01
    assert excess <= 100 * allowed * float(centred.std())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bit_floats_are_floats_too(dtype, rng):
    x, noise = draw(rng, 20, 8).to(dtype), draw(rng, 20, 8).to(dtype)
    assert torch.equal(fast_assign(x, noise), fast_assign(x.double(), noise.double()))


@pytest.mark.parametrize("metric", METRICS)
def test_large_offsets_of_images_and_noise_change_no_answer(metric, rng):
    if metric in ("cosine", "dot"):
        offset, other = 0.0, 3.0
    else:
        offset = other = 1e4
    x, noise = draw(rng, 60, 20, dtype=torch.float32), draw(rng, 60, 20, dtype=torch.float32)
    moved, moved_noise = x + offset, noise + other * (metric != "cosine")
    cost = naive(moved, moved_noise, metric)
    index = fast_assign(moved, moved_noise, metric=metric)
    assert total(cost, index) <= optimum(cost.numpy()) * (1 + 1e-6) + 1e-3


@pytest.mark.parametrize("exponent", [-110, 0, 70])
def test_an_offset_of_images_of_any_scale_costs_no_digits(exponent, rng):
    """Its squares, by which it is seen, are out of the range of float32."""
    x = draw(rng, 100, 400, dtype=torch.float32) + 1e6
    noise = draw(rng, 100, 400, dtype=torch.float32)
    cost = naive(x, noise, "dot")
    centred = cost - cost.mean(0) - cost.mean(1, keepdim=True) + cost.mean()
    excess = total(cost, fast_assign(x * 2.0**exponent, noise)) - optimum(cost.numpy())
    assert excess <= 100 * 1e-5 * float(centred.std())


@pytest.mark.parametrize(("offset", "products"), [(0.0, 1), (0.5, 1), (100.0, 2)])
def test_products_are_made_again_only_where_digits_were_lost(offset, products, rng, monkeypatch):
    from immiscible_fast import products as inner
    from immiscible_fast.cpu import backend, costs

    x, noise = draw(rng, 70, 300, dtype=torch.float32), draw(rng, 70, 300, dtype=torch.float32)
    made = []
    product = inner.product
    for module in (inner, costs, backend):
        monkeypatch.setattr(module, "product", lambda *args: made.append(1) or product(*args))
    fast_assign(x / 4 + offset, noise + offset)
    assert len(made) == products


@pytest.mark.parametrize("metric", METRICS)
def test_images_in_bytes_against_standard_noise_keep_what_an_assignment_gains(metric, rng):
    """Common offsets and scales a hundred times those of the noise leave few digits of float32."""
    x = torch.from_numpy(rng.integers(0, 256, (150, 30))).float()
    x += 0 if metric == "manhattan" else 1000  # which makes all its assignments equal
    noise = draw(rng, 150, 30, dtype=torch.float32)
    cost = naive(x, noise, metric)
    index = fast_assign(x, noise, metric=metric)
    best = optimum(cost.numpy())
    gain = float(cost.trace()) - best
    assert total(cost, index) - best <= 1e-3 * gain + 1e-12 * abs(best)


def test_dot_and_squared_distance_have_one_assignment(rng):
    x, noise = draw(rng, 50, 7), draw(rng, 50, 7)
    assert torch.equal(fast_assign(x, noise, metric="dot"), fast_assign(x, noise))


def test_metrics_that_are_different_problems_are_told_apart():
    apart = draw(np.random.default_rng(0), 200, 2), draw(np.random.default_rng(1), 200, 2)
    indices = [fast_assign(*apart, metric=m).tolist() for m in METRICS if m != "dot"]
    assert all(a != b for a, b in itertools.combinations(indices, 2))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", [(3, 8, 5), (1, 4, 2), (5, 1, 3), (20, 30, 6), (2, LISTED, 4)])
def test_a_batch_equals_a_loop(shape, metric, method, rng):
    x, noise = draw(rng, *shape), draw(rng, *shape)
    index = fast_assign(x, noise, metric=metric, method=method, batched=True)
    assert index.shape == shape[:2]
    assert_bijection(index, shape[1])
    for b in range(shape[0]):
        cost = naive(x[b], noise[b], metric)
        single = fast_assign(x[b], noise[b], metric=metric, method=method)
        tolerance = 0.02 if method in ("auction", "sinkhorn") else 1e-9
        assert abs(total(cost, index[b]) - total(cost, single)) <= shape[1] * tolerance


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (1,), (1, 3), (1, 2, 3), (0, 2, 2)])
def test_batches_of_nothing_or_one_image(shape, method):
    for metric in METRICS:
        index = fast_assign(torch.ones(shape), torch.ones(shape), metric=metric, method=method)
        assert index.tolist() == list(range(shape[0]))
        assert index.dtype == torch.int64


@pytest.mark.parametrize(
    "shape", [(0, 0), (0, 3, 2), (2, 0), (2, 0, 3), (2, 1, 3), (2, 3, 0), (0, 0, 0)]
)
def test_batched_problems_of_nothing_or_one_image(shape):
    index = fast_assign(torch.ones(shape), torch.ones(shape), batched=True)
    assert torch.equal(index, torch.arange(shape[1]).expand(shape[:2]))
    index[...] = 0  # no view of one row


def test_samples_of_any_rank_are_flattened(rng):
    x, noise = draw(rng, 30, 3, 4, 4), draw(rng, 30, 3, 4, 4)
    assert torch.equal(fast_assign(x, noise), fast_assign(x.flatten(1), noise.flatten(1)))
    assert torch.equal(fast_assign(x[:, 0, 0, 0], noise[:, 0, 0, 0]), _sorted_match(x, noise))


def _sorted_match(x, noise):
    """In one dimension the sorted order is optimal."""
    index = torch.empty(30, dtype=torch.int64)
    index[x[:, 0, 0, 0].argsort()] = noise[:, 0, 0, 0].argsort()
    return index


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_assign_noise_is_the_noise_in_the_order_of_the_index(dtype, rng):
    x, noise = draw(rng, 12, 3, 2, dtype=dtype), draw(rng, 12, 3, 2, dtype=torch.float64).half()
    assigned = assign_noise(x, noise)
    assert torch.equal(assigned, noise[fast_assign(x, noise)])
    assert (assigned.dtype, assigned.shape) == (noise.dtype, noise.shape)
    paid = (x.double() - assigned.double()).square().sum()
    assert float(paid) == pytest.approx(
        optimum(naive(x.flatten(1), noise.flatten(1), "sqeuclidean"))
    )


def test_assign_noise_takes_every_option_of_fast_assign(rng):
    x, noise = draw(rng, 20, 6), draw(rng, 20, 6)
    options = {
        "metric": "manhattan",
        "method": "auction",
        "tol": 0.1,
        "labels": [0, 1] * 10,
        "features": lambda samples: samples[:, :4],
        "mask": torch.tensor([1.0, 0.0, 2.0, 1.0]),
    }
    assert torch.equal(assign_noise(x, noise, **options), noise[fast_assign(x, noise, **options)])


def test_identical_images_and_identical_noises_are_still_matched_one_to_one(rng):
    for metric in METRICS:
        x, noise = draw(rng, 1, 5).expand(40, 5), draw(rng, 40, 5)
        assert_bijection(fast_assign(x, noise, metric=metric), 40)
        assert_bijection(fast_assign(noise, x, metric=metric), 40)
        assert_bijection(fast_assign(x, x, metric=metric), 40)


@pytest.mark.parametrize("metric", METRICS)
def test_plain_tensors_take_a_shorter_way_to_the_same_index(metric, rng):
    x, noise = (torch.from_numpy(rng.normal(size=(24, 3, 4))) for _ in range(2))
    negated = torch.complex(x, -x).conj().imag
    assert negated.is_neg()
    for one in (x, negated, x.mT.contiguous().mT, x.clone().requires_grad_()):
        for other in (noise, noise.float()):
            index = fast_assign(one, other, metric=metric)
            batch = fast_assign(one[None], other[None], metric=metric, batched=True)
            assert torch.equal(index, batch[0])
