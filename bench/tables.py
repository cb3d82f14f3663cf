"""Markdown tables of one result."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from . import schema

Row = dict[str, Any]
Result = dict[str, Any]
OUR_EXACT = {
    "solve": "exact",
    "pair": "exact",
    "batched": "exact",
    "groups": "exact, labels",
    "pairwise sqeuclidean": "pairwise_cost",
    "pairwise euclidean": "pairwise_cost",
}
SCIPY_RAW = {  # what the papers' code and most trainers call today
    "solve": ("scipy, raw L2", "scipy"),
    "pair": ("cdist + scipy",),
    "batched": ("scipy, one by one",),
    "groups": ("cdist + scipy by class",),
}
FLOOR_ONLY = ("torch.matmul",)  # not a peer: it computes less
SAME = 1.0  # ratio below which a peer is faster
CHANGED = 1.1  # ratio of two runs from which a call is shown
ALIKE_SHARE = 2e-6  # of the gain: rounding of the recorded figures


def groups(result: Result, stage: str) -> list[list[Row]]:
    """Rows of each problem of a stage, in the order in which they were measured."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in result["rows"]:
        if row["stage"] == stage:
            found[schema.group(row)].append(row)
    return list(found.values())


def named(rows: Iterable[Row], *names: str) -> Row | None:
    """The row of the first of these methods that was measured."""
    by_name = {row["method"]: row for row in rows}
    return next((by_name[name] for name in names if name in by_name), None)


def fastest_peer(rows: Iterable[Row]) -> Row | None:
    """The fastest that promises the optimum and reaches it, of the same costs if there is one."""
    peers = [r for r in rows if not r["ours"] and r["exact"] and r["method"] not in FLOOR_ONLY]
    peers = [r for r in peers if r["takes"] == "euclidean" or not missed(r)]
    alike = [r for r in peers if r["takes"] != "euclidean"]
    return min(alike or peers, key=lambda r: r["time_ms"], default=None)


def missed(row: Row) -> bool:
    """Whether the answer is not optimal, whatever was promised."""
    return row.get("share", 1.0) < 1 - ALIKE_SHARE


def milliseconds(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f} ms"
    return f"{value:.3g} ms"


def ratio(slow: float, fast: float) -> str:
    value = slow / fast
    return f"{value:,.0f}x" if value >= 20 else f"{value:.1f}x" if value >= 2 else f"{value:.2f}x"


def gap(row: Row) -> str:
    if "gap" not in row:
        return ""
    if "gap_sd" in row:
        return f"{row['gap_sd']:.1g} sd" if abs(row["gap_sd"]) > 1e-9 else "0"
    return f"{row['gap']:.2g}"


def share(row: Row) -> str:
    return f"{row['share']:.4%}" if "share" in row else ""


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for cells in rows])


def problem(row: Row) -> list[str]:
    size = f"{row['batch']} x {row['n']}" if row["batch"] > 1 else str(row["n"])
    return [row["family"], size, str(row["dim"]) if row["dim"] else "-"]


def speedup_table(result: Result, stage: str) -> str:
    """Ours against the fastest exact peer and against SciPy as it is called today, in one run."""
    lines = []
    for rows in groups(result, stage):
        ours = named(rows, OUR_EXACT[stage])
        if ours is None:
            continue
        peer, scipy = fastest_peer(rows), named(rows, *SCIPY_RAW.get(stage, ()))
        cells = [*problem(ours), milliseconds(ours["time_ms"]), gap(ours)]
        if peer is None:
            cells += ["", ""]
        else:
            faster = ratio(peer["time_ms"], ours["time_ms"])
            mark = f"**{faster}**" if peer["time_ms"] < SAME * ours["time_ms"] else faster
            cells += [f"{peer['method']}, {milliseconds(peer['time_ms'])}", mark]
        if scipy is None:
            cells += ["", "", ""]
        else:
            cells.append(f"{scipy['method']}, {milliseconds(scipy['time_ms'])}")
            cells += [ratio(scipy["time_ms"], ours["time_ms"])]
            cells.append(share(scipy))
        lines.append(cells)
    head = ["family", "n", "D", "exact (ours)", "gap", "fastest exact peer", "speed-up"]
    return markdown([*head, "SciPy as called today", "speed-up", "its share of the gain"], lines)


