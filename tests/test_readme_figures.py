"""Every measured figure in README stands in a committed result."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "bench" / "results"


@pytest.fixture
def bench(monkeypatch):
    """Modules of the benchmarks, by name."""
    monkeypatch.syspath_prepend(str(ROOT))
    yield lambda name: importlib.import_module(f"bench.{name}")
    for name in [name for name in sys.modules if name.split(".")[0] == "bench"]:
        monkeypatch.delitem(sys.modules, name, raising=False)


def newest(folder: str) -> dict[str, object]:
    return json.loads(max((RESULTS / folder).glob("*.json")).read_text(encoding="utf-8"))


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_table_of_solvers_is_the_committed_run(bench):
    table = bench("headline").markdown(newest("headline"))
    assert len(table.splitlines()) > 10
    assert table in section("How fast")


def test_the_table_of_whole_calls_is_in_the_report():
    report = (ROOT / "bench" / "report" / "report.md").read_text(encoding="utf-8")
    rows = [
        line
        for line in section("How fast").splitlines()
        if re.match(r"\| \w+ \| \d+ \| \d+ \|", line)
    ]
    assert len(rows) >= 3
    for row in rows:
        assert row in report


def test_the_count_of_random_problems_is_that_of_a_committed_run_without_failures(bench):
    result = newest("fuzz")
    assert result["failures"] == []
    assert result["problems"] >= 100_000
    assert bench("fuzz").sentence(result) in " ".join(README.split())


def test_the_gain_of_products_in_eight_bits_is_that_of_the_committed_run(bench):
    assert bench("product").sentence(newest("product")) in " ".join(README.split())


def test_the_worst_cases_are_those_of_the_committed_run(bench):
    assert bench("worst_case").sentence(newest("worst_case")) in " ".join(README.split())


def test_the_table_of_the_demo_is_the_committed_run():
    result = newest("demo")
    rows = re.findall(r"^\| (\d+) \|(.+)\|$", section("What it does to training"), re.MULTILINE)
    assert [int(steps) for steps, _ in rows] == result["trained_steps"]
    for (_, cells), values in zip(rows, zip(*frechet(result), strict=True), strict=True):
        plain, assigned = values
        want = [f"{p:.2f} / {a:.2f}" for p, a in zip(plain, assigned, strict=True)]
        assert [cell.strip() for cell in cells.split("|")] == want


def frechet(result: dict[str, object]) -> list[list[list[float]]]:
    """(training steps x sampling steps) of plain and of assigned noise, the mean of the seeds."""
    return [np.mean(result["frechet"][arm], axis=0).tolist() for arm in ("plain", "assigned")]
