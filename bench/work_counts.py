"""Work that does not depend on the machine: bids, scans and paths of fixed problems.

    python -m bench.work_counts            # today's counts beside the recorded ones
    python -m bench.work_counts --write    # record today's counts (a change that is meant)

``tests/test_bench.py`` asserts that no count passes 1.3 times the recorded one, so that a slowdown
by more work is caught without a clock. Trade one kind of work for another as you like, then record.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from immiscible_fast.kernels.cpu.work import COUNTERS

from immiscible_fast.backends import numba_cpu

from . import families

RECORD = Path(__file__).with_name("work_counts.json")
ALLOWED = 1.3  # times the recorded count ...
SLACK = 16  # ... and this many more: a count of 3 that becomes 5 is no slowdown
TOL = 0.01  # of the near-optimal cases
CASES = (  # family, n, method
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
)
Counts = dict[str, int]


def case_name(family: str, n: int, method: str) -> str:
    return f"{family} n={n} {method}"


def counted(family: str, n: int, method: str) -> Counts:
    """Counters of one solve of the family's centred costs."""
    cost = families.problem(family, n).centred
    solution = numba_cpu.solve(cost[None], exact=method == "exact", tol=TOL)
    assert solution.work is not None
    return dict(zip(COUNTERS, solution.work[0].tolist(), strict=True))


def recorded() -> dict[str, Counts]:
    found: dict[str, Counts] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return found


def exceeded(now: Counts, then: Counts) -> list[str]:
    """What counts more than is allowed, in words."""
    return [
        f"{name}: {count}, recorded {then.get(name, 0)}"
        for name, count in now.items()
        if count > ALLOWED * then.get(name, 0) + SLACK
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="record today's counts")
    options = parser.parse_args()
    before, now = recorded(), {}
    print(f"{'case':28s}" + "".join(f"{name:>22s}" for name in COUNTERS))
    for case in CASES:
        name = case_name(*case)
        now[name] = counted(*case)
        cells = []
        for counter, count in now[name].items():
            then = before.get(name, {}).get(counter)
            cells.append(f"{count}" + (f" ({count - then:+d})" if then is not None else ""))
        print(f"{name:28s}" + "".join(f"{cell:>22s}" for cell in cells))
    if options.write:
        lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in now.items())
        RECORD.write_text("{\n" + lines + "\n}\n")
        print(f"written to {RECORD}")


if __name__ == "__main__":
    main()
