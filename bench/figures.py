"""The pictures of the report: one PNG for each question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from . import tables
from .drawing import Named, draw_line, log_axes, machine, margins, name_lines, paper, write_title
from .quality_figure import quality_figure
from .styles import FAMILIES, FLOOR, LINES, STAGES
from .tables import Result
from .time_figure import time_figure

DPI = 120
DARK = 4.3  # log2 of a ratio: beyond, its colour wants white letters


def write_all(result: Result, folder: Path, prefix: str) -> dict[str, str]:
    """Draw what the result has data for; name of the figure -> file name."""
    makers: dict[str, Callable[[Result], Figure | None]] = {
        "time": time_figure,
        "families": families_figure,
        "quality": quality_figure,
        "memory": memory_figure,
        "profile": profile_figure,
    }
    written = {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, maker in makers.items():
        figure = maker(result)
        if figure is not None:
            file = f"{prefix}-{name}.png"
            figure.savefig(folder / file, dpi=DPI, metadata={"Software": None})
            written[name] = file
    return written


def families_figure(result: Result) -> Figure | None:
    """Our exact solver against the fastest exact peer, by family and n, losses included."""
    cells: dict[tuple[str, int], tuple[float, str]] = {}
    for rows in tables.groups(result, "solve"):
        ours, peer = tables.named(rows, "exact"), tables.fastest_peer(rows)
        if ours and peer:
            cells[ours["family"], ours["n"]] = peer["time_ms"] / ours["time_ms"], peer["method"]
    if not cells:
        return None
    families = [f for f in FAMILIES if any(f == key[0] for key in cells)]
    sizes = sorted({n for _, n in cells})
    grid = np.full((len(families), len(sizes)), np.nan)
    width, height = 1.0 * len(sizes), 0.55 * len(families)
    figure = paper(max(width, 5.0) + 3.6, height + 1.85)
    margins(figure, left=2.3, right=1.3, top=1.5, bottom=0.35)
    axes = figure.add_subplot()
    for (family, n), (times, peer) in cells.items():
        i, j = families.index(family), sizes.index(n)
        grid[i, j] = np.log2(times)
        colour = "white" if abs(grid[i, j]) > DARK else "black"
        centred = {"ha": "center", "va": "center", "color": colour}
        name = fill(peer, 13)
        up = 0.2 if "\n" in name else 0.14
        axes.text(j, i - up, _times(times), fontweight="bold", **centred)
        axes.text(j, i + 0.2, name, fontsize=7, linespacing=0.95, **centred)
    image = axes.imshow(
        grid, cmap="RdBu", aspect="auto", norm=TwoSlopeNorm(0, vmin=-6, vmax=6), alpha=0.85
    )
    _colour_bar(figure, axes, image)
    axes.set_xticks(range(len(sizes)), [f"n = {n:,}" for n in sizes])
    axes.set_yticks(range(len(families)), [FAMILIES[f] for f in families])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(1, len(sizes)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(families)) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_color("0.85")
    write_title(
        figure,
        "Our exact solver against the fastest exact peer",
        f"Solve only; {machine(result)}. In each cell: time of the named peer over "
        "ours.\nBlue: ours is faster; red: the peer is faster; empty: not measured.",
    )
    return figure


def _colour_bar(figure: Figure, axes: Any, image: Any) -> None:
    """Beside the axes and as high, whatever their size."""
    place, inch = axes.get_position(), 1 / figure.get_figwidth()
    beside = figure.add_axes((place.x1 + 0.15 * inch, place.y0, 0.16 * inch, place.height))
    bar = figure.colorbar(image, cax=beside)
    bar.set_ticks(range(-6, 7, 2), labels=[_faster(power) for power in range(-6, 7, 2)])
    beside.tick_params(labelsize=9)
    bar.outline.set_visible(False)


def _faster(power: int) -> str:
    """A tick of the colours: ours is 2^power times as fast."""
    return "equal" if not power else f"{2 ** abs(power)}x {'faster' if power > 0 else 'slower'}"


def memory_figure(result: Result) -> Figure | None:
    rows = [r for r in result["rows"] if r["stage"] == "memory"]
    dims = sorted({r["dim"] for r in rows}, key=lambda d: -sum(r["dim"] == d for r in rows))
    if not rows:
        return None
    dim = dims[0]
    rows = [r for r in rows if r["dim"] == dim]
    sizes = sorted({r["n"] for r in rows})
    figure = paper(11.5, 6.8)
    margins(figure, left=1.15, right=4.2, top=1.3, bottom=0.6)
    axes = figure.add_subplot()
    named, most = [], 0.0
    for method, name, colour, style in LINES["memory"]:
        line = sorted((r for r in rows if r["method"] == method), key=lambda r: r["n"])
        if not line:
            continue
        x, y = [r["n"] for r in line], [r["peak_mib"] for r in line]
        drawn, beyond, end = draw_line(axes, x, y, colour, style), y[-1], None
        if x[-1] < sizes[-1]:
            beyond *= (sizes[-1] / x[-1]) ** 2
            until = "computed beyond" if "broadcast" in method else "to"
            name += f", {until} n = {x[-1]:,}"
        if "broadcast" in method and x[-1] < sizes[-1]:
            more = [n for n in sizes if n >= x[-1]]
            array = [2 * n * n * dim / 2**20 for n in more]  # float16
            axes.plot(more, array, linestyle=(0, (1, 2.5)), color=colour, linewidth=1)
            beyond, end = array[-1], (more[-1], array[-1])
        most = max(most, end[1] if end else y[-1])
        named.append(Named(drawn, name, beyond, end))
    least = min(min(entry.line.get_ydata()) for entry in named)
    inputs, matrix = [8 * n * dim / 2**20 for n in sizes], [4 * n * n / 2**20 for n in sizes]
    for values, name, style in (
        (inputs, "for scale: the inputs themselves", ":"),
        (matrix, "for scale: one n x n float32 matrix", "-."),
    ):
        (drawn,) = axes.plot(sizes, values, style, color=FLOOR, linewidth=1.4)
        named.append(Named(drawn, name, values[-1]))
    log_axes(axes, sizes, min(least, matrix[0]), max(most, inputs[-1]))
    name_lines(axes, named)
    axes.set_ylabel("MiB at the peak, beyond the inputs")
    write_title(
        figure,
        "How much memory does pairing take beyond its inputs?",
        f"From n images and n noises of D = {dim:,} numbers to pairs, float32; every call in a "
        f"fresh process;\n{machine(result)}. Lower is better.",
    )
    return figure


def profile_figure(result: Result) -> Figure | None:
    """Stacked shares of the stages of one call."""
    profiles = result["profile"]
    if not profiles:
        return None
    figure = paper(11.5, 2.35 + 0.5 * len(profiles))
    margins(figure, left=2.7, right=1.3, top=1.45, bottom=0.9)
    axes = figure.add_subplot()
    for k, p in enumerate(profiles):
        left = 0.0
        for stage, part in _shares(p["stages_ms"]).items():
            colour = STAGES[stage]
            axes.barh(k, part, left=left, color=colour, edgecolor="white", height=0.72,
                      label=stage if k == 0 else None)  # fmt: skip
            if part > 0.06:
                dark = stage in ("distance product", "auction", "certificate")
                axes.text(left + part / 2, k, f"{part:.0%}", ha="center", va="center", fontsize=9,
                          color="white" if dark else "black")  # fmt: skip
            left += part
        axes.text(1.01, k, tables.milliseconds(p["total_ms"]), va="center", fontsize=10)
    axes.set_yticks(range(len(profiles)), [tables.profile_name(p) for p in profiles])
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}"))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.text(1.01, -0.75, "whole call", va="center", fontsize=9, color="0.3")
    axes.set_ylim(len(profiles) - 0.5, -0.5)
    figure.legend(ncols=len(STAGES), loc="lower center", bbox_to_anchor=(0.5, 0.0), fontsize=9,
                  frameon=False, columnspacing=1.4, handlelength=1.2)  # fmt: skip
    write_title(
        figure,
        "What does one call spend its time on?",
        "One bar for each call of fast_assign(x, noise) on n images of D numbers, in shares of its "
        f"stages; {machine(result)}.\nAuction and exact finish find the assignment, the "
        "certificate proves how good it is; the rest prepares their costs.",
    )
    return figure


def _shares(stages: dict[str, float]) -> dict[str, float]:
    """Shares of the stages that are drawn; what an older result timed besides counts as other."""
    whole = max(sum(stages.values()), 1e-9)
    shares = {stage: stages.get(stage, 0.0) / whole for stage in STAGES}
    shares["other"] += sum(t for stage, t in stages.items() if stage not in STAGES) / whole
    return shares


def _times(value: float) -> str:
    return f"{value:.0f}x" if value >= 10 else f"{value:.1f}x" if value >= 1 else f"{value:.2f}x"
