"""The pictures of the report, from the newest results: time, quality, memory.

python -m bench.plots
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .quotes import TYPICAL, named
from .record import ROOT, Result, Row, newest

# Okabe and Ito's palette, told apart by any eye
OURS, SCIPY = "#D55E00", "#0072B2"
OTHERS = ("#56B4E9", "#CC79A7", "#E69F00", "0.45", "#7F6FB0", "#8C6D46", "#3B9C9C", "#B0B000")
STYLES = {  # method -> colour, line
    "exact": (OURS, "-o"),
    "auction 0.01": (OURS, "--o"),
    "scipy, raw L2": (SCIPY, "-o"),
    "scipy": (SCIPY, "--o"),
    "cdist + scipy": (SCIPY, "-o"),
    "product + scipy": (SCIPY, "--o"),
    "official broadcast fp16 + scipy": (SCIPY, ":o"),
}
LEFT_AT_LEAST = 1e-6  # of the gain: where the optimum stands on a log axis
DPI = 110
MANY = 5  # sizes at which a method was measured, to have a line


def paper(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style(method: str, number: int) -> tuple[str, str]:
    return STYLES.get(method, (OTHERS[number % len(OTHERS)], "-o"))


def curves(axes: Any, rows: list[Row], figure_of: Callable[[Row], dict[str, float]]) -> None:
    """A curve for each name against n, both axes logarithmic, with a legend beside them."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in sorted(rows, key=lambda row: row["n"]):
        for name, value in figure_of(row).items():
            found.setdefault(name, []).append((row["n"], value))
    for number, (name, points) in enumerate(found.items()):
        if len(points) >= MANY:
            colour, line = style(name, number)
            ours = colour == OURS
            look = {"linewidth": 2.4, "zorder": 3} if ours else {"linewidth": 1.2, "zorder": 2}
            x, y = zip(*points, strict=True)
            label = f"{name} (ours)" if ours else name
            axes.plot(x, y, line, color=colour, label=label, markersize=4, **look)
    axes.set(xlabel="n, images in a batch", yscale="log")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.yaxis.set_major_formatter("{x:,g}")
    finish(axes, 8)


def finish(axes: Any, size: int) -> None:
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=size, frameon=False)
    axes.figure.tight_layout()


def time(solvers: Result, calls: Result) -> Figure:
    figure = paper(10, 9)
    both = ((solvers, "Costs given"), (calls, "From images and noise to pairs"))
    for place, (result, title) in enumerate(both, 1):
        axes = figure.add_subplot(2, 1, place)
        axes.set_title(f"{title}; photo patches, D = 3072", loc="left")
        axes.set_ylabel("milliseconds, lower is better")
        rows = [row for row in result["rows"] if row["family"] == "photo"]
        curves(axes, rows, lambda row: row["ms"])
    return figure


def quality(row: Row) -> Figure:
    """Share of the gain against time, of all ways to pair the same images and noises."""
    figure = paper(10, 6)
    axes = figure.add_subplot()
    for number, (method, taken) in enumerate(row["ms"].items()):
        ours = method.startswith(("exact", "auction", "sinkhorn"))
        left = max(1 - row["share"].get(method, 1.0), LEFT_AT_LEAST)
        marker = "o" if ours else "D" if method.startswith("best") else "^"
        colour = OURS if ours else style(method, number)[0]
        axes.plot(taken, left, marker, color=colour, label=f"{method}{' (ours)' * ours}")
        if ours:
            axes.annotate(f"  {method}", (taken, left), fontsize=7, color=OURS, va="center")
    axes.set(xscale="log", yscale="log", xlabel="milliseconds", title=f"n = {row['n']}, "
             f"D = {row['dim']}, {row['family']}: lower and to the left is better")  # fmt: skip
    axes.set_ylabel(f"share of the gain that is left ({LEFT_AT_LEAST:g}: none)")
    finish(axes, 7)
    return figure


def memory(rows: list[Row], dim: int = 3072) -> Figure:
    figure = paper(10, 5)
    axes = figure.add_subplot()
    axes.set_title(f"From n images and noises of D = {dim} to pairs", loc="left")
    axes.set_ylabel("MiB at the peak, beyond the inputs")
    rows = [row for row in rows if row["dim"] == dim]
    lines = {"one n x n float32 matrix": lambda n: 4 * n * n, "the inputs": lambda n: 8 * n * dim}
    for name, size in lines.items():
        of_n = (
            {"n": n, "method": name, "peak_mib": size(n) / 2**20} for n in {r["n"] for r in rows}
        )
        rows = [*rows, *of_n]
    curves(axes, rows, lambda row: {row["method"]: row["peak_mib"]})
    return figure


def main(folder: Path = ROOT / "bench" / "report") -> None:
    solvers, calls = newest("headline"), newest("pairs")
    most = max((r for r in calls["rows"] if named(r) == TYPICAL), key=lambda r: len(r["ms"]))
    figures = {"time": time(solvers, calls), "quality": quality(most)}
    figures["memory"] = memory(newest("memory")["rows"])
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})


if __name__ == "__main__":
    main()
