"""The inputs that hurt assignment solvers, against SciPy's optimum: no answer may be wrong."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from immiscible_fast import solve_assignment
from tests import checks, families

from .setting import METHODS, TOL, Case, Row, Setting, check

EXTREME = ("wide_range", "big_m")  # beside the tests' own list: judged relatively
UNSOLVABLE = ("row_forbidden", "too_few_columns", "nan", "minus_inf")
SEED = 20
SECONDS = 0.1


def make(name: str, n: int) -> Any:
    """(n, n) float32 costs."""
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode()), n])
    cost = np.ascontiguousarray(getattr(families, name, families.uniform)(rng, n, n), np.float32)
    if name == "row_forbidden":
        cost[n // 2] = np.inf
    elif name == "too_few_columns":  # two rows for one column
        cost[:2, 1:] = np.inf
    elif name in UNSOLVABLE:
        cost[n // 2, n // 3] = np.nan if name == "nan" else -np.inf
    return cost


def cases(setting: Setting) -> Iterator[Case]:
    unsolvable = UNSOLVABLE if setting.device != "cpu" else ()  # a CPU raises
    for n in setting.sizes:
        for name in (*families.FAMILIES, *EXTREME, *unsolvable):
            for method in METHODS:
                facts = {"case": name, "n": n, "method": method}
                yield Case(facts, partial(_measured, setting, name, n, method))


def _measured(setting: Setting, name: str, n: int, method: str) -> Row:
    cost = torch.from_numpy(make(name, n)).to(setting.device)
    call = partial(solve_assignment, cost, method=method, tol=TOL)
    answer = call()
    found: Row = {"converged": bool(answer.converged)}
    if wrong := verdict(name, cost, answer, method):
        found["wrong"] = wrong
    return found | setting.eager([call], SECONDS)


def verdict(name: str, cost: torch.Tensor, answer: Any, method: str) -> str:
    """What is wrong with an answer; "" if nothing is."""
    try:
        if name in UNSOLVABLE:
            checks.assert_matching(answer.index.cpu(), *cost.shape)
            assert not bool(answer.converged), "claims to have converged"
            return ""
        check(cost, answer, method)
        best = checks.optimum(cost.cpu())
        if name in EXTREME and method == "exact":
            paid = checks.total(cost.cpu(), answer.index.cpu())
            assert abs(paid - best) <= 1e-9 * abs(best), f"pays {paid:.9g}, optimal is {best:.9g}"
    except AssertionError as error:
        return str(error).split("\n")[0] or "not optimal, or not as proven"
    return ""
