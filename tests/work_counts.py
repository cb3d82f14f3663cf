"""Work that does not depend on the machine: bids, scans and paths of fixed problems.

    python -m tests.work_counts            # today's counts beside the recorded ones
    python -m tests.work_counts --write    # record today's counts (a change that is meant)

What a call computes in products (flops), and a solver does with its costs: bids, scans, bytes read,
updates. ``tests/test_bench.py`` asserts that no count passes 1.15 times the recorded one, so that a
slowdown by more work is caught without a clock. Trade one kind of work for another as you like,
then record.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from immiscible_fast.kernels.cpu.work import COUNTERS
from torch.utils.flop_counter import FlopCounterMode

from bench import problems, record
from immiscible_fast import fast_assign
from immiscible_fast.cpu import sinkhorn as annealed_sinkhorn
from immiscible_fast.cpu import solver as cpu_solver

RECORD = record.ROOT / "bench" / "work_counts.json"
ALLOWED = 1.15  # times the recorded count ...
SLACK = 16  # ... and this many more: a count of 3 that becomes 5 is no slowdown
TOL = 0.01  # of the near-optimal cases
CASES: tuple[tuple[str, int, str] | tuple[str, int, str, int], ...] = (
    # family, n, method, and how many of its rows
    ("photo", 64, "exact"),
    ("photo", 256, "exact"),
    ("photo", 1024, "exact"),
    ("photo", 2048, "exact"),
    ("photo", 1024, "auction"),
    ("digits", 1024, "exact"),
    ("onef", 1024, "exact"),
    ("latents", 256, "exact"),
    ("duplicates", 1024, "exact"),
    ("duplicates", 1024, "auction"),
    ("uniform", 1024, "exact"),
    ("integers", 1024, "exact"),
    ("machol_wien", 256, "exact"),
    ("uniform", 1024, "exact", 256),
    ("uniform", 1024, "exact", 1000),
    ("photo", 1024, "exact", 900),
    ("photo", 1024, "auction", 900),
    ("onef", 1024, "exact", 900),
    ("integers", 1024, "exact", 900),
    ("machol_wien", 512, "exact", 256),
    ("photo", 512, "sinkhorn"),
    ("photo", 256, "whole call"),
    ("groups", 256, "whole call"),
)
ROWS_READ = ("bid_scans", "dual_scans", "row_relaxations", "tie_scans", "pass_scans")
Counts = dict[str, int]


def case_name(family: str, n: int, method: str, rows: int | None = None) -> str:
    return f"{family} n={n} {method}" + (f" of {rows} rows" if rows else "")


def same_everywhere(problem: problems.Problem) -> problems.Array:
    """The centred costs, multiplied in float64 and rounded once: processors add float32 products in
    different orders, and the last bits of those decide about a third of some counts."""
    if problem.samples is None:
        return problem.cost
    wide = problems.centred_cost(*(part.double() for part in problem.samples[:2]))
    return np.ascontiguousarray(wide, np.float32)


def counted(family: str, n: int, method: str, rows: int | None = None) -> Counts:
    """Counters of one solve of (the first rows of) the family's centred costs, or of a whole
    call."""
    if method == "whole call":
        drawn = problems.problem(family, n).samples
        with FlopCounterMode(display=False) as counter:
            fast_assign(drawn.x, drawn.noise, method="exact", labels=drawn.labels)
        return {"product_flops": counter.get_total_flops()}
    cost = same_everywhere(problems.problem(family, n))[None, :rows]
    prices, updates = None, 0
    if method == "sinkhorn":
        with patch.object(annealed_sinkhorn, "updated", wraps=annealed_sinkhorn.updated) as calls:
            prices = annealed_sinkhorn.column_prices(cost)
        updates = calls.call_count
    solution = cpu_solver.solve(cost, exact=method == "exact", tol=TOL, prices=prices)
    assert solution.work is not None
    counts = dict(zip(COUNTERS, solution.work[0].tolist(), strict=True))
    scans = sum(counts[name] for name in COUNTERS if name in ROWS_READ)
    read = (scans + updates * n) * cost[0, 0].nbytes
    return {**counts, "sinkhorn_updates": updates, "bytes_read": read}


def recorded(path: Path = RECORD) -> dict[str, Counts]:
    found: dict[str, Counts] = json.loads(path.read_text()) if path.exists() else {}
    return found


def write(counts: dict[str, Any], path: Path = RECORD) -> None:
    """A case on a line."""
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in counts.items())
    path.write_text("{\n" + lines + "\n}\n")


def exceeded(
    now: dict[str, Any], then: dict[str, Any], allowed: float = ALLOWED, slack: int = SLACK
) -> list[str]:
    """What counts more than is allowed, in words."""
    return [
        f"{name}: {count}, recorded {then.get(name, 0)}"
        for name, count in now.items()
        if isinstance(count, int) and count > allowed * then.get(name, 0) + slack
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="record today's counts")
    options = parser.parse_args()
    before, now = recorded(), {}
    for case in CASES:
        name = case_name(*case)
        now[name] = counted(*case)
        then = before.get(name, {})
        changes = [f"{k} {v:,} ({v - then.get(k, 0):+,})" for k, v in now[name].items()]
        print(name, *changes, sep="\n    ", flush=True)
    if options.write:
        write(now)


if __name__ == "__main__":
    main()
