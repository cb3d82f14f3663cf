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


@pytest.fixture
def gpu_device(request):
    """Where the kernels of ``kernels/gpu`` run: on a GPU, or interpreted on CPU tensors. Tests
    marked ``emulated`` run once more for each target, compiled, in an order that is drawn."""
    way = getattr(request, "param", "plain")
    if way == "plain":
        yield "cuda" if torch.cuda.is_available() else "cpu"
        return
    from ptx_emulator import ORDERS, Emulator
    from ptx_emulator.compilation import has_compiler

    if not has_compiler():
        pytest.skip("to emulate a GPU takes gcc, or what CC names")
    drawn = zlib.crc32(f"{SEED} {request.node.nodeid}".encode())
    with Emulator(way, ORDERS[drawn % len(ORDERS)], seed=drawn) as emulator:
        yield "cpu"
    emulator.assert_clean()


def pytest_addoption(parser):
    parser.addoption("--once", action="store_true", help="no test in the emulator besides")


def pytest_generate_tests(metafunc):
    if metafunc.definition.get_closest_marker("emulated") and "gpu_device" in metafunc.fixturenames:
        import ptx_emulator  # noqa: F401  before anything is interpreted

        once = torch.cuda.is_available() or metafunc.config.getoption("--once")
        ways = ["plain"] if once else ["plain", "sm_80", "sm_90"]
        metafunc.parametrize("gpu_device", ways, indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        report.sections.append(
            ("to see it again", f"IMMISCIBLE_SEED={SEED} pytest '{item.nodeid}'")
        )
    return report
