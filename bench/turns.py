"""Calls that take turns, so that what else a machine does hits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def both_clocks() -> NDArray[np.float64]:
    """Seconds of the clock, and of processor time of this thread."""
    return np.array([time.perf_counter(), time.thread_time()])


def in_turns(
    calls: dict[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], Any] = time.perf_counter,
    wait: Callable[[], object] = lambda: None,
) -> dict[str, NDArray[np.float64]]:
    """What a clock says of each call in each round, (rounds, ...); another one is first each time.

    ``wait`` is called before and after each call, and is a part of it.
    """
    found: dict[str, list[Any]] = {name: [] for name in calls}
    for k in range(rounds):
        for name in np.roll(list(calls), k).tolist():
            wait()
            begin = clock()
            calls[name]()
            wait()
            found[name].append(clock() - begin)
    return {name: np.array(times) for name, times in found.items()}
