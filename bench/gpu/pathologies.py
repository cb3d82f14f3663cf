"""The inputs that hurt assignment solvers, against SciPy's optimum: no answer may be wrong."""

from __future__ import annotations

import multiprocessing
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from functools import partial
from typing import Any

import numpy as np
import torch

from immiscible_fast import solve_assignment
from tests import checks, families

from .setting import Row, Setting

EXTREME = ("wide_range", "big_m")  # beside the file's own list: judged relatively
UNSOLVABLE = ("row_forbidden", "too_few_columns", "nan", "minus_inf")
NAMES = (*families.FAMILIES, *EXTREME)
METHODS = ("exact", "auto")
TOL = 0.01
SEED = 20
SECONDS = 0.1
LIMIT = 0.5  # of the part's time: for SciPy
Array = Any


def make(name: str, n: int) -> Array:
    """(n, n) float32 costs."""
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode()), n])
    if name not in UNSOLVABLE:
        return np.ascontiguousarray(getattr(families, name)(rng, n, n), np.float32)
    cost = rng.random((n, n), dtype=np.float32)
    if name == "row_forbidden":
        cost[n // 2] = np.inf
    elif name == "too_few_columns":  # two rows for one column
        cost[:2, 1:] = np.inf
    else:
        cost[n // 2, n // 3] = np.nan if name == "nan" else -np.inf
    return cost


def optimum(name: str, n: int) -> float:
    return float(checks.optimum(make(name, n)))


def measure(setting: Setting) -> Iterator[Row]:
    """Rows of the part "pathologies"."""
    sizes = setting.chosen(setting.sizes.pathologies)
    cases = [(name, n) for n in sizes for name in setting.few(NAMES)]
    best = optima(cases, LIMIT * setting.left) if setting.timed else {}
    unsolvable = setting.few(UNSOLVABLE) if setting.device != "cpu" else []  # a CPU raises
    for n in sizes:
        for name in [*setting.few(NAMES), *unsolvable]:
            for method in METHODS:
                row = {"case": name, "n": n, "method": method}
                measuring = partial(_measured, setting, name, n, method, best.get((name, n)))
                yield from setting.attempt(row, measuring, 3)


def optima(cases: list[tuple[str, int]], seconds: float) -> dict[tuple[str, int], float]:
    """What SciPy finds in so many seconds, on all cores; of the rest the certificate has to do."""
    workers = max(1, min(8, (os.cpu_count() or 2) - 2))
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    futures = {case: pool.submit(optimum, *case) for case in cases}
    done = wait(futures.values(), seconds).done
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
    return {case: f.result() for case, f in futures.items() if f in done and not f.exception()}


def _measured(setting: Setting, name: str, n: int, method: str, best: float | None) -> Row:
    cost = make(name, n)
    given = torch.from_numpy(cost).to(setting.device)
    call = partial(solve_assignment, given, method=method, tol=TOL)
    answer = call()
    index = answer.index.cpu().numpy()
    found = {
        "converged": bool(answer.converged),
        "cost": float(answer.cost),
        "bound": float(answer.lower_bound),
        "optimum": best,
    }
    # Sums of prices are what rounds the bound.
    slack = 8 * n * checks.EPS * float(answer.prices.abs().sum())
    wrong = verdict(name, cost, index, method, found, slack)
    finite = {k: v for k, v in found.items() if not isinstance(v, float) or np.isfinite(v)}
    times = setting.eager([call], SECONDS)
    return {"eager_ms": times["ms"], **finite, **({"wrong": wrong} if wrong else {})}


def verdict(
    name: str, cost: Array, index: Array, method: str, found: Row, slack: float = 0.0
) -> str:
    """What is wrong with an answer whose bound may be off by ``slack``; "" if nothing is."""
    n = len(cost)
    if not np.array_equal(np.sort(index), np.arange(n)):
        return "not a permutation"
    if name in UNSOLVABLE:
        return "claims to have converged" if found["converged"] else ""
    if not found["converged"]:
        return "not converged"
    paid, best = float(checks.total(cost, index)), found["optimum"]
    extreme = name in EXTREME and best is not None
    allowed = 1e-9 * abs(best) if extreme else checks.rounding(cost)
    if not abs(found["cost"] - paid) <= allowed:
        return f"says {found['cost']:.9g}, and pays {paid:.9g}"
    near = 0.0 if method == "exact" else 1.02 * TOL * n * deviation(cost)
    if best is None:
        gap = paid - found["bound"]
        return "" if gap <= allowed + near + slack else f"the gap is {gap:.9g}"
    if not paid - best <= allowed + near:
        return f"pays {paid:.9g}, the optimum is {best:.9g}"
    if not found["bound"] - best <= allowed + slack:
        return f"the bound {found['bound']:.9g} passes the optimum {best:.9g}"
    return ""


def deviation(cost: Array) -> float:
    """Standard deviation of the doubly centred finite costs, as the solver takes it."""
    wide = np.where(np.isfinite(cost), cost, np.nan).astype(np.float64)
    if not np.isfinite(wide).any():
        return 0.0
    with np.errstate(all="ignore"):
        count = np.isfinite(wide)
        wide = wide - np.nansum(wide, 1, keepdims=True) / np.maximum(count.sum(1)[:, None], 1)
        wide -= np.nansum(wide, 0) / np.maximum(count.sum(0), 1)
        return float(np.sqrt(np.nanmean(wide**2)))
