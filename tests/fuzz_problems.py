"""Problems of a fuzz run, drawn from a seed, and what is right about an answer to one.

Wrong is: a cost that is not SciPy's, an index that is no matching, a certificate above the optimum,
work beyond ``budget``, or an exception that SciPy does not raise too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from immiscible_fast.kernels.cpu import schedule
from immiscible_fast.kernels.cpu.work import COUNTERS

from immiscible_fast import (
    batch_linear_assignment,
    linear_sum_assignment,
    solve_assignment,
)
from immiscible_fast.cpu import backend as cpu
from immiscible_fast.cpu import solver
from tests import checks, families

FAMILIES = {**families.FAMILIES, "wide_range": families.wide_range, "big_m": families.big_m}
EXTREME = ("wide_range", "big_m")  # the optimum is tiny beside the largest entries
METHODS = ("exact", "auction", "linear_sum_assignment", "batch", "cost_limit")
DTYPES = ("float32", "float64", "float16", "int64", "int32", "bool")
FINISHES = 4  # exact finishes at most: of few columns, after the auction, again, without prices
PASSES = 4 + FINISHES * 2 + 1 + 3  # statistics of infinite costs, certificates, lists, rectangles
PHASES = 30  # of one auction: eps falls by 6 or more between two, 52 bits at most, and grows before
WHOLE_ROWS = ("bid_scans", "dual_scans", "reductions", "row_relaxations", "tie_scans")
KINDS = {
    "tiny": 0.25,
    "small": 0.35,
    "medium": 0.2,
    "nearly square": 0.05,
    "threshold": 0.1,
    "long": 0.048,
    "listed": 0.002,
}
Problem = dict[str, Any]


def draw(seed: int, number: int) -> Problem:
    """Problem ``number`` of a run: what it is, and its matrices."""
    rng = np.random.default_rng([seed, number])
    method = str(rng.choice(METHODS))
    family = str(rng.choice(list(FAMILIES)))
    dtype = str(rng.choice(DTYPES, p=(0.4, 0.3, 0.1, 0.1, 0.05, 0.05)))
    n, m = draw_shape(rng, method)
    batch = int(rng.integers(0, 5)) if method == "batch" else 1
    costs = np.stack([FAMILIES[family](rng, n, m) for _ in range(max(batch, 1))])[:batch]
    if rng.random() < 0.05:  # often infeasible
        costs = np.where(rng.random(costs.shape) < rng.random(), np.inf, costs)
    costs = cast(costs, dtype)
    if rng.random() < 0.2:  # a view with strides of its own
        costs = np.ascontiguousarray(costs.transpose(0, 2, 1)).transpose(0, 2, 1)
    options: dict[str, Any] = {}
    if method == "auction":
        options["tol"] = float(10 ** rng.uniform(-6, 0))
    if method in ("linear_sum_assignment", "cost_limit"):
        options["maximize"] = bool(rng.random() < 0.5)
    if method == "cost_limit":
        finite = costs[np.isfinite(costs)].astype(float)
        options["limit"] = float(np.quantile(finite, rng.random())) if finite.size else 0.0
    return {"family": family, "dtype": dtype, "method": method, "costs": costs, **options}


def draw_shape(rng: np.random.Generator, method: str) -> tuple[int, int]:
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    if kind == "listed" and method != "cost_limit":
        n, m = families.LISTED + rng.integers(-2, 60, 2)
    elif kind == "long":
        n, m = rng.integers(0, 5), rng.integers(0, 1000)
    elif kind == "nearly square":
        n = rng.integers(0, 200)
        m = n + rng.integers(1, 9)
    elif kind == "threshold":
        n, m = rng.choice(families.SIZES[:9], 2)
    else:
        n, m = rng.integers(0, {"tiny": 6, "small": 25}.get(kind, 100), 2)
    if rng.random() < 0.4 and kind != "nearly square":
        m = n
    return (int(n), int(m)) if rng.random() < 0.6 else (int(m), int(n))


def cast(costs: Any, dtype: str) -> Any:
    """The costs in another type; integers keep three digits, and forbid nothing."""
    if dtype.startswith("float"):
        with np.errstate(over="ignore"):
            return costs.astype(dtype)
    finite = np.where(np.isfinite(costs), costs, 0)
    if dtype == "bool":
        return finite > np.median(finite) if finite.size else finite.astype(bool)
    largest = np.abs(finite).max(initial=1e-300)
    return np.rint(finite * (999 / largest)).astype(dtype)


def check(problem: Problem) -> dict[str, float]:
    """Raise if anything is wrong; else how far off the answers were."""
    costs, method = problem["costs"], problem["method"]
    feasible = [is_feasible(cost, problem) for cost in costs]
    try:
        answers = solve(problem)
    except ValueError as error:
        assert "infeasible" in str(error) or "invalid numeric" in str(error), error
        assert not all(feasible), f"SciPy finds it feasible, not: {error}"
        return {}
    assert all(feasible), "SciPy finds it infeasible"
    worst = {"cost_error": 0.0, "overclaim": 0.0, "row_scans_per_row": 0.0}
    for cost, answer in zip(costs, answers, strict=True):
        index = answer.index.numpy() if method in ("exact", "auction") else answer
        errors = compare(cost, index, problem)
        if method in ("exact", "auction"):
            errors["overclaim"] = certified(cost, answer, problem)
            errors["row_scans_per_row"] = worked(cost, problem)
        worst = {name: max(value, errors.get(name, 0.0)) for name, value in worst.items()}
    return worst


def solve(problem: Problem) -> Any:
    """Answers of the method, one a matrix: assignments, or the columns of the rows."""
    costs, method = problem["costs"], problem["method"]
    if method in ("exact", "auction"):
        options = {"tol": problem["tol"]} if method == "auction" else {}
        return [solve_assignment(torch.from_numpy(costs[0]), method=method, **options)]
    if method == "batch":
        return batch_linear_assignment(torch.from_numpy(costs)).numpy()
    limit = {"cost_limit": problem["limit"]} if method == "cost_limit" else {}
    rows, columns = linear_sum_assignment(costs[0], problem["maximize"], **limit)
    assert (np.diff(rows) > 0).all()
    index = np.full(costs.shape[1], -1)
    index[rows] = columns
    return [index]


def signed(cost: Any, problem: Problem) -> Any:
    wide = np.asarray(cost, np.float64)
    return -wide if problem.get("maximize") else wide


def is_feasible(cost: Any, problem: Problem) -> bool:
    if problem["method"] == "cost_limit":
        wide = signed(cost, problem)
        return not np.isneginf(wide).any()
    wide = signed(cost, problem)
    if np.isneginf(wide).any():
        return False  # SciPy's other ValueError, which ``solve`` must raise too
    try:
        checks.optimum(wide)
    except ValueError:
        return False
    return True


def compare(cost: Any, index: Any, problem: Problem) -> dict[str, float]:
    """Excess of the cost over SciPy's, relative to the costs that SciPy pays."""
    wide = signed(cost, problem)
    n, m = wide.shape
    paid = checks.total(wide, index)
    if problem["method"] == "cost_limit":
        limit = -problem["limit"] if problem["maximize"] else problem["limit"]
        matched = np.flatnonzero(index >= 0)
        assert np.unique(index[matched]).size == matched.size
        assert (wide[matched, index[matched]] <= limit).all(), "a pair above the limit"
        extended = np.full((n + m, n + m), limit / 2)
        extended[:n, :m], extended[n:, m:] = wide, 0
        best = checks.optimum(extended) - abs(n - m) * limit / 2
        paid += limit * (min(n, m) - matched.size)
        wide = extended
    else:
        checks.assert_matching(np.asarray(index, np.int64), n, m)
        best = checks.optimum(wide)
    if problem["method"] == "auction":
        return {}
    size = float(np.abs(wide[np.isfinite(wide)]).max(initial=0.0))
    allowed = 1e-9 * abs(best) if problem["family"] in EXTREME else checks.rounding(wide)
    if problem["method"] == "cost_limit":
        allowed = 1e-12 * (n + m) * size
    assert abs(paid - best) <= allowed, f"cost {paid!r}, SciPy's {best!r}"
    return {"cost_error": abs(paid - best) / size if size else 0.0}


