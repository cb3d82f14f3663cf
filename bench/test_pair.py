"""From images and noise to pairs: distances included, as in a training step."""

from __future__ import annotations

import pytest
import torch

from . import families, measure, pairs
from .families import Samples
from .measure import Case

# family, n, numbers in a sample
PROBLEMS = measure.sizes(
    tiny=[("digits", 32, 64)],
    quick=[
        *(("photo", n, 3072) for n in (64, 100, 256, 512, 1024, 2048)),
        ("digits", 1024, 64),
        ("latents", 256, 16384),
    ],
    full=[
        *(("photo", n, 3072) for n in (32, 64, 100, 128, 256, 512, 1024, 2048, 4096, 8192)),
        *(("digits", n, 64) for n in (64, 256, 1024, 1797)),
        *(("latents", n, 16384) for n in (64, 256, 1024)),
        *(("wide_latents", n, 262144) for n in (32, 64, 128)),
    ],
)
# Where all settings that trade quality for time are measured, too
SWEEPS = measure.sizes(
    tiny=[("digits", 32)],
    quick=[("photo", 1024)],
    full=[("photo", 256), ("photo", 1024), ("photo", 4096), ("digits", 1024), ("latents", 1024)],
)


def cases():
    for family, n, dim in PROBLEMS:
        for method in pairs.pair_methods(dim, sweep=(family, n) in SWEEPS):
            yield Case("pair", family, n, dim, method)


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_pair(benchmark, case):
    measure.check(case)
    problem = families.problem(case.family, case.n)
    assert problem.dim == case.dim
    drawn = measure.to_device(problem.samples)
    small = Samples(drawn.x[:16], drawn.noise[:16])
    chosen = measure.run(
        benchmark, case, lambda: case.method.solve(drawn), lambda: case.method.solve(small)
    )
    ref = measure.reference(problem)
    if case.method.bijective:
        quality = measure.assignment_quality(problem.centred, chosen, ref)
        assert quality["permutation"]
    else:
        quality = measure.chosen_quality(drawn, chosen, ref)
    benchmark.extra_info.update(quality)


GROUPED = measure.sizes(tiny=[64], quick=[256, 1024], full=[256, 1024, 4096])


@pytest.mark.parametrize(
    "case",
    [
        Case("groups", "groups", n, 3072, method)
        for n in GROUPED
        for method in pairs.group_methods()
    ],
    ids=str,
)
def test_label_groups(benchmark, case):
    """Ten classes of unequal sizes in one batch; each keeps its own noise."""
    measure.check(case)
    problem = families.problem(case.family, case.n)
    drawn = measure.to_device(problem.samples)
    index = measure.run(
        benchmark, case, lambda: case.method.solve(drawn), lambda: case.method.solve(drawn)
    )
    index = torch.as_tensor(index).to(measure.DEVICE)
    assert (drawn.labels[index] == drawn.labels).all()
    quality = _group_quality(drawn, index)
    benchmark.extra_info.update(quality)
    assert quality["permutation"]


def _group_quality(drawn, index):
    """Gaps and gains of the classes, added up."""
    costs, indices = [], []
    for label in drawn.labels.unique():
        member = torch.nonzero(drawn.labels == label)[:, 0]
        costs.append(families.centred_cost(drawn.x[member].cpu(), drawn.noise[member].cpu()))
        indices.append(torch.searchsorted(member, index[member]))
    return measure.summed_quality(costs, indices, [measure.judge(cost) for cost in costs])
