"""The stages of one call: the time of its kernels on the device, by torch's profiler."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from immiscible_fast import fast_assign

from .counts import gigabytes_per_second, product_flops, stage_bytes, teraflops
from .model import STAGES
from .setting import Row, Setting, inputs

REPEATS = 5
PRODUCT = "distances"  # stage of the kernels that no other stage has


def measure(setting: Setting) -> Iterator[Row]:
    """Rows of the part "stages": one a stage, and one a kernel."""
    for n in setting.chosen(setting.sizes.stages):
        for method in ("auto", "exact"):
            facts = {"n": n, "dim": setting.sizes.dim, "method": method}
            found: list[Row] = []
            whole = {"case": "all stages", **facts}
            yield from setting.attempt(whole, partial(_profiled, setting, facts, found), 5)
            yield from found


def _profiled(setting: Setting, facts: Row, rows: list[Row]) -> Row:
    """The row of the whole call; those of its stages and kernels are appended to ``rows``."""
    n, dim, method = facts["n"], facts["dim"], facts["method"]
    x, noise = inputs(n, dim, setting.device)[0]
    call = partial(fast_assign, x, noise, method=method)
    call()
    if not setting.timed:
        return {"device_ms": None}
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        for _ in range(REPEATS):
            call()
        torch.cuda.synchronize()
    stages: dict[str, list[Any]] = defaultdict(lambda: [0.0, 0])
    for event in trace.key_averages():
        milliseconds, launches = event.device_time_total / 1e3 / REPEATS, event.count / REPEATS
        if not milliseconds:
            continue
        rows.append({"case": event.key[:60], **facts, "device_ms": float(f"{milliseconds:.4g}"),
                     "launches": launches, "kernel": True})  # fmt: skip
        stage = stages[STAGES.get(event.key, PRODUCT)]
        stage[0] += milliseconds
        stage[1] += launches
    for stage_name, (milliseconds, launches) in stages.items():
        count = stage_bytes(stage_name, n, dim, exact=method == "exact")
        row = {"case": stage_name, **facts, "device_ms": float(f"{milliseconds:.4g}")}
        row |= {"launches": launches, "bytes": count}
        row["gb_s"] = gigabytes_per_second(count, milliseconds)
        if stage_name == PRODUCT:
            row["tflop_s"] = teraflops(product_flops(n, n, dim), milliseconds)
        rows.append(row)
    return {"device_ms": float(f"{sum(time for time, _ in stages.values()):.4g}")}
