"""The pictures of the report: one PNG for each question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from . import tables
from .styles import (
    FAMILIES,
    FIT_FROM,
    FLOOR,
    HEURISTIC,
    LEAST_LOST,
    LINES,
    OTHERS,
    OURS,
    SCIPY,
    STAGES,
)
from .tables import Result, Row

DPI = 120


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


def exponent(sizes: list[int], seconds: list[float]) -> float | None:
    """Slope of log time over log n, from ``FIT_FROM`` on; None with fewer than three points."""
    pairs = [(n, t) for n, t in zip(sizes, seconds, strict=True) if n >= FIT_FROM]
    if len(pairs) < 3:
        return None
    n, t = np.log(np.array(pairs)).T
    return float(np.polyfit(n, t, 1)[0])


def time_figure(result: Result) -> Figure | None:
    """Time against n on log axes: the solve alone, and all of a training step's pairing."""
    figure = _figure(16, 7.8)
    panels = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.05, right=0.83, top=0.85, bottom=0.08, wspace=0.66)
    drawn = [
        _time_panel(panels[0], result, "solve", "Solve only: the n x n cost matrix is given"),
        _time_panel(panels[1], result, "pair", "From images and noise: distances and solve"),
    ]
    if not any(drawn):
        return None
    _title(
        figure,
        "How long does it take to pair n images with n noises?",
        f"Photo patches of 3 x 32 x 32 against Gaussian noise; {_machine(result)}. Lower is "
        f"better; n^x: growth of the time, fitted from n = {FIT_FROM} on.",
    )
    return figure


def _time_panel(axes: Any, result: Result, stage: str, title: str) -> bool:
    rows = [r for r in result["rows"] if r["stage"] == stage and r["family"] == "photo"]
    if not rows:
        return False
    labels: list[tuple[float, str, str]] = []
    largest = max(r["n"] for r in rows)
    for method, name, colour, style in LINES[stage]:
        line = sorted((r for r in rows if r["method"] == method), key=lambda r: r["n"])
        if not line:
            continue
        sizes, times = [r["n"] for r in line], [r["time_ms"] for r in line]
        bold = colour == OURS
        axes.plot(
            sizes, times, style, color=colour, marker="o", markersize=5 if bold else 3.5,
            linewidth=2.6 if bold else 1.5, zorder=3 if bold else 2,
        )  # fmt: skip
        slope = exponent(sizes, times)
        grows = f"  n^{slope:.1f}" if slope is not None else ""
        # A line that ends early gets its name where it would have gone.
        beyond = (largest / sizes[-1]) ** (slope or 2.0)
        labels.append((times[-1] * beyond, name + grows, colour))
    sizes = sorted({r["n"] for r in rows})
    for values, name in _floors(result, stage, sizes, rows[0]["dim"]):
        axes.plot(sizes, values, ":", color=FLOOR, linewidth=1.4)
        labels.append((values[-1], name, FLOOR))
    _log_axes(axes, sizes)
    _label_ends(axes, labels)
    axes.set_ylabel("milliseconds")
    axes.set_title(title, fontweight="bold", loc="left", fontsize=11.5)
    return True


def _floors(
    result: Result, stage: str, sizes: list[int], dim: int
) -> list[tuple[list[float], str]]:
    """What no method gets under: the matrix read once, and the product's operations."""
    floors = result["floors"]
    read, peak = floors["read_one_thread_gb_s"], floors["matmul_gflop_s"]
    lines = [([4 * n * n / read / 1e6 for n in sizes], f"floor: read the matrix, {read:.0f} GB/s")]
    if stage == "pair":
        work = [2 * n * n * dim / peak / 1e6 for n in sizes]
        lines.append((work, f"floor: the product, {peak:.0f} GFLOP/s"))
    return lines


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
    figure = _figure(4.4 + 1.35 * len(sizes), 2.0 + 0.62 * len(families))
    axes = figure.add_subplot()
    for (family, n), (times, peer) in cells.items():
        i, j = families.index(family), sizes.index(n)
        grid[i, j] = np.log2(times)
        axes.text(j, i - 0.13, _times(times), ha="center", va="center", fontweight="bold")
        axes.text(j, i + 0.24, f"{peer}", ha="center", va="center", fontsize=7)
    image = axes.imshow(
        grid, cmap="RdBu", aspect="auto", norm=TwoSlopeNorm(0, vmin=-6, vmax=6), alpha=0.8
    )
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02)
    bar.set_ticks(
        [-3, -1, 0, 1, 3], labels=["8x slower", "2x slower", "equal", "2x faster", "8x faster"]
    )
    axes.set_xticks(range(len(sizes)), [f"n = {n:,}" for n in sizes])
    axes.set_yticks(range(len(families)), [FAMILIES[f] for f in families])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    width = figure.get_figwidth()
    figure.subplots_adjust(left=2.2 / width, right=1 - 0.9 / width, top=0.84, bottom=0.07)
    _title(
        figure,
        "Our exact solver against the fastest exact peer of each problem",
        f"Solve only; {_machine(result)}. How many times faster than the named peer; red: the "
        "peer is faster.",
    )
    return figure


