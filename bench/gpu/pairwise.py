"""The device's ceilings, and ``pairwise`` beside ``torch.matmul`` in the same precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .counts import gigabytes_per_second, product_bytes, product_flops, share, teraflops
from .setting import Case, Row, Setting

COPIED = 1 << 30  # bytes
PEAK = 8192  # side of the products that show the peak of the device
CHECKED_ROWS = 64  # of the costs, against float64
SECONDS = 0.4  # of a case


class Product(NamedTuple):
    """One way to multiply, and what torch does that is as good."""

    name: str
    peak: str  # the ceiling that it is held against; three TF32 products make a tf32x3
    dtype: torch.dtype
    precision: str = "ieee"
    torch_precision: str = "highest"
    metric: str = "dot"
    shifted: bool = False  # means subtracted inside, as the solver has it
    out: torch.dtype = torch.float32


F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
PRODUCTS = (
    Product("fp32 tf32x3", "tf32", F32, "tf32x3"),
    Product("fp32 tf32", "tf32", F32, "tf32", "high"),
    Product("fp16", "fp16", F16),
    Product("bf16", "bf16", BF16),
    Product("fp32 ieee", "fp32", F32, "ieee"),
    Product("fp16 to fp16", "fp16", F16, out=F16),
    Product("fp32 tf32x3 centred", "tf32", F32, "tf32x3", shifted=True),
    Product("fp32 tf32 centred", "tf32", F32, "tf32", "high", shifted=True),
    Product("bf16 centred", "bf16", BF16, shifted=True),
    Product("fp32 rounded centred", "bf16", F32, "bf16", "medium", shifted=True),
    Product("fp32 tf32x3 sqeuclidean", "tf32", F32, "tf32x3", metric="sqeuclidean"),
    Product("bf16 sqeuclidean", "bf16", BF16, metric="sqeuclidean"),
)
CEILINGS = (("fp32", F32, "highest"), ("tf32", F32, "high"), ("fp16", F16, "highest"),
            ("bf16", BF16, "highest"))  # fmt: skip


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def cases(setting: Setting) -> Iterator[Case]:
    top: Row = {}
    yield Case({"case": "ceilings"}, partial(_ceilings, setting, top))
    for n in setting.sizes:
        for product in PRODUCTS:
            facts = {"case": product.name, "metric": product.metric, "n": n, "dim": setting.dim}
            yield Case(facts, partial(_measured, setting, product, n, top))


def _ceilings(setting: Setting, top: Row) -> Row:
    """Copy bandwidth in GB/s, and TFLOP/s of large products by dtype and torch's precision."""
    copied, side = (COPIED, PEAK) if setting.timed else (4096, 8)
    source = torch.randn(copied // 4, device=setting.device)
    target = torch.empty_like(source)
    taken = setting.eager([lambda: target.copy_(source)], SECONDS)["eager_ms"]
    top["copy_gb_s"] = gigabytes_per_second(2 * copied, taken)
    for name, dtype, precision in CEILINGS:
        left, right = torch.randn(2, side, side, device=setting.device).to(dtype)
        with matmul_precision(precision):
            taken = setting.eager([partial(torch.matmul, left, right)], SECONDS)["eager_ms"]
        top[f"{name}_tflop_s"] = teraflops(product_flops(side, side, side), taken)
    return top


def _measured(setting: Setting, product: Product, n: int, top: Row) -> Row:
    from immiscible_fast.kernels.gpu.pairwise import pairwise

    sets = [[part[None].to(product.dtype) for part in pair] for pair in setting.inputs(n)]
    out = torch.empty(1, n, n, dtype=product.out, device=setting.device)
    calls = []
    for x, y in sets:
        options: dict[str, Any] = {"metric": product.metric, "precision": product.precision}
        if product.shifted:
            options["shift_x"], options["shift_y"] = (p.mean(1, dtype=F32) for p in (x, y))
        calls.append(partial(pairwise, x, y, out, **options))
    out.fill_(torch.nan)
    calls[0]()
    error = _error(out, *(part[0].double() for part in sets[0]), product)
    ours = setting.both(calls, SECONDS)
    with matmul_precision(product.torch_precision):
        theirs = setting.both([partial(torch.matmul, x[0], y[0].T) for x, y in sets], SECONDS)
    taken, matmul = (found["graph_ms"] or found["eager_ms"] for found in (ours, theirs))
    rate = teraflops(product_flops(n, n, setting.dim), taken)
    count = product_bytes(n, n, setting.dim, 1, product.dtype.itemsize, product.out.itemsize)
    return {
        **ours,
        "matmul_ms": theirs["eager_ms"],
        "matmul_graph_ms": theirs["graph_ms"],
        "of_matmul": share(matmul, taken),
        "tflop_s": rate,
        "of_peak": share(rate, top.get(f"{product.peak}_tflop_s")),
        "gb_s": gigabytes_per_second(count, taken),
        "error": error,
    }


def _error(out: Tensor, x: Tensor, y: Tensor, product: Product) -> float:
    """Relative error of some rows against float64, of a result that was poisoned."""
    if product.shifted:
        x, y = x - x.mean(0), y - y.mean(0)
    x = x[-CHECKED_ROWS:]
    want = -x @ y.T
    if product.metric == "sqeuclidean":
        want = (x * x).sum(1)[:, None] + (y * y).sum(1) + 2 * want
    relative = float((out[0, -CHECKED_ROWS:].double() - want).norm() / want.norm())
    if bool(out.isnan().any()) or not relative < 0.02:
        raise ArithmeticError(f"relative error {relative:.3g}, or entries that were not written")
    return float(f"{relative:.3g}")
