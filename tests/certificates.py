"""Certificates in exact arithmetic: lower_bound <= optimum <= cost, for problems of up to 6 x 6.

Floats are integers times 2^-1074, and Python's integers are exact; the optimum is found by dynamic
programming over sets of columns. Nothing is rounded, so a bound that lies by a bit is caught.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from immiscible_fast import Assignment, solve_assignment

UNIT = 1 << 1074
LARGEST = 6  # rows or columns
BATCH = 25
METHODS = ("exact", "exact", "auction", "sinkhorn")
DTYPES = (torch.float64, torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64)


def powers(width: float, signed: bool = False) -> Any:
    """A family of entries over ``2 width`` orders of magnitude."""

    def family(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        sign = rng.choice((-1.0, 1.0), shape) if signed else 1.0
        return sign * 10 ** rng.uniform(-width, width, shape)

    return family


def sentinels(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Pairs forbidden by a large number instead of inf."""
    value = rng.choice((1e9, 1e18, 1e25, 1e100, 1e300, np.finfo(np.float64).max))
    return np.where(rng.random(shape) < 0.4, value, rng.random(shape))


def forbidden(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """inf off one assignment, which stays feasible."""
    cost = np.where(rng.random(shape) < 0.5, np.inf, rng.normal(size=shape))
    short = np.arange(min(shape[1:]))
    cost[:, short, short] = rng.normal(size=(shape[0], short.size))
    return cost


FAMILIES: dict[str, Any] = {
    "uniform": lambda rng, shape: rng.random(shape),
    "normal": lambda rng, shape: rng.normal(size=shape),
    "integers": lambda rng, shape: rng.integers(-9, 10, shape).astype(float),
    "large integers": lambda rng, shape: rng.integers(0, 2**53 // 8, shape).astype(float),
    "two values": lambda rng, shape: rng.choice((0.1, 0.3), shape),
    "offset": lambda rng, shape: 1e6 + rng.random(shape),
    "15 orders": powers(15),
    "15 orders, signed": powers(15, signed=True),
    "150 orders": powers(150),
    "300 orders": powers(300, signed=True),
    "subnormal": lambda rng, shape: rng.integers(-50, 50, shape) * 5e-324,
    "near the top": lambda rng, shape: rng.uniform(-1, 1, shape) * 1.7e308,
    "sentinels": sentinels,
    "forbidden": forbidden,
}


def integer(value: float) -> int:
    """``value / 2^-1074``."""
    numerator, denominator = value.as_integer_ratio()
    return numerator * (UNIT // denominator)


def optimum(cost: list[list[float]]) -> int:
    """Least cost of n rows in different ones of m >= n columns, in units of 2^-1074."""
    best = {0: 0}
    for row in cost:
        entries = [(1 << j, integer(value)) for j, value in enumerate(row) if value < math.inf]
        after: dict[int, int] = {}
        for taken, paid in best.items():
            for column, value in entries:
                if not taken & column:
                    key, total = taken | column, paid + value
                    if key not in after or total < after[key]:
                        after[key] = total
        best = after
    return min(best.values())


def draw(rng: np.random.Generator) -> tuple[str, str, Tensor]:
    """(family, method, costs (B, n, m))."""
    family, method = str(rng.choice(list(FAMILIES))), str(rng.choice(METHODS))
    shape = (BATCH, *rng.integers(1, LARGEST + 1, 2).tolist())
    cost = torch.from_numpy(FAMILIES[family](rng, shape))
    dtype = DTYPES[rng.integers(len(DTYPES))]
    if dtype.is_floating_point or "integers" in family:
        narrow = cost.to(dtype)
        if bool((narrow.isinf() == cost.isinf()).all()):
            cost = narrow
    return family, method, cost


def judge(cost: list[list[float]], answer: Assignment) -> float:
    """Raise if the certificate lies; else the gap relative to the largest of the costs paid."""
    n, m = len(cost), len(cost[0])
    best = optimum(cost if n <= m else [list(column) for column in zip(*cost, strict=True)])
    paid = [cost[i][j] for i, j in enumerate(answer.index.tolist()) if j >= 0]
    total, bound = float(answer.cost), float(answer.lower_bound)
    assert len(paid) == min(n, m)
    exact = sum(map(integer, paid))
    assert best <= exact
    assert total == math.inf or integer(total) >= exact, f"cost {total!r} is below what is paid"
    assert bound == -math.inf or integer(bound) <= best, f"bound {bound!r} is above the optimum"
    size = max(map(abs, paid))
    return (total - bound) / size if size else float(total > bound)


def run(count: int, seed: int) -> dict[str, Any]:
    """Judge ``count`` certificates; the largest relative gaps of exact answers by family."""
    rng = np.random.default_rng(seed)
    checked: Counter[str] = Counter()
    gaps = dict.fromkeys(FAMILIES, 0.0)
    lies: list[str] = []
    unproven = 0
    while checked.total() < count:
        family, method, cost = draw(rng)
        answers = solve_assignment(cost, method=method)
        for matrix, *fields in zip(cost.tolist(), *answers, strict=True):
            answer = Assignment(*fields)
            checked[family] += 1
            try:
                gap = judge([[float(value) for value in row] for row in matrix], answer)
            except AssertionError as error:
                lies.append(f"{family}, {method}, {cost.dtype}: {error}: {matrix}")
                continue
            unproven += not math.isfinite(gap)
            if method == "exact" and math.isfinite(gap):
                gaps[family] = max(gaps[family], gap)
    return {
        "certificates": checked.total(),
        "lies": lies,
        "unproven": unproven,
        "family": dict(checked),
        "largest_gap_of_exact": gaps,
    }
