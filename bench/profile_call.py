"""What the time of one ``fast_assign(x, noise)`` on a CPU consists of.

    python -m bench.profile_call 256 1024 2048 --dim 3072
    python -m bench.profile_call 1024 --method auction

The stages of the compiled solver are timed by running its driver (``_solve_one``) as plain Python,
with every compiled function that it calls wrapped in a clock. So a new stage of the solver shows up
by itself, and what the driver does between its stages counts as "other".
"""

from __future__ import annotations

import argparse
import time
import types
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from immiscible_fast.kernels.cpu import solver
from immiscible_fast.kernels.cpu.work import SLOTS
from numba.core.dispatcher import Dispatcher
from torch import Tensor

from immiscible_fast import fast_assign
from immiscible_fast.backends.cpu import as_solver_array, assignment_cost

from . import families, tables

FAMILY_DIMS = {3072: "photo", 64: "digits", 16384: "latents"}
NAMES = {  # of the compiled functions, in the words of the report
    "auction": "auction",
    "exact_finish": "exact finish",
    "_conclude": "certificate",
    "_is_loose": "certificate",
    "_statistics": "statistics",
}
SET_UP = "set-up"  # any other compiled function: lists, start prices, units of eps
STAGES = (
    "distance product",
    "statistics",
    SET_UP,
    "auction",
    "exact finish",
    "certificate",
    "other",
)
Seconds = dict[str, float]
TOL = 0.01  # of "auction"


def profile(n: int, dim: int = 3072, method: str = "exact", repeats: int = 9) -> dict[str, Any]:
    """Milliseconds of each stage of one call, each at its fastest, and the name of the largest.

    At its fastest, because a stage of torch waits for all its threads: one that another program
    keeps waiting would be read as work.
    """
    family = FAMILY_DIMS[dim]
    drawn = families.problem(family, n).samples
    x, noise = drawn.x, drawn.noise
    flat_x, flat_noise = x.flatten(1)[None], noise.flatten(1)[None]

    def product() -> Tensor:
        return assignment_cost(flat_x, flat_noise, "sqeuclidean", method, TOL)

    def call() -> Tensor:
        return fast_assign(x, noise, method=method, tol=TOL)

    cost = as_solver_array(product())[0]
    inside: Seconds = defaultdict(float)
    staged = staged_solver(inside, method == "exact")
    staged(cost)  # compiles
    call()
    samples: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):  # in turn, so that a slow moment of the machine hits all of them
        whole = _seconds(call)
        parts = dict.fromkeys(STAGES, 0.0)
        parts["distance product"] = _seconds(product)
        inside.clear()
        staged(cost)
        for name, seconds in inside.items():
            parts[NAMES.get(name, SET_UP)] += seconds
        samples["total"].append(whole)
        for name, seconds in parts.items():
            samples[name].append(seconds)
    stages = {name: round(1e3 * min(taken), 4) for name, taken in samples.items()}
    total = stages.pop("total")
    stages["other"] = round(max(total - sum(stages.values()), 0.0), 4)
    largest = max(stages, key=stages.__getitem__)
    return {
        "family": family,
        "n": n,
        "dim": dim,
        "method": method,
        "total_ms": total,
        "stages_ms": stages,
        "largest": largest,
        "largest_share": round(stages[largest] / max(sum(stages.values()), 1e-9), 3),
    }


def staged_solver(seconds: Seconds, exact: bool) -> Callable[[np.ndarray], None]:
    """The solver's driver in plain Python; adds the time of each compiled stage to ``seconds``."""
    driver = solver._solve_one.py_func
    names = dict(driver.__globals__)
    for name, value in driver.__globals__.items():
        if isinstance(value, Dispatcher):
            names[name] = _clocked(name, value, seconds)
    staged = types.FunctionType(driver.__code__, names)

    def solve(cost: np.ndarray) -> None:
        n, width = cost.shape
        index, work = np.empty(n, np.int64), np.zeros(SLOTS, np.int64)
        options, empty = (np.inf, exact, TOL, False, True), (np.empty(2), np.empty(n))
        status = staged(cost, width, *options, np.empty(width), index, *empty, work)
        if status != solver.SOLVED:
            raise RuntimeError(f"the staged solver stopped with status {status}")

    return solve


def _clocked(name: str, compiled: Dispatcher, seconds: Seconds) -> Callable[..., Any]:
    # Kernels are compiled without reference counts, and so cannot be called from Python themselves.
    shim = numba.njit(lambda *arguments: compiled(*arguments))

    def call(*arguments: Any) -> Any:
        begin = time.perf_counter()
        result = shim(*arguments)
        seconds[name] += time.perf_counter() - begin
        return result

    return call


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n", type=int, nargs="*", default=[256, 1024, 2048])
    parser.add_argument("--dim", type=int, choices=sorted(FAMILY_DIMS), default=3072)
    parser.add_argument("--method", choices=("exact", "auction"), default="exact")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    chosen = options.dim, options.method, options.repeats
    print(tables.profile_table([profile(n, *chosen) for n in options.n]))


if __name__ == "__main__":
    main()
