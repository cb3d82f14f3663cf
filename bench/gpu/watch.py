"""Marks around the stages of a solve, or around its kernels, where they are called.

The solver is run as it is: its functions are wrapped in the modules that call them, so that nothing
here has to know how they are called.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

STAGES = {  # function in triton_gpu -> the name of its stage
    "_assignment_cost": "distances",
    "statistics": "statistics",
    "sinkhorn": "sinkhorn",
    "start_matching": "matching",
    "grow_forests": "forests",
    "certificate": "certificate",
    "augment_rows": "last resort",
    "restart_where_huge": "restart",
}
KERNELS = "immiscible_fast.kernels.gpu"


class Seen(NamedTuple):
    """One call of a stage, or one launch of a kernel."""

    name: str
    start: Any
    stop: Any
    wanted: Any = None  # copy of the argument of that name, if there was one


@contextmanager
def stages(mark: Callable[[], Any]) -> Iterator[list[Seen]]:
    """Within, every stage that is called is appended to the list."""
    from immiscible_fast.backends import triton_gpu

    seen: list[Seen] = []
    before = {name: getattr(triton_gpu, name) for name in STAGES if hasattr(triton_gpu, name)}
    try:
        for name, function in before.items():
            setattr(triton_gpu, name, _watched(STAGES[name], function, mark, seen))
        yield seen
    finally:
        for name, function in before.items():
            setattr(triton_gpu, name, function)


def _watched(
    name: str, function: Callable[..., Any], mark: Callable[[], Any], seen: list[Seen]
) -> Callable[..., Any]:
    signature = inspect.signature(function)

    def calling(*args: Any, **options: Any) -> Any:
        wanted = signature.bind(*args, **options).arguments.get("wanted")
        wanted = None if wanted is None else wanted.clone()
        start = mark()
        result = function(*args, **options)
        seen.append(Seen(name, start, mark(), wanted))
        return result

    return calling


@contextmanager
def kernels(mark: Callable[[], Any]) -> Iterator[list[Seen]]:
    """Within, every kernel that is launched is appended to the list."""
    seen: list[Seen] = []
    package = importlib.import_module(KERNELS)
    before = []
    for found in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{KERNELS}.{found.name}")
        before += [
            (module, name, kernel)
            for name, kernel in vars(module).items()
            if name.endswith("_kernel") and hasattr(kernel, "__getitem__")
        ]
    try:
        for module, name, kernel in before:
            setattr(module, name, _Launches(name, kernel, mark, seen))
        yield seen
    finally:
        for module, name, kernel in before:
            setattr(module, name, kernel)


class _Launches:
    """A kernel whose launches are marked."""

    def __init__(self, name: str, kernel: Any, mark: Callable[[], Any], seen: list[Seen]) -> None:
        self.name, self.kernel, self.mark, self.seen = name, kernel, mark, seen

    def __getitem__(self, grid: Any) -> Callable[..., Any]:
        def launching(*args: Any, **options: Any) -> Any:
            start = self.mark()
            result = self.kernel[grid](*args, **options)
            self.seen.append(Seen(self.name, start, self.mark()))
            return result

        return launching


def finished_share(index_of: list[Callable[[], Any]]) -> float | None:
    """Share of the calls (of one problem each) that had to be solved exactly in the end."""
    mended = []
    for call in index_of:
        with stages(lambda: None) as seen:
            call()
        first = next((one for one in seen if one.name == "last resort"), None)
        if first is None or first.wanted is None:
            return None
        mended.append(bool((first.wanted > 0).any()))
    return sum(mended) / len(mended)
