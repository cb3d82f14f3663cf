"""What a check has found: its failures, and the short tables that are printed last."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from ..tables import each_method, markdown
from .jobs import MISSING, OK

NOT_MEASURED = "not measured"
TAIL = 700  # characters of the log of a job that failed
COLUMNS = (
    *("case", "n", "batch", "groups", "method", "inputs", "eager_ms", "graph_ms", "enqueue_ms"),
    *("matmul_graph_ms", "of_matmul", "device_ms", "launches", "gb_s", "tflop_s", "of_peak"),
    *("error", "share", "gap_sd", "peak_of_matrix", "copy_gb_s"),
    *(f"{name}_tflop_s" for name in ("fp32", "tf32", "fp16", "bf16")),
)
Row = dict[str, Any]
Result = dict[str, Any]


def rows_of(lines: Iterable[str]) -> Iterator[Row]:
    """Rows of a part, as it wrote them; a line that a killed part left unfinished is dropped."""
    for line in lines:
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def failures(result: Result) -> list[str]:
    """What makes the command's exit code 1, in words."""
    jobs = (job for job in result["jobs"] if job["status"] not in (OK, MISSING))
    found = [f"{job['job']}: {job['status']} (exit code {job['code']})" for job in jobs]
    for row in (row for row in result["rows"] if "wrong" in row):
        where = " ".join(str(row[k]) for k in ("part", "case", "method", "n") if k in row)
        found.append(f"{where}: {row['wrong']}")
    return found


def text(result: Result) -> str:
    """All tables but those of single kernels and of the pathologies."""
    lines = [f"{job['job']}: {job['status']}, {job['seconds']} s {job['summary']}"
             for job in result["jobs"]]  # fmt: skip
    for part in dict.fromkeys(row["part"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["part"] == part and "skipped" not in row]
        if rows and "ms" in rows[0]:
            lines += ["", part, each_method({"rows": rows})]
        elif part == "pathologies":
            bad = sum("wrong" in row for row in rows)
            lines += ["", f"pathologies: {len(rows)} solves, {bad} wrong"]
        elif rows := [row for row in rows if "kernel" not in row]:
            used = [name for name in COLUMNS if any(name in row for row in rows)]
            table = [[cell(row.get(name, "")) for name in used] for row in rows]
            lines += ["", part, markdown(used, table)]
    lines += ["", "targets", *(target_line(row) for row in result["targets"])]
    found = failures(result)
    lines += ["", f"failures: {len(found)}", *found[:20]]
    for job in result["jobs"]:
        if job.get("tail"):
            lines += ["", f"end of {job['job']}:", job["tail"][-TAIL:]]
    return "\n".join(lines)


def cell(value: Any) -> str:
    if value is None:
        return NOT_MEASURED
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def target_line(row: Row) -> str:
    limit = f"{'>=' if row['unit'] != 'ms' else '<'} {row['limit']:g} {row['unit']}"
    figure = cell(row.get("figure"))
    share = f", share {row['share']}" if "share" in row else ""
    return f"  {row['target']}: {figure}, wanted {limit}{share}: {row['status']} {row['why']}"
