"""The pictures of the report: time, families, quality, memory. One function a question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from .record import Result, Row

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
MANY = 6  # sizes at which a method was measured, to have a line


def paper(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style(method: str, number: int) -> tuple[str, str]:
    return STYLES.get(method, (OTHERS[number % len(OTHERS)], "-o"))


def lines(axes: Any, curves: dict[str, tuple[list[float], list[float]]], label: str) -> None:
    """A curve for each method against n, both axes logarithmic, with a legend beside them."""
    for number, (method, (x, y)) in enumerate(curves.items()):
        colour, line = style(method, number)
        bold = colour == OURS
        label_of = f"{method} (ours)" if bold else method
        look = {"linewidth": 2.4 if bold else 1.2, "zorder": 3 if bold else 2}
        axes.plot(x, y, line, color=colour, label=label_of, markersize=4, **look)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.set(xlabel="n, images in a batch", ylabel=label)
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False)


def time(solvers: Result, calls: Result) -> Figure:
    figure = paper(10, 9)
    for place, (result, title) in enumerate(
        ((solvers, "Costs given"), (calls, "From images and noise to pairs")), 1
    ):
        rows = [row for row in result["rows"] if row["family"] == "photo"]
        names = list(dict.fromkeys(name for row in rows for name in row["ms"]))
        curves = {}
        for name in names:
            points = [(row["n"], row["ms"][name]) for row in rows if name in row["ms"]]
            if len(points) >= MANY:
                curves[name] = tuple(map(list, zip(*sorted(points), strict=True)))
        axes = figure.add_subplot(2, 1, place)
        lines(axes, curves, "milliseconds, lower is better")  # type: ignore[arg-type]
        axes.set_title(f"{title}; photo patches, D = 3072", loc="left")
    figure.tight_layout()
    return figure


def families(solvers: Result) -> Figure:
    """Time of the fastest exact peer over ours, by family and n."""
    rows = [row for row in solvers["rows"] if "ratio" in row]
    names = list(dict.fromkeys(row["family"] for row in rows))
    sizes = sorted({row["n"] for row in rows})
    grid = np.full((len(names), len(sizes)), np.nan)
    figure = paper(2.5 + len(sizes), 1.4 + 0.6 * len(names))
    axes = figure.add_subplot()
    for row in rows:
        i, j = names.index(row["family"]), sizes.index(row["n"])
        grid[i, j] = -np.log2(row["ratio"])
        text = f"{1 / row['ratio']:.3g}x\n{fill(row['fastest_peer'], 13)}"
        colour = "white" if abs(grid[i, j]) > 4 else "black"
        axes.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)
    norm = TwoSlopeNorm(0, vmin=-6, vmax=6)
    axes.imshow(grid, cmap="RdBu", aspect="auto", norm=norm, alpha=0.85)
    axes.set_xticks(range(len(sizes)), [f"n = {n:,}" for n in sizes])
    axes.set_yticks(range(len(names)), names)
    axes.set_title("Time of the fastest exact peer over ours (blue: ours is faster)", loc="left")
    figure.tight_layout()
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
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=7, frameon=False)
    figure.tight_layout()
    return figure


def memory(rows: list[Row], dim: int = 3072) -> Figure:
    figure = paper(10, 5)
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for row in sorted(rows, key=lambda r: r["n"]):
        if row["dim"] == dim:
            x, y = curves.setdefault(row["method"], ([], []))
            x.append(row["n"])
            y.append(row["peak_mib"])
    sizes = sorted({n for x, _ in curves.values() for n in x})
    curves["one n x n float32 matrix"] = (sizes, [4 * n * n / 2**20 for n in sizes])
    curves["the inputs"] = (sizes, [8 * n * dim / 2**20 for n in sizes])
    axes = figure.add_subplot()
    lines(axes, curves, "MiB at the peak, beyond the inputs")
    axes.set_title(f"From n images and noises of D = {dim} to pairs", loc="left")
    figure.tight_layout()
    return figure


def write(folder: Path, **makers: Callable[[], Figure]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, maker in makers.items():
        maker().savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
