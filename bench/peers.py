"""What a user could call instead: a small adapter for each solver, each behind an optional import.

A solver of one problem takes a (n, n) float32 tensor and returns the column of each row; a solver
of batches takes (B, n, n) and returns (B, n). A copy from the device, where a peer needs one, is
part of what it costs. Whoever is not installed is reported as missing, with the reason.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from immiscible_fast import solve_assignment

CENTRED, RAW, EUCLIDEAN = "centred", "raw", "euclidean"  # forms of families.Problem
OWN = "immiscible_fast"


@dataclass(frozen=True)
class Method:
    """One way to solve the problems of a stage."""

    name: str
    solve: Callable[..., Any]
    package: str = OWN  # distribution, whose version is recorded
    module: str = OWN  # what has to import
    takes: str = CENTRED  # form of the cost
    exact: bool = True  # whether it promises the optimum of what it takes
    only: str = ""  # device type, where it runs on no other
    bijective: bool = True  # whether every noise is used once
    largest: int = 1 << 30  # n
    growth: int = 3  # power of n by which its time is foretold

    @property
    def ours(self) -> bool:
        return self.package == OWN


def array(cost: Tensor) -> NDArray[np.float32]:
    """The tensor as numpy sees it: no copy on the CPU."""
    return cost.cpu().numpy()


@cache
def why_missing(module: str) -> str:
    """Why the module does not import here; an empty string if it does."""
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken peer may raise anything
        return f"{type(error).__name__}: {error}".splitlines()[0][:120]
    return ""


def why_not(method: Method, device: str) -> str:
    """Why the method cannot run on this device of this machine; an empty string if it can."""
    if method.only and method.only != device:
        return f"runs on {method.only} only"
    return why_missing(method.module)


def version(package: str) -> str:
    if package == OWN:
        import immiscible_fast

        return immiscible_fast.__version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def inventory(methods: list[Method], device: str) -> dict[str, str]:
    """Package -> version, or why it is missing, for everything that ``methods`` want."""
    found = {}
    for method in methods:
        reason = why_not(method, device)
        found[method.package] = f"missing ({reason})" if reason else version(method.package)
    return dict(sorted(found.items()))


def own(method: str, tol: float = 0.01) -> Callable[[Tensor], Tensor]:
    """Our solver by its public name, for one problem and for a batch alike."""
    return lambda cost: solve_assignment(cost, method=method, tol=tol).index


def scipy_solve(cost: Tensor) -> NDArray[np.int64]:
    from scipy.optimize import linear_sum_assignment

    columns: NDArray[np.int64] = linear_sum_assignment(array(cost))[1]
    return columns


def scipy_loop(costs: Tensor) -> NDArray[np.int64]:
    return np.stack([scipy_solve(cost) for cost in costs])


def lapjv_solve(cost: Tensor) -> Any:
    import lapjv

    return lapjv.lapjv(array(cost))[0]


def lapx_solve(cost: Tensor) -> Any:
    import lap

    return lap.lapjv(array(cost), return_cost=False)[0]


def lapx_named(function: str, cost: Tensor) -> Any:
    """lapx's newer solvers, and their batched forms: (rows, columns)."""
    import lap

    return np.asarray(getattr(lap, function)(array(cost), return_cost=False)[1])


def lapcpp_solve(cost: Tensor) -> Any:
    import lapcpp

    return lapcpp.lapjv(array(cost), return_cost=False)[1]


def lapcpp_batch(costs: Tensor) -> Any:
    import lapcpp

    return np.asarray(lapcpp.lapjv_batch(array(costs), return_cost=False)[1])


def fastlap_solve(algorithm: str, cost: Tensor) -> Any:
    import fastlap

    return np.asarray(fastlap.solve_lap(array(cost), algorithm)[1])


def fastlap_batch(costs: Tensor) -> Any:
    import fastlap

    return np.asarray([rows for _, rows, _ in fastlap.solve_lap_batch(array(costs), "lapjv")])


