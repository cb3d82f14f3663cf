"""What a check has found: its failures, and the short tables that are printed last."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from .jobs import MISSING, OK

NOT_MEASURED = "not measured"
TAIL = 700  # characters of the log of a job that failed
Row = dict[str, Any]
Result = dict[str, Any]
TABLES: dict[str, tuple[str, ...]] = {  # part -> columns beside the case
    "pairwise": ("n", "graph_ms", "matmul_graph_ms", "of_matmul", "tflop_s", "of_peak", "error"),
    "calls": (
        *("n", "method", "inputs", "eager_ms", "graph_ms", "enqueue_ms"),
        *("share", "gap_sd", "peak_of_matrix"),
    ),
    "stages": ("n", "method", "device_ms", "launches", "gb_s", "tflop_s"),
    "batches": ("n", "batch", "groups", "method", "eager_ms", "graph_ms", "gap_sd"),
    "peers": ("n", "batch", "host_ms", "share", "gap_sd"),
    "tune": ("n", "eager_ms", "graph_ms", "share", "gap_sd"),
}


def add_rows(result: Result, lines: Iterable[str]) -> None:
    """Rows of a part, as it wrote them; a line that a killed part left unfinished is dropped."""
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row.get("case") == "ceilings":
            result["ceilings"] = {k: v for k, v in row.items() if k not in ("part", "case")}
        else:
            result["rows"].append(row)


def as_line(row: Row) -> str:
    """JSON without what JSON has no number for."""
    return json.dumps({
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    })  # fmt: skip


def failures(result: Result) -> list[str]:
    """What makes the command's exit code 1, in words."""
    found = [
        f"{job['job']}: {job['status']} (exit code {job['code']})"
        for job in result["jobs"]
        if job["status"] not in (OK, MISSING)
    ]
    for row in result["rows"]:
        where = " ".join(str(row[k]) for k in ("part", "case", "method", "n") if k in row)
        if "wrong" in row:
            found.append(f"{where}: wrong, {row['wrong']}")
        if row.get("failed"):
            found.append(f"{where}: {row['skipped']}")
        if row.get("graph_same") is False:
            found.append(f"{where}: the graph's replay gives another answer")
        if row.get("graph_error"):
            found.append(f"{where}: not captured, {row['graph_error']}")
    return found


def text(result: Result) -> str:
    """All tables but those of single kernels and of the pathologies."""
    lines = [f"{job['job']}: {job['status']}, {job['seconds']} s {job['summary']}"
             for job in result["jobs"]]  # fmt: skip
    lines += ["", *(f"{key}: {cell(value)}" for key, value in result["ceilings"].items())]
    for part, columns in TABLES.items():
        rows = [row for row in result["rows"] if row["part"] == part and "skipped" not in row]
        rows = [row for row in rows if "kernel" not in row]
        if rows:
            lines += ["", part, *table(rows, ("case", *columns))]
    hard = [row for row in result["rows"] if row["part"] == "pathologies"]
    if hard:
        bad = sum("wrong" in row or bool(row.get("failed")) for row in hard)
        lines += ["", f"pathologies: {len(hard)} solves, {bad} wrong or failed"]
    lines += ["", "targets", *(target_line(row) for row in result["targets"])]
    found = failures(result)
    lines += ["", f"failures: {len(found)}", *found[:20]]
    for job in result["jobs"]:
        if job.get("tail"):
            lines += ["", f"end of {job['job']}:", job["tail"][-TAIL:]]
    return "\n".join(lines)


def table(rows: list[Row], columns: tuple[str, ...]) -> list[str]:
    used = [column for column in columns if any(column in row for row in rows)]
    cells = [[name.removesuffix("_ms") for name in used]]
    cells += [[cell(row[column]) if column in row else "" for column in used] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def cell(value: Any) -> str:
    if value is None:
        return NOT_MEASURED
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def target_line(row: Row) -> str:
    limit = f"{'>=' if row['unit'] != 'ms' else '<'} {row['limit']:g} {row['unit']}"
    figure = cell(row.get("figure"))
    share = f", share {row['share']}" if "share" in row else ""
    return f"  {row['target']}: {figure}, wanted {limit}{share}: {row['status']} {row['why']}"
