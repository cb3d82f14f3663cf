"""``python -m immiscible_fast doctor``: what is here, what works, and why the rest does not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch

from . import __version__, fast_assign, warmup
from .choices import METHODS, Method

CORE = ("torch", "numpy", "scipy", "numba", "triton")
EXTRAS = ("matplotlib", "pillow", "rich", "scikit-learn")
WARMED = (torch.float32, torch.float64)
PROBE_SIZE, PROBE_DIMENSIONS = 64, 16
NEAR_OPTIMAL = 0.02  # share of the gain that a near-optimal method may leave on so small a problem


class Probe(NamedTuple):
    """One method on one device."""

    works: bool
    detail: str


def main(warm: bool = False) -> int:
    """Print the report; 0 if every method works on every device, else 1.

    ``warm`` compiles first what calls on each device will need.
    """
    _print_versions()
    devices = list(_devices())
    print("\nDevices")
    for device, description in devices:
        print(f"  {device:<14} {description}")
    works = True
    if warm:
        print("\nCompiling")
        for device, _ in devices:
            works &= _warm(device)
    for device, _ in devices:
        print(f"\nMethods on {device} ({PROBE_SIZE} images, first call and second)")
        for method in METHODS:
            probe = probe_method(method, device)
            works &= probe.works
            print(f"  {method:<14} {'works' if probe.works else 'FAILS'}: {probe.detail}")
    print("\nCompiled code (numba)")
    for line in _cache_lines():
        print(f"  {line}")
    print("\nAll methods work." if works else "\nSome methods do not work; the reasons are above.")
    return 0 if works else 1


def _warm(device: str) -> bool:
    start = time.perf_counter()
    try:
        warmup([torch.float32] if device == "mps" else WARMED, device=device)
    except Exception as error:  # as in ``probe_method``
        print(f"  {device:<14} FAILS: {type(error).__name__}: {error}".splitlines()[0])
        return False
    print(f"  {device:<14} done in {_duration(time.perf_counter() - start)}")
    return True


def probe_method(method: Method, device: str) -> Probe:
    """Solve a small problem and check that the answer is a bijection and close to the optimum."""
    generator = torch.Generator().manual_seed(0)
    shape = (PROBE_SIZE, PROBE_DIMENSIONS)
    times = []
    notes: list[str] = []
    try:
        x = torch.randn(shape, generator=generator).to(device)
        noise = torch.randn(shape, generator=generator).to(device)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                start = time.perf_counter()
                index = fast_assign(x, noise, method=method).cpu()
                times.append(time.perf_counter() - start)
        notes = [f"; note: {warning.message}" for warning in caught]
        problem = _fault(index, x.cpu(), noise.cpu())
    except Exception as error:  # whatever it is, the report goes on and says so
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
    if problem:
        return Probe(False, problem)
    return Probe(True, f"{_duration(times[0])}, then {_duration(times[1])}{''.join(notes)}")


def _fault(index: torch.Tensor, x: torch.Tensor, noise: torch.Tensor) -> str:
    """What is wrong with an answer; empty if nothing."""
    from scipy.optimize import linear_sum_assignment

    if sorted(index.tolist()) != list(range(len(x))):
        return "the answer is not a bijection"
    cost = torch.cdist(x.double(), noise.double()).square()
    least = float(cost[linear_sum_assignment(cost.numpy())].sum())
    drawn = float(cost.diagonal().sum())
    left = (float(cost[torch.arange(len(x)), index].sum()) - least) / (drawn - least)
    return "" if left < NEAR_OPTIMAL else f"the answer leaves {left:.0%} of the possible gain"


def _print_versions() -> None:
    print("Versions")
    print(f"  {'immiscible_fast':<16} {__version__}")
    print(f"  {'python':<16} {platform.python_version()} on {platform.platform()}")
    for name in (*CORE, *EXTRAS):
        print(f"  {name:<16} {_version(name)}")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        if name in EXTRAS:
            return "not installed (only the demo needs it: pip install 'immiscible-fast[demo]')"
        if name == "triton":
            return "not installed (not needed on a CPU)"
        return "not installed"


def _devices() -> Iterator[tuple[str, str]]:
    """Devices that torch can use here, and what they are."""
    cores = os.cpu_count()
    yield "cpu", f"{cores} cores, {torch.get_num_threads()} torch threads, {platform.machine()}"
    for i in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(i)
        memory = found.total_memory / 2**30
        yield f"cuda:{i}", f"{found.name}, {memory:.0f} GiB, capability {found.major}.{found.minor}"
    if torch.backends.mps.is_available():
        yield "mps", "Apple GPU"


def _cache_lines() -> list[str]:
    try:
        from immiscible_fast.kernels.cpu.solver import solve_range

        folder = solve_range.stats.cache_path
    except Exception as error:  # numba or the kernels are missing
        return [f"not available: {type(error).__name__}: {error}".splitlines()[0]]
    lines = [
        f"cache     {folder or 'none'}",
        "writable  yes"
        if folder and _is_writable(folder)
        else "writable  no: every process compiles anew; set NUMBA_CACHE_DIR to a folder of yours",
    ]
    if "NUMBA_CACHE_DIR" in os.environ:
        lines.append(f"NUMBA_CACHE_DIR={os.environ['NUMBA_CACHE_DIR']}")
    return lines


def _is_writable(folder: str) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 20))  # as large as the compiled solver, within a factor
    except OSError:
        return False
    return True


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"