def certified(cost: Any, answer: Any, problem: Problem) -> float:
    """How far the lower bound is above the optimum, relative to the largest cost."""
    array = np.asarray(cost)
    array = array.astype(np.float32) if array.dtype == np.float16 else array
    wide = np.asarray(array, np.float64)
    size = float(np.abs(wide[np.isfinite(wide)]).max(initial=0.0))
    if problem["method"] == "exact" and problem["family"] not in EXTREME and min(wide.shape):
        checks.assert_exact(wide, answer)
    elif min(wide.shape):
        checks.assert_certified(wide, answer)
        if np.isfinite(wide).all() and problem["family"] not in EXTREME:
            solved = array if array.dtype.kind == "f" else wide
            checks.assert_within(solved, answer, problem.get("tol", 1e-9))
    best = checks.optimum(wide)
    return max(0.0, float(answer.lower_bound) - best) / size if size else 0.0


def budget(n: int, m: int) -> dict[str, int]:
    """The most that one solve of n <= m may count, whatever its costs.

    A bid looks at one row; so does a phase of the auction at what it keeps, a finish at each of its
    duals, a search at each row that it reaches, and a phase of the matching.
    """
    bids = schedule.AUCTION_BIDS_PER_ROW * n
    reductions = FINISHES * (schedule.REDUCTION_BIDS_PER_ROW + 1) * n
    paths = FINISHES * m
    if n < m:  # before the auction
        reductions += (schedule.RECTANGLE_BIDS_PER_ROW + 1) * n
        paths += n
    return {
        "bids": bids,
        "bid_scans": bids + PHASES * n + reductions + 2 * n,
        "dual_scans": FINISHES * n,
        "reductions": reductions,
        "paths": paths,
        "list_relaxations": paths * (n + 1),
        "row_relaxations": paths * (n + 1),
        "tie_scans": schedule.TIE_PHASES * n,
        "pass_scans": PASSES * n,
    }


def worked(cost: Any, problem: Problem) -> float:
    """Scans of whole rows in a solve, for each row; raises if any work is over its budget."""
    wide = cpu.as_solver_array(torch.from_numpy(cost if cost.shape[0] <= cost.shape[1] else cost.T))
    n, m = wide.shape
    if n == 0:
        return 0.0
    exact, tol = problem["method"] == "exact", problem.get("tol", 1.0)
    solution = solver.solve(wide[None], exact=exact, tol=tol)
    assert solution.work is not None
    allowed, work = budget(n, m), dict(zip(COUNTERS, solution.work[0].tolist(), strict=True))
    over = [f"{name}: {count}, at most {allowed[name]}" for name, count in work.items()
            if count > allowed[name]]  # fmt: skip
    assert not over, f"over budget: {over}"
    return sum(work[name] for name in WHOLE_ROWS) / n
