"""Any dtype, layout in memory and torch mode gives the same answer; nothing else is touched."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from checks import assert_exact, optimum
from families import LISTED
from samples import DTYPES as FLOATS
from samples import METHODS, METRICS

from immiscible_fast import assign_noise, diffuse, fast_assign, pairwise_cost, solve_assignment

INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool)
DTYPES = (*FLOATS, *INTEGERS)


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7, 7), (40, 40), (10, 12), (12, 10)])
def test_every_dtype_of_costs_is_solved_exactly_in_its_own_values(shape, dtype, rng):
    cost = torch.from_numpy(np.abs(rng.normal(size=shape) * 3)).to(dtype)
    answer = solve_assignment(cost)
    assert_exact(cost.double().numpy(), answer)


def test_int64_costs_above_the_range_of_float32_keep_their_differences():
    cost = torch.tensor([[2**40, 2**40 + 1], [2**40 + 1, 2**40 + 3]])
    assert solve_assignment(cost).index.tolist() == [1, 0]
    assert float(solve_assignment(cost).cost) == 2**41 + 2


def views_of(cost):
    """The same square costs with other strides and offsets."""
    n = cost.shape[0]
    wide = torch.full((n, 2 * n), float("nan"), dtype=cost.dtype)
    wide[:, ::2] = cost
    padded = torch.full((n + 3, n + 5), float("nan"), dtype=cost.dtype)
    padded[2 : n + 2, 3 : n + 3] = cost
    return {
        "strided": wide[:, ::2],
        "transposed": cost.T.contiguous().T,
        "offset": padded[2 : n + 2, 3 : n + 3],
        "batch of one": cost[None].expand(1, n, n)[0],
        "flipped twice": cost.flip(0).contiguous().flip(0),
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [5, 20, LISTED + 5])
def test_views_give_what_their_copies_give(n, method, rng):
    cost = torch.from_numpy(rng.normal(size=(n, n)))
    want = solve_assignment(cost, method=method)
    for name, view in views_of(cost).items():
        got = solve_assignment(view, method=method)
        assert torch.equal(got.index, want.index), name
        assert torch.equal(got.cost, want.cost), name


@pytest.mark.parametrize("method", METHODS)
def test_the_imaginary_part_of_a_conjugate_which_torch_negates_lazily(method, rng):
    lazy = (
        torch.complex(torch.zeros(6, 6), torch.from_numpy(rng.normal(size=(6, 6))).float())
        .conj()
        .imag
    )
    assert lazy.is_neg()
    index = solve_assignment(lazy.resolve_neg(), method=method).index
    assert torch.equal(solve_assignment(lazy, method=method).index, index)
    assert torch.equal(fast_assign(lazy, lazy, method=method), torch.arange(6))


def test_expanded_and_strided_samples_are_assigned(rng):
    x = torch.from_numpy(rng.normal(size=(12, 6)))
    noise = torch.from_numpy(rng.normal(size=(12, 6)))
    want = fast_assign(x, noise)
    assert torch.equal(fast_assign(x.T.contiguous().T, noise.T.contiguous().T), want)
    padded = torch.zeros(24, 8, dtype=torch.float64)
    padded[::2, 1:7] = x
    assert torch.equal(fast_assign(padded[::2, 1:7], noise), want)
    same_image = x[:1].expand(12, 6)
    assert sorted(fast_assign(same_image, noise).tolist()) == list(range(12))


@pytest.mark.parametrize("method", METHODS)
def test_no_gradient_flows_and_none_is_needed(method, rng):
    cost = torch.from_numpy(rng.normal(size=(9, 9)))
    leaf = cost.clone().requires_grad_()
    answer = solve_assignment(leaf * 1.0, method=method)
    assert torch.equal(answer.index, solve_assignment(cost, method=method).index)
    assert not any(field.requires_grad for field in answer)
    assert not pairwise_cost(leaf, leaf).requires_grad
    index = fast_assign(leaf, leaf.detach().flip(0), method=method)
    assert index.tolist() == list(range(9))[::-1]


def test_the_assigned_noise_and_the_noised_image_keep_the_gradients_of_their_parts():
    x = torch.tensor([[0.0], [4.0]], requires_grad=True)
    noise = torch.tensor([[5.0], [1.0]], requires_grad=True)
    (assign_noise(x, noise) * torch.tensor([[1.0], [10.0]])).sum().backward()
    assert noise.grad is not None
    assert noise.grad.tolist() == [[10.0], [1.0]]
    assert x.grad is None
    diffuse(x, torch.tensor([0.25, 0.5]), "flow", noise=noise.detach()).x_t.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.75], [0.5]]


@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("metric", METRICS)
def test_autocast_changes_no_answer(metric, low, rng):
    x, noise = (torch.from_numpy(rng.normal(size=(64, 50))).float() for _ in range(2))
    cost = pairwise_cost(x, noise, metric=metric)
    index, answer = fast_assign(x, noise, metric=metric), solve_assignment(cost)
    seen = []

    def features(samples):
        product = samples @ samples.T[:, :9]
        seen.append(product.dtype)
        return product

    with torch.autocast("cpu", low):
        assert torch.equal(pairwise_cost(x, noise, metric=metric), cost)
        assert torch.equal(fast_assign(x, noise, metric=metric), index)
        assert same(solve_assignment(cost), answer)
        fast_assign(x, noise, metric=metric, features=features)
        assert seen == [torch.float32] * 2
        assert (x @ noise.T).dtype == low  # autocast is on, and still so after the calls


@pytest.mark.parametrize("default", [torch.float64, torch.float16])
def test_the_default_dtype_changes_no_answer(default, rng):
    cost, x, noise = (torch.from_numpy(rng.normal(size=(10, 10))).float() for _ in range(3))
    before = [*solve_assignment(cost), fast_assign(x, noise), pairwise_cost(x, noise)]
    warm = solve_assignment(cost, method="sinkhorn")
    torch.set_default_dtype(default)
    try:
        after = [*solve_assignment(cost), fast_assign(x, noise), pairwise_cost(x, noise)]
        assert same(before, after)
        assert same(warm, solve_assignment(cost, method="sinkhorn"))
        assert fast_assign(x[:0], noise[:0], labels=[]).shape == (0,)
    finally:
        torch.set_default_dtype(torch.float32)


def public_calls(x, noise, cost, labels, mask):
    """Every public function, with every option that takes a tensor."""
    t = torch.linspace(0, 1, x.shape[0])
    generator = torch.Generator().manual_seed(3)
    for method in METHODS:
        yield lambda method=method: solve_assignment(cost, method=method)
        yield lambda method=method: fast_assign(x, noise, method=method, labels=labels, mask=mask)
    for metric in METRICS:
        yield lambda metric=metric: pairwise_cost(x, noise, metric=metric)
        yield lambda metric=metric: fast_assign(x, noise, metric=metric, mask=mask)
        yield lambda metric=metric: assign_noise(x, noise, metric=metric, features=torch.abs)
    yield lambda: diffuse(x, t, "flow", noise=noise, labels=labels)
    yield lambda: diffuse(x, t, "flow", generator=generator)
    yield lambda: diffuse(x, (9 * t).long(), torch.linspace(1, 0, 10), noise=noise)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_inputs_and_global_random_states_are_left_as_they_were(dtype, rng):
    inputs = (
        torch.from_numpy(rng.normal(size=(20, 6))).to(dtype),
        torch.from_numpy(rng.normal(size=(20, 6))).to(dtype),
        torch.from_numpy(rng.normal(size=(20, 20))).to(dtype),
        torch.from_numpy(rng.integers(0, 3, 20)),
        torch.from_numpy(rng.random(6)).to(dtype),
    )
    copies = [tensor.clone() for tensor in inputs]
    torch_state, numpy_state, python_state = (
        torch.random.get_rng_state(),
        np.random.get_state(),
        random.getstate(),
    )
    for call in public_calls(*inputs):
        call()
        for tensor, copy in zip(inputs, copies, strict=True):
            assert torch.equal(tensor, copy)
            assert tensor._version == 0
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])
    assert np.random.get_state()[2] == numpy_state[2]


def test_answers_share_no_memory_with_inputs_or_each_other(rng):
    cost = torch.from_numpy(rng.normal(size=(20, 20)))
    kept = cost.clone()
    first, second = solve_assignment(cost), solve_assignment(cost)
    for field in first:
        field.zero_()
    assert torch.equal(cost, kept)
    assert float(second.cost) == pytest.approx(optimum(kept), abs=1e-9)
    empty = solve_assignment(torch.zeros(0, 0))
    empty.cost.fill_(7.0)
    assert float(empty.lower_bound) == 0
