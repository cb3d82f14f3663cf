"""Samples in rows, and curves with bands: the pictures of runs and of the page."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator
from torch import Tensor

from ..plots import OTHERS, OURS, SCIPY, paper
from .tables import Group

COLOURS = (SCIPY, OURS, "#009E73", *OTHERS)


def write_rows_of_samples(rows: dict[str, Tensor], path: Path) -> None:
    """A line of images (k, c, h, w) in [-1, 1] for each name."""
    figure = paper(10, 0.44 * len(rows) + 0.1)
    grid = figure.add_gridspec(len(rows), 1, left=0.3, right=0.995, top=0.99, bottom=0.01)
    for k, (name, images) in enumerate(rows.items()):
        axes = figure.add_subplot(grid[k])
        shown = ((images.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).numpy()
        line = np.pad(shown, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1)
        picture = np.concatenate(list(line), axis=1)
        colour = picture if picture.shape[2] == 3 else np.repeat(picture, 3, 2)
        axes.imshow(colour, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        axes.text(-0.01, 0.5, name, transform=axes.transAxes, ha="right", va="center", fontsize=8)
    figure.savefig(path, dpi=100)


def write_curves(group: Group, path: Path) -> None:
    """Distance of pixels against training steps, for each kind of noise; bands from the least to
    the most of the seeds."""
    counts = group.counts(group.lengths[0])
    figure = paper(3.2 * len(counts) + 0.8, 3.4)
    every = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for axes, count in zip(every, counts, strict=True):
        for noise, colour in zip(group.noises, itertools.cycle(COLOURS)):
            seeds = group.table("pixels")[noise].xs(count, level="sampling_steps").dropna()
            found = seeds.groupby("train_step").agg(["min", "mean", "max"])
            axes.fill_between(found.index, found["min"], found["max"], color=colour, alpha=0.15,
                              linewidth=0)  # fmt: skip
            axes.plot(found["mean"], color=colour, marker="o", markersize=3, label=noise)
        axes.set(xscale="log", yscale="log", xlabel="training steps")
        axes.xaxis.set_major_locator(FixedLocator(group.lengths[-1::-2]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(f"{count} sampling step{'s' * (count > 1)}", fontsize=10)
        axes.tick_params(labelleft=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7)
    every[0].set_ylabel("Fréchet distance of pixels")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
