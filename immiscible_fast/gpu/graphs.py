"""The GPU's backend for ``IMMISCIBLE_GRAPH=1``: its calls, replayed from CUDA graphs.

1. A graph belongs to all that decides its launches: function, options, shapes, types, device, what
   products torch allows; and to a stream, on which one replay waits for the other.
2. The first call of a kind is an ordinary one. The second is captured, on inputs of its own, and
   waits for the device. From then on inputs are copied to those, and answers from the graph's.
3. The ``MOST`` that were used last are kept, each with the memory of a call, costs and all.
4. Where the host looks at answers, or would copy all costs, calls are ordinary ones.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..types import Assigned, Assignment
from . import backend
from .backend import cost_matrix as cost_matrix
from .costs import precision

R = TypeVar("R")
MOST = 4
GRAPHS: OrderedDict[Hashable, Graph | None] = OrderedDict()  # None: there was one such call
LOCK = threading.Lock()


class Graph:
    """A call of the backend, captured on copies of its arguments."""

    def __init__(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.args = [
            torch.empty(arg.shape, dtype=arg.dtype, device=arg.device).copy_(arg)
            if isinstance(arg, Tensor)
            else arg
            for arg in args
        ]
        call(*self.args)  # compiles what copies that are aligned may need
        self.graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # not that of one device
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.answer = call(*self.args)

    def replay(self, args: tuple[Any, ...]) -> Any:
        for own, arg in zip(self.args, args, strict=True):
            if isinstance(arg, Tensor):
                own.copy_(arg)
        self.graph.replay()
        if isinstance(self.answer, Tensor):
            return self.answer.clone()
        return type(self.answer)(*(field.clone() for field in self.answer))


def replayed(call: Callable[..., R], *args: Any) -> R:
    """What ``call`` returns, by the graph of such calls if there is or is to be one."""
    device = args[0].device
    key = (
        call.__name__, precision(device), torch.cuda.current_stream(device).cuda_stream,
        *((arg.shape, arg.dtype, arg.device) if isinstance(arg, Tensor) else arg for arg in args),
    )  # fmt: skip
    here = torch.cuda.device_of(args[0])  # type: ignore[no-untyped-call]
    with LOCK, here, torch.inference_mode(False), torch.no_grad():
        if key not in GRAPHS:
            GRAPHS[key] = None
            if len(GRAPHS) > MOST:
                GRAPHS.popitem(last=False)
            return call(*args)
        graph = GRAPHS[key] = GRAPHS[key] or Graph(call, args)
        GRAPHS.move_to_end(key)
        answer: R = graph.replay(args)
        return answer


def solve(cost: Tensor, method: str, tol: float) -> Assignment:
    return replayed(backend.solve, cost, method, tol)


def assign(
    x: Tensor,
    noise: Tensor,
    labels: Tensor | None,
    metric: str,
    method: str,
    tol: float,
    proven: bool = False,
) -> Assigned:
    return replayed(backend.assign, x, noise, labels, metric, method, tol, proven)


def columns(cost: Tensor, maximize: bool, limit: float, check: bool) -> Tensor:
    if check:
        return backend.columns(cost, maximize, limit, check)
    return replayed(backend.columns, cost, maximize, limit, check)
