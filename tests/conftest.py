"""Fresh random input in each run, from a seed that a failing test shows."""

from __future__ import annotations

import os
import secrets
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

# Triton looks at this when a kernel's module is imported: without a GPU it is then interpreted.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

SEED = int(os.environ.setdefault("IMMISCIBLE_SEED", str(secrets.randbelow(2**32))))

torch.set_num_threads(1)  # small tensors: more threads only fight with those of the solver

# No deadline: the first example of a type may have to wait for a compiler.
settings.register_profile(
    "immiscible", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("immiscible")


@pytest.fixture
def rng(request):
    """A generator of this test's own, so that the order of tests does not matter."""
    return np.random.default_rng([SEED, zlib.crc32(request.node.nodeid.encode())])


@pytest.fixture(scope="session")
def gpu_device():
    """Where the kernels of ``kernels/gpu`` run: on a GPU, or interpreted on CPU tensors."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        report.sections.append(
            ("to see it again", f"IMMISCIBLE_SEED={SEED} pytest '{item.nodeid}'")
        )
    return report
