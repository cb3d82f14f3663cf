"""What this machine can do at best: how fast it reads, and how fast it multiplies."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager

import torch

READ_BYTES = 512 << 20  # beyond any cache that is one's own
SMALL_READ_BYTES = 16 << 20  # a cost matrix of n = 2048
SIDE = 2048  # of the matrices that are multiplied
REPEATS = 7


def measured_floors(device: str = "cpu") -> dict[str, float]:
    """Bandwidth of reading, GB/s; the peak of ``torch.matmul`` in float32, GFLOP/s; and that of a
    product in eight bits, GOP/s, where torch has one for the device.
    """
    found = {
        "read_gb_s": round(READ_BYTES / _best(_reading(READ_BYTES, device), device) / 1e9, 2),
        "read_one_thread_gb_s": round(_one_thread_read(READ_BYTES, device), 2),
        "read_16_mib_one_thread_gb_s": round(_one_thread_read(SMALL_READ_BYTES, device), 2),
        "matmul_gflop_s": round(2 * SIDE**3 / _best(_product(device), device) / 1e9, 1),
    }
    eight_bits = _eight_bit_product(device)
    if eight_bits is not None:
        found["int8_matmul_gop_s"] = round(4 * SIDE**3 / _best(eight_bits, device) / 1e9, 1)
    return found


def _one_thread_read(size: int, device: str) -> float:
    """The solver of one problem is one thread."""
    with one_thread():
        return size / _best(_reading(size, device), device) / 1e9


def _reading(size: int, device: str) -> Callable[[], object]:
    data = torch.ones(size // 4, device=device)
    return data.amax  # a maximum reads everything, and has next to nothing to compute


def _product(device: str) -> Callable[[], object]:
    left, right = torch.randn(2, SIDE, SIDE, device=device)
    return lambda: left @ right


def _eight_bit_product(device: str) -> Callable[[], object] | None:
    """The product that ``auction`` takes where it pays, (SIDE, 2 SIDE) by (2 SIDE, SIDE): a
    shorter one is held back by writing its int32 result.
    """
    multiply = getattr(torch, "_int_mm", None)
    if multiply is None:
        return None
    left, right = torch.randint(-127, 128, (2, SIDE, 2 * SIDE), dtype=torch.int8, device=device)
    try:
        multiply(left, right.T)
    except RuntimeError:  # not for this device
        return None
    return lambda: multiply(left, right.T)


def _best(call: Callable[[], object], device: str) -> float:
    """Seconds of the fastest of a few calls: a floor is what is possible, not what is usual."""
    least = float("inf")
    for _ in range(REPEATS):
        begin = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        least = min(least, time.perf_counter() - begin)
    return least


@contextmanager
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
