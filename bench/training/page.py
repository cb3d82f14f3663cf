"""docs/evidence.md, with its pictures, from the CSVs of bench/results/training alone.

python -m bench.training.page            # after runs of bench.training.grid
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from string import Template

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from immiscible_fast.demo.report import HELPED, HURT, UNCLEAR

from ..record import ROOT, Row, read_csv
from ..tables import markdown
from . import gaussian, rule
from .gaussian import RESULTS
from .grid import Cell, cells, missing, samples_of
from .pictures import write_curves, write_rows_of_samples
from .settings import from_dict, read_toml
from .tables import MARKS, NOT_SHOWN, SEEDS, Factor, Group, read_groups

PAGE = ROOT / "docs/evidence.md"
PICTURES = ROOT / "docs/evidence"
HERE = Path(__file__).parent
GRIDS = ("evidence", "map")
NAMES = {
    "pixels": "Fréchet distance of pixels",
    "classifier": "Fréchet distance of a classifier's features",
    "right": "Share of samples of the class that was asked for",
}
SHARES = (1 / 4, 1 / 2, 1)  # of the training, for the map's three lengths
FEW, SOONER = (1, 2, 4, 8), (1, 4, 8)
OVER = (1, 2, 4, 8, 16, 50)
CIFAR_DIM = "3072"
FLOPS, SUSTAINED = 36e9, 1e14  # of a step for an image; of a GPU in a second


def render(folder: Path = RESULTS) -> str:
    """The page's text: page.md, with what the CSVs say in the places that it marks."""
    groups = read_groups(folder, known_blocks())
    moments = read_csv(folder / "gaussian.csv")
    return Template((HERE / "page.md").read_text(encoding="utf-8")).substitute(
        runs=sum(len(seeds) for group in groups for seeds in group.runs.values()),
        summary=_summary(groups),
        rule=rule.table(groups),
        map=_map(groups),
        sooner=_sooner(groups),
        comparisons="\n\n".join(_comparison(group, folder) for group in groups),
        distances=_distances(read_csv(folder / "distance.csv")),
        noises=moments[0]["noises"],
        batch=moments[0]["batch"],
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
    counts: dict[str, dict[int, list[str]]] = {}
    for group in groups:
        for noise in group.noises[1:]:
            for measure in ("pixels", "classifier"):
                for step, count in group.points:
                    verdict = group.verdict(noise, (step, count), measure)
                    if step == group.lengths[-1] and verdict:
                        counts.setdefault(noise, {}).setdefault(count, []).append(verdict)
    if not counts:
        return "No comparison has three seeds yet."
    rows = []
    for noise, found in counts.items():
        tallies = [[found.get(n, []).count(v) for v in (HELPED, UNCLEAR, HURT)] for n in OVER]
        rows.append([noise, *(" / ".join(map(str, t)) if any(t) else "" for t in tallies)])
    return markdown(["noise", *map(_steps, OVER)], rows)


def _steps(count: int) -> str:
    return f"{count} sampling step{'s' * (count > 1)}"


def _map(groups: list[Group]) -> str:
    rows = []
    for group in groups:
        lengths = _three(group)
        for noise in group.noises[1:]:
            row = [group.title, noise, str(len(group.seeds(noise)))]
            for count in OVER:
                steps = lengths if count in FEW else lengths[-1:]
                row.append(" / ".join(_ratio(group, noise, (step, count)) for step in steps))
            rows.append(row)
    return markdown(["setting", "noise", "seeds", *map(_steps, OVER)], rows)


def _three(group: Group) -> list[int]:
    """The judged training steps next to the three lengths."""
    last = group.lengths[-1]
    return [min(group.lengths, key=lambda step: abs(step - share * last)) for share in SHARES]


def _ratio(group: Group, noise: str, point: tuple[int, int]) -> str:
    ratio = group.ratio(noise, point, "pixels")
    return "" if ratio is None else f"{ratio:.2f}{_mark(group, noise, point, 'pixels')}"


def _mark(group: Group, noise: str, point: tuple[int, int], measure: str) -> str:
    verdict = group.verdict(noise, point, measure)
    return MARKS[verdict] if verdict else ""


def _sooner(groups: list[Group]) -> str:
    rows = []
    for group in groups:
        for noise in group.noises[1:]:
            if noise.startswith("best") or len(group.seeds(noise)) < SEEDS:
                continue
            row = [group.title, noise]
            for best in (False, True):
                row += [_factor(group.factors(noise, n, "pixels", best)) for n in SOONER]
            rows.append(row)
    if not rows:
        return "No comparison has three seeds yet."
    head = [f"to its {what}, {n}" for what in ("end", "best") for n in SOONER]
    return markdown(["setting", "noise", *head], rows)


def _factor(found: list[Factor]) -> str:
    reached = [factor for factor in found if factor is not None]
    if len(reached) < len(found):
        return f"not in {len(found) - len(reached)} of {len(found)}"
    values = [value for value, _ in reached]
    least = "≥ " if any(at_least for _, at_least in reached) else ""
    return f"{least}{median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def _comparison(group: Group, folder: Path) -> str:
    last = group.lengths[-1]
    counts = [count for step, count in group.points if step == last]
    parts = [f"### {group.title}, {last} training steps"]
    for measure, what in NAMES.items():
        rows = []
        for noise in group.noises:
            found = [group.values(noise, (last, count), measure) for count in counts]
            marks = [_mark(group, noise, (last, count), measure) for count in counts]
            if all(map(len, found)):
                cells_ = [_mean(*pair) for pair in zip(found, marks, strict=True)]
                rows.append([noise, str(len(found[0])), *cells_])
        if rows:
            parts.append(f"{what}, by sampling steps (mean ± standard deviation of the seeds):")
            parts.append(markdown(["noise", "seeds", *map(str, counts)], rows))
    parts.append(f"![Distance against training steps]({PICTURES.name}/{picture(group)})")
    if kept_samples(group, folder):
        alt = "Samples of the first seed, with 1, 4 and 16 sampling steps"
        parts.append(f"![{alt}]({PICTURES.name}/samples-{picture(group)})")
    return "\n\n".join(parts)


def _mean(values: NDArray[np.float64], mark: str) -> str:
    spread = f" ± {values.std(ddof=1):.2g}" if len(values) > 1 else ""
    return f"{values.mean():.3g}{spread}{mark and f' **{mark}**'}"


def kept_samples(group: Group, folder: Path) -> dict[str, Tensor]:
    """Samples (k, c, h, w) in [-1, 1] by noise and sampling steps, as rows of a picture."""
    setting = " ".join(f"{key}={value}" for key, value in group.setting.items())
    found = {}
    for noise in group.noises:
        path = samples_of(group.block, setting, noise, folder)
        if path.exists():
            for count, levels in np.load(path).items():
                found[count, noise] = torch.from_numpy(levels).float() / 127.5 - 1
    order = sorted(found, key=lambda key: int(key[0]))
    return {f"{noise}: {count}": found[count, noise] for count, noise in order}


def picture(group: Group) -> str:
    more = [v for k, v in group.setting.items() if k not in NOT_SHOWN | {"data", "model"}]
    return "-".join([group.block, *more]) + ".png"


def _distances(found: list[Row]) -> str:
    rows = []
    for row in found:
        shares = [f"{float(row[key]):.2f} %" for key in ("distance", "theory", "squared")]
        paper = gaussian.PAPER.get(int(row["n"])) if row["dim"] == CIFAR_DIM else None
        rows.append([row["data"], row["dim"], row["n"], *shares, f"{paper} %" if paper else ""])
    head = ["images", "D", "n", "removed", "at most", "of the squared distance", "paper"]
    return markdown(head, rows)


def _moments(found: list[Row]) -> str:
    keys = [key for key in found[0] if key not in ("data", "batch", "noises", "noise")]
    rows = []
    for row in found:
        passed = "yes" if gaussian.gaussian(row) else "**no**"
        rows.append([row["noise"], *(row[key] for key in keys), passed])
    return markdown(["noise", *keys, "Gaussian"], rows)


def _plans() -> str:
    rows = []
    for path in sorted((HERE / "plans").glob("*.toml")):
        values = read_toml(path)
        settings = from_dict(values)
        hours = FLOPS * settings.batch * settings.steps / SUSTAINED / 3600
        told = f"{hours:.0f}" if settings.model == "diffusers" else "minutes"
        rows.append([f"`python -m bench.training.run {path.relative_to(ROOT)}`", told])
    return markdown(["command", "GPU-hours, estimated"], rows)


def _missing(folder: Path) -> str:
    lines = []
    for grid in GRIDS:
        known: list[Cell] = list(cells(HERE / f"{grid}.toml"))
        left = len(missing(known, folder))
        lines.append(
            f"- {grid}.toml: {len(known) - left} of {len(known)} runs are done; `python -m "
            f"bench.training.grid bench/training/{grid}.toml` does the rest, and can be stopped."
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.training.page", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(argv)
    pictures = options.page.parent / PICTURES.name
    pictures.mkdir(parents=True, exist_ok=True)
    for group in read_groups(options.results, known_blocks()):
        write_curves(group, pictures / picture(group))
        if rows := kept_samples(group, options.results):
            write_rows_of_samples(rows, pictures / f"samples-{picture(group)}")
    options.page.write_text(render(options.results), encoding="utf-8")
    print(options.page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
