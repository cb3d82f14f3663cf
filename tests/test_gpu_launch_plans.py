"""The cases of launch_plan_cases.py, where Triton does not interpret."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

TESTS = Path(__file__).parent


def test_planned_launches():
    command = [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider"]
    process = subprocess.run(
        [*command, "tests/launch_plan_cases.py"],
        cwd=TESTS.parent,
        env={**os.environ, "TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert process.returncode == 0, process.stdout[-4000:] + process.stderr[-2000:]
    assert " passed" in process.stdout
