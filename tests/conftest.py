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


TARGETS = ("sm_80", "sm_90")


def drawn(item):
    """A number of this test's own in this run."""
    return zlib.crc32(f"{SEED} {item.nodeid}".encode())


@pytest.fixture
def rng(request):
    """A generator of this test's own, so that the order of tests does not matter."""
    return np.random.default_rng([SEED, zlib.crc32(request.node.nodeid.encode())])


@pytest.fixture
def gpu_device(request):
    """Where the kernels of ``kernels/gpu`` run: on a GPU, or interpreted on CPU tensors. Tests
    marked ``emulated`` run once more, compiled for a target and in an order that are drawn."""
    if getattr(request, "param", "plain") == "plain":
        yield "cuda" if torch.cuda.is_available() else "cpu"
        return
    from ptx_emulator import ORDERS, Emulator
    from ptx_emulator.compilation import has_compiler

    if not has_compiler():
        pytest.skip("to emulate a GPU takes gcc, or what CC names")
    number = drawn(request.node)
    order, target = ORDERS[number % len(ORDERS)], TARGETS[number // len(ORDERS) % len(TARGETS)]
    with Emulator(target, order, seed=number) as emulator:
        yield "cpu"
    emulator.assert_clean()


def pytest_addoption(parser):
    parser.addoption(
        "--emulated", type=float, default=0.15, metavar="SHARE",
        help="of the tests marked so, the share that runs in the emulator, too (0 to 1)",
    )  # fmt: skip


def pytest_generate_tests(metafunc):
    if metafunc.definition.get_closest_marker("emulated") and "gpu_device" in metafunc.fixturenames:
        import ptx_emulator  # noqa: F401  before anything is interpreted

        metafunc.parametrize("gpu_device", ["plain", "emulated"], indirect=True)


# Left out by make check, by the beginning of a file's name: what starts processes, trains,
# compiles, or interprets kernels.
SLOW = (
    "adapters", "batches", "bench", "cli", "compiled_cache", "demo", "distributed", "docs",
    "exact_hypothesis", "examples", "fuzz", "gpu", "guides", "import", "interrupt", "lazy", "ops",
    "prefetch", "ptx", "readme", "safety", "streaming", "training", "transforms", "types", "users",
    "warmup", "whole_set",
)  # fmt: skip


def pytest_collection_modifyitems(config, items):
    """Mark what ``make check`` does without; leave out, by the seed, those that this run does not
    emulate."""
    for item in items:
        if item.path.stem.removeprefix("test_").startswith(SLOW):
            item.add_marker("slow")
    share = 0 if torch.cuda.is_available() else config.getoption("--emulated")
    left_out = [
        item
        for item in items
        if (call := getattr(item, "callspec", None)) is not None
        and call.params.get("gpu_device") == "emulated"
        and drawn(item) % 1000 >= 1000 * share
    ]
    config.hook.pytest_deselected(items=left_out)
    gone = set(map(id, left_out))
    items[:] = [item for item in items if id(item) not in gone]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        again = f"IMMISCIBLE_SEED={SEED} pytest '{item.nodeid}'"
        report.sections.append(("to see it again", again))
    return report
