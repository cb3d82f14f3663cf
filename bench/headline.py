"""Exact solvers side by side, one call of each in turn: the ratios that README quotes.

    python -m bench.headline                            # about four minutes on two cores
    python -m bench.headline --sizes 64 256 --families photo

Solve only. Peers get centred costs, the best that they can be given, and ``scipy, raw L2`` what the
papers' code gives it; the call of ours is ``solve_assignment``, checks and certificate included.
Turns, in another order each time, keep a slow moment of the machine or a cache that another solver
warmed from favouring one of them.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from immiscible_fast import solve_assignment

from . import families, peers, record

LARGEST = {"photo": 4096, "onef": 2048, "digits": 1797, "uniform": 2048}  # of each family
SIZES = (64, 96, 128, 256, 512, 1024, 2048, 4096)
ROUNDS = 4096  # over n, from 1 to 40
OURS = "exact"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.headline", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--families", nargs="+", choices=LARGEST, default=list(LARGEST))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--out", type=Path, default=record.RESULTS / "headline")
    options = parser.parse_args(argv)
    rows = []
    for family in options.families:
        for n in options.sizes:
            if n <= LARGEST[family]:
                rows.append(side_by_side(family, n))
                print(line(rows[-1]), flush=True)
    device = record.device_facts("cpu", torch.get_num_threads())
    print(record.save(options.out, device, rows=rows))
    return 0


def side_by_side(family: str, n: int) -> dict[str, Any]:
    """Median milliseconds of every exact solver on one problem, and the gap of our answer."""
    problem = families.problem(family, n)
    costs = {form: torch.from_numpy(problem.cost(form)) for form in problem.forms}
    methods = [m for m in contenders() if m.takes in costs]
    seconds: dict[str, list[float]] = {method.name: [] for method in methods}
    order = random.Random(0)
    warm_up = torch.rand(32, 32)
    for method in methods:
        method.solve(warm_up)
    for _ in range(max(1, min(40, ROUNDS // n))):
        order.shuffle(methods)
        for method in methods:
            for _ in range(5 if method.ours and n >= ROUNDS else 1):
                begin = time.perf_counter()
                method.solve(costs[method.takes])
                seconds[method.name].append(time.perf_counter() - begin)
    answer = solve_assignment(costs[peers.CENTRED])
    deviation = float(costs[peers.CENTRED].std())
    medians = {name: 1e3 * statistics.median(times) for name, times in seconds.items()}
    best = min((name for name in medians if name not in (OURS, "scipy, raw L2")), key=medians.get)
    return {
        "family": family,
        "n": n,
        "ms": {name: float(f"{value:.4g}") for name, value in medians.items()},
        "gap_per_row_sd": float(answer.gap) / n / deviation,
        "fastest_peer": best,
        "speed_up": round(medians[best] / medians[OURS], 2),
        "speed_up_scipy_raw": round(medians["scipy, raw L2"] / medians[OURS], 1)
        if "scipy, raw L2" in medians
        else None,
    }


def contenders() -> list[peers.Method]:
    """Ours, and every exact solver that is installed and worth its time."""
    slow = ("POT emd", "torch-linear-assignment", "exact, raw", "scipy, raw")
    return [
        method
        for method in peers.solvers()
        if method.exact and method.name not in slow and not peers.why_not(method, "cpu")
    ]


def whole_table(result: dict[str, Any]) -> str:
    return markdown(result, tuple({row["n"] for row in result["rows"]}))


def markdown(result: dict[str, Any], sizes: tuple[int, ...] = (64, 256, 1024, 2048, 4096)) -> str:
    """The table of README."""
    lines = [
        "| costs | n | exact (ours) | fastest exact peer | speed-up | SciPy on raw L2, speed-up |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        if row["n"] in sizes:
            raw = row["speed_up_scipy_raw"]
            lines.append(
                f"| {row['family']} | {row['n']} | {row['ms'][OURS]:.3g} ms "
                f"| {row['fastest_peer']}, {row['ms'][row['fastest_peer']]:.3g} ms "
                f"| {row['speed_up']:.3g}x | {f'{raw:.3g}x' if raw else '-'} |"
            )
    return "\n".join(lines)


def line(row: dict[str, Any]) -> str:
    raw = f", {row['speed_up_scipy_raw']}x scipy on raw L2" if row["speed_up_scipy_raw"] else ""
    return (
        f"{row['family']:8} n={row['n']:5}  {row['ms'][OURS]:8.3f} ms, gap "
        f"{row['gap_per_row_sd']:.0e} sd, {row['speed_up']}x {row['fastest_peer']}{raw}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
