"""The solvers as torch ops: opaque to a compiler, with sizes that may change from call to call."""

from __future__ import annotations

import os
from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from immiscible_fast import (
    assign_noise,
    batch_linear_assignment,
    diffuse,
    fast_assign,
    linear_sum_assignment,
    pairwise_cost,
    solve_assignment,
)


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    torch._dynamo.reset()
    with torch.enable_grad():  # an error in what is compiled leaves its mode behind
        yield


@pytest.fixture(params=["cpu", "gpu"])
def device(request, gpu_device, monkeypatch):
    """Of the CPU solver's tensors, or of the GPU's; interpreted, those take seconds a problem."""
    if request.param == "cpu":
        return "cpu"
    pytest.importorskip("triton")
    from immiscible_fast.gpu import solver

    monkeypatch.setenv("IMMISCIBLE_BACKEND", "triton")
    if gpu_device == "cpu":
        monkeypatch.setattr(solver, "sinkhorn", partial(solver.sinkhorn, updates=2))
    return gpu_device


def randn(rng, *shape, device="cpu"):
    return torch.from_numpy(rng.normal(size=shape)).to(device, torch.float32)


def is_interpreted():
    return not torch.cuda.is_available() and "IMMISCIBLE_BACKEND" in os.environ


CHECKS = (
    "test_faketensor",
    "test_schema",
    "test_autograd_registration",
    "test_aot_dispatch_dynamic",
)


def opcheck(name, *arguments):
    """Where kernels are interpreted, whether they give what the op's fake implementation says."""
    op = getattr(torch.ops.immiscible_fast, name)
    checks = CHECKS[:1] if is_interpreted() else CHECKS
    torch.library.opcheck(op, arguments, test_utils=checks)


@pytest.mark.parametrize("shape", [(2, 5, 5), (1, 3, 7), (1, 7, 3)])
def test_solve_is_a_sound_op(rng, device, shape):
    opcheck("solve", randn(rng, *shape, device=device), "exact", 0.01)


@pytest.mark.parametrize("labelled", [False, True])
def test_assign_is_a_sound_op(rng, device, labelled):
    x, noise = randn(rng, 2, 5, 3, device=device), randn(rng, 2, 5, 3, device=device)
    labels = torch.tensor([[0, 1, 0, 1, 0]], device=device).repeat(2, 1) if labelled else None
    opcheck("assign", x, noise, labels, "sqeuclidean", "auto", 0.01)


@pytest.mark.parametrize("limit", [torch.inf, 0.3])
def test_columns_is_a_sound_op(rng, device, limit):
    opcheck("columns", randn(rng, 2, 5, 4, device=device), False, limit, True)


def test_pairwise_cost_is_a_sound_op(rng, device):
    x, y = randn(rng, 1, 5, 3, device=device), randn(rng, 1, 4, 3, device=device)
    opcheck("pairwise_cost", x, y, "euclidean")


def step(x, noise, labels, t):
    """What a training step does with the public calls."""
    near = assign_noise(x, noise, labels=labels)
    noised = diffuse(x, t, "flow", noise=near, assign=False)
    index = fast_assign(x, noise, features=lambda part: part[:, :2], mask=torch.ones_like(x[0, :2]))
    cost = pairwise_cost(x, noise, metric="euclidean")
    table = torch.linspace(1, 0, 10, device=x.device)
    mixed = diffuse(x, (9 * t).long(), table, noise=noise, metric="dot")
    return near, noised.x_t, *mixed, index, cost, solve_assignment(cost).cost


def test_a_step_compiles_whole_and_once_for_all_sizes(rng, device):
    counter = CompileCounter()
    compiled = torch.compile(step, backend=counter, fullgraph=True, dynamic=True)
    for n in (4,) if is_interpreted() else (5, 6, 9):
        x, noise = randn(rng, n, 4, device=device), randn(rng, n, 4, device=device)
        labels = torch.arange(n, device=device) % 2
        t = torch.linspace(0, 1, n, device=device)
        for got, want in zip(compiled(x, noise, labels, t), step(x, noise, labels, t), strict=True):
            torch.testing.assert_close(got, want)
    assert counter.frame_count == 1


def drop_ins(cost):
    pairs = linear_sum_assignment(cost[0]), linear_sum_assignment(cost, maximize=True)
    limited = linear_sum_assignment(cost, cost_limit=0.3), batch_linear_assignment(cost)
    return [*pairs[0], *pairs[1], *limited[0], limited[1]]


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_drop_ins_compile_whole(rng, device, shape):
    cost = randn(rng, 1 if is_interpreted() else 2, *shape, device=device)
    compiled = torch.compile(drop_ins, backend="aot_eager", fullgraph=True, dynamic=True)
    for got, want in zip(compiled(cost), drop_ins(cost), strict=True):
        assert torch.equal(got, want)


def test_sizes_that_turn_out_to_vary_compile_twice_at_most(rng):
    counter = CompileCounter()
    compiled = torch.compile(fast_assign, backend=counter, fullgraph=True)
    for n in (5, 6, 9, 12, 30):
        x, noise = randn(rng, n, 4), randn(rng, n, 4)
        assert torch.equal(compiled(x, noise), fast_assign(x, noise))
    assert counter.frame_count <= 2


def test_aot_autograd_takes_the_ops_and_lets_no_gradient_through(rng):
    def loss(x, noise):
        return (x - assign_noise(x, noise)).square().sum()

    x, noise = randn(rng, 6, 4).requires_grad_(), randn(rng, 6, 4)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    compiled(x, noise).backward()
    want = 2 * (x.detach() - assign_noise(x.detach(), noise))
    torch.testing.assert_close(x.grad, want)


@pytest.mark.parametrize("compiles", [False, True])
def test_inference_mode(rng, device, compiles):
    x, noise = randn(rng, 5, 4, device=device), randn(rng, 5, 4, device=device)
    call = torch.compile(fast_assign, backend="eager", fullgraph=True) if compiles else fast_assign
    want = fast_assign(x, noise)
    with torch.inference_mode():
        assert torch.equal(call(x, noise), want)


def test_errors_of_the_host_are_raised_under_a_compiler_too(rng):
    compiled = torch.compile(fast_assign, backend="eager")
    with pytest.raises(Exception, match="equally many samples"):
        compiled(randn(rng, 5, 4), randn(rng, 6, 4))


def test_values_are_refused_by_the_cpu_under_a_compiler_too(rng):
    cost = randn(rng, 3, 3)
    cost[1, 1] = torch.nan
    for call in (solve_assignment, linear_sum_assignment):
        compiled = torch.compile(call, backend="eager", fullgraph=True)
        with pytest.raises(ValueError, match="invalid numeric entries"):
            compiled(cost)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of dynamo's own reading
@pytest.mark.parametrize("compiles", [False, True])
def test_training_under_ddp(rng, tmp_path, compiles):
    distributed = torch.distributed
    distributed.init_process_group("gloo", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))

        def loss(x, noise):
            near = assign_noise(x, noise)
            return (model(x + near) - near).square().mean()

        if compiles:
            loss = torch.compile(loss, backend="aot_eager")
        x, noise = randn(rng, 6, 4), randn(rng, 6, 4)
        loss(x, noise).backward()
        near = assign_noise(x, noise)
        want = (model.module(x + near) - near).square().mean()
        (gradient,) = torch.autograd.grad(want, model.module.bias)
        torch.testing.assert_close(model.module.bias.grad, gradient)
    finally:
        distributed.destroy_process_group()