def quality_figure(result: Result) -> Figure | None:
    """Share of the gain against time: which method to take when exact is not needed."""
    swept = max(tables.sweeps(result), key=lambda rows: rows[0]["n"], default=None)
    if swept is None:
        return None
    figure = _figure(11.5, 7.2)
    axes = figure.add_subplot()
    figure.subplots_adjust(left=0.1, right=0.97, top=0.82, bottom=0.14)
    kinds: list[tuple[str, str, str, Callable[[Row], bool]]] = [
        (
            "ours, exact and auction",
            OURS,
            "o",
            lambda r: r["ours"] and "sinkhorn" not in r["method"],
        ),
        ("ours, Sinkhorn then auction", OTHERS[2], "s", lambda r: r["ours"]),
        ("best of k noises, by inner product", HEURISTIC, "D", lambda r: not r["permutation"]),
        ("POT Sinkhorn + rounding", OTHERS[1], "v", lambda r: "rounding" in r["method"]),
        ("exact solvers of others", SCIPY, "^", lambda r: True),
    ]
    left = list(swept)
    for name, colour, marker, belongs in kinds:
        along = _lost if name != "exact solvers of others" else (lambda r: r["time_ms"])
        mine = sorted((r for r in left if belongs(r)), key=along)
        left = [r for r in left if r not in mine]
        times, lost = [r["time_ms"] for r in mine], [_lost(r) for r in mine]
        style = "-" if len(mine) > 1 and name != "exact solvers of others" else ""
        axes.plot(times, lost, style + marker, color=colour, label=name, markersize=7, alpha=0.9)
        for k, row in enumerate(mine):
            text = row["method"].removeprefix("product + ").removesuffix(", L2")
            above = 6 if k % 2 == 0 or name != "exact solvers of others" else -12
            axes.annotate(
                text.removesuffix(" + rounding"), (row["time_ms"], _lost(row)),
                xytext=(6, above), textcoords="offset points", fontsize=8, color=colour,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(_share_tick))
    axes.set_xlim(right=1.35 * max(r["time_ms"] for r in swept))
    axes.set_xlabel("milliseconds, from images and noise to pairs")
    axes.set_ylabel("share of the possible gain (log scale of what is lost)")
    axes.grid(alpha=0.25)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=5, fontsize=9, frameon=False)
    n, dim = swept[0]["n"], swept[0]["dim"]
    _title(
        figure,
        "How much of the gain does a method reach, and in what time?",
        f"n = {n:,} {FAMILIES[swept[0]['family']]}, D = {dim:,}; {_machine(result)}. Up and to the "
        "left is better.\nGain: how much the total squared distance falls; the optimal assignment "
        "has 100%. Best-of-k draws other noises,\nshorter than noise is; it is judged by the inner "
        "product, which that does not help.",
    )
    return figure


def _share_tick(lost: float, _: int) -> str:
    return "optimal" if lost < 1.01 * LEAST_LOST else f"{100 * (1 - lost):.6g}%"


def _lost(row: Row) -> float:
    return max(1 - row.get("share_dot", row["share"]), LEAST_LOST)


