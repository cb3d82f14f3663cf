"""The Python blocks of each guide run, in order; a guide is a page, not a book."""

from __future__ import annotations

from pathlib import Path

import pytest
from blocks import run_blocks
from other_projects import as_a_user

FOLDER = Path(__file__).resolve().parents[1] / "docs/guides"
GUIDES = sorted(FOLDER.glob("*.md"))


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_every_python_block_of_a_guide_runs(page, monkeypatch, tmp_path):
    with as_a_user(monkeypatch, tmp_path, page.read_text(encoding="utf-8")):
        run_blocks(page)


def test_there_are_guides():
    assert GUIDES
