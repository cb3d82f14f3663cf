"""Markdown tables and sentences of comparisons, for the report, README and docs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from statistics import median

from .record import Result, Row

WANTED = 1.1  # ratio to the fastest peer that rectangles should stay below ...
WORST_WANTED = 1.5  # ... and that the worst families should
SHOWN = 20  # losses
RAW = "scipy, raw L2"
TODAY = "cdist + scipy"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for cells in rows])


def milliseconds(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def times(value: float) -> str:
    return f"{value:,.0f}x" if value >= 20 else f"{value:.1f}x" if value >= 2 else f"{value:.2f}x"


def gap(row: Row) -> str:
    """Our proven gap; what rounding leaves of it is 0."""
    value = row.get("gap_sd")
    return "-" if value is None else f"{value:.1g} sd" if abs(value) > 1e-9 else "0"


def bold(text: str, wanted: bool) -> str:
    return f"**{text}**" if wanted else text


def speed_up(row: Row, form: Callable[[float], str]) -> list[str]:
    if "ratio" not in row:
        return ["-", "-"]
    peer = row["fastest_peer"]
    cells = [f"{peer}, {milliseconds(row['ms'][peer])}", form(1 / row["ratio"])]
    return [cells[0], bold(cells[1], row["ratio"] > 1)]


def three_digits(value: float) -> str:
    return f"{value:.3g}x"


def solvers(result: Result) -> str:
    """Costs given; the last columns are SciPy on what the papers' code gives it."""
    lines = []
    for row in result["rows"]:
        cells = [row["family"], str(row["n"]), milliseconds(row["ms"]["exact"]), gap(row)]
        cells += speed_up(row, three_digits)
        raw = row["ms"].get(RAW)
        faster = row.get("speed_up_scipy_raw", raw and round(raw / row["ms"]["exact"], 1))
        cells.append(three_digits(faster) if faster else "-")
        lines.append([*cells, f"{row['share'][RAW]:.2%}" if raw else "-"])
    head = ["costs", "n", "exact (ours)", "gap", "fastest exact peer", "speed-up"]
    return markdown([*head, "SciPy on raw L2, speed-up", "its share of the gain"], lines)


def whole_calls(result: Result) -> str:
    """From images and noise to pairs, beside what is called today."""
    lines = []
    for row in result["rows"]:
        ours, today = row["ms"]["exact"], row["ms"].get(TODAY)
        cells = [row["family"], str(row["n"]), str(row["dim"]), milliseconds(ours), gap(row)]
        cells += speed_up(row, times)
        if today:
            cells += [f"{TODAY}, {milliseconds(today)}", times(today / ours)]
            cells.append(f"{row['share'].get(TODAY, 1.0):.4%}")
        lines.append([*cells, *["-"] * (10 - len(cells))])
    head = ["family", "n", "D", "exact (ours)", "gap", "fastest exact peer", "speed-up"]
    return markdown([*head, "SciPy as called today", "speed-up", "its share of the gain"], lines)


def each_method(result: Result) -> str:
    """Time, and share of the gain where it is not all, of every method."""
    methods = list(dict.fromkeys(name for row in result["rows"] for name in row["ms"]))
    lines = []
    for row in result["rows"]:
        shape = f"{row['n']} x {row['m']}" if row["n"] != row["m"] else str(row["n"])
        shape = f"{row['batch']} of {shape}" if row.get("batch", 1) > 1 else shape
        cells = [row["family"], shape, str(row.get("dim", 0) or "-")]
        for name in methods:
            text = milliseconds(row["ms"][name]) if name in row["ms"] else "-"
            share = row.get("share", {}).get(name)
            cells.append(text if share is None else f"{text}, {share:.2%}")
        lines.append(cells)
    return markdown(["problem", "n", "D", *methods], lines)


