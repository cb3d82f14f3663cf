"""The training evidence: distances, grids of runs, comparisons, the page, and Gaussian noise."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.training import data, evaluate, gaussian, grid, page, tables
from bench.training.settings import Settings
from immiscible_fast.demo.frechet import fit_gaussian, frechet_distance


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(evaluate, "CLASSIFIER_STEPS", 5)


@pytest.fixture(scope="module")
def digits():
    return data.load(Settings())


def test_fid_is_the_distance_of_the_features_that_it_is_given(digits, tmp_path):
    pytest.importorskip("torchmetrics")

    class Means(torch.nn.Module):
        num_features = 4

        def forward(self, images):
            return images.double().unflatten(3, (4, 2)).mean((1, 2, 4)) / 100

    with pytest.raises(FileNotFoundError, match=r"inception must be the file .* of torch-fidelity"):
        evaluate.inception_fid(tmp_path / "none", digits)
    weights = tmp_path / "weights"
    weights.touch()
    few = replace(digits, pixels=digits.pixels[:200], labels=digits.labels[:200])
    fid = evaluate.inception_fid(weights, few, Means())
    other = digits.pixels[300:500]
    fid.update(evaluate.as_bytes(other), real=False)
    features = [Means()(evaluate.as_bytes(x)).numpy() for x in (few.pixels, other)]
    expected = frechet_distance(*map(fit_gaussian, features))
    assert float(fid.compute()) == pytest.approx(expected, rel=1e-4)


GRID = """
[tiny.base]
width = 8
batch = 8
steps = 4
judged = 20
judge_at = [0.5, 1.0]
sampling_steps = [1, 4]
device = "cpu"
output = "{output}"
[tiny.vary]
seed = [{seeds}]
[tiny.noise]
"plain" = {{}}
"assigned in 8" = {{ noise = "assigned" }}
"""


def test_a_grid_runs_what_is_missing_and_nothing_twice(tmp_path):
    path, out = tmp_path / "grid.toml", tmp_path / "out"
    path.write_text(GRID.format(output=tmp_path, seeds="0"))
    with ThreadPoolExecutor(1) as workers:
        first = grid.missing(list(grid.cells(path)), out)
        assert grid.run_all(first, out, workers, 1, 0) == 0
        assert grid.run_all(first, out, workers, 1, 100) == 2
        before = grid.csv_of("tiny", out).read_text()
        path.write_text(GRID.format(output=tmp_path, seeds="0, 1"))
        second = grid.missing(list(grid.cells(path)), out)
        assert [cell.settings.seed for cell in second] == [1, 1]
        grid.run_all(second, out, workers, 1, 100)
    after = grid.csv_of("tiny", out).read_text()
    assert after.startswith(before) and len(after) > len(before)
    assert grid.missing(list(grid.cells(path)), out) == []
    (group,) = tables.read_groups(out, ["tiny"])
    assert group.noises == ["plain", "assigned in 8"] and group.seeds("plain") == [0, 1]
    assert group.points == [(2, 1), (2, 4), (4, 1), (4, 4)]
    rows = page.kept_samples(group, out)
    assert [name.split(": ")[1] for name in rows] == ["1", "1", "4", "4", "16", "16"]
    assert {tuple(x.shape) for x in rows.values()} == {(16, 1, 8, 8)}


def group_of(**curves):
    """Distances with one sampling step by noise, seed and training step (10, 100, ...)."""
    group = tables.Group("b", {})
    for noise, seeds in curves.items():
        for seed, values in enumerate(seeds):
            points = {(10 ** (k + 1), 1): {"pixels": v} for k, v in enumerate(values)}
            group.runs[noise][seed] = points
    return group


def test_verdicts_and_how_much_sooner():
    plain = [[8.0, 2.0, 4.0]] * 3
    group = group_of(plain=plain, good=[[4.0, 2.0, 1.0]] * 3, late=[[9.0, 9.0, 2.5]] * 2)
    assert group.verdict("good", (1000, 1), "pixels") == tables.HELPED
    assert group.verdict("good", (100, 1), "pixels") == tables.UNCLEAR
    assert group.verdict("late", (1000, 1), "pixels") is None  # two seeds
    assert group.ratio("late", (1000, 1), "pixels") == pytest.approx(2.5 / 4)
    assert group.factors("good", 1, "pixels", best=False) == [(100.0, True)] * 3
    for factor, at_least in group.factors("good", 1, "pixels", best=True):
        assert factor == pytest.approx(1) and not at_least
    assert group.factors("late", 1, "pixels", best=True) == [None] * 2
    assert tables.first_reach({10: 8.0, 1000: 2.0}, 4.0) == pytest.approx(100)


def test_the_page_is_that_of_the_committed_results(tmp_path):
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.render()
    for link in (line for line in text.splitlines() if line.startswith("![")):
        assert (page.PAGE.parent / link.split("(")[1].rstrip(")")).is_file()


def test_each_figure_of_the_page_comes_from_a_csv(tmp_path):
    """A page of nothing has none of its tables' figures."""
    for name in ("gaussian", "distance"):
        rows = grid.read_rows(page.RESULTS / f"{name}.csv")
        kept = {"data", "noise", "noises", "batch", "dim", "n"}
        changed = [{k: v if k in kept else "0.125" for k, v in row.items()} for row in rows[:1]]
        gaussian.write(tmp_path / f"{name}.csv", changed)
    empty = page.render(tmp_path)
    assert "0.125" in empty and "0.12 %" in empty and " 0 runs in" in empty
    template = (page.HERE / "page.md").read_text(encoding="utf-8")
    measured = [line for line in page.render().splitlines() if line.startswith("| ")]
    allowed = set(template.splitlines()) | set(page._plans().splitlines())
    copied = [line for line in empty.splitlines() if line.startswith("| ") and line in measured]
    heads = [line for line, after in pairwise(empty.splitlines()) if after.startswith("|---")]
    assert set(copied) <= allowed | set(heads)


def test_assignment_takes_no_more_than_the_limit(rng):
    x = torch.from_numpy(rng.standard_normal((256, 300)).astype(np.float32))
    (row,) = gaussian.reduction(x, (128,), 256)
    assert 0.3 * row["theory"] < row["distance"] < row["theory"]
    assert row["squared"] == pytest.approx(2 * row["distance"], rel=0.05)


def test_best_of_k_is_not_gaussian_and_assignment_is(digits):
    x = digits.pixels.flatten(1)
    for kind, passes in (("assigned", True), ("best of 4, euclidean", False)):
        row = gaussian.examine(gaussian.given(kind, x, digits.labels, 2048), x)
        assert row["lean"] > 0.5
        assert gaussian.gaussian(row) == passes
    committed = grid.read_rows(page.RESULTS / "gaussian.csv")
    passed = {row["noise"]: gaussian.gaussian(row) for row in committed}
    assert passed["plain"] and passed["assigned"] and passed["assigned within classes"]
    assert not passed["best of 4, euclidean"]
