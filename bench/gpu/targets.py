"""What was asked for on an H100, beside what was measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .setting import Row

GAIN = 0.999
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


TARGETS = (
    Target("fast_assign n=1024", "calls", "fast_assign", 1024, 0.5, "auto", share=GAIN),
    Target("fast_assign n=4096", "calls", "fast_assign", 4096, 4, "auto", share=GAIN),
    Target("fast_assign n=16384", "calls", "fast_assign", 16384, 50, "auto", share=GAIN),
    Target("208 x (300 x 300) exact", "batches", "solve_assignment", 300, 5, "exact", batch=208),
    *(
        Target(f"pairwise {name} n=4096", "pairwise", name, 4096, OF_MATMUL, ratio=True)
        for name in ("fp32 tf32x3", "fp32 tf32", "fp16", "bf16", "fp32 ieee")
    ),
    Target("exact n=1024", "calls", "fast_assign", 1024, 3, "exact"),
    Target("exact n=4096", "calls", "fast_assign", 4096, 25, "exact"),
)
MET, MISSED, UNMEASURED = "met", "missed", "not measured"


def judged(rows: Iterable[Row]) -> list[Row]:
    """One row a target."""
    rows = list(rows)
    return [_judged(target, rows) for target in TARGETS]


def _judged(target: Target, rows: list[Row]) -> Row:
    row = next((row for row in rows if _belongs(row, target)), {})
    figure = row.get("of_matmul") if target.ratio else replayed(row)
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
