"""``IMMISCIBLE_GRAPH=1``: on a GPU, or by stand-ins that record what a capture would, torch's
operations and interpreted launches, and do it again."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

pytest.importorskip("triton")

from triton.runtime.interpreter import GridExecutor

from immiscible_fast import batch_linear_assignment, fast_assign, linear_sum_assignment
from immiscible_fast import solve_assignment as solve
from immiscible_fast.gpu import graphs
from immiscible_fast.gpu import solver as gpu_solver

ON_GPU = torch.cuda.is_available()


class Recorded(TorchDispatchMode):
    """In place of ``torch.cuda.CUDAGraph``."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        call = partial(function, *args, **(kwargs or {}))
        result = call()
        self.steps.append(partial(self.again, call, result))
        return result

    @staticmethod
    def again(call, result):
        for old, new in zip(tree_leaves(result), tree_leaves(call()), strict=True):
            if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                old.copy_(new)

    @contextmanager
    def capture(self):
        launched = GridExecutor.__call__

        def launch(*args, **options):
            with _disable_current_modes():
                launched(*args, **options)
            self.steps.append(partial(launched, *args, **options))

        with pytest.MonkeyPatch.context() as patch, self:
            patch.setattr(GridExecutor, "__call__", launch)
            yield

    def replay(self):
        for step in self.steps:
            step()


@pytest.fixture(autouse=True)
def device(monkeypatch):
    monkeypatch.setenv("IMMISCIBLE_BACKEND", "triton")
    monkeypatch.setenv("IMMISCIBLE_GRAPH", "1")
    if not ON_GPU:
        cuda = torch.cuda
        monkeypatch.setattr(gpu_solver, "sinkhorn", partial(gpu_solver.sinkhorn, updates=3))
        monkeypatch.setattr(cuda, "CUDAGraph", Recorded)
        monkeypatch.setattr(cuda, "graph", lambda graph, **_: graph.capture())
        monkeypatch.setattr(cuda, "Stream", lambda: None)
        monkeypatch.setattr(cuda, "is_current_stream_capturing", lambda: False)
        monkeypatch.setattr(cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=0))
    yield "cuda" if ON_GPU else "cpu"
    graphs.GRAPHS.clear()


@pytest.fixture
def randn(rng, device):
    return lambda *shape: torch.from_numpy(rng.normal(size=shape)).to(device, torch.float32)


def labelled(x, noise):
    return fast_assign(x, noise, labels=torch.arange(len(x)) % 3)


CALLS = {
    "plain": fast_assign,
    "exact with statistics": partial(fast_assign, method="exact", return_stats=True),
    "views": lambda x, noise: fast_assign(x.mT.contiguous().mT, noise.repeat(1, 2)[:, ::2]),
    "labels": labelled,
    "costs": lambda x, noise: solve((x @ noise.mT)[:9], method="sinkhorn"),
    "drop-in": lambda x, noise: batch_linear_assignment((x @ noise.mT)[None]),
}


@pytest.mark.parametrize("name", CALLS)
def test_replays_answer_as_ordinary_calls_do(name, randn, monkeypatch):
    call, answers, wanted = CALLS[name], [], []
    for _ in range(3):  # as ever, captured, replayed
        pair = randn(12, 5), randn(12, 5)
        answers.append(call(*pair))
        with monkeypatch.context() as patch:
            patch.setenv("IMMISCIBLE_GRAPH", "0")
            wanted.append(call(*pair))
    assert [type(graph) for graph in graphs.GRAPHS.values()] == [graphs.Graph]
    for got, want in zip(tree_leaves(answers), tree_leaves(wanted), strict=True):
        assert torch.equal(got, want)


def kinds():
    return [type(graph) for graph in graphs.GRAPHS.values()]


def test_the_last_few_kinds_of_calls_are_kept(randn, monkeypatch):
    monkeypatch.setattr(graphs, "MOST", 2)
    for n in (3, 4, 4, 3, 3, 5):
        solve(randn(n, n))
    assert kinds() == [graphs.Graph, type(None)]
    solve(randn(4, 4))  # forgotten
    assert kinds() == [type(None)] * 2
    solve(randn(4, 4), method="exact")
    solve(randn(4, 4).double(), method="exact")
    assert kinds() == [type(None)] * 2


def test_gradients_and_inference_leave_no_mark(randn):
    x = randn(8, 4).requires_grad_()
    noise = randn(8, 4)
    for _ in range(3):
        fast_assign(x, noise)
    with torch.inference_mode():
        inside = fast_assign(randn(8, 4), noise)
    assert inside.shape == fast_assign(x, noise).shape
    assert kinds() == [graphs.Graph]


def test_where_there_is_to_be_no_graph_there_is_none(randn, monkeypatch):
    for _ in range(2):
        linear_sum_assignment(randn(5, 6))  # raises what is infeasible
        torch.ops.immiscible_fast.solve(randn(5, 6), "exact", 1.0)  # as compiled code calls it
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
            solve(randn(5, 6))
        with monkeypatch.context() as patch:
            patch.setenv("IMMISCIBLE_GRAPH", "")
            solve(randn(5, 6))
    assert kinds() == []
    monkeypatch.setenv("IMMISCIBLE_GRAPH", "yes")
    with pytest.raises(ValueError, match=r"IMMISCIBLE_GRAPH must be '0' or '1', got 'yes'"):
        solve(randn(5, 6))
