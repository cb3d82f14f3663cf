"""docs/evidence.md, with its pictures, from the CSVs of bench/results/training alone.

python -m bench.training.page            # after runs of bench.training.grid
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median
from string import Template

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from immiscible_fast.demo.report import HELPED, HURT, UNCLEAR

from ..record import ROOT
from ..tables import markdown
from . import gaussian, rule
from .grid import cells, missing, samples_of
from .pictures import write_curves, write_rows_of_samples
from .settings import Settings, read_toml
from .tables import MARKS, NOT_SHOWN, RESULTS, SEEDS, Factor, Group, read_groups

PAGE = ROOT / "docs/evidence.md"
PICTURES = PAGE.parent / "evidence"
HERE = Path(__file__).parent
GRIDS = ("evidence", "map")
NAMES = {
    "pixels": "Fréchet distance of pixels",
    "classifier": "Fréchet distance of a classifier's features",
    "right": "Share of samples of the class that was asked for",
}
SHARES = (1 / 4, 1 / 2, 1)  # of the training, for the map's three lengths
FEW, SOONER = (1, 2, 4, 8), (1, 4, 8)
OVER = {n: f"{n} sampling step{'s' * (n > 1)}" for n in (1, 2, 4, 8, 16, 50)}
NONE = "No comparison has three seeds yet."
FLOPS, SUSTAINED = 36e9, 1e14  # of a step for an image; of a GPU in a second


def render(folder: Path = RESULTS) -> str:
    """The page's text: page.md, with what the CSVs say in the places that it marks."""
    groups = read_groups(folder, known_blocks())
    moments, distances = (
        pd.read_csv(folder / f"{name}.csv", dtype=str) for name in ("gaussian", "distance")
    )
    return Template((HERE / "page.md").read_text(encoding="utf-8")).substitute(
        runs=sum(len(group.rows[["noise", "seed"]].drop_duplicates()) for group in groups),
        summary=_summary(groups),
        rule=rule.table(groups),
        map=_map(groups),
        sooner=_sooner(groups),
        comparisons="\n\n".join(_comparison(group, folder) for group in groups),
        distances=_distances(distances),
        noises=moments["noises"][0],
        batch=moments["batch"][0],
        rejected=gaussian.REJECTED,
        moments=_moments(moments),
        plans=_plans(),
        missing=_missing(folder),
    )


def known_blocks() -> list[str]:
    """Names of all blocks of the grids, in their order."""
    return [block for grid in GRIDS for block in read_toml(HERE / f"{grid}.toml")]


def _summary(groups: list[Group]) -> str:
    """How often each kind of noise helped, by sampling steps."""
    counts = Counter(
        (noise, count, group.verdict(noise, group.lengths[-1], count, measure))
        for group in groups
        for noise in group.noises[1:]
        for measure in ("pixels", "classifier")
        for count in group.counts(group.lengths[-1])
    )
    rows = []
    for noise in dict.fromkeys(noise for noise, _, verdict in counts if verdict):
        tallies = [[counts[noise, n, v] for v in (HELPED, UNCLEAR, HURT)] for n in OVER]
        rows.append([noise, *(" / ".join(map(str, t)) if any(t) else "" for t in tallies)])
    return markdown(["noise", *OVER.values()], rows) if rows else NONE


def _map(groups: list[Group]) -> str:
    rows = []
    for group in groups:
        last = group.lengths[-1]
        lengths = [min(group.lengths, key=lambda k: abs(k - share * last)) for share in SHARES]
        for noise in group.noises[1:]:
            row = [group.title, noise, str(len(group.seeds(noise)))]
            for count in OVER:
                steps = lengths if count in FEW else [last]
                row.append(" / ".join(_ratio(group, noise, step, count) for step in steps))
            rows.append(row)
    return markdown(["setting", "noise", "seeds", *OVER.values()], rows)


def _ratio(group: Group, *point: str | int) -> str:
    ratio = group.ratio(*point, "pixels")
    return "" if np.isnan(ratio) else f"{ratio:.2f}{_mark(group, *point, 'pixels')}"


def _mark(group: Group, *point: str | int) -> str:
    return MARKS.get(group.verdict(*point), "")


def _sooner(groups: list[Group]) -> str:
    rows = [
        [group.title, noise]
        + [_factor(group.factors(noise, n, "pixels", b)) for b in (False, True) for n in SOONER]
        for group in groups
        for noise in group.noises[1:]
        if not noise.startswith("best") and len(group.seeds(noise)) >= SEEDS
    ]
    head = [f"to its {what}, {n}" for what in ("end", "best") for n in SOONER]
    return markdown(["setting", "noise", *head], rows) if rows else NONE


