"""The Python blocks of each page run, in order; README has no link to nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from blocks import run_blocks
from other_projects import as_a_user

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    page
    for page in (ROOT / "docs").rglob("*.md")
    if "```python" in page.read_text(encoding="utf-8")
)
LINK = re.compile(r"\]\(([^)#:]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_python_block_of_a_page_runs(page, monkeypatch, tmp_path):
    with as_a_user(monkeypatch, tmp_path, page.read_text(encoding="utf-8")):
        run_blocks(page)


def test_there_are_guides():
    assert {page.parent.name for page in PAGES} >= {"guides", "docs"}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(name):
    links = LINK.findall((ROOT / name).read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
