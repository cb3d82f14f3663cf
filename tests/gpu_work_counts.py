"""Work of the GPU's solver that does not depend on the machine, from its reference on a CPU.

    python -m tests.gpu_work_counts            # today's counts beside the recorded ones
    python -m tests.gpu_work_counts --write    # record today's counts (a change that is meant)
    python -m tests.gpu_work_counts --only "photo n=1024 exact" --seed 3    # another draw

A tick of a forest is two barriers of one program; ``turns`` are those that grow it, ``list_scans``
and ``row_scans`` the candidate lists and whole rows that are met in them. Shares and gaps, in
standard deviations, say how good the answer is.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from immiscible_fast.kernels.gpu import schedule

from bench import problems, record
from immiscible_fast import linear_sum_assignment

from . import forests, work_counts

RECORD = record.ROOT / "bench" / "gpu_work_counts.json"
SINKHORN = {
    "exact": (schedule.EXACT_UPDATES, schedule.EXACT_OVER_RELAXATION, schedule.EXACT_AT_LAST),
    "sinkhorn": (schedule.UPDATES, schedule.OVER_RELAXATION, schedule.AT_LAST),
}
ALLOWED, SLACK = 1.5, 64  # products of other processors are rounded otherwise
FAMILIES = ("photo", "onef", "digits", "uniform", "integers", "duplicates", "machol_wien")
SIZES = (256, 1024, 4096)
METHODS = ("exact", "sinkhorn")


def cases() -> list[tuple[str, int, str]]:
    return [
        (family, n, method)
        for n in SIZES
        for family in FAMILIES
        for method in METHODS
        if not (family == "digits" and n > problems.DIGITS)
    ]


def counted(family: str, n: int, method: str, seed: int = 0) -> dict[str, Any]:
    cost = problems.problem(family, n, seed).cost.astype(np.float64)
    cost -= cost.mean(1, keepdims=True)
    cost = (cost / (cost - cost.mean(0)).std()).astype(np.float32)
    price = forests.sinkhorn_prices(cost, *SINKHORN[method])
    wide, exact = cost.astype(np.float64), method == "exact"
    state, counts = forests.solve(
        wide, price, length=schedule.candidates_of(n, exact),
        rounds=schedule.rounds_of(exact), patience=0 if exact else schedule.PATIENCE,
    )  # fmt: skip
    result: dict[str, Any] = {"sinkhorn_updates": SINKHORN[method][0], **counts}
    result["left"] = int((state.column < 0).sum())
    if result["left"]:
        return result
    rows = np.arange(n)
    paid = wide[rows, state.column].sum()
    bound = (wide + state.price).min(1).sum() - state.price.sum()
    gap = float((paid - bound) / n)
    # What is proven needs no second solver.
    best = paid if abs(gap) < 1e-12 else wide[linear_sum_assignment(cost)].sum()
    result["share"] = float(1 - (paid - best) / max(np.trace(wide) - best, 1e-30))
    return result | {"gap_a_row": gap}


def recorded() -> dict[str, dict[str, Any]]:
    return work_counts.recorded(RECORD)


def exceeded(now: dict[str, Any], then: dict[str, Any]) -> list[str]:
    return work_counts.exceeded(now, then, ALLOWED, SLACK)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="record today's counts")
    parser.add_argument("--most", type=int, default=max(SIZES), help="largest n")
    parser.add_argument("--least", type=int, default=0, help="smallest n")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--seed", type=int, default=0, help="of the problems; recorded is 0")
    options = parser.parse_args()
    if options.write and options.seed:
        parser.error("--write records the problems of --seed 0")
    found = recorded() if options.seed == 0 else {}
    for family, n, method in cases():
        name = f"{family} n={n} {method}"
        if not options.least <= n <= options.most or options.only not in name:
            continue
        now = counted(family, n, method, options.seed)
        print(name, now, exceeded(now, found.get(name, now)), flush=True)
        if options.write:
            found[name] = now
            work_counts.write(found, RECORD)


if __name__ == "__main__":
    main()
