"""What was asked for on an H100, beside what was measured."""

from __future__ import annotations

from typing import Any, NamedTuple

GAIN = 0.9995  # of the optimal gain, at least
MET, MISSED, UNMEASURED = "met", "MISSED", "not measured"
Row = dict[str, Any]


class Target(NamedTuple):
    """A figure of a row: below ``limit`` milliseconds, or at least that share of matmul."""

    name: str
    limit: float
    row: Row  # what the row has to say
    figure: str = "graph_ms"  # of a graph's replay, else of the call
    share: float = 0.0  # of the gain, at least


def call(method: str, n: int) -> Row:
    return {"part": "calls", "case": "fast_assign", "method": method, "inputs": "float32", "n": n}


FAST, EAGER, EXACT = (
    ((1024, 0.25), (4096, 1.0), (16384, 15)),
    ((1024, 0.5), (4096, 1.3), (16384, 15)),
    ((1024, 1.0), (4096, 5), (16384, 80)),
)
PRODUCTS = ("fp32 tf32x3", "fp32 tf32", "fp16", "bf16", "fp32 ieee")
BATCH = {"part": "batches", "case": "solve_assignment", "n": 300, "batch": 208, "method": "exact"}
TARGETS = (
    *(Target(f"fast_assign n={n}", ms, call("auto", n), share=GAIN) for n, ms in FAST),
    *(Target(f"eager n={n}", ms, call("auto", n), "eager_ms", GAIN) for n, ms in EAGER),
    Target("208 x (300 x 300) exact", 0.8, BATCH),
    *(
        Target(f"pairwise {case} n=4096", 0.9, {"part": "pairwise", "case": case, "n": 4096},
               "of_matmul")
        for case in PRODUCTS
    ),
    *(Target(f"exact n={n}", ms, call("exact", n)) for n, ms in EXACT),
)  # fmt: skip


def judged(rows: list[Row]) -> list[Row]:
    """One row a target."""
    return [_judged(target, rows) for target in TARGETS]


def _judged(target: Target, rows: list[Row]) -> Row:
    row = next((row for row in rows if target.row.items() <= row.items()), {})
    figure = row.get(target.figure)
    if figure is None and target.figure == "graph_ms":
        figure = row.get("eager_ms")
    ratio = target.figure == "of_matmul"
    result: Row = {"target": target.name, "limit": target.limit, "figure": figure}
    result |= {
        "unit": "of torch.matmul" if ratio else "ms",
        "why": row.get("wrong") or row.get("skipped", ""),
    }
    if figure is None:
        return result | {"status": UNMEASURED}
    met = figure >= target.limit if ratio else figure < target.limit
    if target.share:
        result["share"] = row.get("share")
        met = met and (row.get("share") or 0) >= target.share
    return result | {"status": MET if met and "wrong" not in row else MISSED}
