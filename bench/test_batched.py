"""Many small problems at once: (B, n, n)."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from . import families, measure, peers
from .measure import Case

SHAPES = measure.sizes(  # B, n
    tiny=[(3, 16)],
    quick=[(256, 32), (64, 64), (16, 256), (4, 512)],
    full=[(1024, 16), (1024, 32), (256, 64), (64, 128), (64, 256), (16, 512), (8, 1024)],
)


@lru_cache(maxsize=1)
def batch(size, n):
    costs = families.batch_of_costs(size, n)
    return costs, [measure.judge(cost) for cost in costs]


@pytest.mark.parametrize(
    "case",
    [
        Case("batched", "photo", n, 3072, method, size)
        for size, n in SHAPES
        for method in peers.batch_solvers()
    ],
    ids=str,
)
def test_batched(benchmark, case):
    measure.check(case)
    costs, refs = batch(case.batch, case.n)
    tensor = torch.from_numpy(costs).to(measure.DEVICE)
    index = measure.run(
        benchmark, case, lambda: case.method.solve(tensor), lambda: case.method.solve(tensor[:2])
    )
    quality = measure.summed_quality(costs, torch.as_tensor(index).cpu(), refs)
    benchmark.extra_info.update(quality)
    assert quality["permutation"]
