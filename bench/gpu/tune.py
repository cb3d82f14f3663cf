"""A sweep over parameters that are constants of modules: time and gain of each value."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

from immiscible_fast import fast_assign

from .setting import Row, Setting, inputs, judge

KERNELS = "immiscible_fast.kernels.gpu"
SECONDS = 0.15
GOOD = 0.999  # share of the gain of a value that is worth having


class Knob(NamedTuple):
    """A parameter and its values; ``tol`` is an argument, the others constants of a module."""

    name: str
    module: str
    attribute: str
    values: tuple[Any, ...]


KNOBS = (
    Knob("sinkhorn updates", f"{KERNELS}.sinkhorn", "UPDATES", (16, 20, 30, 40)),
    Knob("sinkhorn updates, exact", f"{KERNELS}.sinkhorn", "EXACT_UPDATES", (20, 24, 40)),
    Knob("sinkhorn last eps", f"{KERNELS}.sinkhorn", "LAST_EPS", (0.001, 0.01, 0.03)),
    Knob("over-relaxation", f"{KERNELS}.sinkhorn", "OVER_RELAXATION", (1.5, 1.8, 1.9)),
    Knob("bid rounds", f"{KERNELS}.workspace", "ROUNDS", (4, 8, 32)),
    Knob("patience", f"{KERNELS}.workspace", "PATIENCE", (4, 5, 8, 10)),
    Knob("tolerance", "", "tol", (0.005, 0.02, 0.03, 0.05)),
)
Turns = list[tuple[Knob, Any]]


def measure(setting: Setting) -> Iterator[Row]:
    """Rows of the sweep: the defaults, each knob alone, then the fastest good values together."""
    sizes = setting.chosen(setting.sizes.tuned)
    for k, n in enumerate(sizes):
        until = setting.left * (1 - 1 / (len(sizes) - k))
        samples = inputs(n, setting.sizes.dim, setting.device)
        judged = judge(*samples[0], exact=True)

        given = (setting, samples, judged)
        first = _tried("defaults", [], n, *given)
        yield first
        good: Turns = []
        for knob in setting.few(KNOBS):
            best = first.get("graph_ms")
            for value in setting.few(knob.values):
                if setting.left < max(until, 3):
                    continue
                row = _tried(f"{knob.name} = {value}", [(knob, value)], n, *given)
                yield row
                time = row.get("graph_ms")
                if None not in (time, best) and time < best and row.get("share", 0) >= GOOD:
                    best = time
                    good = [*(turn for turn in good if turn[0] is not knob), (knob, value)]
        if len(good) > 1:
            name = ", ".join(f"{knob.name} = {value}" for knob, value in good)
            yield _tried(name, good, n, *given)


def _tried(
    name: str, turns: Turns, n: int, setting: Setting, samples: list[Any], judged: Any
) -> Row:
    row = {"case": name, "n": n, "dim": setting.sizes.dim}
    return next(setting.attempt(row, partial(_measured, setting, samples, judged, turns), 0))


def _measured(setting: Setting, samples: list[Any], judged: Any, turns: Turns) -> Row:
    options = {knob.attribute: value for knob, value in turns if not knob.module}
    calls = [partial(fast_assign, x, noise, **options) for x, noise in samples]
    with ExitStack() as stack:
        for knob, value in turns:
            if knob.module:
                module = importlib.import_module(knob.module)
                stack.enter_context(patch.object(module, knob.attribute, value))
        index = calls[0]()
        return setting.both(calls, SECONDS) | judged.verdict(index)
