"""The stages of one call, each with its own events, and what its kernels take of it.

The device is kept busy until the whole call is enqueued, so that no stage waits for the host.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from immiscible_fast import fast_assign

from . import watch
from .counts import gigabytes_per_second, product_flops, stage_bytes, teraflops
from .setting import Row, Setting, inputs, release, short, skip

REPEATS = 9
PATIENCE = 0.5  # of the time that is left: what one method may take
METHODS = ("auto", "exact")


def measure(setting: Setting) -> Iterator[Row]:
    """Rows of the part "stages": one a stage, and one a kernel."""
    for n in setting.chosen(setting.sizes.stages):
        samples = inputs(n, setting.sizes.dim, setting.device)
        for method in METHODS:
            facts = {"n": n, "dim": setting.sizes.dim, "method": method}
            if setting.left < 5:
                yield skip("stages", "no time left", **facts)
                continue
            calls = [partial(fast_assign, x, noise, method=method) for x, noise in samples]
            try:
                calls[0]()
                one = setting.clock.host(calls[0])[0].median or 0
                if 2 * REPEATS * one / 1e3 > PATIENCE * setting.left:
                    yield skip("stages", f"one call takes {one:.0f} ms", **facts)
                    continue
                yield from _rows(setting, calls, facts)
            except Exception as error:
                yield skip("stages", short(error), failed=True, **facts)
        release(setting.device)


def _rows(setting: Setting, calls: list[Callable[[], Any]], facts: Row) -> Iterator[Row]:
    n, dim = facts["n"], facts["dim"]
    spent = _spent(setting, calls, watch.stages)
    for stage, (milliseconds, times) in spent.items():
        count = None if times != 1 else stage_bytes(stage, n, dim, exact=facts["method"] == "exact")
        row = {
            "case": stage,
            **facts,
            "device_ms": milliseconds,
            "calls": times,
            "bytes": count,
            "gb_s": gigabytes_per_second(count, milliseconds),
        }
        if stage == "distances":
            row["tflop_s"] = teraflops(product_flops(n, n, dim), milliseconds)
        yield row
    for kernel, (milliseconds, times) in _spent(setting, calls, watch.kernels).items():
        yield {"case": kernel, **facts, "device_ms": milliseconds, "launches": times}


def _spent(
    setting: Setting, calls: list[Callable[[], Any]], watching: Callable[..., Any]
) -> dict[str, tuple[float | None, int]]:
    """Name -> (median milliseconds of a call, how often in a call), in order of appearance."""
    clock = setting.clock
    taken: dict[str, list[float | None]] = {}
    times: dict[str, int] = {}
    for k in range(REPEATS if clock.timed else 1):
        with watching(clock.mark) as seen:
            clock.hold()
            calls[k % len(calls)]()
            clock.wait()
        sums: dict[str, list[float | None]] = {}
        for one in seen:
            sums.setdefault(one.name, []).append(clock.between(one.start, one.stop))
        for name, parts in sums.items():
            whole = None if None in parts else float(sum(part or 0 for part in parts))
            taken.setdefault(name, []).append(whole)
            times[name] = len(parts)
    return {
        name: (None if None in all_ else float(f"{statistics.median(all_):.4g}"), times[name])  # type: ignore[type-var]
        for name, all_ in taken.items()
    }
