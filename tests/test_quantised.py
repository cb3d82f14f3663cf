"""Products in eight bits: close to those of float64, refused where they are not, never exact's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checks import optimum, spread
from samples import assert_bijection, naive, total

from immiscible_fast import fast_assign
from immiscible_fast.cpu import costs as cpu_costs
from immiscible_fast.cpu import int8

METHODS = ("auction", "sinkhorn")
needs_vnni = pytest.mark.skipif(not int8.supported(), reason="no AVX-512 VNNI here")


def draw(rng, *shape, dtype=torch.float32):
    return torch.from_numpy(rng.normal(size=shape)).to(dtype)


def images(rng, n, dim):
    """Smooth, with a mean that outweighs the deviations from it."""
    basis = np.cumsum(rng.normal(size=(20, dim)), 1) / dim**0.5
    return torch.from_numpy(3 + rng.normal(size=(n, 20)) @ basis).float()


@pytest.fixture
def always(monkeypatch):
    """Quantised costs at sizes of which tests can afford many; how often they were tried."""
    calls = []
    real = int8.product

    def counted(*arguments):
        calls.append(real(*arguments))
        return calls[-1]

    monkeypatch.setattr(int8, "pays", lambda n, dim, tol: tol >= int8.LEAST_TOL)
    monkeypatch.setattr(int8, "product", counted)
    return calls


def centred(cost):
    cost = cost - cost.mean(-2, keepdim=True)
    return cost - cost.mean(-1, keepdim=True)


def test_rounded_rows_are_within_half_a_unit_of_the_rows(rng):
    from immiscible_fast.kernels.cpu.quantise import quantise

    x = rng.normal(size=(40, 333)).astype(np.float32) * 10.0 ** rng.integers(-9, 9, (40, 1))
    x, shift = x.astype(np.float32), rng.normal(size=333).astype(np.float32)
    x[3] = shift
    values, scale = np.empty(x.shape, np.int8), np.empty(40, np.float32)
    quantise(x, shift, values, scale)
    less = x - shift
    assert np.array_equal(scale, np.abs(less).max(1) / np.float32(127))
    assert (np.abs(values * scale[:, None].astype(float) - less) <= 0.501 * scale[:, None]).all()
    assert (np.abs(values.astype(int)).max(1) == np.where(np.arange(40) == 3, 0, 127)).all()


def test_scaled_products_are_those_of_the_formula_in_place_too(rng):
    from immiscible_fast.kernels.cpu.quantise import rescale

    product = rng.integers(-(2**30), 2**30, (2, 5, 33)).astype(np.int32)
    rows, columns = rng.random((2, 5), np.float32), rng.random((2, 33), np.float32)
    want = -2.0 * product * rows[:, :, None].astype(float) * columns[:, None]
    rescale(product, product.view(np.float32), rows, columns, np.float32(-2))
    assert np.allclose(product.view(np.float32), want, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(1, 300, 700), (3, 65, 1000), (2, 17, 16), (1, 40, 30000)])
def test_costs_are_close_to_those_in_float64(shape, dtype, rng):
    batch, n, dim = shape
    x = torch.stack([images(rng, n, dim) for _ in range(batch)]).to(dtype)
    noise = draw(rng, *shape, dtype=dtype)
    cost = int8.product(x, noise, -2.0, 0.02)
    assert cost is not None
    want = centred(-2 * x.double() @ noise.double().mT)
    assert cost.shape == want.shape
    assert float((centred(cost.double()) - want).std() / want.std()) < 0.04


def test_views_and_threads_change_no_bit(rng, monkeypatch):
    x, noise = images(rng, 90, 6000)[None], draw(rng, 1, 90, 6000)
    want = int8.product(x, noise, -1.0, 0.02)
    assert torch.equal(int8.product(x, noise.mT.contiguous().mT, -1.0, 0.02), want)
    assert torch.equal(int8.product(x, noise.expand(2, 90, 6000)[1:], -1.0, 0.02), want)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(int8.product(x, noise, -1.0, 0.02), want)


def test_coordinates_that_dwarf_the_others_are_refused(rng, always):
    x, noise = draw(rng, 120, 500), draw(rng, 120, 500)
    x[:, 7] *= 30
    index = fast_assign(x, noise, method="auction")
    assert len(always) == 1
    assert always[0] is None
    cost = naive(x, noise, "sqeuclidean")
    assert total(cost, index) - optimum(cost.numpy()) <= 0.01 * 120 * spread(cost.numpy())


@pytest.mark.parametrize("metric", ["sqeuclidean", "dot", "cosine"])
@pytest.mark.parametrize("method", METHODS)
def test_assignments_stay_within_the_tolerance_of_the_true_cost(method, metric, rng, always):
    for n, dim in ((20, 50), (150, 300), (300, 3000)):
        x, noise = images(rng, n, dim), draw(rng, n, dim)
        for tol in (0.1, 0.01):
            index = fast_assign(x, noise, metric=metric, method=method, tol=tol)
            assert_bijection(index, n)
            cost = naive(x[:, :], noise, metric) if n < 300 else product_cost(x, noise, metric)
            excess = total(cost, index) - optimum(cost.numpy())
            assert excess <= tol * n * spread(cost.numpy())
    assert len(always) == 6


def product_cost(x, noise, metric):
    x, noise = x.double(), noise.double()
    if metric == "cosine":
        x, noise = (t / t.norm(dim=1, keepdim=True) for t in (x, noise))
    return -(2 if metric == "sqeuclidean" else 1) * x @ noise.T


def test_batches_and_groups_are_assigned_problem_by_problem(rng, always):
    x, noise = draw(rng, 4, 60, 200), draw(rng, 4, 60, 200)
    together = fast_assign(x, noise, method="auction", batched=True)
    alone = [fast_assign(*pair, method="auction") for pair in zip(x, noise, strict=True)]
    assert torch.equal(together, torch.stack(alone))
    labels = torch.arange(240) % 3
    index = fast_assign(
        x.reshape(240, 200), noise.reshape(240, 200), method="auction", labels=labels
    )
    assert torch.equal(labels[index], labels)
    assert_bijection(index, 240)
    assert len(always) == 6


@pytest.mark.parametrize("method", ["auto", "exact", "scipy"])
def test_exact_methods_never_see_rounded_costs(method, rng, always):
    fast_assign(draw(rng, 30, 40), draw(rng, 30, 40), method=method)
    fast_assign(draw(rng, 30, 40).double(), draw(rng, 30, 40), method="auction")
    fast_assign(draw(rng, 30, 40), draw(rng, 30, 40), method="auction", tol=1e-3)
    fast_assign(draw(rng, 30, 40), draw(rng, 30, 40), method="auction", metric="euclidean")
    assert always == []


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-15, 1e15, 1e30])
def test_any_scale_is_assigned_as_in_float32(scale, rng, always):
    x, noise = draw(rng, 50, 80), draw(rng, 50, 80)
    cost = product_cost(x, noise, "dot")
    index = fast_assign(x * scale, noise, method="auction")
    assert total(cost, index) - optimum(cost.numpy()) <= 0.015 * 50 * spread(cost.numpy())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("row", [0, 1, 69])
def test_values_that_are_not_finite_are_named(row, bad, rng, always):
    x, noise = draw(rng, 70, 40), draw(rng, 70, 40)
    for samples, name in ((x, "x"), (noise, "noise")):
        spoilt = samples.clone()
        spoilt[row, 3] = bad
        pair = (spoilt, noise) if name == "x" else (x, spoilt)
        with pytest.raises(ValueError, match=f"{name} must be finite"):
            fast_assign(*pair, method="auction")


def test_equal_samples_and_zeros_are_no_trouble(rng, always):
    x, noise = draw(rng, 1, 40).expand(32, 40), draw(rng, 32, 40)
    for pair in ((x, noise), (noise, x), (x, x), (torch.zeros(32, 40), noise)):
        assert_bijection(fast_assign(*pair, method="auction"), 32)


def test_small_narrow_and_strict_problems_stay_in_float32(monkeypatch):
    monkeypatch.setattr(int8, "supported", lambda: True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert int8.pays(1024, 3072, 0.01)
    assert not int8.pays(64, 3072, 0.01)
    assert not int8.pays(1024, 64, 0.01)
    assert not int8.pays(1024, 1 << 18, 0.01)  # sums might pass 32 bits
    assert not int8.pays(1024, 3072, 0.001)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert int8.pays(1024, 3072, 0.01)
    assert not int8.pays(512, 3072, 0.01)
    monkeypatch.setattr(int8, "supported", lambda: False)
    assert not int8.pays(1024, 3072, 0.01)


@needs_vnni
def test_sums_reach_the_largest_that_are_allowed():
    most = torch.full((2, int8.LARGEST_DIM), 127, dtype=torch.int8)
    assert torch._int_mm(most, -most.T)[0, 0] == -(127**2) * int8.LARGEST_DIM


def test_the_solver_takes_costs_in_eight_bits_by_itself(rng):
    x, noise = images(rng, 256, 256)[None], draw(rng, 1, 256, 256)
    rounded = cpu_costs.assignment_cost(x, noise, "dot", "auction", 0.01)
    plain = cpu_costs.assignment_cost(x, noise, "dot")
    assert torch.equal(plain, cpu_costs.assignment_cost(x, noise, "dot", "exact", 0.01))
    wanted = int8.pays(256, 256, 0.01)
    assert torch.equal(centred(rounded), centred(plain)) != wanted
