"""The training evidence: comparisons, the page, and whether noise is Gaussian."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("matplotlib")
from bench.training import data, gaussian, page, rule, tables
from bench.training.settings import Settings


def group_of(**curves):
    """Distances with one sampling step by noise, seed and training step (10, 100, ...)."""
    rows = [
        {"run": noise, "noise": noise, "seed": seed, "train_step": 10 ** (k + 1),
         "sampling_steps": 1, "pixels": value, "classifier": None}
        for noise, seeds in curves.items()
        for seed, values in enumerate(seeds)
        for k, value in enumerate(values)
    ]  # fmt: skip
    return tables.Group("b", "", pd.DataFrame(rows))


def test_verdicts_and_how_much_sooner():
    plain = [[8.0, 2.0, 4.0]] * 3
    group = group_of(plain=plain, good=[[4.0, 2.0, 1.0]] * 3, late=[[9.0, 9.0, 2.5]] * 2)
    assert group.verdict("good", 1000, 1, "pixels") == tables.HELPED
    assert group.verdict("good", 100, 1, "pixels") == tables.UNCLEAR
    assert group.verdict("late", 1000, 1, "pixels") is None  # two seeds
    assert group.ratio("late", 1000, 1, "pixels") == pytest.approx(2.5 / 4)
    assert group.factors("good", 1, "pixels", best=False) == [(100.0, True)] * 3
    for factor, at_least in group.factors("good", 1, "pixels", best=True):
        assert factor == pytest.approx(1) and not at_least
    assert group.factors("late", 1, "pixels", best=True) == [None] * 2
    assert tables.first_reach(pd.Series({10: 8.0, 1000: 2.0}), 4.0) == pytest.approx(100)


def test_a_rule_is_counted_where_it_applies():
    runs = {"plain": [[4.0]] * 3, "ours": [[1.0]] * 3, "others": [[9.0]] * 3}

    def found(ours, others, block="b", name=""):
        group = group_of(**runs)
        group.rows["run"] = group.rows["noise"].map(
            {"plain": "default", "ours": ours, "others": others}
        )
        group.block, group.name = block, name
        return group

    helps = rule.RULE[0]
    assert helps.tally([found("noise=assigned", "noise=best-dot")]) == (1, 0, 0)
    assert helps.tally(2 * [found("noise=assigned", "noise=pool")]) == (2, 0, 2)
    told = {"others": "noise=pool", "name": "conditional=True"}
    assert helps.tally([found("noise=assigned", **told)]) == (0, 0, 0)
    labelled = found("noise=assigned within=labels", **told)
    assert helps.tally([labelled]) == (1, 0, 0)
    labelled.block = "held-out"
    assert "| 0 / 0 / 0 | 1 / 0 / 0 |" in rule.table([labelled])


def test_the_page_is_that_of_the_committed_results(tmp_path):
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.render()
    for link in (line for line in text.splitlines() if line.startswith("![")):
        assert (page.PAGE.parent / link.split("(")[1].rstrip(")")).is_file()


def test_each_figure_of_the_page_comes_from_a_csv(tmp_path):
    """A page of nothing has none of its tables' figures."""
    for name in ("gaussian", "distance"):
        row = pd.read_csv(page.RESULTS / f"{name}.csv", dtype=str)[:1]
        kept = row.columns.intersection(["data", "noise", "noises", "batch", "dim", "n"])
        row[row.columns.difference(kept)] = "0.125"
        row.to_csv(tmp_path / f"{name}.csv", index=False)
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


def test_best_of_k_is_not_gaussian_and_assignment_is():
    digits = data.load(Settings())
    x = digits.pixels.flatten(1)
    for kind, passes in (("assigned", True), ("best of 4, euclidean", False)):
        row = gaussian.examine(x, *gaussian.given(kind, x, digits.labels, 2048))
        assert row["lean"] > 0.5
        assert gaussian.gaussian(row) == passes
    committed = pd.read_csv(page.RESULTS / "gaussian.csv").to_dict("records")
    passed = {row["noise"]: gaussian.gaussian(row) for row in committed}
    assert passed["plain"] and passed["assigned"] and passed["assigned within classes"]
    assert not passed["best of 4, euclidean"]
