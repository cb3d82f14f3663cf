"""The Python blocks of README.md run, in order, in one namespace."""

from __future__ import annotations

from pathlib import Path

from blocks import run_blocks

README = Path(__file__).resolve().parents[1] / "README.md"


def test_every_python_block_runs_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_blocks(README)
