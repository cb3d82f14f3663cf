"""Imports go one way, wherever in a file they stand; and what is not compiled is typed."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"immiscible_fast": ROOT / "immiscible_fast", "immiscible_fast.kernels": ROOT / "kernels"}


def modules():
    """Path of every module of the package, by name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([package, *parts]).removesuffix(".__init__")] = path
    return found


def imported(name, path):
    """Full names that a module imports, its own late ones too."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(filter(None, (above, node.module)))
            yield from (f"{base}.{alias.name}" for alias in node.names)


@pytest.fixture(scope="module")
def graph():
    """What each module depends on, by name."""
    every = modules()
    graph = {}
    for name, path in every.items():
        wanted = {w if w in every else w.rpartition(".")[0] for w in imported(name, path)}
        graph[name] = {w for w in wanted if w in every and every[w].name != "__init__.py"}
    del graph["immiscible_fast"]
    return graph


def test_no_module_depends_on_itself(graph):
    order = list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names a circle
    floors = ("validation", "metrics", "cpu.backend", "dispatch", "ops", "api.fast_assign")
    places = [order.index(f"immiscible_fast.{name}") for name in floors]
    assert places == sorted(places)


def test_no_folder_depends_on_itself(graph):
    """Seen from afar, each folder being one: kernels, cpu, gpu, streaming, api, training, ..."""

    def room(name):
        return ".".join(name.split(".")[: 2 if name.count(".") > 1 else 3])

    rooms = {}
    for name, wanted in graph.items():
        rooms.setdefault(room(name), set()).update(map(room, wanted))
    for name, wanted in rooms.items():
        wanted.discard(name)
    order = list(graphlib.TopologicalSorter(rooms).static_order())
    assert order.index("immiscible_fast.gpu") < order.index("immiscible_fast.api")


def test_kernels_know_nothing_of_the_package(graph):
    for name, wanted in graph.items():
        if name.startswith("immiscible_fast.kernels."):
            assert all(w.startswith("immiscible_fast.kernels.") for w in wanted), name


def test_adapters_and_demo_are_nobodys_need(graph):
    for name, wanted in graph.items():
        for room in ("adapters", "demo"):
            if f".{room}" not in name and not name.endswith((".cli", ".doctor", "__main__")):
                assert not [w for w in wanted if f".{room}" in w], name


def test_checks_of_one_module_stand_there():
    """``validation`` has those that two modules make , and those that these are made of."""
    every = modules()
    text = every.pop("immiscible_fast.validation").read_text(encoding="utf-8")
    others = [path.read_text(encoding="utf-8") for path in every.values()]
    for name in re.findall(r"^def (check_\w+)", text, re.MULTILINE):
        within = len(re.findall(rf"\b{name}\(", text)) > 1
        assert within or sum(f"{name}(" in other for other in others) > 1, name


COMPILED = {"jit", "njit", "kernel", "inlined_kernel", "entry_point", "intrinsic"}


def interpreted(node):
    """The functions that Python runs itself."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            decorators = (ast.unparse(one).partition("(")[0] for one in child.decorator_list)
            if {one.rpartition(".")[2] for one in decorators} & COMPILED:
                continue
            yield child
        yield from interpreted(child)


def test_all_kernels_that_are_not_compiled_are_typed():
    """mypy is told to ask for no types there, so that compiled functions need none."""
    for path in FOLDERS["immiscible_fast.kernels"].rglob("*.py"):
        for function in interpreted(ast.parse(path.read_text(encoding="utf-8"))):
            given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            untyped = [one.arg for one in given if one.annotation is None]
            where = f"{path}: {function.name}"
            assert function.returns is not None and set(untyped) <= {"self", "cls"}, where


def test_a_checkout_on_the_path_has_its_kernels():
    program = f"""
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path.insert(0, {str(ROOT)!r})
from immiscible_fast.kernels.cpu import work
print(work.__file__)
"""
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, cwd=ROOT / "docs", capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()) == ROOT / "kernels" / "cpu" / "work.py"
