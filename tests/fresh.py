"""Programs that need a process of their own."""

from __future__ import annotations

import subprocess
import sys


def run(program, warnings="error"):
    """Standard output of a Python program in a fresh process, warnings being errors."""
    command = [sys.executable, "-W", warnings, "-c", program]
    limit = 1200  # of seconds: some compile, maybe beside much else
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
