"""Peak memory beyond the inputs, from images and noise to pairs; every call in a fresh process."""

from __future__ import annotations

from functools import partial

import pytest

from . import measure, memory, pairs
from .measure import Case
from .peers import OWN, Method

SIZES = measure.sizes(  # n, D
    tiny=[(64, 64)],
    quick=[(256, 3072), (1024, 3072), (2048, 3072)],
    full=[
        *((n, 3072) for n in (128, 256, 512, 1024, 2048, 4096, 8192)),
        *((n, 64) for n in (1024, 2048, 4096, 8192)),
        (256, 16384),
        (64, 262144),
    ],
)
NAMES = measure.sizes(
    tiny=("exact", "official broadcast fp16 + scipy"),
    quick=("exact", "cdist + scipy", "official broadcast fp16 + scipy"),
    full=tuple(memory.METHODS),
)
SCIPY_LIMIT = 2048  # memory of a slower solve is no news


def cases():
    for n, dim in SIZES:
        for name in NAMES:
            if "broadcast" in name and n > pairs.largest_broadcast(dim):
                continue
            if "scipy" in name and n > SCIPY_LIMIT:
                continue
            ours = name in ("exact", "auction 0.01")
            call = partial(memory.in_fresh_process, name, n, dim)
            package = OWN if ours else name.split(" + ")[-1]
            module = memory.MODULES.get(name, "torch")
            yield Case("memory", "walk", n, dim, Method(name, call, package, module))


@pytest.mark.skipif(measure.DEVICE != "cpu", reason="measures the memory of the host")
@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_memory(benchmark, case):
    """The time of this benchmark is that of a process; the figures are in extra_info."""
    measure.check(case)
    benchmark.group = case.group
    benchmark.extra_info.update(measure.facts(case))
    benchmark.extra_info.update(benchmark.pedantic(case.method.solve, rounds=1))
