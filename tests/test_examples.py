"""Each example runs as it is, and is short."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from other_projects import as_a_user

FOLDER = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_runs(script, monkeypatch, tmp_path, capsys):
    if "torchrun" in script.read_text(encoding="utf-8"):
        launch(script, tmp_path)
        return
    with as_a_user(monkeypatch, tmp_path, script.read_text(encoding="utf-8")):
        runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.strip(), "it says nothing of what came out"


def launch(script, folder):
    """By torchrun, in two processes."""
    program = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [sys.executable, *program, str(script)],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 ranks" in done.stdout


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_is_short_and_says_what_it_shows(script):
    text = script.read_text(encoding="utf-8")
    assert text.startswith('"""')
    assert len(text.splitlines()) < 40
