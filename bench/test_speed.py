"""Calls of ours, for pytest-benchmark: is it slower than it was?

    python -m pytest bench --benchmark-autosave                       # before a change
    python -m pytest bench --benchmark-compare --benchmark-compare-fail=median:30%   # after it

``make bench ARGS=...`` does the same. Beside peers they are measured by ``bench.compare``.
"""

from __future__ import annotations

import pytest
import torch

from immiscible_fast import batch_linear_assignment, fast_assign, solve_assignment

from . import problems

pytestmark = pytest.mark.filterwarnings("ignore")
SOLVED = (
    *(("photo", n) for n in (64, 256, 1024, 2048)),
    *((family, 1024) for family in ("digits", "onef", "duplicates", "uniform", "integers")),
)
PAIRED = (("photo", 64), ("photo", 256), ("photo", 1024), ("digits", 1024), ("latents", 256))
BATCHED = ((256, 32), (64, 64), (16, 256))


@pytest.mark.parametrize("method", ["exact", "auction", "sinkhorn"])
@pytest.mark.parametrize(("family", "n"), SOLVED)
def test_solve(benchmark, family, n, method):
    cost = torch.from_numpy(problems.problem(family, n).cost)
    benchmark(solve_assignment, cost, method=method)


@pytest.mark.parametrize("method", ["exact", "auction"])
@pytest.mark.parametrize(("family", "n"), PAIRED)
def test_pair(benchmark, family, n, method):
    drawn = problems.problem(family, n).samples
    benchmark(fast_assign, drawn.x, drawn.noise, method=method)


@pytest.mark.parametrize(("batch", "n"), BATCHED)
def test_batch(benchmark, batch, n):
    benchmark(batch_linear_assignment, torch.from_numpy(problems.batch_of_costs(batch, n)))
