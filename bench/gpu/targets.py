"""What was asked for on an H100, beside what was measured."""

from __future__ import annotations

from typing import Any, NamedTuple

GAIN = 0.9995  # of the optimal gain, at least
OF_MATMUL = 0.9
MET, MISSED, UNMEASURED = "met", "MISSED", "not measured"
Row = dict[str, Any]


class Target(NamedTuple):
    """A figure of a row: at most ``limit`` milliseconds, or at least that share of matmul."""

    name: str
    part: str
    row: Row  # what the row has to say
    limit: float
    figure: str = "graph_ms"  # of a graph's replay, else of the call
    share: float | None = None  # of the gain, at least


def _call(n: int, method: str) -> Row:
    return {"case": "fast_assign", "n": n, "method": method, "inputs": "float32"}


TARGETS = (
    *(
        Target(f"fast_assign n={n}", "calls", _call(n, "auto"), limit, share=GAIN)
        for n, limit in ((1024, 0.25), (4096, 1.0), (16384, 15))
    ),
    *(
        Target(f"eager n={n}", "calls", _call(n, "auto"), limit, "eager_ms", GAIN)
        for n, limit in ((1024, 0.5), (4096, 1.3), (16384, 15))
    ),
    Target(
        "208 x (300 x 300) exact",
        "batches",
        {"case": "solve_assignment", "n": 300, "batch": 208, "method": "exact"},
        0.8,
    ),
    *(
        Target(f"pairwise {case} n=4096", "pairwise", {"case": case, "n": 4096}, OF_MATMUL,
               "of_matmul")
        for case in ("fp32 tf32x3", "fp32 tf32", "fp16", "bf16", "fp32 ieee")
    ),
    *(
        Target(f"exact n={n}", "calls", _call(n, "exact"), limit)
        for n, limit in ((1024, 1.0), (4096, 5), (16384, 80))
    ),
)  # fmt: skip


def judged(rows: list[Row]) -> list[Row]:
    """One row a target."""
    return [_judged(target, rows) for target in TARGETS]


def _judged(target: Target, rows: list[Row]) -> Row:
    wanted = {"part": target.part, **target.row}
    row = next((row for row in rows if wanted.items() <= row.items()), {})
    figure = row.get(target.figure)
    if figure is None and target.figure == "graph_ms":
        figure = row.get("eager_ms")
    ratio = target.figure == "of_matmul"
    result: Row = {"target": target.name, "limit": target.limit, "figure": figure}
    result |= {"unit": "of torch.matmul" if ratio else "ms", "why": row.get("skipped", "")}
    if figure is None:
        return result | {"status": UNMEASURED}
    met = figure >= target.limit if ratio else figure < target.limit
    if target.share is not None:
        result["share"] = row.get("share")
        met = met and (row.get("share") or 0) >= target.share
    return result | {"status": MET if met and "wrong" not in row else MISSED}
