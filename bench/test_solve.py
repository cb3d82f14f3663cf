"""Solve only: the cost matrix is there, find the assignment."""

from __future__ import annotations

import pytest
import torch

from . import families, measure, peers
from .measure import Case

PROBLEMS = measure.sizes(
    tiny=[("photo", 32), ("uniform", 32)],
    quick=[
        *(("photo", n) for n in (32, 64, 100, 256, 512, 1024, 2048)),
        *(("digits", n) for n in (64, 1024)),
        *(("onef", n) for n in (64, 256, 1024)),
        ("latents", 512),
        ("duplicates", 1024),
        *(("uniform", n) for n in (64, 256, 1024)),
        *(("integers", n) for n in (64, 1024)),
        ("machol_wien", 256),
    ],
    full=[
        *(("photo", n) for n in (32, 64, 100, 128, 256, 512, 1024, 2048, 4096, 8192)),
        *(("digits", n) for n in (64, 256, 1024, 1797)),
        *(("onef", n) for n in (64, 256, 1024, 2048, 4096)),
        *(("latents", n) for n in (256, 1024, 2048)),
        *(("duplicates", n) for n in (256, 1024, 4096)),
        *(("uniform", n) for n in (64, 256, 1024, 2048, 4096, 8192)),
        *(("integers", n) for n in (64, 256, 1024, 4096)),
        *(("machol_wien", n) for n in (64, 256, 512, 1024)),
    ],
)


def cases():
    for family, n in PROBLEMS:
        problem = families.Problem(family, n)
        dim = {"digits": 64, "latents": 16384}.get(family, 3072)
        for method in peers.solvers():
            if method.takes in problem.forms:
                yield Case(
                    "solve", family, n, dim if family in families.SAMPLE_FAMILIES else 0, method
                )


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_solve(benchmark, case):
    measure.check(case)
    problem = families.problem(case.family, case.n)
    cost = torch.from_numpy(problem.cost(case.method.takes)).to(measure.DEVICE)
    small = cost[:16, :16].contiguous()
    index = measure.run(
        benchmark, case, lambda: case.method.solve(cost), lambda: case.method.solve(small)
    )
    quality = measure.assignment_quality(problem.centred, index, measure.reference(problem))
    benchmark.extra_info.update(quality)
    assert quality["permutation"]