def _factor(found: list[Factor]) -> str:
    reached = [factor for factor in found if factor is not None]
    if len(reached) < len(found):
        return f"not in {len(found) - len(reached)} of {len(found)}"
    values = [value for value, _ in reached]
    least = "≥ " if any(at_least for _, at_least in reached) else ""
    return f"{least}{median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def _comparison(group: Group, folder: Path) -> str:
    last = group.lengths[-1]
    counts = group.counts(last)
    parts = [f"### {group.title}, {last} training steps"]
    for measure, what in NAMES.items():
        rows = []
        for noise in group.noises:
            found = [group.pairs(noise, last, count, measure)["ours"] for count in counts]
            if all(map(len, found)):
                marks = [_mark(group, noise, last, count, measure) for count in counts]
                rows.append([noise, str(len(found[0])), *map(_mean, found, marks)])
        if rows:
            parts.append(f"{what}, by sampling steps (mean ± standard deviation of the seeds):")
            parts.append(markdown(["noise", "seeds", *map(str, counts)], rows))
    parts.append(f"![Distance against training steps]({PICTURES.name}/{picture(group)})")
    if kept_samples(group, folder):
        alt = "Samples of the first seed, with 1, 4 and 16 sampling steps"
        parts.append(f"![{alt}]({PICTURES.name}/samples-{picture(group)})")
    return "\n\n".join(parts)


def _mean(values: pd.Series, mark: str) -> str:
    spread = f" ± {values.std():.2g}" if len(values) > 1 else ""
    return f"{values.mean():.3g}{spread}{mark and f' **{mark}**'}"


def kept_samples(group: Group, folder: Path) -> dict[str, Tensor]:
    """Samples (k, c, h, w) in [-1, 1] by noise and sampling steps, as rows of a picture."""
    paths = {noise: samples_of(group.block, group.name, noise, folder) for noise in group.noises}
    found = {noise: np.load(path) for noise, path in paths.items() if path.exists()}
    counts = sorted({n for kept in found.values() for n in kept}, key=int)
    return {
        f"{noise}: {n}": torch.from_numpy(kept[n]).float() / 127.5 - 1
        for n in counts
        for noise, kept in found.items()
    }


def picture(group: Group) -> str:
    more = [v for k, v in group.setting.items() if k not in NOT_SHOWN | {"data", "model"}]
    return "-".join([group.block, *more]) + ".png"


def _distances(found: pd.DataFrame) -> str:
    rows = []
    for row in found.to_dict("records"):
        shares = [f"{float(row[key]):.2f} %" for key in ("distance", "theory", "squared")]
        paper = gaussian.PAPER.get((row["dim"], row["n"]), "")
        rows.append([row["data"], row["dim"], row["n"], *shares, paper])
    head = ["images", "D", "n", "removed", "at most", "of the squared distance", "paper"]
    return markdown(head, rows)


def _moments(found: pd.DataFrame) -> str:
    shown = found.drop(columns=["data", "batch", "noises"])
    passed = ["yes" if gaussian.gaussian(row) else "**no**" for row in found.to_dict("records")]
    return markdown([*shown, "Gaussian"], shown.assign(passed=passed).to_numpy().tolist())


def _plans() -> str:
    rows = []
    for path in sorted((HERE / "plans").glob("*.toml")):
        settings = Settings(**read_toml(path))
        hours = FLOPS * settings.batch * settings.steps / SUSTAINED / 3600
        told = f"{hours:.0f}" if settings.model == "diffusers" else "minutes"
        rows.append([f"`python -m bench.training.run {path.relative_to(ROOT)}`", told])
    return markdown(["command", "GPU-hours, estimated"], rows)


def _missing(folder: Path) -> str:
    lines = []
    for grid in GRIDS:
        known = list(cells(HERE / f"{grid}.toml"))
        left = len(missing(known, folder))
        lines.append(
            f"- {grid}.toml: {len(known) - left} of {len(known)} runs are done; `python -m "
            f"bench.training.grid bench/training/{grid}.toml` does the rest, and can be stopped."
        )
    return "\n".join(lines)


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    for group in read_groups(RESULTS, known_blocks()):
        write_curves(group, PICTURES / picture(group))
        if rows := kept_samples(group, RESULTS):
            write_rows_of_samples(rows, PICTURES / f"samples-{picture(group)}")
    PAGE.write_text(render(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