def pot_emd(cost: Tensor) -> Any:
    import ot

    weight = np.full(cost.shape[0], 1 / cost.shape[0])
    return ot.emd(weight, weight, array(cost)).argmax(1)


def pot_sinkhorn(eps: float, updates: int, method: str, cost: Tensor) -> NDArray[np.int64]:
    """POT's Sinkhorn, ``eps`` in standard deviations, then a greedy rounding to a permutation."""
    import ot

    matrix = array(cost).astype(np.float64)
    weight = np.full(matrix.shape[0], 1 / matrix.shape[0])
    plan = ot.sinkhorn(
        weight, weight, matrix, eps * matrix.std(), method=method, numItermax=updates, warn=False
    )
    return round_plan(plan)


def torch_linear_assignment(cost: Tensor) -> Any:
    from torch_linear_assignment import batch_linear_assignment

    return batch_linear_assignment(cost if cost.ndim == 3 else cost[None]).reshape(cost.shape[:-1])


def round_plan(plan: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows take their likeliest column that is left, the surest row first."""
    left = np.nan_to_num(plan)
    index = np.empty(len(left), np.int64)
    for row in np.argsort(-left.max(1), kind="stable"):
        index[row] = left[row].argmax()
        left[:, index[row]] = -1.0
    return index


def solvers() -> list[Method]:
    """Solvers of one problem from its cost matrix."""
    ours = partial(Method, growth=2)
    fastlap = partial(Method, package="fastlap", module="fastlap")
    lapx = partial(Method, package="lapx", module="lap")
    pot = partial(Method, package="POT", module="ot")
    scipy = partial(Method, solve=scipy_solve, package="scipy", module="scipy.optimize")
    return [
        ours("exact", own("exact")),
        ours("exact, raw", own("exact"), takes=RAW),
        ours("auction 0.01", own("auction", 0.01), exact=False),
        ours("auction 0.1", own("auction", 0.1), exact=False),
        ours("sinkhorn 0.01", own("sinkhorn", 0.01), exact=False),
        scipy("scipy"),
        scipy("scipy, raw", takes=RAW),
        scipy("scipy, raw L2", takes=EUCLIDEAN),
        Method("lapjv", lapjv_solve, "lapjv", "lapjv"),
        lapx("lapx lapjv", lapx_solve),
        *(lapx(f"lapx {f}", partial(lapx_named, f)) for f in ("lapjvs", "lapjvr", "lapjvh")),
        Method("lapcpp", lapcpp_solve, "lapcpp", "lapcpp"),
        *(fastlap(f"fastlap {a}", partial(fastlap_solve, a)) for a in ("lapjv", "auction")),
        pot("POT emd", pot_emd),
        pot("POT sinkhorn 0.1", partial(pot_sinkhorn, 0.1, 300, "sinkhorn"), exact=False),
        Method(
            "torch-linear-assignment",
            torch_linear_assignment,
            "torch-linear-assignment",
            "torch_linear_assignment",
        ),
    ]


def batch_solvers() -> list[Method]:
    """Solvers of many problems at once."""
    return [
        Method("exact", own("exact")),
        Method("auction 0.01", own("auction", 0.01), exact=False),
        Method("scipy, one by one", scipy_loop, "scipy", "scipy.optimize"),
        *(
            Method(f"lapx {f}", partial(lapx_named, f), "lapx", "lap")
            for f in ("lapjvs_batch", "lapjvr_batch")
        ),
        Method("lapcpp lapjv_batch", lapcpp_batch, "lapcpp", "lapcpp"),
        Method("fastlap solve_lap_batch", fastlap_batch, "fastlap", "fastlap"),
        Method(
            "torch-linear-assignment",
            torch_linear_assignment,
            "torch-linear-assignment",
            "torch_linear_assignment",
        ),
    ]
