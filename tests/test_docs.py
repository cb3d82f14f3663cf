"""Every example in a docstring runs and prints what it says; the pages are complete and build."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import immiscible_fast

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(immiscible_fast.__path__, "immiscible_fast.")
    if not module.name.endswith("__main__")
)
WITH_EXAMPLES = (
    "solve_assignment", "fast_assign", "assign_noise", "pairwise_cost", "diffuse", "sinkhorn",
    "NoisePool", "select_noise", "assign_many", "windowed", "prefetch",
    "assign_noise_", "pair_dataset",
)  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_are_true(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.FAIL_FAST)
    assert result.failed == 0


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_each_public_function_has_an_example(name):
    examples = doctest.DocTestFinder(recurse=False).find(getattr(immiscible_fast, name), name)
    assert any(test.examples for test in examples)


def test_the_package_has_modules_to_test():
    assert "immiscible_fast.api.fast_assign" in MODULES
    assert "immiscible_fast.cpu.solver" in MODULES


def test_the_reference_has_every_public_name():
    pages = " ".join(page.read_text() for page in (ROOT / "docs/reference").glob("*.md"))
    names = {part.split()[0] for part in pages.split("::: immiscible_fast.")[1:]}
    assert set(immiscible_fast.__all__) <= names


def test_the_pages_build_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "immiscible_fast.fast_assign" in (tmp_path / "reference/assignment.html").read_text()
