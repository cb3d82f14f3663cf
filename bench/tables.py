"""Markdown tables and sentences of comparisons, for the report, README and docs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from statistics import median

from .record import Result, Row

WANTED = 1.1  # ratio to the fastest peer that rectangles should stay below ...
WORST_WANTED = 1.5  # ... and that the worst families should
SHOWN = 20  # losses


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for cells in rows])


def formatted(rows: list[Row], cells: dict[str, str]) -> str:
    """Columns by name, each with a format of what is in a row; "-" where a row lacks it."""

    def cell(row: Row, form: str) -> str:
        try:
            return form.format_map(row)
        except KeyError:
            return "-"

    return markdown(list(cells), [[cell(row, form) for form in cells.values()] for row in rows])


def milliseconds(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def times(value: float) -> str:
    return f"{value:,.0f}x" if value >= 20 else f"{value:.1f}x" if value >= 2 else f"{value:.2f}x"


def bold(text: str, wanted: bool) -> str:
    return f"**{text}**" if wanted else text


def title(row: Row) -> str:
    return row["family"] + (f", D = {row['dim']}" if row.get("dim") else "")


def beside(today: str, result: Result) -> str:
    """``exact``, its proven gap (what rounding leaves of it is 0), the fastest exact peer, and what
    is called today."""
    lines = []
    for row in result["rows"]:
        ms, gap, peer = row["ms"], row.get("gap_sd"), row.get("fastest_peer")
        lines.append(
            [
                *(title(row), str(row["n"]), milliseconds(ms["exact"])),
                "-" if gap is None else f"{gap:.1g} sd" if abs(gap) > 1e-9 else "0",
                f"{peer}, {milliseconds(ms[peer])}" if peer else "-",
                bold(times(1 / row["ratio"]), row["ratio"] > 1) if peer else "-",
                times(ms[today] / ms["exact"]) if today in ms else "-",
                f"{row['share'].get(today, 1.0):.2%}" if today in ms else "-",
            ]
        )
    head = ["family", "n", "exact (ours)", "gap", "fastest exact peer", "speed-up"]
    return markdown([*head, f"speed-up over {today}", "its share of the gain"], lines)


def each_method(result: Result) -> str:
    """Time, and share of the gain where it is not all, of every method."""
    methods = list(dict.fromkeys(name for row in result["rows"] for name in row["ms"]))
    lines = []
    for row in result["rows"]:
        shape = f"{row['n']} x {row['m']}" if row["n"] != row["m"] else str(row["n"])
        shape = f"{row['batch']} of {shape}" if row.get("batch", 1) > 1 else shape
        cells = [title(row), shape]
        for name in methods:
            text = milliseconds(row["ms"][name]) if name in row["ms"] else "-"
            share = row.get("share", {}).get(name)
            cells.append(text if share is None else f"{text}, {share:.2%}")
        lines.append(cells)
    return markdown(["problem", "n", *methods], lines)


def by_family(
    rows: list[Row],
    column: Callable[[Row], float],
    name: Callable[[float], str],
    cell: Callable[[list[Row]], str],
) -> str:
    """A line a family, and in each column a cell of all its rows that belong there."""
    found: dict[tuple[str, float], list[Row]] = defaultdict(list)
    for row in rows:
        found[row["family"], column(row)].append(row)
    columns = sorted({key for _, key in found})
    lines = [
        [family, *(cell(found[family, key]) if (family, key) in found else "-" for key in columns)]
        for family in dict.fromkeys(row["family"] for row in rows)
    ]
    return markdown(["family", *map(name, columns)], lines)


def raced(result: Result) -> list[Row]:
    """The problems that a peer solved in time, too."""
    return [row for row in result["rows"] if "ratio" in row]


def rectangles(result: Result) -> str:
    """Median (and worst) ratio by family and n + m, and of batches; below 1 we are faster."""

    def cell(rows: list[Row]) -> str:
        ratios = [row["ratio"] for row in rows]
        return bold(f"{median(ratios):.2f} ({max(ratios):.2f})", median(ratios) > WANTED)

    return by_family(
        raced(result),
        lambda row: math.inf if row["batch"] > 1 else row["n"] + row["m"],
        lambda size: f"n + m = {size:,}" if size < math.inf else "64 small ones at once",
        cell,
    )


def worst_families(result: Result) -> str:
    """Ratios by family and n, the worst family first; above what is wanted in bold."""

    def cell(rows: list[Row]) -> str:
        text = f"{rows[0]['ratio']:.2f} ({rows[0]['fastest_peer']})"
        return bold(text, rows[0]["ratio"] > WORST_WANTED)

    worst: dict[str, float] = defaultdict(float)
    rows = raced(result)
    for row in rows:
        worst[row["family"]] = max(worst[row["family"]], row["ratio"])
    rows.sort(key=lambda row: -worst[row["family"]])
    return by_family(rows, lambda row: row["n"], lambda n: f"n = {n}", cell)


def losses(result: Result) -> str:
    """Problems on which an exact peer is faster, the worst first, and how many there are."""
    lost = sorted((r for r in result["rows"] if r.get("ratio", 0) > 1), key=lambda r: -r["ratio"])
    head = f"{len(lost)} of {len(result['rows'])} problems."
    cells = {"problem": "{family}", "n": "{n} x {m}", "peer": "{fastest_peer}"}
    table = formatted(lost[:SHOWN], {**cells, "it is faster by": "{ratio:.2f}x"})
    return f"{head}\n\n{table}" if lost else head


TABLES: dict[str, Callable[[Result], str]] = {
    "headline": partial(beside, "scipy, raw L2"),
    "pairs": partial(beside, "cdist + scipy"),
    "shapes": rectangles,
    "worst_case": worst_families,
}


def of_group(group: str, result: Result) -> str:
    return TABLES.get(group, each_method)(result)


def small_sizes(result: Result) -> str:
    def of_peers(method: str, n: int) -> str:
        rows = [row for row in raced(result) if row["n"] == n]
        ratios = [row["ms"][method] / row["ms"][row["fastest_peer"]] for row in rows]
        return f"{min(ratios):.2f} to {max(ratios):.2f} at n = {n}"

    drop_in = ", ".join(of_peers("linear_sum_assignment", n) for n in (16, 32, 64))
    return (
        f"Of the fastest peer's time `linear_sum_assignment` takes {drop_in}; "
        f"`solve_assignment`, {of_peers('exact', 64)}"
    )


def above(limit: float, rows: dict[str, list[Row]]) -> str:
    """How many are above what is wanted, by what they have in common."""
    parts = []
    for where, some in rows.items():
        over, worst = sum(r["ratio"] > limit for r in some), max(some, key=lambda r: r["ratio"])
        name = f"{worst['family']}, {worst['ratio']:.1f}x"
        parts.append(f"{over} of {len(some)} {where} (worst: {name})")
    return f"over {limit} times as long as the fastest peer on {', '.join(parts)}"


def worst_sentence(result: Result) -> str:
    sizes = sorted({row["n"] for row in result["rows"]})
    return above(
        WORST_WANTED,
        {f"at n = {n}": [row for row in raced(result) if row["n"] == n] for n in sizes},
    )


def rectangle_sentence(result: Result) -> str:
    found: dict[str, list[Row]] = defaultdict(list)
    for least, most in ((0, 100), (101, 500), (501, math.inf)):
        size = f"with n + m up to {most}" if most < math.inf else f"with n + m from {least}"
        for row in raced(result):
            if row["batch"] == 1 and least <= row["n"] + row["m"] <= most:
                found[size].append(row)
    return above(WANTED, found)
