"""How calls are timed on a GPU, and the clock that times nothing, for a run without one.

- ``eager``: events around every call, calls one after another as in a training loop; where the host
  is slower than the device, this is the host's time.
- ``graph``: the same of a CUDA graph's replays, which wait for no host.
- ``enqueue``: what a call takes on the host alone.
- ``host``: a call and the wait for its answer, for peers that copy to the CPU.

Calls take turns over several sets of inputs, so that the cache holds none of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Call = Callable[[], Any]
FEWEST, MOST = 5, 200  # rounds
HELD_CYCLES = 60_000_000  # of the device, some 35 ms: longer than a call takes to enqueue


class Times(NamedTuple):
    """Milliseconds; None where nothing was measured."""

    median: float | None = None
    least: float | None = None
    spread: float | None = None  # interquartile range
    rounds: int = 0


UNTIMED = Times()


def summary(milliseconds: Sequence[float]) -> Times:
    if not milliseconds:
        return UNTIMED
    ordered = sorted(milliseconds)
    quarter = len(ordered) // 4
    spread = ordered[-1 - quarter] - ordered[quarter]
    median = statistics.median(ordered)
    return Times(*(float(f"{t:.5g}") for t in (median, ordered[0], spread)), len(ordered))


class NoClock:
    """Runs every call once, so that all is compiled and nothing is claimed."""

    timed = False

    def eager(self, calls: Sequence[Call], seconds: float = 0) -> Times:
        calls[0]()
        return UNTIMED

    def graph(self, calls: Sequence[Call], seconds: float = 0) -> tuple[Times, bool | None]:
        return UNTIMED, None

    def enqueue(self, calls: Sequence[Call]) -> float | None:
        return None

    def host(self, call: Call, seconds: float = 0) -> tuple[Times, Any]:
        return UNTIMED, call()

    def peak(self, call: Call) -> int | None:
        return None

    def mark(self) -> None:
        return None

    def hold(self) -> None:
        return None

    def between(self, start: Any, stop: Any) -> float | None:
        return None

    def wait(self) -> None:
        return None


class EventClock:
    """Times with CUDA events."""

    timed = True

    def eager(self, calls: Sequence[Call], seconds: float = 0.5) -> Times:
        for call in calls:
            call()
        return self._rounds(calls, seconds)

    def graph(self, calls: Sequence[Call], seconds: float = 0.5) -> tuple[Times, bool | None]:
        """Times of replays, and whether they give what the calls give; calls must be warm."""
        wanted = [_tensors(call()) for call in calls]
        torch.cuda.synchronize()
        graphs, found, pool = [], [], None
        stream = torch.cuda.current_stream()
        try:
            for call in calls:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool=pool):
                    found.append(_tensors(call()))
                pool = graph.pool()
                graphs.append(graph)
        except BaseException:
            torch.cuda.set_stream(stream)  # a capture that fails leaves its own behind
            raise
        for graph in graphs:
            graph.replay()
        torch.cuda.synchronize()
        same = all(
            torch.equal(one.nan_to_num(), other.nan_to_num())
            for before, after in zip(wanted, found, strict=True)
            for one, other in zip(before, after, strict=True)
        )
        return self._rounds([graph.replay for graph in graphs], seconds), same

    def enqueue(self, calls: Sequence[Call]) -> float:
        taken: list[float] = []
        end = time.perf_counter() + 0.5
        while len(taken) < 3 or (len(taken) < 20 and time.perf_counter() < end):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            calls[len(taken) % len(calls)]()
            taken.append(1e3 * (time.perf_counter() - begin))
        torch.cuda.synchronize()
        return float(f"{statistics.median(taken):.5g}")

    def host(self, call: Call, seconds: float = 0.5) -> tuple[Times, Any]:
        taken: list[float] = []
        result = None
        while not taken or (sum(taken) + taken[-1] < 1e3 * seconds and len(taken) < MOST):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            result = call()
            torch.cuda.synchronize()
            taken.append(1e3 * (time.perf_counter() - begin))
        return summary(taken), result

    def peak(self, call: Call) -> int:
        """Bytes that a call takes at its peak beyond what was there before."""
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def mark(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def hold(self) -> None:
        """Keep the device busy, so that what follows is enqueued before it starts."""
        torch.cuda._sleep(HELD_CYCLES)

    def between(self, start: Any, stop: Any) -> float:
        return float(start.elapsed_time(stop))

    def wait(self) -> None:
        torch.cuda.synchronize()

    def _rounds(self, calls: Sequence[Call], seconds: float) -> Times:
        start = self.mark()
        calls[0]()
        stop = self.mark()
        torch.cuda.synchronize()
        one = max(self.between(start, stop), 1e-3)
        marks = []
        for k in range(max(FEWEST, min(MOST, int(1e3 * seconds / one)))):
            start = self.mark()
            calls[k % len(calls)]()
            marks.append((start, self.mark()))
        torch.cuda.synchronize()
        return summary([self.between(*pair) for pair in marks])


def _tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [part for part in result or () if isinstance(part, Tensor)]


def both(clock: Any, calls: Sequence[Call], seconds: float) -> dict[str, Any]:
    """Entries of a row: eager and graph times, and what went wrong with the graph, if anything."""
    eager = clock.eager(calls, seconds)
    found = {
        "eager_ms": eager.median,
        "eager_least_ms": eager.least,
        "eager_spread_ms": eager.spread,
        "rounds": eager.rounds,
        "enqueue_ms": clock.enqueue(calls),
    }
    try:
        times, same = clock.graph(calls, seconds)
        found |= {"graph_ms": times.median, "graph_least_ms": times.least, "graph_same": same}
    except Exception as error:  # a call that cannot be captured is a finding, not the end
        from .setting import short

        found |= {"graph_ms": None, "graph_error": short(error)}
    return found
