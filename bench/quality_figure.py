"""The picture of quality against time: which method to take when exact is not needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

from . import tables
from .drawing import machine, margins, paper, write_title
from .styles import FAMILIES, HEURISTIC, LEAST_LOST, OTHERS, OURS, SCIPY
from .tables import Result, Row

AWAY = (7, 17, 29)  # points from a marker to its name, the next where all sides are taken
PIXEL = 3  # from one point of a drawn line to the next that a name must not cover
SIDES = (  # where a name may stand: horizontal and vertical alignment, the best place first
    ("left", "center"), ("right", "center"), ("left", "bottom"), ("left", "top"),
    ("right", "bottom"), ("right", "top"), ("center", "bottom"), ("center", "top"),
)  # fmt: skip
NAMES = {"official broadcast fp16 + scipy": "papers' broadcast"}


class Kind(NamedTuple):
    """Methods that share a colour, a marker and a place in the legend."""

    name: str
    colour: str
    style: str
    filled: bool
    belongs: Callable[[Row], bool]


KINDS = (  # a method belongs to the first that wants it
    Kind("ours, exact and auction", OURS, "-o", True,
         lambda r: r["ours"] and "sinkhorn" not in r["method"]),
    Kind("ours, Sinkhorn then auction", OURS, "--s", False, lambda r: r["ours"]),
    Kind("best of k noises, by inner product", HEURISTIC, "-D", True,
         lambda r: not r["permutation"]),
    Kind("Sinkhorn of others + rounding", OTHERS[1], "-v", True,
         lambda r: "rounding" in r["method"]),
    Kind("exact only for unsquared distances", SCIPY, "^", False,
         lambda r: r["takes"] == "euclidean"),
    Kind("exact solvers of others", SCIPY, "^", True, lambda r: True),
)  # fmt: skip


def _telling(swept: list[Row]) -> tuple[bool, bool, int]:
    """The problem to show: photo patches as in the other pictures, the most that SciPy solved."""
    solved = tables.named(swept, *tables.SCIPY_RAW["pair"]) is not None
    return swept[0]["family"] == "photo", solved, swept[0]["n"]


def quality_figure(result: Result) -> Figure | None:
    """Share of the gain against time: which method to take when exact is not needed."""
    swept = max(tables.sweeps(result), key=_telling, default=None)
    if swept is None:
        return None
    figure = paper(11.5, 7.6)
    axes = figure.add_subplot()
    margins(figure, left=1.15, right=0.35, top=1.65, bottom=1.2)
    _log_axes(axes, [r["time_ms"] for r in swept], [lost(r) for r in swept])
    left, points = list(swept), []
    for kind in KINDS:
        mine = sorted((r for r in left if kind.belongs(r)), key=lost)
        left = [r for r in left if r not in mine]
        if not mine:
            continue
        axes.plot(
            [r["time_ms"] for r in mine], [lost(r) for r in mine], kind.style, color=kind.colour,
            label=kind.name, markersize=7, markerfacecolor=kind.colour if kind.filled else "white",
        )  # fmt: skip
        points += [(r["time_ms"], lost(r), _short(r["method"]), kind.colour) for r in mine]
    _name_points(axes, points)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.47, -0.09), ncols=3, fontsize=9.5, frameon=False
    )
    n, dim = swept[0]["n"], swept[0]["dim"]
    write_title(
        figure,
        "How much of the gain does a method reach, and in what time?",
        f"n = {n:,} {FAMILIES[swept[0]['family']]}, D = {dim:,}; {machine(result)}. Up and to the "
        "left is better.\nGain: how much the total squared "
        "distance falls by pairing; the optimal assignment has 100%. Best of k draws other noises "
        "instead,\nshorter than noise is; it is judged by the inner product, which that does not "
        "help. Unsquared distances have another optimum.\nNumbers are tolerances of ours and "
        "smoothings of others' Sinkhorn, in standard deviations of the costs, and k of best of k.",
    )
    return figure


def lost(row: Row) -> float:
    """Part of the gain that the method leaves; at least what the axis can show."""
    return max(1 - row.get("share_dot", row["share"]), LEAST_LOST)


def _short(method: str) -> str:
    method = NAMES.get(method, method)
    return method.removeprefix("product + ").removesuffix(", L2").removesuffix(" + rounding")


def _log_axes(axes: Any, times: Sequence[float], parts: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(min(times) / 1.5, 1.5 * max(times))
    axes.set_ylim(2 * max(parts), LEAST_LOST / 2)  # what is lost grows downwards
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=50))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(_share_tick))
    axes.set_xlabel("milliseconds, from images and noise to pairs")
    axes.set_ylabel("share of the possible gain (log scale of what is lost)")
    axes.grid(alpha=0.25)


def _share_tick(part: float, _: int) -> str:
    return "optimal" if part < 1.01 * LEAST_LOST else f"{100 * (1 - part):.6g}%"


def _name_points(axes: Any, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Each point's name on that side of it where it hides, and is hidden by, the least."""
    renderer = axes.figure.canvas.get_renderer()
    within = axes.get_window_extent()
    crowd = np.concatenate([along(line) for line in axes.lines])
    placed: list[Bbox] = []
    for x, y, name, colour in points:
        text = axes.annotate(
            name, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=8.5, color=colour,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkB": 5},
        )  # fmt: skip
        found = []
        for rank, (away, side) in enumerate(product(AWAY, SIDES)):
            _set_side(text, away, *side)
            text.update_positions(renderer)
            box = Text.get_window_extent(text, renderer).padded(1)  # without its leader
            hidden = np.count_nonzero(
                ((crowd > (box.x0, box.y0)) & (crowd < (box.x1, box.y1))).all(1)
            )
            overlaps = sum(box.overlaps(other) for other in placed)
            outside = not (within.contains(box.x0, box.y0) and within.contains(box.x1, box.y1))
            found.append((100 * outside + 20 * overlaps + hidden, rank, away, side, box))
        *_, away, side, box = min(found, key=lambda entry: entry[:2])
        _set_side(text, away, *side)
        text.arrow_patch.set_visible(away > AWAY[0])
        placed.append(box)


def _set_side(text: Any, away: float, ha: str, va: str) -> None:
    across = {"left": 1, "center": 0, "right": -1}[ha]
    upwards = {"bottom": 1, "center": 0, "top": -1}[va]
    away *= 0.6 if across and upwards else 1
    text.set(ha=ha, va="center_baseline" if va == "center" else va)
    text.xyann = (away * across, away * upwards)


def along(line: Any) -> Any:
    """Points in pixels on a drawn line and all over its markers."""
    corners = line.get_transform().transform(line.get_xydata())
    shape = np.array([(dx, dy) for dx in (-4, 0, 4) for dy in (-4, 0, 4)])
    found = [(corners[:, None] + shape).reshape(-1, 2)]
    if line.get_linestyle() != "None":
        for begin, end in pairwise(corners):
            count = int(np.hypot(*(end - begin)) / PIXEL) + 1
            found.append(begin + (end - begin) * np.linspace(0, 1, count)[:, None])
    return np.concatenate(found)
