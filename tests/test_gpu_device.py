"""What only a GPU can show: no waiting, graphs, streams, memory."""

from __future__ import annotations

import pytest
import torch
from samples import METRICS, assert_bijection

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)
pytest.importorskip("triton")

from immiscible_fast import (
    assign_noise,
    batch_linear_assignment,
    diffuse,
    fast_assign,
    pairwise_cost,
    solve_assignment,
)


def randn(*shape, dtype=torch.float32):
    return torch.randn(*shape, device="cuda", dtype=dtype)


@pytest.fixture
def never_waiting():
    """An error wherever torch would have the host wait for the device."""

    def run(call):
        call()  # compiles, and fills the caches
        torch.cuda.set_sync_debug_mode("error")
        try:
            return call()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return run


@pytest.mark.parametrize("method", ["auto", "exact", "auction", "sinkhorn"])
@pytest.mark.parametrize("n", [33, 300])
def test_no_call_waits(never_waiting, n, method):
    x, noise = randn(n, 3, 8), randn(n, 3, 8)
    labels = torch.arange(n, device="cuda") % 7
    assert_bijection(never_waiting(lambda: fast_assign(x, noise, method=method)).cpu(), n)
    kept = never_waiting(lambda: fast_assign(x, noise, labels=labels, method=method))
    assert torch.equal(labels[kept], labels)
    cost = randn(2, n, n + 5)
    for matrix in (cost, cost.mT, cost[:, :, :n]):
        answer = never_waiting(lambda matrix=matrix: solve_assignment(matrix, method=method))
        assert bool(answer.converged.all())


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_no_metric_or_dtype_waits(never_waiting, metric, dtype):
    x, noise = randn(65, 3, 8, dtype=dtype), randn(65, 3, 8, dtype=dtype)
    never_waiting(lambda: fast_assign(x, noise, metric=metric, mask=torch.ones_like(x[0])))
    never_waiting(lambda: pairwise_cost(x, noise, metric=metric))


def test_a_training_step_does_not_wait(never_waiting):
    x, t = randn(64, 3, 8, 8), torch.rand(64, device="cuda")
    generator = torch.Generator("cuda").manual_seed(0)
    never_waiting(lambda: diffuse(x, t, "flow", generator=generator))
    steps = torch.randint(0, 10, (64,), device="cuda")
    alphas = torch.linspace(0.99, 0.01, 10, device="cuda")
    never_waiting(lambda: diffuse(x, steps, alphas, noise=torch.ones_like(x)))
    never_waiting(lambda: batch_linear_assignment(randn(4, 9, 12)))


@pytest.mark.parametrize("method", ["auto", "exact"])
def test_a_graph_replays_with_new_numbers(method):
    x, noise = randn(200, 16), randn(200, 16)
    labels = torch.arange(200, device="cuda") % 3
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        fast_assign(x, noise, method=method)
        fast_assign(x, noise, method=method, labels=labels)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        index = fast_assign(x, noise, method=method)
        grouped = fast_assign(x, noise, method=method, labels=labels)
    for _ in range(3):
        x.copy_(randn(200, 16))
        noise.copy_(randn(200, 16))
        labels.copy_(torch.randint(0, 5, (200,)))
        graph.replay()
        assert torch.equal(index, fast_assign(x, noise, method=method))
        assert torch.equal(grouped, fast_assign(x, noise, method=method, labels=labels))


def test_work_is_done_on_the_current_stream():
    x, noise = randn(128, 16), randn(128, 16)
    want = assign_noise(x, noise)
    late = torch.zeros_like(noise)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        late.copy_(noise)
        got = assign_noise(x, late)
    torch.cuda.current_stream().wait_stream(side)
    assert torch.equal(got, want)


@pytest.mark.parametrize("n", [300, 2000, 5000])
def test_same_input_same_bits(n):
    cost = randn(n, n)
    for method in ("auto", "exact"):
        first, second = (solve_assignment(cost, method=method) for _ in range(2))
        for one, other in zip(first, second, strict=True):
            assert torch.equal(one, other)
        assert bool(first.converged)
        assert float(first.gap) <= 0.02 * n


def test_compiled_by_inductor():
    x, noise = randn(100, 16), randn(100, 16)
    compiled = torch.compile(assign_noise, fullgraph=True, dynamic=True)
    assert torch.equal(compiled(x, noise), assign_noise(x, noise))


def test_peak_memory_stays_near_that_of_the_costs():
    n = 16384
    x, noise = randn(n, 64), randn(n, 64)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    index = fast_assign(x, noise)
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    assert peak < 1.3 * 4 * n * n
    assert_bijection(index.cpu(), n)


@pytest.mark.parametrize("n", [8192, 16385, 32768])
def test_large_problems(n):
    x, noise = randn(n, 32), randn(n, 32)
    index = fast_assign(x, noise, tol=0.05)
    assert_bijection(index.cpu(), n)
    before = (x * noise).sum()
    assert float((x * noise[index]).sum() - before) > 0.5 * float(x.norm(dim=1).sum())


def test_large_batches():
    cost = randn(70_000, 3, 3)
    index = batch_linear_assignment(cost)
    paid = cost.gather(2, index[:, :, None]).sum((1, 2))
    orders = torch.tensor([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    all_paid = torch.stack([cost[:, range(3), order.tolist()].sum(1) for order in orders])
    torch.testing.assert_close(paid, all_paid.min(0).values)
