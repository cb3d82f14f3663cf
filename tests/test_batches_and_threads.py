"""A batch is a loop, callers on several threads are alone, the same input gives the same bits."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from checks import assert_exact, assert_within
from families import LISTED, make
from fresh import run

from immiscible_fast import Assignment, solve_assignment
from immiscible_fast.cpu import int8, solver

METHODS = ("exact", "auction", "sinkhorn", "scipy")
MIXED = ("uniform", "rows_all_equal", "machol_wien", "two_valued", "zeros", "images_and_noise")


def solve(cost, **options):
    return solve_assignment(torch.from_numpy(cost), **options)


def assert_same_bits(first, second):
    for name, a, b in zip(Assignment._fields, first, second, strict=True):
        assert torch.equal(a.nan_to_num(123.0), b.nan_to_num(123.0)), name


def mixed_batch(rng, n, dtype="float64"):
    """Easy problems and price wars side by side."""
    return np.stack([make(family, rng, n, n, dtype) for family in MIXED])


@pytest.mark.parametrize("n", [1, 6, 16, 40, 128, LISTED])
@pytest.mark.parametrize("method", ["exact", "auction"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_mixed_batch_equals_a_loop_bit_by_bit(dtype, method, n, rng):
    costs = mixed_batch(rng, n, dtype)
    answers = solve(costs, method=method)
    for b, cost in enumerate(costs):
        assert_same_bits([field[b] for field in answers], solve(cost, method=method))


@pytest.mark.parametrize(
    ("scales", "dtype"),
    [
        ((1.0, 1e30, 1e-30), "float64"),
        ((1e-300, 1.0, 1e300), "float64"),
        ((0.0, 1e-12, 1e12), "float64"),
        ((1.0, 1e-35, 1.0), "float32"),
    ],
)
def test_a_batch_of_unlike_scales_is_solved_problem_by_problem(scales, dtype, rng):
    costs = (rng.random((len(scales), 30, 30)) * np.array(scales)[:, None, None]).astype(dtype)
    for cost, *answer in zip(costs, *solve(costs), strict=True):
        assert_exact(cost, Assignment(*answer))


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_the_number_of_threads_changes_no_bit(threads, rng):
    costs = rng.normal(size=(50, 64, 64))
    one = solver.solve(costs, exact=True, tol=0.01, threads=1)
    several = solver.solve(costs, exact=True, tol=0.01, threads=threads)
    for a, b in zip(one, several, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_starting_prices_are_not_modified_and_need_not_be_good(dtype, rng):
    costs = rng.normal(size=(3, 40, 40)).astype(dtype)
    prices = rng.normal(size=(3, 40))
    kept = prices.copy()
    warm = solver.solve(costs, exact=False, tol=0.01, prices=prices)
    assert np.array_equal(prices, kept)
    for cost, *answer in zip(costs, *map(torch.from_numpy, warm[:5]), strict=True):
        assert_within(cost, Assignment(*answer), 0.01)


def test_a_large_batch_is_spread_over_threads_and_still_right(rng, monkeypatch):
    names = set()
    solve_range = solver.solve_range

    def noted(*args):
        if args[1] < args[2]:  # else it only compiles
            names.add(threading.current_thread().name)
        return solve_range(*args)

    monkeypatch.setattr(solver, "solve_range", noted)
    monkeypatch.setattr(solver, "_available_cores", lambda: 4)
    costs = rng.random((40, 60, 60))
    answers = solve(costs)
    assert "MainThread" not in names
    for cost, *answer in zip(costs, *answers, strict=True):
        assert_exact(cost, Assignment(*answer))


@pytest.mark.parametrize("method", ["exact", "auction", "sinkhorn"])
def test_callers_on_several_threads_get_what_they_would_get_alone(method, rng):
    problems = [make("images_and_noise", rng, n, n, "float32") for n in (20, 90, 200, LISTED) * 6]
    alone = [solve(cost, method=method) for cost in problems]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda cost: solve(cost, method=method), problems))
    for a, b in zip(alone, together, strict=True):
        if method == "sinkhorn":  # torch may sum in another order on another thread
            assert float(b.cost) == pytest.approx(float(a.cost), rel=1e-2)
        else:
            assert_same_bits(a, b)


def test_batches_inside_threads_do_not_deadlock(rng):
    costs = rng.random((20, 80, 80))
    want = solve(costs)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: solve(costs), range(8)):
            assert_same_bits(want, got)


def test_an_error_in_one_problem_of_a_threaded_batch_reaches_the_caller(rng):
    costs = rng.random((40, 60, 60))
    costs[33, 5, 5] = np.nan
    with pytest.raises(ValueError, match="matrix contains invalid numeric entries"):
        solve(costs)
    costs[33, 5, :] = np.inf
    with pytest.raises(ValueError, match="cost matrix is infeasible"):
        solve(costs)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["images_and_noise", "two_valued", "rows_eightfold"])
def test_the_same_input_gives_the_same_bits(family, method, rng):
    for n in (33, LISTED):
        cost = make(family, rng, n, n, "float32")
        first = solve(cost, method=method)
        for _ in range(3):
            assert_same_bits(first, solve(cost.copy(), method=method))


@pytest.mark.parametrize("available", [0, 1])
def test_where_no_thread_can_be_started_the_caller_solves(available, rng, monkeypatch):
    """As the system says it when a container's limit of processes is reached."""
    costs = rng.random((6, 130, 140)), rng.random((1, 1100, 1100))
    x = torch.from_numpy(rng.random((1, 700, 800), dtype=np.float32))
    wanted = [solver.solve(cost, exact=True, tol=1.0, threads=3).cost for cost in costs]
    samples = int8.product(x, x, 1.0, 0.01) if int8.supported() else None
    started = []

    def start(thread):
        if len(started) == available:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        original(thread)

    original = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    for cost, want in zip(costs, wanted, strict=True):
        started.clear()
        assert np.array_equal(solver.solve(cost, exact=True, tol=1.0, threads=3).cost, want)
        assert len(started) == available
    if samples is not None:
        started.clear()
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
        assert torch.equal(int8.product(x, x, 1.0, 0.01), samples)
        assert len(started) == available


def test_a_call_at_the_end_of_the_interpreter_is_answered():
    """The first one at all, when nothing may start threads that outlive the main one any more."""
    program = """
import atexit
import torch, immiscible_fast

@atexit.register
def last():
    cost = (torch.arange(1100)[:, None] - torch.arange(1100).flip(0)).abs() + 1.0
    print(float(immiscible_fast.solve_assignment(cost).cost))
    batch = immiscible_fast.solve_assignment(cost[:300, -300:].expand(9, 300, 300))
    print(float(batch.cost.sum()))
"""
    assert run(program) == "1100.0\n2700.0\n"
