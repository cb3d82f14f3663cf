"""Compiled code without a cache, or with one that is broken: an answer all the same."""

from __future__ import annotations

import errno
import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from immiscible_fast.kernels.cpu import jit, solver
from numba import config
from numba.core import caching

from immiscible_fast import doctor

ROOT = Path(__file__).parent.parent
MODULE = """
from immiscible_fast.kernels.cpu.jit import entry_point

@entry_point
def total(values):
    added = values[0]
    for i in range(1, len(values)):
        added += values[i]
    return added
"""


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """Gives a function as a new process has it, which keeps its compiled code in a new folder."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(jit.Cache, "_has_warned", False)
    path = tmp_path / "summing.py"
    path.write_text(MODULE)

    def load():
        spec = importlib.util.spec_from_file_location("summing", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.total

    return load


def hits(function):
    assert function(np.arange(5.0)) == 10
    return sum(function.stats.cache_hits.values())


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("harm", ["empty", "truncated", "zeros", "foreign", "unreadable"])
def test_a_broken_file_is_replaced(suffix, harm, fresh, tmp_path):
    assert (hits(fresh()), hits(fresh())) == (0, 1)
    (path,) = (tmp_path / "cache").rglob(f"*{suffix}")
    whole = path.read_bytes()
    if harm == "unreadable":
        path.unlink()
        path.symlink_to(path)
    else:
        path.write_bytes(
            {
                "empty": b"",
                "truncated": whole[: len(whole) // 2],
                "zeros": bytes(len(whole)),
                "foreign": whole[: whole.index(b".") + 1] + pickle.dumps([1, 2, 3]),
            }[harm]
        )
    assert (hits(fresh()), hits(fresh())) == (0, 1)


def test_a_full_disk_is_named_in_one_warning(fresh, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", full)
    with pytest.warns(UserWarning, match="No space left on device.*set NUMBA_CACHE_DIR"):
        assert hits(fresh()) == 0
    assert hits(fresh()) == 0  # a second warning would be an error


def test_without_a_folder_there_is_one_warning_and_the_doctor_knows(fresh, monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.warns(UserWarning, match="no folder for it can be written.*set NUMBA_CACHE_DIR"):
        assert hits(fresh()) == 0
    total = fresh()
    assert hits(total) == 0
    monkeypatch.setattr(solver, "solve_range", total)
    lines = doctor._cache_lines()
    assert lines[0].split() == ["cache", "none"]
    assert lines[1].startswith("writable  no: every process compiles anew; set NUMBA_CACHE_DIR")


def test_a_package_that_nobody_may_write_to_compiles(tmp_path):
    """Read-only site-packages and no home, as in a container: files stand where folders would."""
    package = tmp_path / "kernels"
    shutil.copytree(ROOT / "kernels", package, ignore=shutil.ignore_patterns("__pycache__"))
    home = package / "cpu/__pycache__"
    home.touch()
    program = """
import warnings
import numpy as np
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from kernels.cpu.quantise import rescale
    from kernels.cpu.solver import solve_range
    one = np.ones((1, 1), np.float32)
    cost = np.zeros((1, 1, 1), np.float32)
    rescale(np.full((1, 1, 1), 3, np.int32), cost, one, one, np.float32(2))
    rescale(np.full((1, 1, 1), 3, np.int32), cost.astype(float), one, one, np.float32(2))
print(cost[0, 0, 0], solve_range.stats.cache_path == "", len(caught), caught[0].message)
"""
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", program]
    answer = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert answer.stdout.startswith("6.0 True 1 immiscible_fast cannot keep"), answer.stderr


def test_the_solver_says_that_it_cannot_be_interpreted():
    program = "import torch, immiscible_fast; immiscible_fast.fast_assign(*torch.ones(2, 3, 2))"
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "RuntimeError: NUMBA_DISABLE_JIT is set" in answer.stderr.splitlines()[-1]