def near_optimal_table(result: Result) -> str:
    """Our near-optimal settings against our exact one: what is paid and what is saved."""
    lines = []
    for stage in ("solve", "pair"):
        for rows in groups(result, stage):
            exact = named(rows, OUR_EXACT[stage])
            near = named(rows, "auction 0.01")
            if exact and near and near["n"] >= 256:
                lines.append(
                    [
                        *(stage, *problem(near)),
                        *(milliseconds(exact["time_ms"]), milliseconds(near["time_ms"])),
                        *(share(near), gap(near)),
                    ]
                )
    head = ["stage", "family", "n", "D", "exact", "auction, tol 0.01"]
    return markdown([*head, "its share of the gain", "its gap a row"], lines)


def distance_table(result: Result) -> str:
    lines = []
    for metric in ("sqeuclidean", "euclidean"):
        for rows in groups(result, f"pairwise {metric}"):
            for row in rows:
                error = f"{row['error_sd']:.1e}" if "error_sd" in row else ""
                name = f"**{row['method']}**" if row["ours"] else row["method"]
                if row["method"] in FLOOR_ONLY:
                    name += " (inner products only)"
                time = milliseconds(row["time_ms"])
                lines.append([metric, *problem(row), name, time, error])
    return markdown(["metric", "family", "n", "D", "method", "time", "error, sd"], lines)


def memory_table(result: Result) -> str:
    lines = []
    for rows in groups(result, "memory"):
        for row in rows:
            name = f"**{row['method']}**" if row["ours"] else row["method"]
            lines.append(
                [
                    *(str(row["n"]), str(row["dim"]), name, f"{row['peak_mib']:,.0f} MiB"),
                    *(f"{row['of_matrix']:.1f}", f"{row['peak_mib'] / row['inputs_mib']:.2f}"),
                ]
            )
    head = ["n", "D", "method", "peak beyond the inputs", "in n x n float32 matrices"]
    return markdown([*head, "in sizes of the inputs"], lines)


def losses(result: Result) -> list[list[str]]:
    """Every problem on which somebody does as well in less time."""
    found = []
    for stage, name in OUR_EXACT.items():
        for rows in groups(result, stage):
            ours = named(rows, name)
            if ours is None:
                continue
            for row in sorted(rows, key=lambda r: r["time_ms"]):
                if row["ours"] or row["method"] in FLOOR_ONLY or not row["exact"]:
                    continue
                if row["takes"] != "euclidean" and missed(row):
                    continue
                if "error_sd" in row and row["error_sd"] > 10 * ours["error_sd"]:
                    continue  # float16 distances are another thing
                if row["time_ms"] < SAME * ours["time_ms"]:
                    found.append(_loss(stage, row, ours))
    return found + _near_optimal_losses(result)


def _loss(stage: str, row: Row, ours: Row) -> list[str]:
    sure = "yes" if 1.1 * row["time_ms"] < ours["min_ms"] else "within the noise"
    return [
        stage,
        *problem(row),
        row["method"],
        milliseconds(row["time_ms"]),
        f"{ours['method']}: {milliseconds(ours['time_ms'])}",
        ratio(ours["time_ms"], row["time_ms"]),
        share(row),
        sure,
    ]


def _near_optimal_losses(result: Result) -> list[list[str]]:
    """Heuristics that none of our settings matches in time and share of the gain at once."""
    found = []
    for stage in ("solve", "pair"):
        for rows in groups(result, stage):
            ours = [r for r in rows if r["ours"]]
            for row in rows:
                if row["ours"] or row["exact"] or "share" not in row:
                    continue
                reached = row.get("share_dot", row["share"]) - ALIKE_SHARE
                as_good = [r for r in ours if r["share"] >= reached]
                best = min(as_good or ours, key=lambda r: r["time_ms"], default=None)
                if best is not None and row["time_ms"] < SAME * best["time_ms"]:
                    found.append(_loss(stage, row, best))
    return found


