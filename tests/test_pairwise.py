"""pairwise_cost against the plain formula, broadcast in float64."""

from __future__ import annotations

import pytest
import torch
from samples import DTYPES, METRICS, naive
from samples import draw as draw_any

from immiscible_fast import pairwise_cost

SHAPES = ((1, 1, 1), (2, 3, 1), (7, 5, 3), (16, 33, 17), (65, 64, 100), (3, 4, 3072))


def draw(rng, *shape, dtype=torch.float32):
    return draw_any(rng, *shape, dtype=dtype)


def scale(x, y, metric):
    """What the rounding errors of a metric are relative to."""
    x, y = x.double(), y.double()
    if metric == "cosine":
        return 1.0
    if metric == "dot":
        return float(x.norm(dim=-1).max() * y.norm(dim=-1).max())
    mean = x.mean(-2, keepdim=True)
    reach = float(torch.cat([x - mean, y - mean], -2).norm(dim=-1).max())
    return reach if metric == "manhattan" else reach**2


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_costs_are_those_of_the_formula_in_float64(shape, dtype, metric, rng):
    n, m, d = shape
    x, y = draw(rng, n, d, dtype=dtype), draw(rng, m, d, dtype=dtype)
    cost = pairwise_cost(x, y, metric=metric)
    assert cost.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert cost.shape == (n, m)
    got, want = cost.double(), naive(x, y, metric)
    if metric == "euclidean":  # a root multiplies errors near zero
        got, want = got.square(), want.square()
    error = float((got - want).abs().max())
    terms = d if metric == "manhattan" else 1  # torch adds them one after another
    assert error <= 16 * terms * torch.finfo(cost.dtype).eps * scale(x, y, metric)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "manhattan"])
def test_a_common_offset_costs_no_digits(metric, rng):
    x, y = draw(rng, 50, 64) + 1e4, draw(rng, 40, 64) + 1e4
    want = naive(x, y, metric)
    assert torch.allclose(pairwise_cost(x, y, metric=metric).double(), want, rtol=1e-5, atol=0)


@pytest.mark.parametrize("exponent", [-40, 0, 55])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_nor_does_one_whose_squares_overflow(metric, exponent, rng):
    x, y = draw(rng, 50, 400) + 1e3, draw(rng, 40, 400) + 1e3
    want = naive(x * 2.0**exponent, y * 2.0**exponent, metric)
    cost = pairwise_cost(x * 2.0**exponent, y * 2.0**exponent, metric=metric)
    assert torch.allclose(cost.double(), want, rtol=1e-4, atol=0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
def test_half_precision_is_accumulated_in_float32(low, metric, rng):
    x, y = draw(rng, 20, 3000, dtype=low), draw(rng, 20, 3000, dtype=low)
    cost = pairwise_cost(x, y, metric=metric)
    want = pairwise_cost(x.float(), y.float(), metric=metric)
    assert torch.allclose(cost, want, rtol=1e-5, atol=1e-6 * float(want.abs().max()))


@pytest.mark.parametrize("metric", METRICS)
def test_mixed_types_are_computed_in_the_wider_one(metric, rng):
    x, y = draw(rng, 4, 6, dtype=torch.float16), draw(rng, 5, 6, dtype=torch.float64)
    for first, second in ((x, y), (y, x)):
        cost = pairwise_cost(first, second, metric=metric)
        assert cost.dtype == torch.float64
        assert torch.allclose(cost, naive(first, second, metric), rtol=1e-12, atol=1e-12)
    assert pairwise_cost(x, x.bfloat16(), metric=metric).dtype == torch.float32


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", [(3, 4, 6, 10), (1, 1, 1, 1), (2, 40, 33, 65)])
def test_a_batch_equals_a_loop(shape, metric, rng):
    batch, n, m, d = shape
    x, y = draw(rng, batch, n, d), draw(rng, batch, m, d)
    costs = pairwise_cost(x, y, metric=metric, batched=True)
    assert costs.shape == (batch, n, m)
    for cost, one, other in zip(costs, x, y, strict=True):
        assert torch.allclose(cost, pairwise_cost(one, other, metric=metric), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_trailing_sizes_are_flattened(metric, rng):
    x, y = draw(rng, 6, 3, 4, 5), draw(rng, 7, 3, 4, 5)
    flat = pairwise_cost(x.flatten(1), y.flatten(1), metric=metric)
    assert torch.equal(pairwise_cost(x, y, metric=metric), flat)
    batched = pairwise_cost(x, y[:6], metric=metric, batched=True)
    assert batched.shape == (6, 3, 3)
    vector = pairwise_cost(x[:, 0, 0, 0], y[:, 0, 0, 0], metric=metric)
    assert torch.equal(vector, pairwise_cost(x[:, 0, 0, :1], y[:, 0, 0, :1], metric=metric))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shapes", [((0, 3), (0, 3)), ((0, 3), (4, 3)), ((4, 3), (0, 3))])
def test_no_samples_make_no_costs(shapes, metric):
    x, y = torch.ones(shapes[0]), torch.ones(shapes[1])
    assert pairwise_cost(x, y, metric=metric).shape == (shapes[0][0], shapes[1][0])
    assert pairwise_cost(x[None], y[None], metric=metric, batched=True).shape[0] == 1
    none = pairwise_cost(x[None][:0], y[None][:0], metric=metric, batched=True)
    assert none.shape == (0, shapes[0][0], shapes[1][0])


@pytest.mark.parametrize("metric", METRICS)
def test_samples_without_coordinates_are_all_alike(metric):
    cost = pairwise_cost(torch.ones(3, 0), torch.ones(2, 0), metric=metric)
    assert torch.equal(cost, torch.full((3, 2), 1.0 if metric == "cosine" else 0.0))


def test_the_cosine_of_a_zero_vector_is_zero():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert torch.equal(
        pairwise_cost(x, x, metric="cosine").round(decimals=6),
        torch.tensor([[1.0, 1.0], [1.0, 0.0]]),
    )


@pytest.mark.parametrize("size", [1e-30, 1e-22, 1e-10, 1e10, 1e22, 1e30])
def test_the_cosine_does_not_depend_on_lengths(size, rng):
    x, y = draw(rng, 6, 9), draw(rng, 6, 9)
    want = pairwise_cost(x, y, metric="cosine")
    assert torch.allclose(pairwise_cost(size * x, y, metric="cosine"), want, atol=1e-5)
    assert torch.allclose(pairwise_cost(x, size * y, metric="cosine"), want, atol=1e-5)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "manhattan"])
def test_distances_are_never_negative_and_of_equal_samples_nearly_nothing(metric, rng):
    x = draw(rng, 60, 500) * 100
    cost = pairwise_cost(x, x, metric=metric)
    assert (cost >= 0).all()
    assert (cost.diagonal() <= 1e-2 * cost.mean()).all()
