"""Distance matrices alone, with their error against float64."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from . import families, measure, pairs
from .measure import Case

PROBLEMS = measure.sizes(
    tiny=[("digits", 32, 64)],
    quick=[
        ("digits", 1024, 64),
        ("photo", 256, 3072),
        ("photo", 1024, 3072),
        ("latents", 256, 16384),
    ],
    full=[
        ("digits", 1024, 64),
        *(("photo", n, 3072) for n in (64, 256, 1024, 4096)),
        *(("latents", n, 16384) for n in (64, 256, 1024)),
        ("wide_latents", 64, 262144),
    ],
)
METRICS = ("sqeuclidean", "euclidean")


def cases():
    for family, n, dim in PROBLEMS:
        for metric in METRICS:
            for method in pairs.distances(metric):
                fits = "broadcast" not in method.name or n <= pairs.largest_broadcast(dim)
                if fits:
                    yield Case(f"pairwise {metric}", family, n, dim, method)


@lru_cache(maxsize=1)
def exact_distance(problem, metric):
    x, y = (t.flatten(1).double() for t in (problem.samples.x, problem.samples.noise))
    distance = torch.cdist(x, y)
    return distance.square_() if metric == "sqeuclidean" else distance


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_pairwise(benchmark, case):
    """``torch.matmul`` gives inner products only: the least that any of them has to do."""
    measure.check(case)
    problem = families.problem(case.family, case.n)
    drawn = measure.to_device(problem.samples)
    x, y = drawn.x.flatten(1), drawn.noise.flatten(1)
    result = measure.run(
        benchmark, case, lambda: case.method.solve(x, y), lambda: case.method.solve(x[:16], y[:16])
    )
    if case.method.name != "torch.matmul":
        exact = exact_distance(problem, case.stage.removeprefix("pairwise "))
        error = (result.cpu().double() - exact).abs().max() / exact.std()
        benchmark.extra_info["error_sd"] = float(f"{float(error):.3g}")
