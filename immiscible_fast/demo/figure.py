"""One PNG: Frechet distance against training steps, and what the models draw, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray
from torch import Tensor

from .data import ImageSet
from .report import Report
from .settings import SAMPLING_STEPS
from .train import JUDGED_SAMPLES

# Okabe and Ito's palette, told apart by any eye; line style and marker say it once more
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#D55E00", "linestyle": "--", "marker": "s", "label": "noise as drawn"},
    {"color": "#0072B2", "linestyle": "-", "marker": "o", "label": "assigned noise"},
)
COLUMNS = 6  # of a mosaic
REAL_COLUMNS = 36
FLOOR = "real images, redrawn"
LEFT, RIGHT = 0.085, 0.985


def write_figure(report: Report, images: ImageSet, samples: Tensor, path: Path) -> None:
    """Draw the report and ``samples`` (arms, sampling steps, k, d), k = 6, 12, ..., of one seed."""
    figure = Figure(figsize=(15, 9.6), facecolor="white")
    FigureCanvasAgg(figure)
    _titles(figure, report)
    _draw_curves(figure, report)
    _draw_samples(figure, report, images, samples)
    figure.savefig(path, dpi=110)


def _draw_curves(figure: Figure, report: Report) -> None:
    grid = figure.add_gridspec(
        1, len(SAMPLING_STEPS), left=LEFT, right=RIGHT, top=0.825, bottom=0.53, wspace=0.12
    )
    first: Any = None
    for k, count in enumerate(SAMPLING_STEPS):
        axes = figure.add_subplot(grid[k], sharey=first)
        first = first or axes
        _curves(axes, report, k)
        axes.tick_params(labelleft=k == 0)
        axes.set_title(f"{count} sampling step{'s' if count > 1 else ''}", fontweight="bold")
    first.set_ylabel("Fréchet distance to real images\n(squared pixel units, log scale)")
    first.legend(loc="best", fontsize=9, framealpha=0.9)


def _draw_samples(figure: Figure, report: Report, images: ImageSet, samples: Tensor) -> None:
    grid = figure.add_gridspec(
        3,
        len(SAMPLING_STEPS),
        height_ratios=(1, 1, 0.36),
        left=LEFT,
        right=RIGHT,
        top=0.455,
        bottom=0.06,
        hspace=0.16,
        wspace=0.12,
    )
    for arm, style in enumerate(STYLES):
        for k in range(len(SAMPLING_STEPS)):
            axes = figure.add_subplot(grid[arm, k])
            _mosaic(axes, images.pictures(samples[arm, k]), COLUMNS, style["color"])
            axes.set_xlabel(f"distance {report.frechet[0, -1, arm, k]:.2f}", fontsize=9)
            if k == 0:
                axes.set_ylabel(f"model trained with\n{style['label']}", color=style["color"])
    axes = figure.add_subplot(grid[2, :])
    _mosaic(axes, images.pictures(_spread(images.pixels, REAL_COLUMNS)), REAL_COLUMNS, "0.4")
    axes.set_ylabel("real\nimages")


def _titles(figure: Figure, report: Report) -> None:
    settings, costs = report.settings, report.costs
    figure.text(
        LEFT,
        0.955,
        "The same small model trained twice: with noise as it is drawn, and with noise assigned to "
        "its nearest images",
        fontsize=14.5,
        fontweight="bold",
    )
    spread = f"mean of {settings.seeds} seeds, band: lowest to highest"
    figure.text(
        LEFT,
        0.875,
        f"Flow matching on {report.data}, batch {settings.batch}. Both models start from the same "
        "weights and see the same batches, noise and times;\nonly the pairing of images and noise "
        f"differs. Assignment took {costs.assignment_ms:.1f} ms of a step of "
        f"{costs.assigned_step_ms:.1f} ms and removed {costs.distance_removed:.1%} of the mean "
        f"squared distance of the pairs.\nCurves: lower is better"
        f"{', ' + spread if settings.seeds > 1 else ''}.",
        fontsize=10.5,
        linespacing=1.45,
    )
    figure.text(
        LEFT,
        0.014,
        f"Samples: first seed, after {settings.steps} training steps, from the same starting noise "
        f"everywhere; under them the distance of {JUDGED_SAMPLES} samples of that model.\n"
        f"'{FLOOR}': {JUDGED_SAMPLES} of the real images, drawn with replacement.",
        fontsize=9.5,
        color="0.3",
    )


def _curves(axes: Any, report: Report, k: int) -> None:
    steps = report.settings.checkpoints
    for arm, style in enumerate(STYLES):
        values = report.frechet[:, :, arm, k]
        axes.fill_between(
            steps, values.min(0), values.max(0), color=style["color"], alpha=0.2, linewidth=0
        )
        axes.plot(steps, values.mean(0), markersize=5, linewidth=1.8, **style)
    axes.axhline(report.floor, color="0.35", linestyle=":", label=FLOOR)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(steps))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(labelsize=9)
    axes.set_xlabel("training steps")
    axes.grid(alpha=0.25, which="major")
    axes.spines[["top", "right"]].set_visible(False)


def _mosaic(axes: Any, pictures: NDArray[np.float32], columns: int, colour: str) -> None:
    """Show pictures (k, h, w) or (k, h, w, 3) in rows of ``columns``, a thin line between them."""
    edges = ((0, 0), (1, 1), (1, 1), *[(0, 0)] * (pictures.ndim - 3))
    padded = np.pad(pictures, edges, constant_values=1)
    lines = padded.reshape(-1, columns, *padded.shape[1:])
    rows = [np.concatenate(list(line), axis=1) for line in lines]
    axes.imshow(np.concatenate(rows), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(1.5)


def _spread(pixels: Tensor, count: int) -> Tensor:
    """``count`` images from all over the set, the same ones again if it holds fewer."""
    return pixels[np.linspace(0, len(pixels) - 1, count).round().astype(int)]
