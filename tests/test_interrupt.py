"""Ctrl-C in a long solve: the caller hears of it at once, and nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from immiscible_fast import solve_assignment
from immiscible_fast.cpu import solver

# Points on a line: shortest paths are long, and there is one for nearly every row.
HARD = """
import signal, sys, threading, time
import numpy as np, torch
from immiscible_fast import solve_assignment, linear_sum_assignment
from immiscible_fast.cpu import solver
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in the background
rng = np.random.default_rng(0)
shape = {shape}
n, m = shape[-2:]
cost = np.abs(rng.random((n, 1)) - rng.random(m)) * np.ones(shape)
solve_assignment(torch.from_numpy(cost[..., :20, :20].copy()))  # compiles
before = threading.active_count()
print("ready", flush=True)
try:
    {call}
    print("finished", flush=True)
except KeyboardInterrupt:
    caught = time.perf_counter()
    print("interrupted", time.time(), threading.active_count() - before, flush=True)
answer = solve_assignment(torch.eye(30, dtype=torch.float64))
assert float(answer.cost) == 0, "the next solve is as good as ever"
print("cpu", time.process_time(), flush=True)
time.sleep(0.3)
print("cpu", time.process_time(), flush=True)
"""
CALLS = {
    "square": ("(6000, 6000)", "solve_assignment(torch.from_numpy(cost))"),
    "wide": ("(6000, 6200)", "linear_sum_assignment(cost)"),
    "batch": ("(6, 2500, 2500)", "solve_assignment(torch.from_numpy(cost))"),
    "auction": ("(6000, 6000)", "solve_assignment(torch.from_numpy(cost), method='auction')"),
}


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
@pytest.mark.parametrize("case", CALLS)
def test_an_interrupt_ends_a_long_solve_within_a_tenth_of_a_second(case):
    shape, call = CALLS[case]
    program = HARD.format(shape=shape, call=call)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.6)
        sent = time.time()
        process.send_signal(signal.SIGINT)
        words = process.stdout.readline().split()
        assert words[0] == "interrupted", "the problem was too easy"
        assert float(words[1]) - sent < 0.1 * patience()
        assert int(words[2]) == 0
        spent = [float(process.stdout.readline().split()[1]) for _ in range(2)]
        assert spent[1] - spent[0] < 0.1
        assert process.wait(30) == 0


def patience():
    """More of it where other programs keep the processors busy."""
    return 1 + max(0.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def test_a_short_solve_starts_no_thread(monkeypatch):
    def refuse(*_):
        raise AssertionError("a thread for a short solve")

    monkeypatch.setattr(solver, "_watch", refuse)
    solve_assignment(torch.rand(1024, 1024))


def test_a_long_solve_off_the_main_thread_starts_no_other():
    names = set()
    cost = np.random.default_rng(0).random((1100, 1100), dtype=np.float32)
    original = solver.solve_range

    def noted(*args):
        names.add(threading.current_thread().name)
        return original(*args)

    solver.solve_range = noted
    try:
        thread = threading.Thread(
            target=solve_assignment, args=(torch.from_numpy(cost),), name="caller"
        )
        thread.start()
        thread.join()
    finally:
        solver.solve_range = original
    assert names == {"caller"}
