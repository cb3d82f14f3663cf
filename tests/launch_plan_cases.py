"""Launches that are prepared are those that Triton would make; run by test_gpu_launch_plans.py in a
process that interprets nothing, with a driver that does nothing."""

from __future__ import annotations

import threading

import pytest
import torch
import triton
from immiscible_fast.kernels.gpu import launch, workspace
from triton.runtime.jit import JITFunction

from bench.host_time import nothing_runs
from immiscible_fast import fast_assign, pairwise_cost, solve_assignment

GENERATOR = torch.Generator().manual_seed(0)


def drawn(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=GENERATOR).to(dtype)


def pair(n, dim=24, dtype=torch.float32):
    return drawn(n, dim, dtype=dtype), drawn(n, dim, dtype=dtype)


CALLS = {
    "auto": lambda: fast_assign(*pair(600)),
    "exact": lambda: fast_assign(*pair(600), method="exact"),
    "bfloat16": lambda: fast_assign(*pair(100, dtype=torch.bfloat16)),
    "odd": lambda: fast_assign(*pair(101, 7)),
    "labels": lambda: fast_assign(*pair(60), labels=torch.arange(60) % 7),
    "manhattan": lambda: fast_assign(*pair(60), metric="manhattan"),
    "cosine": lambda: fast_assign(*pair(60), metric="cosine"),
    "euclidean": lambda: fast_assign(*pair(60), metric="euclidean"),
    "float64": lambda: solve_assignment(drawn(3, 20, 33).double(), method="exact"),
    "tall": lambda: solve_assignment(drawn(33, 20), method="sinkhorn", tol=0.1),
    "costs": lambda: pairwise_cost(*pair(65)),
}


@pytest.fixture
def made():
    """What reaches the launcher: grid, stream, compiled kernel, and arguments, with those tensors
    that calls allocate by type, shape and alignment."""
    return []


def runner(made):
    def run(x, y, z, stream, function, metadata, launch_metadata, enter, leave, *arguments):
        assert enter is None or not getattr(enter, "calls", True)
        made.append((x, y, z, stream, function, [plain(value) for value in arguments]))
        for value in arguments:  # some are indices
            if isinstance(value, torch.Tensor) and value.dtype == torch.int32:
                value.zero_()

    return run


def plain(value):
    if not isinstance(value, torch.Tensor):
        return value
    return value.dtype, value.shape, value.stride(), value.data_ptr() % 16


@pytest.mark.parametrize("name", CALLS)
def test_planned_launches_are_the_ordinary_ones(made, name, monkeypatch):
    call = CALLS[name]
    with nothing_runs(runner(made), planned=False):
        call()
        ordinary = made[:]
        assert launch.PLANS == {}
    made.clear()
    with nothing_runs(runner(made)):
        call()
        assert made == ordinary
        assert len(launch.PLANS) == 1
        made.clear()
        monkeypatch.setattr(JITFunction, "__getitem__", no_launch)
        call()
    assert made == ordinary
    assert len(ordinary) < 60 or name in ("auto", "exact")  # whose ticks are launches


def no_launch(*_):
    raise AssertionError("a launch that was prepared went the ordinary way")


def test_each_call_launches_with_its_own_tensors_on_its_stream():
    seen = []
    with nothing_runs(lambda *given: seen.append((given[3], given[9]))) as driver:
        cost = drawn(2, 40, 40)
        solve_assignment(cost)
        driver.stream = 7
        other = drawn(2, 40, 40)
        seen.clear()
        solve_assignment(other)
    assert {stream for stream, _ in seen} == {7}
    assert seen[0][1].data_ptr() == other.data_ptr() != cost.data_ptr()


@pytest.mark.parametrize(
    "other",
    [
        lambda: drawn(2 * 40 * 40 + 1)[1:].view(2, 40, 40),  # another alignment
        lambda: drawn(2, 40, 41)[:, :, :40],
        lambda: drawn(2, 40, 40).half(),
        lambda: drawn(1, 40, 40),
    ],
)
def test_what_compiles_otherwise_has_a_plan_of_its_own(made, other):
    with nothing_runs(runner(made), planned=False):
        solve_assignment(other())
        ordinary = made[:]
    made.clear()
    with nothing_runs(runner(made)):
        solve_assignment(drawn(2, 40, 40))
        first = made[:]
        made.clear()
        solve_assignment(other())
        assert len(launch.PLANS) == 2
    assert made == ordinary != first


def test_another_device_has_kernels_of_its_own(made):
    with nothing_runs(runner(made)) as driver:
        solve_assignment(drawn(2, 40, 40))
        number = driver.number
        before = dict(launch.PLANS)
    with nothing_runs(runner(made)) as driver:
        launch.PLANS.update(before)
        assert driver.number != number
        solve_assignment(drawn(2, 40, 40))
        assert len(launch.PLANS) == 2


def test_a_setting_that_changes_launches_makes_a_new_plan(made, monkeypatch):
    with nothing_runs(runner(made)):
        solve_assignment(drawn(600, 600))
        count = len(made)
        monkeypatch.setattr(workspace, "PATIENCE", 5)
        made.clear()
        solve_assignment(drawn(600, 600))
        changed = made[:]
        assert launch.PLANS == {}
        made.clear()
        solve_assignment(drawn(600, 600))
        assert len(launch.PLANS) == 1
    assert changed == made
    assert len(made) == count


def test_hooks_see_every_launch(made, monkeypatch):
    knobs = getattr(triton, "knobs", None)
    if knobs is None:
        pytest.skip("hooks were kept elsewhere")
    calls = []
    monkeypatch.setattr(launch, "hooked", lambda: bool(calls.append(1)) or True)
    with nothing_runs(runner(made)):
        solve_assignment(drawn(2, 40, 40))
        assert launch.PLANS == {}
    monkeypatch.undo()
    assert calls
    assert not launch.hooked()
    hook = knobs.runtime.launch_enter_hook
    hook.add(print)
    try:
        assert launch.hooked()
    finally:
        hook.remove(print)


def test_a_call_that_fails_leaves_no_plan(made):
    def run(*_):
        made.append(1)
        if len(made) == 5:
            raise RuntimeError("out of resources")

    with nothing_runs(run):
        with pytest.raises(RuntimeError, match="out of resources"):
            solve_assignment(drawn(2, 40, 40))
        assert launch.PLANS == {}
        assert launch.ACTIVE.plan is None
        solve_assignment(drawn(2, 40, 40))
        assert len(launch.PLANS) == 1


def test_threads_keep_their_own_place(made):
    with nothing_runs(runner(made)):
        solve_assignment(drawn(2, 40, 40))
        one = len(made)
        made.clear()
        threads = [
            threading.Thread(target=lambda: [solve_assignment(drawn(2, 40, 40)) for _ in range(5)])
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 15 * one
        assert len(launch.PLANS) == 1


def test_plans_do_not_pile_up(made, monkeypatch):
    monkeypatch.setattr(launch, "MOST_PLANS", 2)
    with nothing_runs(runner(made)):
        for n in range(10, 15):
            solve_assignment(drawn(n, n))
            assert len(launch.PLANS) <= 2
