"""One result file: what it holds, how it is written, and how pytest-benchmark can read it again.

{
  "schema": 1, "created": ISO time, "size": "quick" | "full" | "tiny", "only": the part of it that
  pytest's -k chose ("": all), "tag": str, "commit": str, with "+" if the library differs from it,
  "seconds": what the whole run took; "only" and "seconds" are missing in older files,
  "device":   {"kind", "name", "cores", "threads", "memory_gib", "system"},
  "versions": {package: version},
  "floors":   bench.floors.measured_floors(),
  "peers":    {package: version or "missing (why)"},
  "rows":     one for each benchmark: "test" (pytest's name), what was measured ("stage",
              "family", "n", "dim", "batch", "method", "takes", "ours", "exact"), times
              ("median_ms", "iqr_ms", "min_ms", "mean_ms", "max_ms", "stddev_ms", "rounds",
              "iterations") and quality ("gap", "gap_sd", "share", ...) or memory ("peak_mib",
              "of_matrix", ...); what ``DEFAULTS`` says is left out,
  "skipped":  [{"group", "method", "reason"}],
  "profile":  [bench.profile_call.profile()],
  "work":     {case: counters}
}

Rows stand one on a line, so that a difference of two files can be read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VERSION = 1
TIMES = ("median", "iqr", "min", "mean", "max", "stddev")
COUNTS = ("rounds", "iterations")
GLOBAL = ("device", "threads", "version")  # of a row's extra_info; they stand once, in the head
DEFAULTS = {  # of a row; not written
    "batch": 1,
    "takes": "centred",
    "ours": False,
    "exact": True,
    "permutation": True,
    "iterations": 1,
}
LISTS = ("rows", "skipped", "profile", "jobs", "targets")  # written one entry on a line
Result = dict[str, Any]
Row = dict[str, Any]


def compact_rows(raw: dict[str, Any]) -> list[Row]:
    """Rows from pytest-benchmark's own JSON."""
    rows = []
    for bench in raw["benchmarks"]:
        row: Row = {"test": bench["fullname"]}
        row.update({k: v for k, v in bench["extra_info"].items() if k not in GLOBAL})
        stats = bench["stats"]
        row.update({f"{key}_ms": _digits(1e3 * stats[key]) for key in TIMES})
        row.update({key: stats[key] for key in COUNTS})
        row = {k: v for k, v in row.items() if k not in DEFAULTS or v != DEFAULTS[k]}
        rows.append(row)
    return rows


def expanded(result: Result) -> dict[str, Any]:
    """What ``--benchmark-compare`` reads: pytest-benchmark's JSON, as far as the rows know it."""
    benchmarks = []
    for row in result["rows"]:
        stats: dict[str, Any] = {key: row[f"{key}_ms"] / 1e3 for key in TIMES}
        stats.update({key: row[key] for key in COUNTS})
        stats.update(
            q1=stats["median"] - stats["iqr"] / 2,
            q3=stats["median"] + stats["iqr"] / 2,
            total=stats["mean"] * row["rounds"],
            ops=1 / max(stats["mean"], 1e-12),
            outliers="0;0",
            iqr_outliers=0,
            stddev_outliers=0,
            ld15iqr=stats["min"],
            hd15iqr=stats["max"],
        )
        name = row["test"].rpartition("::")[2]
        benchmarks.append(
            {
                "name": name,
                "fullname": row["test"],
                "group": group(row),
                "param": name.partition("[")[2].rstrip("]"),
                "params": None,
                "extra_info": {},
                "options": {},
                "stats": stats,
            }
        )
    return {
        "machine_info": {"cpu": {}, **result["device"]},
        "commit_info": {"id": result["commit"]},
        "benchmarks": benchmarks,
        "datetime": result["created"],
        "version": "5",
    }


def slowed(before: Result, raw: dict[str, Any], check: Any) -> tuple[int, list[str]]:
    """How many calls of ours are in both, and which of them are slower than ``check`` allows.

    ``raw`` and ``check`` are pytest-benchmark's: its own JSON of a run, and what its
    ``--benchmark-compare-fail`` makes of an expression. Left to itself, it would fail for solvers
    of others and for the processes that measure memory, too, and not for a call of ours that this
    run skipped because it had become too slow.
    """
    now = {bench["fullname"]: bench["stats"] for bench in raw["benchmarks"]}
    too_slow = {
        (skip["group"], skip["method"]): skip["reason"]
        for skip in raw["immiscible"]["skipped"]
        if skip["reason"].startswith("too slow")
    }
    compared, slower = 0, []
    for row, bench in zip(before["rows"], expanded(before)["benchmarks"], strict=True):
        name, recorded = bench["fullname"], bench["stats"]
        skipped = too_slow.get((bench["group"], row["method"]))
        if not row["ours"] or row["stage"] == "memory" or not (name in now or skipped):
            continue
        compared += 1
        if name not in now:
            slower.append(f"{name}: skipped, {skipped}")
        elif check.fails(now[name], recorded):
            ms, before_ms = (
                f"{1e3 * stats[check.field]:.4g} ms" for stats in (now[name], recorded)
            )
            slower.append(f"{name}: {check.field} {ms}, recorded {before_ms}")
    return compared, slower


def write(result: Result, path: Path) -> None:
    parts = []
    for key, value in result.items():
        if key in LISTS and value:
            lines = ",\n".join(f"    {json.dumps(entry)}" for entry in value)
            parts.append(f"  {json.dumps(key)}: [\n{lines}\n  ]")
        else:
            parts.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def read(path: Path) -> Result:
    """A result file.

    Raises
    ------
    ValueError
        If the file is of another schema.
    """
    result: Result = json.loads(path.read_text(encoding="utf-8"))
    if result.get("schema") != VERSION:
        raise ValueError(f"{path} must have schema {VERSION}, got {result.get('schema')}")
    result["rows"] = [{**DEFAULTS, **row} for row in result["rows"]]
    return result


def group(row: Row) -> str:
    """The problem of a row: what its methods are compared on."""
    parts = [row["stage"], row["family"], f"n={row['n']}"]
    if row["dim"]:
        parts.append(f"D={row['dim']}")
    if row["batch"] > 1:
        parts.append(f"B={row['batch']}")
    return " ".join(parts)


def read_folder(folder: Path) -> list[tuple[Path, Result]]:
    """All results of a folder, the oldest first."""
    found = [(path, read(path)) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda pair: pair[1]["created"])


def _digits(value: float) -> float:
    return float(f"{value:.5g}")
