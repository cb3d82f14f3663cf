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
from .setting import METHODS, Case, Row, Setting

REPEATS = 5
PRODUCT = "distances"  # stage of the kernels that no other stage has


def cases(setting: Setting) -> Iterator[Case]:
    """One row for all stages; then one a kernel, and one a stage."""
    for n in setting.sizes:
        for method in METHODS:
            facts = {"case": "all stages", "n": n, "dim": setting.dim, "method": method}
            yield Case(facts, partial(_profiled, setting, n, method))


def _profiled(setting: Setting, n: int, method: str) -> Row | list[Row]:
    call = partial(fast_assign, *setting.inputs(n)[0], method=method)
    call()
    if not setting.timed:
        return {"device_ms": None}
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        for _ in range(REPEATS):
            call()
        torch.cuda.synchronize()
    rows: list[Row] = []
    stages: dict[str, Any] = defaultdict(lambda: [0.0, 0])
    for event in trace.key_averages():
        taken, launches = event.device_time_total / 1e3 / REPEATS, event.count / REPEATS
        if taken:
            rows.append({"case": event.key[:60], "kernel": True, **row(taken, launches)})
            total = stages[STAGES.get(event.key, PRODUCT)]
            total[:] = total[0] + taken, total[1] + launches
    if not stages:
        raise RuntimeError("the profiler saw no kernel")
    for stage, (taken, launches) in stages.items():
        count = stage_bytes(stage, n, setting.dim, exact=method == "exact")
        rows.append({"case": stage, **row(taken, launches), "bytes": count})
        rows[-1]["gb_s"] = gigabytes_per_second(count, taken)
        if stage == PRODUCT:
            rows[-1]["tflop_s"] = teraflops(product_flops(n, n, setting.dim), taken)
    return [row(*map(sum, zip(*stages.values(), strict=True))), *rows]


def row(milliseconds: float, launches: float) -> Row:
    return {"device_ms": float(f"{milliseconds:.4g}"), "launches": launches}
