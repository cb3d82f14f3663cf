"""Cost matrices on a GPU against torch.matmul at the same precision, and torch.cdist.

A call is captured in a CUDA graph, so that what is timed is the device's work alone, and the L2
cache is overwritten before each replay. Products are counted as 2 n m D operations, and as bytes
what has to be read and written once.

``python -m bench.gpu_pairwise`` prints one JSON row a line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from immiscible_fast.kernels.gpu.pairwise import pairwise
from torch import Tensor

SIZES = ((1, 1024, 3072), (1, 4096, 3072), (1, 16384, 3072), (208, 300, 3072))
TYPES = {
    "fp16": (torch.float16, "ieee"),
    "bf16": (torch.bfloat16, "ieee"),
    "tf32": (torch.float32, "tf32"),
    "tf32x3": (torch.float32, "tf32x3"),
    "fp32": (torch.float32, "ieee"),
}
CACHE_BYTES = 256 << 20  # more than any L2 cache holds
WARM_UP, ROUNDS = 3, 30
SAMPLE = 32  # rows whose costs are compared with float64


def measure(sizes: tuple[tuple[int, int, int], ...] = SIZES) -> list[dict[str, Any]]:
    """Rows of all sizes (batch, n, D) and types; ``of_matmul`` is how fast a call is beside
    torch.matmul at the same precision (of "tf32x3": in full float32)."""
    return [
        {"batch": batch, "n": n, "dim": dim, "type": name} | row
        for batch, n, dim in sizes
        for name, (dtype, precision) in TYPES.items()
        for row in _rows_of_type(batch, n, dim, dtype, precision)
    ]


def _rows_of_type(
    batch: int, n: int, dim: int, dtype: torch.dtype, precision: str
) -> Iterator[dict[str, Any]]:
    generator = torch.Generator("cuda").manual_seed(0)
    x, y = (torch.randn(batch, n, dim, device="cuda", generator=generator).to(dtype) for _ in "xy")
    operations = 2 * batch * n * n * dim
    matmul = None
    for name, metric, call in _calls(x, y, precision):
        with _matmul_precision(tf32=precision == "tf32"):
            milliseconds, cost = _timed(call)
        matmul = matmul or milliseconds
        moved = sum(tensor.numel() * tensor.element_size() for tensor in (x, y, cost))
        yield {
            "call": name,
            "median_ms": round(milliseconds, 4),
            "tflop_s": round(operations / milliseconds / 1e9, 1),
            "gb_s": round(moved / milliseconds / 1e6, 1),
            "of_matmul": round(matmul / milliseconds, 3),
            "error": _error(cost, x, y, metric),
        }


def _calls(x: Tensor, y: Tensor, precision: str) -> Iterator[tuple[str, str, Callable[[], Tensor]]]:
    """(name, metric, call) of the peers and of ours; torch.matmul is the first."""
    yield "torch.matmul", "product", lambda: x @ y.mT
    out = torch.empty(*x.shape[:2], y.shape[1], device=x.device)
    shift = x.float().mean(1)

    def ours(metric: str, shift: Tensor | None = None) -> Callable[[], Tensor]:
        def call() -> Tensor:
            pairwise(x, y, out, metric=metric, precision=precision, shift_x=shift, shift_y=shift)
            return out

        return call

    for metric in ("dot", "sqeuclidean", "euclidean"):
        yield f"pairwise {metric}", metric, ours(metric)
    yield "pairwise sqeuclidean shifted", "sqeuclidean", ours("sqeuclidean", shift)
    if x.dtype == torch.float32 and precision == "ieee":
        yield "torch.cdist", "euclidean", lambda: torch.cdist(x, y)


def _timed(call: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Median milliseconds of the device, and the result."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()
    cache = torch.empty(CACHE_BYTES, dtype=torch.uint8, device="cuda")
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(ROUNDS)]
    for start, stop in events:
        cache.zero_()
        start.record()
        graph.replay()
        stop.record()
    torch.cuda.synchronize()
    return median(start.elapsed_time(stop) for start, stop in events), result.clone()


def _error(cost: Tensor, x: Tensor, y: Tensor, metric: str) -> float:
    """Root mean square error of some rows, relative to the spread of their costs."""
    some, other = x[:, :SAMPLE].double(), y.double()
    product = some @ other.mT
    want = product if metric == "product" else -product
    if metric in ("sqeuclidean", "euclidean"):
        squares = [(z * z).sum(-1) for z in (some, other)]
        want = squares[0][..., None] + squares[1][..., None, :] - 2 * product
        want = want.sqrt() if metric == "euclidean" else want
    error = cost[:, :SAMPLE].double() - want
    return float(f"{float(error.square().mean().sqrt() / want.std()):.2e}")


@contextmanager
def _matmul_precision(*, tf32: bool) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


if __name__ == "__main__":
    for row in measure():
        print(json.dumps(row))
