"""The result file of a check, and the short table that is printed last."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import schema

from .jobs import MISSING, OK
from .targets import MET, UNMEASURED

if TYPE_CHECKING:  # the command must be able to say that there is no torch
    from .setting import Row

VERSION = 1
REQUIRED = ("schema", "kind", "created", "commit", "device", "versions", "jobs", "rows", "targets")
NOT_MEASURED = "not measured"
TAIL = 700  # characters of the log of a job that failed, in the table
Result = dict[str, Any]
TABLES: dict[str, tuple[str, ...]] = {  # part -> columns beside the case
    "pairwise": ("n", "graph_ms", "matmul_graph_ms", "of_matmul", "tflop_s", "of_peak", "error"),
    "calls": (
        *("n", "method", "inputs", "eager_ms", "graph_ms", "enqueue_ms"),
        *("share", "gap_sd", "peak_of_matrix", "mended_share"),
    ),
    "stages": ("n", "method", "device_ms", "calls", "launches", "gb_s", "tflop_s"),
    "batches": ("n", "batch", "groups", "method", "eager_ms", "graph_ms", "gap_sd"),
    "peers": ("n", "batch", "host_ms", "share", "gap_sd"),
    "tune": ("n", "eager_ms", "graph_ms", "share", "gap_sd"),
}


def empty(device: dict[str, Any], versions: dict[str, str], **head: Any) -> Result:
    lists: Result = {"jobs": [], "rows": [], "targets": []}
    return {
        **{"schema": VERSION, "kind": "gpu-check"},
        **head,
        **{"device": device, "versions": versions, "ceilings": {}, "peers": {}},
        **lists,
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
            continue
        if row.get("package") and (row.get("version") or row.get("skipped", "").startswith("miss")):
            result["peers"][row["package"]] = row.get("version") or row["skipped"]
        result["rows"].append(row)


def as_line(row: Row) -> str:
    """JSON without what JSON has no number for."""
    plain = {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
    return json.dumps(plain)


def check(result: Result) -> None:
    """ValueError if the file is not of this form."""
    absent = [key for key in REQUIRED if key not in result]
    if absent or result["schema"] != VERSION or result["kind"] != "gpu-check":
        raise ValueError(f"a gpu-check of schema {VERSION} must have {', '.join(REQUIRED)}")
    for row in result["rows"]:
        if "part" not in row or "case" not in row:
            raise ValueError(f"a row must have part and case, got {row}")


def new_path(folder: Path, name: str) -> Path:
    """A file that does not exist yet."""
    path, k = folder / f"{name}.json", 1
    while path.exists():
        k += 1
        path = folder / f"{name}-{k}.json"
    return path


def write(result: Result, paths: Sequence[Path]) -> None:
    check(result)
    for path in paths:
        schema.write(result, path)


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
        elif row.get("failed"):
            found.append(f"{where}: {row['skipped']}")
        if row.get("graph_same") is False:
            found.append(f"{where}: the graph's replay gives another answer")
        if row.get("graph_error"):
            found.append(f"{where}: not captured, {row['graph_error']}")
    return found


def text(result: Result, *, every: bool = False) -> str:
    """The table; kernels and pathologies that are as they should be only with ``every``."""
    lines = [f"{job['job']}: {job['status']}, {job['seconds']} s {job['summary']}"
             for job in result["jobs"]]  # fmt: skip
    if result["ceilings"]:
        lines += [
            "",
            "ceilings: " + ", ".join(f"{k} {cell(v)}" for k, v in result["ceilings"].items()),
        ]
    for part, columns in TABLES.items():
        rows = [row for row in result["rows"] if row["part"] == part and "skipped" not in row]
        if not every:
            rows = [row for row in rows if not row["case"].endswith("_kernel")]
        if rows:
            lines += ["", part, *table(rows, columns)]
    hard = [row for row in result["rows"] if row["part"] == "pathologies"]
    if hard:
        bad = sum("wrong" in row or bool(row.get("failed")) for row in hard)
        gone = sum("skipped" in row for row in hard)
        lines += ["", f"pathologies: {len(hard)} solves, {bad} wrong or failed, {gone} skipped"]
    if result["targets"]:
        lines += ["", "targets", *(target_line(row) for row in result["targets"])]
    bad_lines = failures(result)
    if bad_lines:
        lines += ["", f"failures: {len(bad_lines)}", *bad_lines[:20]]
    for job in result["jobs"]:
        if job.get("tail"):
            lines += ["", f"end of {job['job']}:", job["tail"][-TAIL:]]
    return "\n".join(lines)


def table(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    used = ["case", *(c for c in columns if any(c in row for row in rows))]
    cells = [[name.removesuffix("_ms") for name in used]]
    cells += [[cell(row[c]) if c in row else "" for c in used] for row in rows]
    widths = [max(len(line[k]) for line in cells) for k in range(len(used))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def cell(value: Any) -> str:
    if value is None:
        return NOT_MEASURED
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 0.99 else (
        f"{value:.6g}" if isinstance(value, float) else str(value)
    )  # fmt: skip


def target_line(row: Row) -> str:
    if row["status"] == UNMEASURED:
        return f"  {row['target']}: {NOT_MEASURED} {row['why']}".rstrip()
    limit = f"{'>=' if row['unit'] != 'ms' else '<'} {row['limit']:g} {row['unit']}"
    quality = f", share {row['share']}, gap {row['gap_sd']} sd" if "share" in row else ""
    mark = "met" if row["status"] == MET else "MISSED"
    eager = "" if row.get("eager_ms") is None else f" (eager {row['eager_ms']:g} ms)"
    return f"  {row['target']}: {row['figure']:g}{eager}, wanted {limit}{quality}: {mark}"
