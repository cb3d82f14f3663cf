"""Every measured figure in README and docs/ stands in a committed result."""

from __future__ import annotations

import json
import re

import pytest

from bench import quotes, record, report

MEASURED = ("README.md", "speed.md", "training.md", "limits.md", "methods.md")
FIGURE = re.compile(
    r"\d[\d.,]*\s*(?:ms|us|s|seconds?|minutes?|x(?! \d)|%|times|GB|MiB|bids)(?![\w-])"
)


def test_pages_say_what_the_results_say():
    texts, used = quotes.quotes(), set()
    for page in quotes.PAGES:
        text = page.read_text(encoding="utf-8")
        assert quotes.quoted(page, texts) == text, "make quotes"
        used |= {name for _, name, _, _ in quotes.MARKED.findall(text)}
    assert used == set(texts)


def test_pages_have_no_other_measured_figures():
    for page in (page for page in quotes.PAGES if page.name in MEASURED):
        assert FIGURE.findall(quotes.MARKED.sub("", page.read_text(encoding="utf-8"))) == []


def test_the_report_is_that_of_the_committed_results(tmp_path):
    pytest.importorskip("matplotlib")
    assert report.main(["--out", str(tmp_path)]) == 0
    committed = record.ROOT / "bench" / "report"
    assert (tmp_path / "report.md").read_text() == (committed / "report.md").read_text()
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {path.name for path in committed.glob("*.png")}


def test_committed_runs_of_random_problems_have_no_failures():
    runs = [json.loads(path.read_text()) for path in (record.RESULTS / "fuzz").glob("*.json")]
    assert [run["failures"] for run in runs] == [[]] * len(runs)
    assert sum(run["problems"] for run in runs) >= 100_000
