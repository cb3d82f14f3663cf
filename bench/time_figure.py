"""The picture of time against n: every method's growth, and the floors beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .drawing import Named, draw_line, log_axes, machine, margins, name_lines, paper, write_title
from .floors import SMALL_READ_BYTES
from .styles import FIT_FROM, FLOOR, LINES
from .tables import Result, Row

PANELS = {
    "solve": "Solve only: the n x n cost matrix is given",
    "pair": "From images and noise to pairs: distances and solve",
}
FITTED = ("exact", "scipy, raw L2", "cdist + scipy")  # ours, and what is called today
STEEP = 3.5  # power of n, above that of any line: what ends early is named above what goes on


def power_law(sizes: Sequence[int], times: Sequence[float]) -> tuple[float, float] | None:
    """(a, b) of the fit a n^b from ``FIT_FROM`` on; None with fewer than three points."""
    pairs = [(n, t) for n, t in zip(sizes, times, strict=True) if n >= FIT_FROM]
    if len(pairs) < 3:
        return None
    n, t = np.log(np.array(pairs)).T
    power, factor = np.polyfit(n, t, 1)
    return float(np.exp(factor)), float(power)


def exponent(sizes: Sequence[int], times: Sequence[float]) -> float | None:
    """Slope of log time over log n, from ``FIT_FROM`` on; None with fewer than three points."""
    law = power_law(sizes, times)
    return law and law[1]


def floors(
    result: Result, stage: str, sizes: Sequence[int], dim: int
) -> list[tuple[str, str, list[float]]]:
    """Name, line style and milliseconds at each n of one step alone, at this machine's speed.

    A method may get under one of them, by a product in fewer bits or by a matrix that stays in a
    faster cache: so each says what it is the floor of.
    """
    speeds = result["floors"]
    if stage == "solve":
        near, far = speeds["read_16_mib_one_thread_gb_s"], speeds["read_one_thread_gb_s"]
        sizes_in_bytes = [4 * n * n for n in sizes]
        read = [b / (near if b <= SMALL_READ_BYTES else far) / 1e6 for b in sizes_in_bytes]
        beyond = f", then {far:,.0f}" if max(sizes_in_bytes) > SMALL_READ_BYTES else ""
        return [(f"floor: matrix read at {near:,.0f}{beyond} GB/s", ":", read)]
    found = []
    for key, name, unit, style in (
        ("matmul_gflop_s", "float32", "GFLOP/s", "-."),
        ("int8_matmul_gop_s", "eight-bit", "GOP/s", ":"),
    ):
        if speeds.get(key):  # a machine, or an older result, may have none in eight bits
            product = [2 * n * n * dim / speeds[key] / 1e6 for n in sizes]
            found.append((f"floor: {name} product, {speeds[key]:,.0f} {unit}", style, product))
    return found


def time_figure(result: Result) -> Figure | None:
    """Time against n on log axes: the solve alone, and all of a training step's pairing."""
    rows = {
        stage: [r for r in result["rows"] if r["stage"] == stage and r["family"] == "photo"]
        for stage in PANELS
    }
    drawn = [stage for stage in PANELS if rows[stage]]
    if not drawn:
        return None
    figure = paper(11.5, 1.8 + 5.9 * len(drawn))
    panels = figure.subplots(len(drawn), 1, squeeze=False)[:, 0]
    margins(figure, left=0.85, right=4.1, top=1.75, bottom=0.6)
    figure.subplots_adjust(hspace=0.24)
    for axes, stage in zip(panels, drawn, strict=True):
        _panel(axes, result, stage, rows[stage])
    write_title(
        figure,
        "How long does it take to pair n images with n noises?",
        f"Photo patches of 3 x 32 x 32 against Gaussian noise; {machine(result)}. Lower is better."
        "\nn^x beside a name: growth of the time, fitted from "
        f"n = {FIT_FROM} on (with three sizes or more); thin dots: the fits of ours, exact,"
        "\nand of SciPy as it is called today. Floors: what one step takes by itself at the speed "
        "that was measured on this machine;\nsd: standard deviation of the costs.",
    )
    return figure


def _panel(axes: Any, result: Result, stage: str, rows: list[Row]) -> None:
    sizes = sorted({r["n"] for r in rows})
    named, laws = [], []
    for method, name, colour, style in LINES[stage]:
        line = sorted((r for r in rows if r["method"] == method), key=lambda r: r["n"])
        if not line:
            continue
        measured, times = [r["n"] for r in line], [r["time_ms"] for r in line]
        law = power_law(measured, times)
        grows = f"  $n^{{{law[1]:.1f}}}$" if law else ""
        until = f", to n = {measured[-1]:,}" if measured[-1] < sizes[-1] else ""
        beyond = times[-1] * (sizes[-1] / measured[-1]) ** STEEP
        drawn = draw_line(axes, measured, times, colour, style)
        named.append(Named(drawn, name + grows + until, beyond))
        if law and method in FITTED:
            laws.append((law, colour))
    low = min(min(entry.line.get_ydata()) for entry in named)
    high = max(max(entry.line.get_ydata()) for entry in named)
    for name, style, values in floors(result, stage, sizes, rows[0]["dim"]):
        (drawn,) = axes.plot(sizes, values, style, color=FLOOR, linewidth=1.4)
        named.append(Named(drawn, name, values[-1]))
        low = min(low, values[-1])
    log_axes(axes, sizes, low, high)
    for (factor, power), colour in laws:
        fit = [factor * n**power for n in sizes]
        axes.plot(sizes, fit, linestyle=(0, (1, 2.5)), color=colour, linewidth=1, zorder=1)
    name_lines(axes, named)
    axes.set_ylabel("milliseconds")
    axes.set_title(PANELS[stage], fontweight="bold", loc="left", fontsize=11.5)