def loss_table(result: Result) -> str:
    lines = losses(result)
    if not lines:
        return "None was measured."
    head = ["stage", "family", "n", "D", "peer", "its time", "ours", "it is faster by"]
    return markdown([*head, "its share of the gain", "beyond doubt"], lines)


def pareto_table(result: Result) -> str:
    lines = []
    for rows in sweeps(result):
        for row in sorted(rows, key=lambda r: r["time_ms"]):
            name = f"**{row['method']}**" if row["ours"] else row["method"]
            lines.append(
                [
                    *(*problem(row), name, milliseconds(row["time_ms"]), share(row)),
                    *("yes" if row["permutation"] else "no", f"{row.get('norm_sigma', 0):+.2f}"),
                    f"{row['share_dot']:.2%}" if "share_dot" in row else "",
                ]
            )
    head = ["family", "n", "D", "method", "time", "share of the gain", "each noise once"]
    return markdown([*head, "norm of the noise, sigma", "share by inner product"], lines)


def sweeps(result: Result) -> list[list[Row]]:
    """Problems on which the settings that trade quality for time were measured."""
    return [rows for rows in groups(result, "pair") if named(rows, "best of 16, L2")]


def profile_table(profiles: list[Row]) -> str:
    """Time and share of each stage of a call, one column for each call."""
    lines = []
    for stage in profiles[0]["stages_ms"]:
        cells = []
        for p in profiles:
            whole = max(sum(p["stages_ms"].values()), 1e-9)
            cells.append(
                f"{milliseconds(p['stages_ms'][stage])}, {p['stages_ms'][stage] / whole:.0%}"
            )
        lines.append([stage, *cells])
    lines.append(["**whole call**", *(milliseconds(p["total_ms"]) for p in profiles)])
    lines.append(["**largest share**", *(p["largest"] for p in profiles)])
    return markdown(["stage", *(profile_name(p) for p in profiles)], lines)


def profile_name(profile: Row) -> str:
    return f"{profile.get('method', 'exact')}, n = {profile['n']:,}, D = {profile['dim']:,}"


def change_table(before: Result, after: Result) -> str:
    """Our calls whose median changed by a tenth or more between two runs of one suite."""
    then = {row["test"]: row["median_ms"] for row in before["rows"]}
    lines, others = [], []
    for row in after["rows"]:
        if row["test"] in then and row["stage"] != "memory":
            gain = then[row["test"]] / row["median_ms"]
            if not row["ours"]:
                others.append(gain)
            elif not 1 / CHANGED < gain < CHANGED:
                times = milliseconds(then[row["test"]]), milliseconds(row["median_ms"])
                lines.append([row["stage"], *problem(row), row["method"], *times, f"{gain:.2f}x"])
    low, middle, high = np.percentile(others, [5, 50, 95])
    head = ["stage", "family", "n", "D", "call", "before", "after", "faster by"]
    return (
        markdown(head, lines) + f"\n\nPeers, which are the same: {middle:.2f}x, "
        f"nine tenths of them between {low:.2f}x and {high:.2f}x."
    )


def work_table(result: Result) -> str:
    """Counters by case; those that are nothing to a case stay empty."""
    work = result["work"]
    counters = list(dict.fromkeys(name for counts in work.values() for name in counts))
    lines = [
        [case, *(f"{counts[c]:,}" if counts.get(c) else "" for c in counters)]
        for case, counts in work.items()
    ]
    return markdown(["case", *(c.replace("_", " ") for c in counters)], lines)


def peer_table(result: Result) -> str:
    return markdown(["peer", "version"], [[k, v] for k, v in result["peers"].items()])


def skip_table(result: Result) -> str:
    """What was not measured, by method and reason, in one line each."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for entry in result["skipped"]:
        reason = entry["reason"].partition(":")[0]
        found[entry["method"], reason].append(entry["group"])
    lines = [[method, reason, "; ".join(at)] for (method, reason), at in found.items()]
    return markdown(["method", "why", "where"], lines) if lines else "Nothing."
