"""A sweep over parameters that are constants of modules: time and gain of each value."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

from immiscible_fast import fast_assign

from .clock import both
from .quality import judge
from .setting import Row, Setting, inputs, short, skip

KERNELS = "immiscible_fast.kernels.gpu"
SECONDS = 0.15


class Knob(NamedTuple):
    """A parameter and its values; one of them may be the default."""

    name: str
    module: str
    attribute: str
    values: tuple[Any, ...]


KNOBS = (
    Knob(
        "sinkhorn updates",
        f"{KERNELS}.sinkhorn",
        "UPDATES",
        (16, 20, 30, 40),
    ),
    Knob("sinkhorn updates, exact", f"{KERNELS}.sinkhorn", "EXACT_UPDATES", (20, 24, 40)),
    Knob("sinkhorn last eps", f"{KERNELS}.sinkhorn", "LAST_EPS", (0.001, 0.01, 0.03)),
    Knob("over-relaxation", f"{KERNELS}.sinkhorn", "OVER_RELAXATION", (1.5, 1.8, 1.9)),
    Knob("bid rounds", f"{KERNELS}.workspace", "ROUNDS", (4, 8, 32)),
    Knob("patience", f"{KERNELS}.workspace", "PATIENCE", (4, 5, 8, 10)),
    Knob("tolerance", "immiscible_fast.pairing", "tol", (0.005, 0.02, 0.03, 0.05)),
    Knob("precision", "immiscible_fast.backends.triton_gpu", "_precision", ("ieee", "tf32")),
)


@contextmanager
def turned(knob: Knob, value: Any) -> Iterator[None]:
    """Within, the constant has this value; the tolerance is an argument, and stays."""
    if knob.attribute == "tol":
        yield
        return
    module = importlib.import_module(knob.module)
    before = getattr(module, knob.attribute)
    try:
        setattr(module, knob.attribute, _like(before, value))
        yield
    finally:
        setattr(module, knob.attribute, before)


def _like(before: Any, value: Any) -> Any:
    """A function, where there was one that decided."""
    return (lambda *args: value) if callable(before) else value


def exists(knob: Knob) -> bool:
    return knob.attribute == "tol" or hasattr(importlib.import_module(knob.module), knob.attribute)


def measure(setting: Setting) -> Iterator[Row]:
    """Rows of the sweep: the defaults, each knob alone, then the fastest good values together."""
    for n in setting.chosen(setting.sizes.tuned):
        share_of_time = setting.left / 2 if n != setting.sizes.tuned[-1] else setting.left
        until = setting.left - share_of_time
        samples = inputs(n, setting.sizes.dim, setting.device)
        judged = judge(*samples[0], exact=True)
        timing = partial(_row, setting, samples, judged, {"n": n, "dim": setting.sizes.dim})
        first = timing("defaults", [])
        yield first
        good: list[tuple[Knob, Any]] = []
        for knob in setting.few(KNOBS):
            rows = []
            for value in setting.few(knob.values):
                if setting.left < max(until, 3) or not exists(knob):
                    yield skip(f"{knob.name} = {value}", "no time left, or no such constant", n=n)
                    continue
                rows.append((timing(f"{knob.name} = {value}", [(knob, value)]), value))
                yield rows[-1][0]
            better = [(row["graph_ms"], value) for row, value in rows if _better(row, first)]
            if better:
                good.append((knob, min(better)[1]))
        if len(good) > 1:
            names = ", ".join(f"{knob.name} = {value}" for knob, value in good)
            yield timing(names, good)


def _better(row: Row, first: Row) -> bool:
    times = (row.get("graph_ms"), first.get("graph_ms"))
    return None not in times and times[0] < times[1] and row.get("share", 0) >= 0.999


def _row(
    setting: Setting,
    samples: list[Any],
    judged: Any,
    facts: Row,
    name: str,
    turns: list[tuple[Knob, Any]],
) -> Row:
    options = {knob.attribute: value for knob, value in turns if knob.attribute == "tol"}
    calls: list[Callable[[], Any]] = [
        partial(fast_assign, x, noise, **options) for x, noise in samples
    ]
    try:
        with ExitStack() as stack:
            for knob, value in turns:
                stack.enter_context(turned(knob, value))
            index = calls[0]()
            return {
                "case": name,
                **facts,
                **both(setting.clock, calls, SECONDS),
                **judged.verdict(index),
            }
    except Exception as error:
        return skip(name, short(error), **facts)