def rectangles(result: Result) -> str:
    """Median (and worst) ratio by family and n + m, and of batches; below 1 we are faster."""
    cells: dict[tuple[str, int], list[float]] = defaultdict(list)
    for row in result["rows"]:
        cells[row["family"], 0 if row["batch"] > 1 else row["n"] + row["m"]].append(row["ratio"])
    sizes = [*sorted({size for _, size in cells if size}), 0]
    lines = []
    for family in dict.fromkeys(family for family, _ in cells):
        found = [cells.get((family, size), []) for size in sizes]
        texts = [f"{median(r):.2f} ({max(r):.2f})" if r else "-" for r in found]
        marked = [
            bold(t, bool(r) and median(r) > WANTED) for t, r in zip(texts, found, strict=True)
        ]
        lines.append([family.replace("_", " "), *marked])
    names = [f"n + m = {size:,}" if size else "64 small ones at once" for size in sizes]
    return markdown(["costs", *names], lines)


def worst_families(result: Result) -> str:
    """Ratios by family and n, the worst family first; above what is wanted in bold."""
    found: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in result["rows"]:
        found[row["family"]][row["n"]] = row
    sizes = sorted({row["n"] for row in result["rows"]})

    def cell(row: Row | None) -> str:
        if row is None or "ratio" not in row:
            return "-"
        return bold(f"{row['ratio']:.2f} ({row['fastest_peer']})", row["ratio"] > WORST_WANTED)

    order = sorted(found, key=lambda f: -max(row.get("ratio", 0) for row in found[f].values()))
    lines = [[family, *(cell(found[family].get(n)) for n in sizes)] for family in order]
    return markdown(["family", *(f"n = {n}" for n in sizes)], lines)


def losses(result: Result) -> str:
    """Problems on which an exact peer is faster, the worst first, and how many there are."""
    lost = sorted((r for r in result["rows"] if r.get("ratio", 0) > 1), key=lambda r: -r["ratio"])
    lines = [
        [row["family"], f"{row['n']} x {row['m']}", row["fastest_peer"], f"{row['ratio']:.2f}x"]
        for row in lost[:SHOWN]
    ]
    head = f"{len(lost)} of {len(result['rows'])} problems."
    table = markdown(["problem", "n", "peer", "it is faster by"], lines)
    return f"{head}\n\n{table}" if lost else head


TABLES: dict[str, Callable[[Result], str]] = {
    "headline": solvers,
    "pairs": whole_calls,
    "shapes": rectangles,
    "worst_case": worst_families,
}


def of_group(group: str, result: Result) -> str:
    return TABLES.get(group, each_method)(result)


def small_sizes(result: Result) -> str:
    ratios = [1 / row["ratio"] for row in result["rows"] if row["n"] == 64]
    return f"At n = 64 the fastest peer takes {min(ratios):.2f} to {max(ratios):.2f} of our time"


def worst_sentence(result: Result) -> str:
    """How many families are above what is wanted at each n."""
    parts = []
    for n in sorted({row["n"] for row in result["rows"]}):
        ratios = {row["family"]: row["ratio"] for row in result["rows"] if row["n"] == n}
        over = sum(ratio > WORST_WANTED for ratio in ratios.values())
        worst = max(ratios, key=ratios.__getitem__)
        parts.append(f"{over} of {len(ratios)} at n = {n} (worst: {worst}, {ratios[worst]:.1f}x)")
    return f"over {WORST_WANTED} times as long as the fastest peer on {', '.join(parts)}"


def rectangle_sentence(result: Result) -> str:
    """How often a peer is faster."""
    parts = []
    single = [row for row in result["rows"] if row["batch"] == 1]
    for least, most in ((0, 100), (101, 500), (501, math.inf)):
        ratios = [row["ratio"] for row in single if least <= row["n"] + row["m"] <= most]
        if ratios:
            over = sum(ratio > WANTED for ratio in ratios)
            size = f"n + m up to {most}" if most < math.inf else f"n + m from {least}"
            parts.append(f"{over} of {len(ratios)} with {size} (worst: {max(ratios):.1f}x)")
    return f"over {WANTED} times as long as the fastest peer in {', '.join(parts)}"
