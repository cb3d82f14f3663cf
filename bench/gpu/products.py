"""The device's ceilings, and ``pairwise`` beside ``torch.matmul`` in the same precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .counts import gigabytes_per_second, product_bytes, product_flops, share, teraflops
from .setting import Row, Setting, inputs

CHECKED_ROWS = 64  # of the costs, against float64
SECONDS = 0.4  # of a case


class Product(NamedTuple):
    """One way to multiply, and what torch does that is as good."""

    name: str
    dtype: torch.dtype
    precision: str = "ieee"
    torch_precision: str = "highest"
    metric: str = "dot"
    shifted: bool = False  # means subtracted inside, as the solver has it
    out: torch.dtype = torch.float32


PRODUCTS = (
    Product("fp32 tf32x3", torch.float32, "tf32x3"),
    Product("fp32 tf32", torch.float32, "tf32", "high"),
    Product("fp16", torch.float16),
    Product("bf16", torch.bfloat16),
    Product("fp32 ieee", torch.float32, "ieee"),
    Product("fp16 to fp16", torch.float16, out=torch.float16),
    Product("fp32 tf32x3 centred", torch.float32, "tf32x3", shifted=True),
    Product("fp32 tf32 centred", torch.float32, "tf32", "high", shifted=True),
    Product("bf16 centred", torch.bfloat16, shifted=True),
    Product("fp32 rounded centred", torch.float32, "bf16", "medium", shifted=True),
    Product("fp32 tf32x3 sqeuclidean", torch.float32, "tf32x3", metric="sqeuclidean"),
    Product("bf16 sqeuclidean", torch.bfloat16, metric="sqeuclidean"),
)


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def ceilings(setting: Setting) -> Row:
    """Copy bandwidth in GB/s, and TFLOP/s of large products by dtype and torch's precision."""
    source = torch.randn(setting.sizes.copied // 4, device=setting.device)
    target = torch.empty_like(source)
    copied = setting.eager([lambda: target.copy_(source)], SECONDS)["ms"]
    found: Row = {"copy_gb_s": gigabytes_per_second(2 * setting.sizes.copied, copied)}
    side = setting.sizes.peak
    for name, dtype, precision in (
        ("fp32", torch.float32, "highest"),
        ("tf32", torch.float32, "high"),
        ("fp16", torch.float16, "highest"),
        ("bf16", torch.bfloat16, "highest"),
    ):
        left, right = torch.randn(2, side, side, device=setting.device).to(dtype)
        with matmul_precision(precision):
            taken = setting.eager([partial(torch.matmul, left, right)], SECONDS)["ms"]
        found[f"{name}_tflop_s"] = teraflops(product_flops(side, side, side), taken)
    return found


def peak_name(product: Product) -> str:
    """The ceiling that a product is held against; three TF32 products make a tf32x3."""
    if product.dtype == torch.float32 and product.precision != "bf16":
        return "fp32_tflop_s" if product.precision == "ieee" else "tf32_tflop_s"
    return "fp16_tflop_s" if product.dtype == torch.float16 else "bf16_tflop_s"


def measure(setting: Setting) -> Iterator[Row]:
    """Rows of the part "pairwise", the ceilings first."""
    top = ceilings(setting)
    yield {"case": "ceilings", **top}
    for n in setting.chosen(setting.sizes.pairwise):
        samples = inputs(n, setting.sizes.dim, setting.device)
        for product in setting.few(PRODUCTS):
            row = {"case": product.name, "metric": product.metric, "n": n, "dim": setting.sizes.dim}
            yield from setting.attempt(row, partial(_measured, setting, product, samples, top), 5)


def _measured(
    setting: Setting, product: Product, samples: list[tuple[Tensor, Tensor]], top: Row
) -> Row:
    from immiscible_fast.kernels.gpu.pairwise import pairwise

    sets = [(x[None].to(product.dtype), y[None].to(product.dtype)) for x, y in samples]
    (n, dim), m = samples[0][0].shape, samples[0][1].shape[0]
    out = torch.empty(1, n, m, dtype=product.out, device=setting.device)
    calls = []
    for x, y in sets:
        options: dict[str, Any] = {"metric": product.metric, "precision": product.precision}
        if product.shifted:
            options |= {
                "shift_x": x.mean(1, dtype=torch.float32),
                "shift_y": y.mean(1, dtype=torch.float32),
            }
        calls.append(partial(pairwise, x, y, out, **options))
    error = _error(calls[0], out, sets[0], product)
    ours = setting.both(calls, SECONDS)
    with matmul_precision(product.torch_precision):
        theirs = setting.both([partial(torch.matmul, x[0], y[0].T) for x, y in sets], SECONDS)
    taken, matmul = (found["graph_ms"] or found["eager_ms"] for found in (ours, theirs))
    rate = teraflops(product_flops(n, m, dim), taken)
    count = product_bytes(n, m, dim, 1, product.dtype.itemsize, product.out.itemsize)
    return {
        **ours,
        "matmul_ms": theirs["eager_ms"],
        "matmul_graph_ms": theirs["graph_ms"],
        "of_matmul": share(matmul, taken),
        "tflop_s": rate,
        "of_peak": share(rate, top.get(peak_name(product))),
        "gb_s": gigabytes_per_second(count, taken),
        "error": error,
    }


def _error(call: Any, out: Tensor, pair: tuple[Tensor, Tensor], product: Product) -> float:
    """Relative error of some rows against float64; the result is poisoned first."""
    out.fill_(torch.nan)
    call()
    x, y = (part[0].double() for part in pair)
    if product.shifted:
        x, y = x - x.mean(0), y - y.mean(0)
    x = x[-CHECKED_ROWS:]
    want = -x @ y.T
    if product.metric == "sqeuclidean":
        want = (x * x).sum(1)[:, None] + (y * y).sum(1) + 2 * want
    wrong = out[0, -CHECKED_ROWS:].double() - want
    relative = float(wrong.norm() / want.norm())
    if bool(out.isnan().any()) or not relative < 0.02:
        raise ArithmeticError(f"relative error {relative:.3g}, or entries that were not written")
    return float(f"{relative:.3g}")