def memory_figure(result: Result) -> Figure | None:
    rows = [r for r in result["rows"] if r["stage"] == "memory"]
    dims = sorted({r["dim"] for r in rows}, key=lambda d: -sum(r["dim"] == d for r in rows))
    if not rows:
        return None
    dim = dims[0]
    rows = [r for r in rows if r["dim"] == dim]
    sizes = sorted({r["n"] for r in rows})
    figure = _figure(10.5, 6.6)
    axes = figure.add_subplot()
    figure.subplots_adjust(left=0.085, right=0.66, top=0.84, bottom=0.1)
    labels = []
    colours = {"exact": (OURS, "-"), "auction 0.01": (OURS, "--"), "cdist + scipy": (SCIPY, "-")}
    broadcast = "official broadcast fp16 + scipy"
    colours[broadcast] = (HEURISTIC, "-")
    for method in dict.fromkeys(r["method"] for r in rows):
        line = sorted((r for r in rows if r["method"] == method), key=lambda r: r["n"])
        colour, style = colours.get(method, (OTHERS[len(labels) % 5], "-"))
        x, y = [r["n"] for r in line], [r["peak_mib"] for r in line]
        axes.plot(x, y, style, marker="o", color=colour, linewidth=2.4 if colour == OURS else 1.5)
        if method == broadcast:
            more = [n for n in sizes if n >= x[-1]]
            axes.plot(more, [2 * n * n * dim / 2**20 for n in more], ":", color=colour)
            labels.append(
                (2 * sizes[-1] ** 2 * dim / 2**20, "papers' broadcast (dots: computed)", colour)
            )
        else:
            name = f"ours, {method}" if line[0]["ours"] else method
            labels.append((y[-1], name, colour))
    inputs, matrix = [8 * n * dim / 2**20 for n in sizes], [4 * n * n / 2**20 for n in sizes]
    for values, name in ((inputs, "the inputs themselves"), (matrix, "one n x n float32 matrix")):
        axes.plot(sizes, values, ":", color=FLOOR)
        labels.append((values[-1], name, FLOOR))
    _log_axes(axes, sizes)
    _label_ends(axes, labels)
    axes.set_ylabel("MiB at the peak, beyond the inputs")
    _title(
        figure,
        "How much memory does pairing take beyond its inputs?",
        f"D = {dim:,}, float32; every call in a fresh process; {_machine(result)}.",
    )
    return figure


def profile_figure(result: Result) -> Figure | None:
    """Stacked shares of the stages of one call."""
    profiles = result["profile"]
    if not profiles:
        return None
    figure = _figure(11, 1.9 + 0.55 * len(profiles))
    axes = figure.add_subplot()
    figure.subplots_adjust(
        left=0.165, right=0.88, top=0.9 - 0.55 / (1.9 + 0.55 * len(profiles)), bottom=0.22
    )
    for k, p in enumerate(profiles):
        whole, left = sum(p["stages_ms"].values()), 0.0
        for stage, colour in STAGES.items():
            part = p["stages_ms"].get(stage, 0.0) / max(whole, 1e-9)
            axes.barh(k, part, left=left, color=colour, edgecolor="white", height=0.72,
                      label=stage if k == 0 else None)  # fmt: skip
            if part > 0.06:
                dark = stage in ("distance product", "auction", "certificate")
                axes.text(left + part / 2, k, f"{part:.0%}", ha="center", va="center", fontsize=9,
                          color="white" if dark else "black")  # fmt: skip
            left += part
        axes.text(1.01, k, tables.milliseconds(p["total_ms"]), va="center", fontsize=10)
    axes.set_yticks(range(len(profiles)), [tables.profile_name(p) for p in profiles])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}"))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(ncols=8, loc="upper center", bbox_to_anchor=(0.5, -0.1), fontsize=9, frameon=False,
                columnspacing=1.2, handlelength=1.2)  # fmt: skip
    _title(figure, "What does one call spend its time on?", f"{_machine(result)}.")
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _title(figure: Figure, title: str, subtitle: str) -> None:
    height = figure.get_figheight()
    figure.text(0.02, 1 - 0.36 / height, title, fontsize=15, fontweight="bold", va="center")
    figure.text(
        0.02, 1 - 0.58 / height, subtitle, fontsize=9.5, color="0.3", va="top", linespacing=1.4
    )


def _machine(result: Result) -> str:
    device = result["device"]
    cores = f", {device['threads']} thread" if device["kind"] == "cpu" else ""
    return f"{device['name']}{cores}{'s' if cores and device['threads'] > 1 else ''}"


def _log_axes(axes: Any, sizes: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlabel("n")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _label_ends(axes: Any, labels: list[tuple[float, str, str]]) -> None:
    """Names to the right of the lines, in their order, moved apart where they would overlap."""
    low, high = np.log(axes.get_ylim())
    apart = 0.042
    at = [(np.log(value) - low) / (high - low) for value, _, _ in labels]
    order = np.argsort(at)
    places = np.array(at)[order]
    for _ in range(200):
        for k in range(1, len(places)):
            overlap = apart - (places[k] - places[k - 1])
            if overlap > 0:
                places[k] += overlap / 2
                places[k - 1] -= overlap / 2
        places = np.clip(places, 0.0, 1.0)
    for place, k in zip(places, order, strict=True):
        _, name, colour = labels[k]
        axes.annotate(
            name, (1.02, place), xycoords="axes fraction", color=colour, fontsize=8.5, va="center",
            fontweight="bold" if colour == OURS else "normal", annotation_clip=False,
        )  # fmt: skip


def _times(value: float) -> str:
    return f"{value:.0f}x" if value >= 10 else f"{value:.1f}x" if value >= 1 else f"{value:.2f}x"
