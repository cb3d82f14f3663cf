"""``import immiscible_fast`` waits with torch until a name is used, and nobody can tell."""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path

import pytest
import torch
from fresh import run

import immiscible_fast


@pytest.mark.parametrize("arguments", [["--version"], ["demo", "--help"]])
def test_the_command_line_speaks_before_torch_is_imported(arguments):
    program = f"""
import sys
from immiscible_fast import cli
try:
    cli.main({arguments})
except SystemExit as end:
    assert end.code == 0
assert not {{"torch", "numpy", "numba", "scipy", "matplotlib", "sklearn"}} & set(sys.modules)
"""
    run(program)


def test_all_names_are_listed_and_come_from_their_modules():
    assert set(immiscible_fast.__all__) == set(immiscible_fast._MODULES)
    assert set(immiscible_fast.__all__) <= set(dir(immiscible_fast))
    for name, module in immiscible_fast._MODULES.items():
        home = importlib.import_module(f"immiscible_fast.{module}")
        assert getattr(immiscible_fast, name) is getattr(home, name)


def test_type_checkers_are_told_of_every_name():
    source = Path(immiscible_fast.__file__).read_text(encoding="utf-8")
    block = source.partition("if TYPE_CHECKING:")[2].partition("__version__")[0]
    told = {name for line in block.split("import ")[1:] for name in line.split("\n")[0].split(", ")}
    assert told == set(immiscible_fast.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    assert not hasattr(immiscible_fast, "no_such_name")
    with pytest.raises(ImportError, match="no_such_name"):
        exec("from immiscible_fast import no_such_name")


def test_functions_and_answers_are_pickled():
    answer = immiscible_fast.solve_assignment(torch.eye(3))
    again = pickle.loads(pickle.dumps(answer))
    assert isinstance(again, immiscible_fast.Assignment)
    assert torch.equal(again.index, answer.index)
    for name in immiscible_fast.__all__:
        value = getattr(immiscible_fast, name)
        assert pickle.loads(pickle.dumps(value)) is value


def test_a_compiler_traces_a_name_that_nobody_used_before():
    program = """
import warnings
warnings.simplefilter("default")  # dynamo's own
import torch, immiscible_fast
def step(x, noise):
    return immiscible_fast.fast_assign(x, noise)
x = torch.tensor([[0.0], [5.0], [9.0]])
noise = torch.tensor([[8.0], [1.0], [4.0]])
compiled = torch.compile(step, backend="eager", fullgraph=True)
assert compiled(x, noise).tolist() == [1, 2, 0]
"""
    run(program)
