"""The inputs that hurt assignment solvers, against SciPy's optimum: no answer may be wrong."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from immiscible_fast import solve_assignment

from .setting import Row, Setting, short

FAMILIES_FILE = Path(__file__).resolve().parents[2] / "tests" / "families.py"
EXTREME = ("wide_range", "big_m")  # beside the file's own list: judged relatively
UNSOLVABLE = ("row_forbidden", "too_few_columns", "nan", "minus_inf")
METHODS = ("exact", "auto")
TOL = 0.01
SEED = 20
SECONDS = 0.1
PARALLEL_FROM = 100  # n: smaller optima are found at once
LIMIT = 0.5  # of the part's time: for SciPy

Array = Any


@cache
def known() -> Any:
    """The families of the tests, which are no package."""
    spec = importlib.util.spec_from_file_location("pathological_families", FAMILIES_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names() -> tuple[str, ...]:
    return (*known().FAMILIES, *EXTREME)


def make(name: str, n: int) -> Array:
    """(n, n) float32 costs."""
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode()), n])
    if name not in UNSOLVABLE:
        return np.ascontiguousarray(getattr(known(), name)(rng, n, n), np.float32)
    cost = rng.random((n, n), dtype=np.float32)
    if name == "row_forbidden":
        cost[n // 2] = np.inf
    elif name == "too_few_columns":  # two rows for one column
        cost[:2, 1:] = np.inf
    else:
        cost[n // 2, n // 3] = np.nan if name == "nan" else -np.inf
    return cost


def optimum(name: str, n: int) -> float:
    """Least cost in float64, by SciPy."""
    from scipy.optimize import linear_sum_assignment

    cost = make(name, n).astype(np.float64)
    return float(cost[linear_sum_assignment(cost)].sum())


def measure(setting: Setting) -> Iterator[Row]:
    """Rows of the part "pathologies"."""
    sizes = setting.chosen(setting.sizes.pathologies)
    cases = [(name, n) for n in sizes for name in setting.few(names())]
    best = optima(cases, LIMIT * setting.left) if setting.clock.timed else {}
    for n in sizes:
        for name in [*setting.few(names()), *setting.few(UNSOLVABLE)]:
            for method in METHODS:
                row = {"case": name, "n": n, "method": method}
                if setting.left < 3:
                    yield {**row, "skipped": "no time left"}
                    continue
                try:
                    yield row | _measured(setting, name, n, method, best.get((name, n)))
                except Exception as error:
                    yield {**row, "skipped": short(error), "failed": True}


def optima(cases: list[tuple[str, int]], seconds: float) -> dict[tuple[str, int], float]:
    """What SciPy finds in so many seconds, on all cores."""
    begin, found = time.monotonic(), {}
    small = [case for case in cases if case[1] < PARALLEL_FROM]
    found.update({case: optimum(*case) for case in small})
    rest = [case for case in cases if case[1] >= PARALLEL_FROM]
    if not rest:
        return found
    workers = max(1, min(8, (os.cpu_count() or 2) - 2))
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    futures: dict[tuple[str, int], Future[float]] = {c: pool.submit(optimum, *c) for c in rest}
    finished = wait(futures.values(), max(0.01, seconds - (time.monotonic() - begin))).done
    for case, future in futures.items():
        if future in finished and future.exception() is None:
            found[case] = future.result()  # of the others the certificate has to do
    workers_left = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in workers_left:
        process.kill()
    return found


def _measured(setting: Setting, name: str, n: int, method: str, best: float | None) -> Row:
    cost = make(name, n)
    call = partial(
        solve_assignment, torch.from_numpy(cost).to(setting.device), method=method, tol=TOL
    )
    answer = call()
    index = answer.index.cpu().numpy()
    found = {
        "converged": bool(answer.converged),
        "cost": float(answer.cost),
        "bound": float(answer.lower_bound),
        "optimum": best,
    }
    times = setting.clock.eager([call], SECONDS)
    # Sums of prices are what rounds the bound.
    slack = 8 * n * float(np.finfo(np.float64).eps) * float(answer.prices.abs().sum())
    wrong = verdict(name, cost, index, method, found, slack)
    unit = n * deviation(cost)
    gap = found["cost"] - found["bound"]
    if np.isfinite(gap):
        found["gap_sd"] = float(f"{gap / unit if unit > 0 else gap:.3g}")
    finite = {k: v for k, v in found.items() if not isinstance(v, float) or np.isfinite(v)}
    return {"eager_ms": times.median, **finite, **({"wrong": wrong} if wrong else {})}


def verdict(
    name: str, cost: Array, index: Array, method: str, found: dict[str, Any], slack: float = 0.0
) -> str:
    """What is wrong with an answer whose bound may be off by ``slack``; "" if nothing is."""
    n = len(cost)
    if not np.array_equal(np.sort(index), np.arange(n)):
        return "not a permutation"
    if name in UNSOLVABLE:
        return "claims to have converged" if found["converged"] else ""
    if not found["converged"]:
        return "not converged"
    paid = cost[np.arange(n), index].sum(dtype=np.float64)
    allowed = rounding(name, cost, found["optimum"])
    if not abs(found["cost"] - paid) <= allowed:
        return f"says {found['cost']:.9g}, and pays {paid:.9g}"
    near = 0.0 if method == "exact" else 1.02 * TOL * n * deviation(cost)
    best = found["optimum"]
    if best is None:
        gap = paid - found["bound"]
        return "" if gap <= allowed + near + slack else f"the gap is {gap:.9g}"
    if not paid - best <= allowed + near:
        return f"pays {paid:.9g}, the optimum is {best:.9g}"
    if not found["bound"] - best <= allowed + slack:
        return f"the bound {found['bound']:.9g} passes the optimum {best:.9g}"
    return ""


def rounding(name: str, cost: Array, best: float | None) -> float:
    """What rounding in float64 may do to an optimum; prices are about as large as costs."""
    if name in EXTREME and best is not None:
        return 1e-9 * abs(best)
    finite = np.abs(cost[np.isfinite(cost)].astype(np.float64))
    largest = float(finite.max()) if finite.size else 0.0
    return 16 * float(np.finfo(np.float64).eps) * len(cost) * largest


def deviation(cost: Array) -> float:
    """Standard deviation of the doubly centred finite costs, as the solver takes it."""
    wide = np.where(np.isfinite(cost), cost, np.nan).astype(np.float64)
    if not np.isfinite(wide).any():
        return 0.0
    with np.errstate(all="ignore"):
        count = np.isfinite(wide)
        rows = np.nansum(wide, 1, keepdims=True) / np.maximum(count.sum(1, keepdims=True), 1)
        wide = wide - rows
        wide -= np.nansum(wide, 0) / np.maximum(count.sum(0), 1)
        return float(np.sqrt(np.nanmean(wide**2)))
