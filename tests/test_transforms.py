"""Calls inside ``torch.func`` transforms, under modes without values, and under default devices."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import grad, jacfwd, jacrev, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from immiscible_fast import (
    assign_noise,
    batch_linear_assignment,
    diffuse,
    fast_assign,
    linear_sum_assignment,
    pairwise_cost,
    solve_assignment,
)
from immiscible_fast.cpu import costs as cpu_costs
from immiscible_fast.cpu import int8

PER_CALL = pytest.mark.filterwarnings("ignore:There is a performance drop")  # before torch 2.5


@pytest.fixture
def pair(rng):
    return torch.from_numpy(rng.normal(size=(2, 6, 4))).float()


@pytest.fixture
def batch(rng):
    return torch.from_numpy(rng.normal(size=(2, 3, 6, 4))).float()


def loss(x, noise):
    return (x - assign_noise(x, noise)).square().sum()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # torch's own, on its way to jvp
def test_gradients_flow_to_x_and_through_the_gather_to_noise(pair):
    x, noise = pair
    index = fast_assign(x, noise)
    slope = 2 * (x - noise[index])
    torch.testing.assert_close(grad(loss)(x, noise), slope)
    turned = torch.zeros_like(noise).index_put((index,), -slope)
    torch.testing.assert_close(grad(loss, 1)(x, noise), turned)
    _, change = jvp(loss, (x, noise), (x, noise))
    torch.testing.assert_close(change, (slope * x).sum() + (turned * noise).sum())
    torch.testing.assert_close(jacrev(assign_noise, 1)(x, noise), jacfwd(assign_noise, 1)(x, noise))
    with forward_ad.dual_level():
        near = assign_noise(x, forward_ad.make_dual(noise, noise))
        assert torch.equal(forward_ad.unpack_dual(near).tangent, noise[index])


@PER_CALL
def test_vmap_solves_each_problem(batch):
    x, noise = batch
    labels = torch.tensor([0, 1, 0, 1, 1, 0])

    def labelled(x, noise):
        return fast_assign(x, noise, labels=labels)

    def each(call, *parts):
        return torch.stack([call(*some) for some in zip(*parts, strict=True)])

    for call in (fast_assign, assign_noise, labelled, pairwise_cost):
        assert torch.equal(vmap(call)(x, noise), each(call, x, noise))
        other = vmap(call, in_dims=(None, 1))(x[0], noise.movedim(0, 1))
        assert torch.equal(other, each(call, x[:1].expand_as(x), noise))
    torch.testing.assert_close(vmap(grad(loss))(x, noise), each(grad(loss), x, noise))
    want = each(fast_assign, x, noise)
    assert torch.equal(vmap(vmap(fast_assign))(x[None], noise[None]), want[None])
    doubled = vmap(lambda x, noise: fast_assign(x, noise, batched=True))(
        *(part.expand(2, *part.shape) for part in (x, noise))
    )
    assert torch.equal(doubled, torch.stack([want, want]))
    assert vmap(fast_assign)(x[:, :0], noise[:, :0]).shape == (3, 0)


@PER_CALL
def test_vmap_solves_each_cost_matrix(batch):
    cost = batch[0]
    alone, nested = vmap(solve_assignment)(cost), vmap(solve_assignment)(cost[None])
    for got, deeper, want in zip(alone, nested, solve_assignment(cost), strict=True):
        assert torch.equal(got, want)
        assert torch.equal(deeper, want[None])
    for got, want in zip(
        vmap(linear_sum_assignment)(cost), linear_sum_assignment(cost), strict=True
    ):
        assert torch.equal(got, want)
    columns = batch_linear_assignment(cost)
    assert torch.equal(vmap(batch_linear_assignment)(cost[None]), columns[None])


def step(x, noise, t):
    near = assign_noise(x, noise, labels=t > 0.5)
    cost = pairwise_cost(x, noise)
    answers = solve_assignment(cost), linear_sum_assignment(cost)
    return [near, *diffuse(x, t, "flow", noise=noise), *answers[0], *answers[1]]


def test_modes_without_values_get_shapes(pair):
    x, noise = pair
    want = step(x, noise, x[:, 0].sigmoid())
    with FakeTensorMode():
        some = torch.empty(6, 4)
        shapes = step(some, some, torch.empty(6))
    for got, right in zip(shapes, want, strict=True):
        assert (got.shape, got.dtype, got.device) == (right.shape, right.dtype, right.device)
    traced = make_fx(step)(x, noise, x[:, 0].sigmoid())
    other = noise, x, noise[:, 0].sigmoid()
    for got, right in zip(traced(*other), step(*other), strict=True):
        assert torch.equal(got, right)


def test_subclasses_of_tensors_are_solved_as_tensors(pair):
    class Image(torch.Tensor):
        pass

    x, noise = pair
    near = assign_noise(x.as_subclass(Image), noise)
    assert torch.equal(near, assign_noise(x, noise))
    with pytest.raises(ValueError, match="x must be finite"):
        fast_assign((x / 0).as_subclass(Image), noise)


@pytest.mark.parametrize("method", ["exact", "auction", "sinkhorn", "scipy"])
def test_a_default_device_is_not_where_the_work_is_done(method, rng, monkeypatch):
    monkeypatch.setattr(int8, "pays", lambda *sizes: int8.supported())
    x, noise = torch.from_numpy(rng.normal(size=(2, 300, 260))).float()
    want = fast_assign(x, noise, method=method), solve_assignment(x @ noise.mT, method=method)
    int8.supported.cache_clear()
    with torch.device("meta"):
        assert torch.equal(fast_assign(x, noise, method=method), want[0])
        assert torch.equal(solve_assignment(x @ noise.mT, method=method).index, want[1].index)
        step(x, noise, x[:, 0].sigmoid())
        linear_sum_assignment(x, cost_limit=0.1)


def test_products_in_eight_bits_are_for_samples_on_the_cpu(monkeypatch):
    monkeypatch.setattr(int8, "pays", lambda *sizes: pytest.fail("asked of another device"))
    x = torch.empty(1, 300, 300, device="meta")
    assert cpu_costs.assignment_cost(x, x, "dot", "auction", 0.01).shape == (1, 300, 300)
