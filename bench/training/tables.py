"""From the rows of the CSVs to comparisons: means, verdicts, steps to the baseline's quality."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from immiscible_fast.demo.report import HELPED, HURT, UNCLEAR, verdict_on

from .. import record

RESULTS = record.RESULTS / "training"
PLAIN = "plain"
PAIRED = {  # settings that say which noise there is, and how often
    *("noise", "assign_batch", "pool", "max_age", "k", "within", "condition_weight"),
    *("pair_probability", "fade_from", "pair_above", "seed"),
}
LEAD = {"data": "digits", "model": "mlp", "objective": "flow"}  # what a title starts with
NOT_SHOWN = {"judged", "steps"}
WORDS = {
    "mlp": "MLP", "unet": "UNet", "flow": "flow matching", "epsilon": "DDPM (epsilon)",
    "v": "DDPM (v)", "consistency": "consistency training", "conditional True": "told the class",
}  # fmt: skip
MARKS = {HELPED: "+", UNCLEAR: "=", HURT: "-"}
SEEDS = 3  # from which on there is a verdict
Factor = tuple[float, bool] | None  # and whether it is at least so much: there was no earlier look


def values_of(run: str) -> dict[str, str]:
    """Settings that are not the default, from the name of a run."""
    return {} if run == "default" else dict(part.split("=", 1) for part in run.split(" "))


def without_noise(run: str) -> str:
    """What a run has in common with those that differ from it in noise and seed."""
    return " ".join(f"{key}={value}" for key, value in values_of(run).items() if key not in PAIRED)


def write_csv(
    path: Path, rows: list[dict[str, Any]], names: list[str] | None = None, **options: Any
) -> None:
    """Rows under the names of their columns, of a file that may be there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"header": not path.exists()} if options.get("mode") == "a" else {}
    frame = pd.DataFrame(rows, columns=names)
    frame.to_csv(path, index=False, **{"float_format": "%.5g", **head, **options})


@dataclass
class Group:
    """Runs that differ in nothing but noise and seed."""

    block: str
    name: str  # settings that are not a default
    rows: pd.DataFrame  # noise, seed, train_step, sampling_steps, and what was measured
    _tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def setting(self) -> dict[str, str]:
        return values_of(self.name or "default")

    @property
    def title(self) -> str:
        lead = [{**LEAD, **self.setting}[key] for key in LEAD]
        rest = [f"{k} {v}" for k, v in self.setting.items() if k not in {*LEAD, *NOT_SHOWN}]
        return ", ".join(WORDS.get(word, word) for word in (*lead, *rest))

    @property
    def noises(self) -> list[str]:
        """Kinds of noise, plain first."""
        return sorted(self.rows["noise"].unique(), key=lambda noise: noise != PLAIN)

    def how(self, noise: str) -> dict[str, str]:
        """Settings of a kind of noise."""
        return values_of(self.rows.loc[self.rows["noise"] == noise, "run"].iloc[0])

    @property
    def lengths(self) -> list[int]:
        return sorted(self.rows["train_step"].unique().tolist())

    def counts(self, step: int) -> list[int]:
        """Sampling steps that are judged after a training step."""
        found = self.rows.loc[self.rows["train_step"] == step, "sampling_steps"]
        return sorted(found.unique().tolist())

    def table(self, measure: str) -> pd.DataFrame:
        """By training step, sampling steps and seed, a column for each noise."""
        if measure not in self._tables:
            keys = ["train_step", "sampling_steps", "seed"]
            self._tables[measure] = self.rows.pivot(index=keys, columns="noise", values=measure)
        return self._tables[measure]

    def pairs(self, noise: str, step: int, count: int, measure: str) -> pd.DataFrame:
        """Of each seed that both have, this noise (``ours``) and plain noise (``plain``)."""
        table = self.table(measure)
        found = table.loc[(step, count)] if (step, count) in table.index else table[:0]
        return pd.DataFrame({"ours": found[noise], "plain": found[PLAIN]}).dropna()

    def seeds(self, noise: str) -> list[int]:
        """Those that both this noise and plain noise have."""
        both = self.table("pixels")[[noise, PLAIN]].dropna()
        return sorted(both.index.unique("seed"))

    def ratio(self, noise: str, step: int, count: int, measure: str) -> float:
        """Distance over that of plain noise with the same seed, median of the seeds."""
        found = self.pairs(noise, step, count, measure)
        return float((found["ours"] / found["plain"]).median())

    def verdict(self, noise: str, step: int, count: int, measure: str) -> str | None:
        found = self.pairs(noise, step, count, measure)
        if noise == PLAIN or len(found) < SEEDS:
            return None
        if measure == "right":  # more is better
            found = 1 - found
        return verdict_on(found["plain"].to_numpy(), found["ours"].to_numpy())

    def factors(self, noise: str, count: int, measure: str, best: bool) -> list[Factor]:
        """For each seed: the steps in which plain noise gets to where it ends, or with ``best`` to
        the best that it has, over those in which this noise gets there; None where it does not."""
        found: list[Factor] = []
        for seed in self.seeds(noise):
            curves = self.table(measure).xs((count, seed), level=("sampling_steps", "seed"))
            plain, ours = curves[PLAIN].dropna(), curves[noise].dropna()
            step = plain.idxmin() if best else plain.index[-1]
            reached = first_reach(ours, plain[step])
            found.append(None if reached is None else (step / reached, reached == ours.index[0]))
        return found


def first_reach(curve: pd.Series, wanted: float) -> float | None:
    """The training step at which a curve first gets down to a value, both axes logarithmic."""
    there = np.flatnonzero(curve <= wanted)
    if len(there) == 0:
        return None
    if there[0] == 0:
        return float(curve.index[0])
    (low, high), (after, before) = (np.log([z[there[0]], z[there[0] - 1]]) for z in
                                    (curve.to_numpy(), curve.index))  # fmt: skip
    return float(np.exp(np.interp(np.log(wanted), (low, high), (after, before))))


def read_rows(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["run", "noise"])


def read_groups(folder: Path, blocks: list[str]) -> list[Group]:
    """What the CSVs of these blocks have, groups in the order of their first rows."""
    groups = []
    for block in blocks:
        rows = read_rows(folder / f"{block}.csv")
        rows["seed"] = [int(values_of(run).get("seed", 0)) for run in rows["run"]]
        settings = rows["run"].map(without_noise)
        groups += [Group(block, name, part) for name, part in rows.groupby(settings, sort=False)]
    return [group for group in groups if PLAIN in group.noises]
