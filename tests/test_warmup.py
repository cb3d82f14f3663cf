"""warmup: after it nothing is compiled, whatever is called; judged in fresh processes."""

from __future__ import annotations

import pytest
import torch
from fresh import run

from immiscible_fast import warmup

PROGRAM = """
import numpy as np, torch
from immiscible_fast import (batch_linear_assignment, fast_assign, linear_sum_assignment,
                             solve_assignment, warmup)
from immiscible_fast.cpu import int8
from immiscible_fast.choices import METHODS
from immiscible_fast.metrics import METRICS
torch.set_num_threads(1)
dtype = torch.{dtype}
warmup([dtype])
from immiscible_fast.kernels.cpu import quantise, solver
entries = (solver.solve_range, solver.small_index, solver.small_pairs, quantise.quantise,
           quantise.rescale)
before = [list(entry.signatures) for entry in entries]
wanted = [1, 1, 1, *(2 * [int8.supported() and dtype != torch.float64])]
assert [len(signatures) for signatures in before] == wanted, before
for n, dim in ((3, 5), (20, 3), (80, 4), (300, 256)):
    x, noise = torch.rand(2, n, dim).to(dtype)
    for method in [method for method in METHODS if method != "streaming"]:  # see warmup's method
        fast_assign(x, noise, method=method)
        fast_assign(x, noise, method=method, labels=torch.arange(n) % 2)
        solve_assignment(torch.rand(n, n).to(dtype), method=method)
    for metric in METRICS:
        fast_assign(x, noise, metric=metric)
for n, m in ((3, 7), (7, 3), (30, 300), (300, 30), (100, 120)):
    cost = torch.rand(2, n, m).to(dtype)
    solve_assignment(cost)
    batch_linear_assignment(cost)
    linear_sum_assignment(cost, maximize=True)
    if dtype == torch.float64:
        linear_sum_assignment(cost[0], cost_limit=0.3)
    array = (cost if dtype != torch.bfloat16 else cost.float()).numpy()[0]
    array.flags.writeable = False
    linear_sum_assignment(array)
after = [list(entry.signatures) for entry in entries]
assert after == before, [new for old, new in zip(before, after) if new != old]
"""


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_nothing_is_left_to_compile(dtype):
    run(PROGRAM.format(dtype=dtype))


def test_it_draws_from_no_generator_of_the_user():
    state = torch.get_rng_state()
    warmup([torch.float32], n=3, dim=2, metric="manhattan", method="scipy")
    assert torch.equal(torch.get_rng_state(), state)
