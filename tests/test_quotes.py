"""Every measured figure in README and docs/ stands in a committed result."""

from __future__ import annotations

import json
import re

import pytest

from bench import plots, quotes, record

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


def test_the_pictures_of_the_report_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    plots.main(tmp_path)
    drawn, kept = (
        {path.name for path in folder.glob("*.png")}
        for folder in (tmp_path, record.ROOT / "bench" / "report")
    )
    assert drawn == kept


def test_committed_runs_of_random_problems_have_no_failures():
    runs = [json.loads(path.read_text()) for path in (record.RESULTS / "fuzz").glob("*.json")]
    assert [run["failures"] for run in runs] == [[]] * len(runs)
    assert sum(run["problems"] for run in runs) >= 100_000
