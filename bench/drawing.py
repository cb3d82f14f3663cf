"""What the pictures share: paper, titles, log axes, and the names beside the ends of lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from .styles import OURS
from .tables import Result

LINE_HEIGHT = 0.2  # inches from one name to the next
LEADER, SAMPLE, NAME = (1.005, 1.06), (1.07, 1.15), 1.165  # in widths of the axes


class Named(NamedTuple):
    """A line and the name that is to stand beside its end."""

    line: Line2D
    name: str
    beyond: float  # its value at the right edge, were it to go on: the order of the names
    end: tuple[float, float] | None = None  # where a leader starts, if not at the line's last point


def paper(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def margins(figure: Figure, left: float, right: float, top: float, bottom: float) -> None:
    """Margins around the axes in inches: they keep their room whatever the figure's size."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(
        left=left / width, right=1 - right / width, top=1 - top / height, bottom=bottom / height
    )


def write_title(figure: Figure, title: str, subtitle: str) -> None:
    width, height = figure.get_size_inches()
    left = 0.25 / width
    figure.text(left, 1 - 0.36 / height, title, fontsize=15, fontweight="bold", va="center")
    figure.text(
        left, 1 - 0.58 / height, subtitle, fontsize=9.5, color="0.3", va="top", linespacing=1.4
    )


def machine(result: Result) -> str:
    device = result["device"]
    cores = f", {device['threads']} thread" if device["kind"] == "cpu" else ""
    return f"{device['name']}{cores}{'s' if cores and device['threads'] > 1 else ''}"


def draw_line(
    axes: Any, x: Sequence[float], y: Sequence[float], colour: str, style: str, **more: Any
) -> Line2D:
    """A measured line: ours is bold, and a line that is not solid has hollow markers."""
    bold = colour == OURS
    (line,) = axes.plot(
        x, y, style, color=colour, marker="o", markersize=6 if bold else 4.5,
        markerfacecolor=colour if style == "-" else "white", linewidth=2.4 if bold else 1.4,
        zorder=3 if bold else 2, **more,
    )  # fmt: skip
    return line


def log_axes(axes: Any, sizes: list[int], low: float, high: float) -> None:
    """n to the right, each measured size a tick that does not stand too near to a power of two;
    upwards from ``low`` to ``high`` with a margin."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(low / 1.6, high * 1.6)
    powers = [n for n in sizes if n.bit_count() == 1]
    others = [n for n in sizes if not any(0.6 < n / power < 1.6 for power in powers)]
    axes.xaxis.set_major_locator(FixedLocator(sorted(powers + others)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlabel("n, images in a batch")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def name_lines(axes: Any, named: Sequence[Named]) -> None:
    """Beside the axes, for each line: a leader from its end, a sample of its style, its name."""
    corner = axes.transAxes.inverted()
    last = [entry.end or tuple(entry.line.get_xydata()[-1]) for entry in named]
    ends = corner.transform(axes.transData.transform(last))
    low, high = np.log(axes.get_ylim())
    wanted = np.array([(np.log(entry.beyond) - low) / (high - low) for entry in named]).clip(0, 1)
    order = np.argsort([entry.beyond for entry in named], kind="stable")
    height = axes.get_window_extent().height / axes.figure.dpi
    for place, k in zip(spread(wanted[order], LINE_HEIGHT / height), order, strict=True):
        line, name = named[k][:2]
        colour, (x, y) = line.get_color(), ends[k]
        outside = {"transform": axes.transAxes, "clip_on": False, "color": colour}
        axes.add_line(
            Line2D((x + 0.008, LEADER[1]), (y, place), linewidth=0.6, alpha=0.7, **outside)
        )
        axes.add_line(
            Line2D(
                (SAMPLE[0], sum(SAMPLE) / 2, SAMPLE[1]), (place,) * 3, markevery=[1],
                linestyle=line.get_linestyle(), linewidth=line.get_linewidth(),
                marker=line.get_marker(), markersize=line.get_markersize(),
                markerfacecolor=line.get_markerfacecolor(), **outside,
            )
        )  # fmt: skip
        axes.text(
            NAME, place, name, transform=axes.transAxes, fontsize=9, va="center_baseline",
            color=OURS if colour == OURS else "0.15",
            fontweight="bold" if colour == OURS else "normal",
        )  # fmt: skip


def spread(wanted: NDArray[np.float64], apart: float) -> NDArray[np.float64]:
    """Rising places near the wanted ones, from 0 to 1, each at least ``apart`` from the next."""
    steps = apart * np.arange(len(wanted))
    up = np.maximum.accumulate(wanted - steps) + steps
    down = np.minimum.accumulate((wanted - steps)[::-1])[::-1] + steps
    return np.clip((up + down) / 2, steps, 1 - steps[::-1])
