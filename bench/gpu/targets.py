"""What was asked for on an H100, beside what was measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .setting import Row

GAIN = 0.9995
OF_MATMUL = 0.9
ANY = None


class Target(NamedTuple):
    """``limit`` is in milliseconds, or a ratio if ``ratio``."""

    name: str
    part: str
    case: str
    n: int
    limit: float
    method: str | None = ANY
    ratio: bool = False
    batch: int | None = ANY
    share: float | None = ANY  # of the gain, at least
    eager: bool = False  # by the clock of a caller without a graph of its own


TARGETS = (
    *(
        Target(f"fast_assign n={n}", "calls", "fast_assign", n, limit, "auto", share=GAIN)
        for n, limit in ((1024, 0.25), (4096, 1.0), (16384, 15))
    ),
    *(
        Target(f"eager n={n}", "calls", "fast_assign", n, limit, "auto", share=GAIN, eager=True)
        for n, limit in ((1024, 0.5), (4096, 1.3), (16384, 15))
    ),
    Target("208 x (300 x 300) exact", "batches", "solve_assignment", 300, 0.8, "exact", batch=208),
    *(
        Target(f"pairwise {name} n=4096", "pairwise", name, 4096, OF_MATMUL, ratio=True)
        for name in ("fp32 tf32x3", "fp32 tf32", "fp16", "bf16", "fp32 ieee")
    ),
    *(
        Target(f"exact n={n}", "calls", "fast_assign", n, limit, "exact")
        for n, limit in ((1024, 1.0), (4096, 5), (16384, 80))
    ),
)
MET, MISSED, UNMEASURED = "met", "missed", "not measured"


def judged(rows: Iterable[Row]) -> list[Row]:
    """One row a target."""
    rows = list(rows)
    return [_judged(target, rows) for target in TARGETS]


def _judged(target: Target, rows: list[Row]) -> Row:
    row = next((row for row in rows if _belongs(row, target)), {})
    if target.ratio:
        figure = row.get("of_matmul")
    else:
        figure = row.get("eager_ms") if target.eager else replayed(row)
    result: Row = {"target": target.name, "limit": target.limit}
    result["unit"] = "of torch.matmul" if target.ratio else "ms"
    if figure is None:
        return result | {"status": UNMEASURED, "why": row.get("skipped", "")}
    met = figure >= target.limit if target.ratio else figure < target.limit
    result |= {"figure": figure, "eager_ms": row.get("eager_ms")}
    if target.share is not None:
        found = row.get("share")
        met = met and found is not None and found >= target.share
        result |= {"share": found, "gap_sd": row.get("gap_sd")}
    return result | {"status": MET if met and "wrong" not in row else MISSED}


def _belongs(row: Row, target: Target) -> bool:
    plain = row.get("inputs", "float32") == "float32"
    same = (row.get("part"), row.get("case"), row.get("n")) == target[1:4] and plain
    return (
        same
        and target.method in (ANY, row.get("method"))
        and target.batch in (ANY, row.get("batch"))
    )


def replayed(row: Row) -> float | None:
    """The time on the stream: of a graph's replay, else of the call."""
    figure = row.get("graph_ms")
    return row.get("eager_ms") if figure is None else figure
