"""Mistakes that a type checker finds, that the right code passes, and what the same say at run
time."""

from __future__ import annotations

import functools
import inspect
import pydoc

import pytest
import torch

import immiscible_fast
from immiscible_fast.api import options
from immiscible_fast.api.fast_assign import fast_assign

PROGRAM = """
import numpy as np
import torch
from immiscible_fast import assign_noise, diffuse, fast_assign, linear_sum_assignment
from immiscible_fast import pairwise_cost, prefetch, solve_assignment, windowed
x = torch.zeros(4, 2)
t = torch.zeros(4)

fast_assign(x, x, metric="dot", method="exact", labels=[0, 0, 1, 1])
fast_assign(x, x, labels=np.zeros(4, np.int64), mask=x[0], features=torch.abs, tol=0.1, check=True)
assign_noise(x, x, metric="cosine", labels=t.long(), batched=False)
diffuse(x, t, "flow", noise=x, metric="euclidean", method="auto", labels=None)
diffuse(x, t.long(), t, generator=torch.Generator(), assign=False)
pairwise_cost(x, x, metric="manhattan")
solve_assignment(x, method="sinkhorn").index.cpu()
linear_sum_assignment([[1.0, 2.0]])[0].astype(np.int32)
linear_sum_assignment(x)[1].cpu()
windowed([x], 2, metric="dot")
prefetch([x], steps=2, labels=1, method="exact")
"""
MISTAKES = """
fast_assign(x, x, metrc="dot")
fast_assign(x, x, metric="l2")
fast_assign(x, x, method="exacct")
fast_assign(x, x, labels="abcd")
assign_noise(x, x, lables=[0, 0, 1, 1])
assign_noise(x, x, metric="l2")
diffuse(x, t, "flow", noise=x, metrc="dot")
diffuse(x, t, "flow", noise=x, method="exacct")
diffuse(x, t, "flw", noise=x)
pairwise_cost(x, x, metric="l2")
solve_assignment(x, method="exacct")
linear_sum_assignment(x)[1].astype(np.int32)
linear_sum_assignment([[1.0, 2.0]])[0].cpu()
windowed([x], 2, metrc="dot")
prefetch([x], step=2)
"""
# Torch's own types take a minute to read.
TORCH = """
from typing import Any
class Generator: ...
class Tensor:
    def cpu(self) -> Tensor: ...
    def long(self) -> Tensor: ...
    def __getitem__(self, index: Any) -> Tensor: ...
def abs(input: Tensor) -> Tensor: ...
def zeros(*size: int) -> Tensor: ...
def __getattr__(name: str) -> Any: ...
"""


def test_mypy_finds_each_mistake_and_nothing_else(tmp_path):
    api = pytest.importorskip("mypy.api")
    right, wrong = PROGRAM.strip(), MISTAKES.strip()
    (tmp_path / "program.py").write_text(f"{right}\n{wrong}\n")
    (tmp_path / "torch.pyi").write_text(TORCH)
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = True\nmypy_path = {tmp_path}\n")
    printed, _, _ = api.run(
        [
            f"--config-file={tmp_path / 'mypy.ini'}",
            f"--cache-dir={tmp_path / 'cache'}",
            str(tmp_path / "program.py"),
        ]
    )
    errors = [line for line in printed.splitlines() if "program.py" in line and "error:" in line]
    found = list(dict.fromkeys(int(line.split(":")[1]) for line in errors))  # overloads err twice
    first = len(right.splitlines()) + 1
    assert found == [first + k for k in range(len(wrong.splitlines()))], printed


def test_options_that_are_passed_on_are_those_of_fast_assign():
    parameters = inspect.signature(fast_assign).parameters.values()
    keywords = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    keywords -= {"batched", "return_stats"}
    assert set(options.NAMES) == keywords


@pytest.mark.parametrize("name", ["assign_noise", "diffuse"])
def test_a_typo_at_run_time_names_the_function_that_was_called(name):
    x = torch.zeros(2, 3)
    rest = {"t": torch.zeros(2), "schedule": "flow"} if name == "diffuse" else {}
    call = functools.partial(getattr(immiscible_fast, name), x, noise=x, **rest)
    with pytest.raises(TypeError, match=rf"^{name}\(\) got .* 'lables'; did you mean 'labels'\?$"):
        call(lables=[0, 0])
    with pytest.raises(TypeError, match=rf"^{name}\(\) got .* argument 'steps'$"):
        call(steps=3)


def test_dir_and_help_show_the_interface_and_nothing_else():
    shown = {name for name in dir(immiscible_fast) if not name.startswith("__")}
    assert shown == set(immiscible_fast.__all__)
    text = pydoc.plain(pydoc.render_doc(immiscible_fast))
    assert all(name in text for name in immiscible_fast.__all__)
    assert not [name for name in ("TYPE_CHECKING", "import_module", "_MODULES") if name in text]
