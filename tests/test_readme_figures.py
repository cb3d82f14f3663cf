"""Every measured figure in README stands in a committed result; none that we lose is missing."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MEASURED = ("How fast", "What it does to training", "Limits")  # sections
FIGURE = re.compile(
    r"\d[\d.,]*\s*(?:ms|us|s|seconds?|minutes?|x(?! \d)|%|times|GB|MiB|bids)(?![\w-])"
)


@pytest.fixture(scope="module")
def bench():
    """Modules of the benchmarks, by name."""
    sys.path.insert(0, str(ROOT))
    yield lambda name: importlib.import_module(f"bench.{name}")
    sys.path.remove(str(ROOT))
    for name in [name for name in sys.modules if name.split(".")[0] == "bench"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def quotes(bench):
    module = bench("readme")
    return {name: module.in_one_line(text) for name, text in module.quotes().items()}


def test_what_readme_says_of_results_is_what_they_say(quotes):
    text = " ".join(README.split())
    assert [name for name, quote in quotes.items() if quote not in text] == []


def test_readme_has_no_other_measured_figures(quotes):
    text = " ".join(README.split())
    for quote in quotes.values():
        text = text.replace(quote, "")
    for title in MEASURED:
        section = text.split(f"## {title} ")[1].split(" ## ")[0]
        assert FIGURE.findall(section) == []


def test_the_report_is_that_of_the_committed_results(bench, tmp_path):
    pytest.importorskip("matplotlib")
    assert bench("report").main(["--out", str(tmp_path)]) == 0
    committed = ROOT / "bench" / "report"
    assert (tmp_path / "report.md").read_text() == (committed / "report.md").read_text()
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {path.name for path in committed.glob("*.png")}


def test_a_committed_run_of_random_problems_has_no_failures(bench):
    result = bench("readme").newest("fuzz")
    assert result["failures"] == []
    assert result["problems"] >= 100_000
