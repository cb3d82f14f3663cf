"""Every measured figure in README and docs/ stands in a committed result."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MEASURED = ("README.md", "speed.md", "training.md", "limits.md", "methods.md")
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


def test_pages_say_what_the_results_say(bench):
    module = bench("quotes")
    texts, used = module.quotes(), set()
    for page in module.PAGES:
        text = page.read_text(encoding="utf-8")
        assert module.quoted(page, texts) == text, "make quotes"
        used |= {name for _, name, _, _ in module.MARKED.findall(text)}
    assert used == set(texts)


def test_pages_have_no_other_measured_figures(bench):
    module = bench("quotes")
    for page in (page for page in module.PAGES if page.name in MEASURED):
        assert FIGURE.findall(module.MARKED.sub("", page.read_text(encoding="utf-8"))) == []


def test_the_report_is_that_of_the_committed_results(bench, tmp_path):
    pytest.importorskip("matplotlib")
    assert bench("report").main(["--out", str(tmp_path)]) == 0
    committed = ROOT / "bench" / "report"
    assert (tmp_path / "report.md").read_text() == (committed / "report.md").read_text()
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {path.name for path in committed.glob("*.png")}


def test_committed_runs_of_random_problems_have_no_failures(bench):
    folder = bench("quotes").RESULTS / "fuzz"
    runs = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert [run["failures"] for run in runs] == [[]] * len(runs)
    assert sum(run["problems"] for run in runs) >= 100_000
