"""Exact solvers side by side, one call of each in turn: the ratios that README quotes.

    python -m bench.headline                            # about four minutes on two cores
    python -m bench.headline --sizes 64 256 --families photo

Solve only. Peers get centred costs, the best that they can be given, and ``scipy, raw L2`` what the
papers' code gives it; the call of ours is ``solve_assignment``, checks and certificate included,
beside ``linear_sum_assignment`` of an array, which is what small problems ask for. Of those, the
last lines say how many microseconds a call takes above what it is compiled to.
Every solver first solves the problem once, untimed, and its answer is judged: one that is not
optimal is no peer. Turns, in another order each time, keep a slow moment of the machine or a cache
that another solver warmed from favouring one of them; a call of over two seconds is timed once.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from immiscible_fast.kernels.cpu.solver import SMALL

from immiscible_fast import fast_assign, linear_sum_assignment
from immiscible_fast.backends import cpu, numba_cpu

from . import families, measure, peers, record, tables

LARGEST = {"photo": 4096, "onef": 2048, "digits": 1797, "uniform": 2048, "integers": 64}
SIZES = (16, 32, 64, 100, 128, 256, 512, 1024, 2048, 4096)
ROUNDS = 4096  # over n, from 5 to 40
FEWEST, MOST = 5, 40
SLOW = 2.0  # seconds; a call that takes longer is timed once
OURS, DROP_IN, RAW = "exact", "linear_sum_assignment", "scipy, raw L2"


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
    above = [overhead(n) for n in options.sizes if n <= SMALL]
    for row in above:
        print(f"overhead n={row['n']}: {row['us']}")
    device = record.device_facts("cpu", torch.get_num_threads())
    print(record.save(options.out, device, rows=rows, overhead=above))
    return 0


def side_by_side(family: str, n: int) -> dict[str, Any]:
    """Median milliseconds of every exact solver on one problem, and how good its answer is."""
    problem = families.problem(family, n)
    costs = {form: torch.from_numpy(problem.cost(form)) for form in problem.forms}
    methods = [m for m in contenders() if m.takes in costs]
    warm_up = torch.rand(32, 32)
    seconds: dict[str, list[float]] = {}
    quality = {}
    ref = measure.reference(problem)
    for method in methods:
        method.solve(warm_up)
        index, taken = timed(method, costs)
        seconds[method.name] = [taken]
        quality[method.name] = measure.assignment_quality(problem.centred, index, ref)
    turns = [method for method in methods if seconds[method.name][0] < SLOW]
    for method in turns:
        seconds[method.name].clear()
    order = random.Random(0)
    rounds = max(FEWEST, min(MOST, ROUNDS // n))
    for _ in range(rounds):
        order.shuffle(turns)
        for method in turns:
            seconds[method.name].append(timed(method, costs)[1])
    medians = {name: 1e3 * statistics.median(times) for name, times in seconds.items()}
    right = [m.name for m in methods if quality[m.name]["share"] >= 1 - tables.ALIKE_SHARE]
    best = min((name for name in right if name not in (OURS, DROP_IN)), key=medians.__getitem__)
    row = {
        "family": family,
        "n": n,
        "ms": {name: float(f"{value:.4g}") for name, value in medians.items()},
        "rounds": rounds,
        "timed_once": [m.name for m in methods if m not in turns],
        "not_optimal": {m.name: quality[m.name]["share"] for m in methods if m.name not in right},
        "gap": quality[OURS]["gap"],
        "gap_sd": quality[OURS]["gap_sd"],
        "fastest_peer": best,
        "speed_up": round(medians[best] / medians[OURS], 2),
        "speed_up_drop_in": round(medians[best] / medians[DROP_IN], 2),
    }
    if RAW in medians:
        row["speed_up_scipy_raw"] = round(medians[RAW] / medians[OURS], 1)
        row["share_scipy_raw"] = quality[RAW]["share"]
    return row


def timed(method: peers.Method, costs: dict[str, torch.Tensor]) -> tuple[Any, float]:
    begin = time.perf_counter()
    index = method.solve(costs[method.takes])
    return index, time.perf_counter() - begin


def contenders() -> list[peers.Method]:
    """Ours, and every exact solver that is installed and worth its time."""
    slow = ("POT emd", "torch-linear-assignment", "exact, raw", "scipy, raw")
    return [
        peers.Method(DROP_IN, lambda cost: linear_sum_assignment(peers.array(cost))[1]),
        *(
            method
            for method in peers.solvers()
            if method.exact and method.name not in slow and not peers.why_not(method, "cpu")
        ),
    ]


def overhead(n: int) -> dict[str, Any]:
    """Microseconds of our calls above the compiled solve, and above the product, of one problem;
    each is the median of the differences of calls in turn."""
    drawn = families.problem("onef", n).samples
    x, noise = drawn.x.flatten(1)[None], drawn.noise.flatten(1)[None]
    product = cpu.assignment_cost(x, noise, "sqeuclidean")
    cost, index = product.numpy(), np.empty((1, n), np.int64)
    scale, nothing = -2.0, torch.empty(1)
    differences: dict[str, list[float]] = {DROP_IN: [], "fast_assign": []}
    for _ in range(MOST * FEWEST):
        plain, limited = (
            seconds(numba_cpu.assign_small, cost, constants, index)
            for constants in (np.inf, cpu.LARGE_CONSTANTS)
        )
        limited += seconds(torch.baddbmm, nothing, x, noise.mT, beta=0, alpha=scale)
        differences[DROP_IN].append(seconds(linear_sum_assignment, cost[0]) - plain)
        differences["fast_assign"].append(seconds(fast_assign, drawn.x, drawn.noise) - limited)
    medians = {name: statistics.median(times) for name, times in differences.items()}
    return {"n": n, "us": {name: round(1e6 * value, 1) for name, value in medians.items()}}


def seconds(call: Any, *args: Any, **options: Any) -> float:
    begin = time.perf_counter()
    call(*args, **options)
    return time.perf_counter() - begin


def whole_table(result: dict[str, Any]) -> str:
    return markdown(result, tuple({row["n"] for row in result["rows"]}))


def markdown(
    result: dict[str, Any], sizes: tuple[int, ...] = (64, 100, 256, 1024, 2048, 4096)
) -> str:
    """The table of README; where a peer is faster the speed-up is bold."""
    lines = []
    for row in result["rows"]:
        if row["n"] in sizes:
            faster = f"{row['speed_up']:.3g}x"
            raw = "speed_up_scipy_raw" in row
            lines.append(
                [
                    *(row["family"], str(row["n"])),
                    *(tables.milliseconds(row["ms"][OURS]), tables.gap(row)),
                    f"{row['fastest_peer']}, {tables.milliseconds(row['ms'][row['fastest_peer']])}",
                    f"**{faster}**" if row["speed_up"] < 1 else faster,
                    f"{row['speed_up_scipy_raw']:.3g}x" if raw else "-",
                    f"{row['share_scipy_raw']:.2%}" if raw else "-",
                ]
            )
    head = ["costs", "n", "exact (ours)", "gap", "fastest exact peer", "speed-up"]
    return tables.markdown([*head, "SciPy on raw L2, speed-up", "its share of the gain"], lines)


def line(row: dict[str, Any]) -> str:
    raw = row.get("speed_up_scipy_raw")
    return (
        f"{row['family']:8} n={row['n']:5}  {row['ms'][OURS]:8.3f} ms, gap "
        f"{row['gap_sd']:.0e} sd, {row['speed_up']}x (drop-in {row['speed_up_drop_in']}x) "
        + row["fastest_peer"]
        + (f", {raw}x scipy on raw L2" if raw else "")
        + (f", not optimal: {row['not_optimal']}" if row["not_optimal"] else "")
    )


if __name__ == "__main__":
    raise SystemExit(main())
