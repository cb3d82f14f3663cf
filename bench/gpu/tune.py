"""A sweep over parameters of the algorithm, one at a time: time and gain of each value."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache, partial
from typing import Any
from unittest.mock import patch

from immiscible_fast import fast_assign

from .setting import Case, Judge, Row, Setting

KERNELS = "immiscible_fast.kernels.gpu"
SECONDS = 0.15
KNOBS: dict[str, tuple[Any, ...]] = {  # an argument, or a constant of a module of KERNELS
    "tol": (0.005, 0.02, 0.03, 0.05),
    "sinkhorn.UPDATES": (16, 20, 30, 40),
    "sinkhorn.EXACT_UPDATES": (20, 24, 40),
    "sinkhorn.LAST_EPS": (0.001, 0.01, 0.03),
    "sinkhorn.OVER_RELAXATION": (1.5, 1.8, 1.9),
    "workspace.ROUNDS": (4, 8, 32),
    "workspace.PATIENCE": (4, 5, 8, 10),
}


def cases(setting: Setting) -> Iterator[Case]:
    for n in setting.sizes:
        judge = cache(lambda n=n: Judge(*setting.inputs(n)[0]))
        turns = [("tol", 0.01), *((knob, v) for knob, values in KNOBS.items() for v in values)]
        for knob, value in turns:  # as it is, first
            facts = {"case": f"{knob} = {value}", "n": n, "dim": setting.dim}
            yield Case(facts, partial(_measured, setting, n, judge, knob, value))


def _measured(setting: Setting, n: int, judge: Any, knob: str, value: Any) -> Row:
    module, _, name = knob.rpartition(".")
    options = {} if module else {name: value}
    calls = [partial(fast_assign, x, noise, **options) for x, noise in setting.inputs(n)]
    with constant(module, name, value) if module else nullcontext():
        index = calls[0]()
        return setting.both(calls, SECONDS) | judge().verdict(index)


def constant(module: str, name: str, value: Any) -> Any:
    return patch.object(importlib.import_module(f"{KERNELS}.{module}"), name, value)
