"""From the rows of the CSVs to comparisons: means, verdicts, steps to the baseline's quality."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from immiscible_fast.demo.report import HELPED, HURT, UNCLEAR, verdict_on

from ..record import read_csv
from .grid import values_of, without_noise

PLAIN = "plain"
LEAD = {"data": "digits", "model": "mlp", "objective": "flow"}  # what a title starts with
NOT_SHOWN = {"judged", "steps"}
WORDS = {
    "mlp": "MLP", "unet": "UNet", "flow": "flow matching", "epsilon": "DDPM (epsilon)",
    "v": "DDPM (v)", "consistency": "consistency training", "conditional True": "told the class",
}  # fmt: skip
MARKS = {HELPED: "+", UNCLEAR: "=", HURT: "-"}
SEEDS = 3  # from which on there is a verdict
Point = tuple[int, int]  # training step, sampling steps
Factor = tuple[float, bool] | None  # and whether it is at least so much: there was no earlier look
Curves = dict[int, dict[Point, dict[str, float]]]  # by seed and point, values by measure


@dataclass
class Group:
    """Runs that differ in nothing but noise and seed."""

    block: str
    setting: dict[str, str]  # what is not a default
    runs: dict[str, Curves] = field(default_factory=lambda: defaultdict(dict))  # by noise
    how: dict[str, dict[str, str]] = field(default_factory=dict)  # settings of each noise

    @property
    def title(self) -> str:
        lead = [{**LEAD, **self.setting}[key] for key in LEAD]
        more = self.setting.keys() - LEAD.keys() - NOT_SHOWN
        rest = [f"{key} {value}" for key, value in self.setting.items() if key in more]
        return ", ".join(WORDS.get(word, word) for word in (*lead, *rest))

    @property
    def noises(self) -> list[str]:
        """Kinds of noise, plain first."""
        return sorted(self.runs, key=lambda noise: noise != PLAIN)

    @property
    def points(self) -> list[Point]:
        found = {point for runs in self.runs.values() for seed in runs.values() for point in seed}
        return sorted(found)

    @property
    def lengths(self) -> list[int]:
        return sorted({step for step, _ in self.points})

    def seeds(self, noise: str) -> list[int]:
        """Those that both this noise and plain noise have."""
        return sorted(self.runs[noise].keys() & self.runs[PLAIN].keys())

    def values(
        self, noise: str, point: Point, measure: str, of: str | None = None
    ) -> NDArray[np.float64]:
        """(seeds,) of this noise, or of another one for the seeds that this one has."""
        runs = self.runs[of or noise]
        found = [runs[seed].get(point, {}).get(measure) for seed in self.seeds(noise)]
        return np.array([value for value in found if value is not None])

    def ratio(self, noise: str, point: Point, measure: str) -> float | None:
        """Distance over that of plain noise with the same seed, median of the seeds."""
        ours, plain = (self.values(noise, point, measure, of) for of in (noise, PLAIN))
        return float(np.median(ours / plain)) if len(ours) and len(plain) else None

    def verdict(self, noise: str, point: Point, measure: str) -> str | None:
        ours = self.values(noise, point, measure)
        if noise == PLAIN or len(ours) < SEEDS:
            return None
        plain = self.values(noise, point, measure, PLAIN)
        if measure == "right":  # more is better
            ours, plain = 1 - ours, 1 - plain
        return verdict_on(plain, ours)

    def factors(self, noise: str, count: int, measure: str, best: bool) -> list[Factor]:
        """For each seed: the steps in which plain noise gets to where it ends, or with ``best`` to
        the best that it has, over those in which this noise gets there; None where it does not."""
        found: list[Factor] = []
        for seed in self.seeds(noise):
            plain, ours = (_curve(self.runs[k][seed], count, measure) for k in (PLAIN, noise))
            step = min(plain, key=plain.__getitem__) if best else max(plain)
            reached = first_reach(ours, plain[step])
            found.append(None if reached is None else (step / reached, reached == min(ours)))
        return found


def _curve(points: dict[Point, dict[str, float]], count: int, measure: str) -> dict[int, float]:
    return {step: found[measure] for (step, n), found in points.items() if n == count}


def first_reach(curve: dict[int, float], wanted: float) -> float | None:
    """The training step at which a curve first gets down to a value, both axes logarithmic."""
    steps = sorted(curve)
    if curve[steps[0]] <= wanted:
        return float(steps[0])
    for before, after in pairwise(steps):
        if curve[after] <= wanted:
            high, low = np.log(curve[before]), np.log(curve[after])
            share = (high - np.log(wanted)) / (high - low) if high > low else 1.0
            return float(np.exp(np.log(before) + share * np.log(after / before)))
    return None


def read_groups(folder: Path, blocks: list[str]) -> list[Group]:
    """What the CSVs of these blocks have, groups in the order of their first rows."""
    found: dict[tuple[str, str], Group] = {}
    for block in blocks:
        for row in read_csv(folder / f"{block}.csv"):
            values, setting = values_of(row["run"]), without_noise(row["run"])
            group = found.setdefault(
                (block, setting), Group(block, values_of(setting or "default"))
            )
            point = int(row["train_step"]), int(row["sampling_steps"])
            measured = {
                name: float(row[name])
                for name in ("pixels", "classifier", "right", "fid")
                if row[name]
            }
            seed = int(values.get("seed", 0))
            group.runs[row["noise"]].setdefault(seed, {})[point] = measured
            group.how[row["noise"]] = values
    return [group for group in found.values() if PLAIN in group.runs]
