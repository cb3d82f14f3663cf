"""Plant one fault at a time in a copy of the kernels, and see whether the emulator finds it.

    python -m tests.ptx_emulator.faults --list
    python -m tests.ptx_emulator.faults --only "certificate and mask"
    python -m tests.ptx_emulator.faults --untried --json tests/ptx_emulator/faults.json

The last adds to the record what became of faults that have no verdict there yet, one by one, so
that it can be interrupted; without ``--untried``, all are tried again.

Faults are found in the source, so that new kernels have theirs without anybody listing them: every
barrier is removed; every mask of an access, and every ``other`` but zero, which is what Triton
loads without one; every fill; every atomic becomes a store; every ``<`` in a mask reaches one
further; every ``torch.full`` or ``zeros`` of a launcher is left unwritten. A fault that changes
nothing is so proven where the compiled code is the same; every other one that is not found needs a
reason in ``harmless.md``.

A fault is named by its function and by what stands there, so that its verdict stays its own while
lines move. A barrier is named by what comes before it.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import json
import multiprocessing
import os
import queue
import re
import resource
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "kernels/gpu"
ACCESSES = ("load", "store", "atomic_add", "atomic_max", "atomic_min", "atomic_xchg", "atomic_cas")
INDEX = re.compile(r"\b[oi]_")  # how indices are named
SECONDS = 300  # of a processor, for one fault
SAME_CODE = "the compiled code is the same"
KINDS = {
    "barrier": "a barrier removed",
    "no mask": "an access without its mask",
    "no other": "a load without what masked lanes get",
    "fill": "a fill removed",
    "no atomic": "a store instead of an atomic",
    "one too far": "a mask that reaches one further",
    "unwritten": "a launcher's tensor without its values",
}
RECORD = Path(__file__).with_name("faults.json")
HARMLESS = Path(__file__).with_name("harmless.md")
Row = dict[str, Any]  # of the record: a ``Verdict``


@dataclass(frozen=True)
class Fault:
    file: str
    kind: str
    function: str
    number: int  # among those that look the same
    start: int  # characters of the file
    stop: int
    text: str  # what stands there instead
    was: str

    @property
    def name(self) -> str:
        again = f" ({self.number})" if self.number > 1 else ""
        return f"{self.file}:{self.function} {self.kind}: {self.was}{again}"


@dataclass
class Verdict:
    """What became of a fault: found, and by what; or why it does no harm."""

    name: str
    found: list[str]
    scenario: str = ""  # and target, that showed it
    harmless: str = ""


@functools.cache
def reasons() -> dict[str, str]:
    """By name of a fault, the paragraph of harmless.md that its name follows."""
    found: dict[str, str] = {}
    proof = ""
    for part in HARMLESS.read_text().split("\n\n"):
        found |= dict.fromkeys(re.findall(r"^- `(.+)`$", part, re.MULTILINE), proof)
        proof = " ".join(part.split())
    return found


@functools.cache
def faults() -> list[Fault]:
    return [fault for path in sorted(KERNELS.glob("*.py")) for fault in _faults_of(path)]


def _faults_of(path: Path) -> Iterator[Fault]:
    source = path.read_text()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))

    def at(line: int, column: int) -> int:
        return starts[line - 1] + column

    for function in ast.parse(source).body:
        if not isinstance(function, ast.FunctionDef):
            continue
        jitted = any("jit" in ast.unparse(one) for one in function.decorator_list)
        counts: Counter[tuple[str, str]] = Counter()
        for kind, node, text in _changes(function, jitted):
            start = at(node.lineno, node.col_offset)
            stop = at(node.end_lineno, node.end_col_offset)
            was = " ".join(source.encode()[start:stop].decode().split())
            was = _before(function, node) if kind == "barrier" else was
            counts[kind, was] += 1
            yield Fault(path.name, kind, function.name, counts[kind, was], start, stop, text, was)


def _before(function: ast.FunctionDef, call: ast.Call) -> str:
    """What comes before this statement, or else what it begins."""
    for parent in ast.walk(function):
        for body in (getattr(parent, name, None) for name in ("body", "orelse")):
            for before, one in pairwise([parent, *body] if isinstance(body, list) else []):
                if isinstance(one, ast.Expr) and one.value is call:
                    what = ast.unparse(before).splitlines()[0]
                    where = "in" if before is parent else "after"
                    return f"{where} {what[:72]}{'...' if len(what) > 72 else ''}"
    raise ValueError(f"{function.name}: a barrier is a statement of its own")


def _changes(function: ast.FunctionDef, jitted: bool) -> Iterator[tuple[str, Any, str]]:
    """(kind, the node, what stands there instead)."""
    statements = {id(n.value) for n in ast.walk(function) if isinstance(n, ast.Expr)}
    masked: set[int] = set()
    for node in ast.walk(function):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if not jitted:
            if name in ("torch.full", "torch.zeros", "torch.zeros_like", "torch.full_like"):
                yield "unwritten", node, _unwritten(node, name)
        elif name == "tl.debug_barrier":
            yield "barrier", node, "None"
        elif name == "fill" and id(node) in statements:
            yield "fill", node, "None"
        elif name.startswith("tl.") and name[3:] in ACCESSES:
            keywords = {one.arg: one for one in node.keywords}
            if "mask" in keywords:
                yield "no mask", node, _without(node, ("mask", "other"))
                masked.update(id(one) for one in ast.walk(keywords["mask"]))
            if "other" in keywords and ast.unparse(keywords["other"].value) not in ("0", "0.0"):
                yield "no other", node, _without(node, ("other",))
            if name.startswith("tl.atomic") and name != "tl.atomic_cas":
                new = _without(node, ("sem", "scope")).replace(name, "tl.store", 1)
                if id(node) in statements:
                    yield "no atomic", node, new
    for one in ast.walk(function):
        if isinstance(one, ast.Assign) and any(
            ast.unparse(n).startswith("m_") for n in one.targets
        ):
            masked.update(id(inner) for inner in ast.walk(one.value))
    for node in ast.walk(function):
        reaches = (
            isinstance(node, ast.Compare)
            and isinstance(node.ops[0], ast.Lt)
            and INDEX.search(ast.unparse(node.left)) is not None
        )
        if jitted and reaches and id(node) in masked:
            yield "one too far", node, ast.unparse(node).replace(" < ", " <= ", 1)


def _without(call: ast.Call, names: tuple[str, ...]) -> str:
    kept = [one for one in call.keywords if one.arg not in names]
    return ast.unparse(ast.Call(call.func, call.args, kept))


def _unwritten(call: ast.Call, name: str) -> str:
    """The same tensor, without its values."""
    like = name.endswith("_like")
    arguments = call.args[: 1 if like or name == "torch.full" else None]
    keywords = [one for one in call.keywords if one.arg != "fill_value"]
    text = ast.unparse(ast.Call(ast.Name("empty"), arguments, keywords))
    return text.replace("empty", "torch.empty_like" if like else "torch.empty", 1)


def plant(fault: Fault | None, folder: Path) -> None:
    """A copy of the package, with this fault."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "immiscible_fast", folder / "immiscible_fast", ignore=ignore)
    shutil.copytree(ROOT / "kernels", folder / "immiscible_fast/kernels", ignore=ignore)
    if fault is not None:
        path = folder / "immiscible_fast/kernels/gpu" / fault.file
        source = path.read_bytes()
        path.write_bytes(source[: fault.start] + fault.text.encode() + source[fault.stop :])


def observe(fault: Fault | None, names: set[str] | None, sound: Any, answers: Any) -> None:
    """In a process of its own: what these scenarios found, gave and compiled, to the queue."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    with tempfile.TemporaryDirectory() as name:
        plant(fault, Path(name))
        sys.path.insert(0, name)
        os.environ |= {"IMMISCIBLE_BACKEND": "triton", "TRITON_INTERPRET": "0"}
        try:
            from . import scenarios

            answers.put(scenarios.observe(Path(name), names, sound))
        except BaseException as error:  # whatever a fault may lead to
            line = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
            answers.put({"found": [f"raised {line[:200]}"]})


def seen(fault: Fault | None, names: set[str] | None = None, sound: Any = None) -> dict[str, Any]:
    """What these scenarios, or all, show with this fault; up to where it shows, which is also where
    answers are not the ``sound`` ones."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "triton"])
    answers = context.Queue()
    process = context.Process(target=observe, args=(fault, names, sound, answers))
    with mock.patch.dict(os.environ, TRITON_INTERPRET="0"):  # from its first import on
        process.start()
    alive = True
    answer: dict[str, Any] = {"found": ["did not end"]}
    while alive:
        alive = process.is_alive()
        with contextlib.suppress(queue.Empty):
            answer = answers.get(timeout=1)
            break
    process.join(5)
    process.kill()
    return answer


def baseline() -> dict[str, Any]:
    """What they show without any."""
    answer = seen(None)
    if answer["found"]:
        raise RuntimeError("without any fault:\n" + "\n".join(answer["found"]))
    return answer


def judge(fault: Fault, sound: dict[str, Any]) -> Verdict:
    """By the scenarios that run a kernel in which it is."""
    affected = callers()[fault.function]
    names = {name for name, ran in sound["kernels"].items() if ran & affected}
    shown = seen(fault, names or None, sound["values"])
    if shown["found"]:
        return Verdict(fault.name, sorted(set(shown["found"])), shown.get("scenario", ""))
    if fault.kind != "unwritten" and shown["code"] <= sound["code"]:
        return Verdict(fault.name, [], harmless=SAME_CODE)
    return Verdict(fault.name, [], harmless=reasons().get(fault.name, ""))


@functools.cache
def callers() -> dict[str, set[str]]:
    """The kernels, and launchers, that run each function of the kernels' files."""
    functions = {
        node.name: {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
        for path in KERNELS.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    found = {name: {name} for name in functions}
    for _ in functions:  # until nothing is added
        for name, used in functions.items():
            for inner in used & functions.keys():
                found[inner] |= found[name]
    return found


def run(options: argparse.Namespace) -> list[Verdict]:
    wanted = [fault for fault in faults() if chosen(fault, options.only)]
    if options.untried:
        wanted = [fault for fault in wanted if not is_decided(on_record().get(fault.name))]
    if not wanted:
        return []
    sound = baseline()
    verdicts = []
    with ThreadPoolExecutor(options.processes) as pool:
        for verdict in pool.map(lambda fault: judge(fault, sound), wanted):
            verdicts.append(verdict)
            sys.stdout.write(line(verdict))
            sys.stdout.flush()
            if options.json:
                add(options.json, verdict)
    return verdicts


def on_record(path: Path = RECORD) -> dict[str, Row]:
    """By name, what became of each fault that was tried, with the reason that is given today."""
    rows: list[Row] = json.loads(path.read_text()) if path.exists() else []
    for row in rows:
        if not row["found"] and row["harmless"] != SAME_CODE:
            row["harmless"] = reasons().get(row["name"], "")
    return {row["name"]: row for row in rows}


def is_decided(row: Row | None) -> bool:
    return row is not None and bool(row["found"] or row["harmless"])


def add(path: Path, verdict: Verdict) -> None:
    """To the record; what is no fault of these kernels any more leaves it."""
    rows = on_record(path) | {verdict.name: asdict(verdict)}
    kept = [rows[fault.name] for fault in faults() if fault.name in rows]
    path.write_text(json.dumps(kept, indent=1) + "\n")


def chosen(fault: Fault, words: str) -> bool:
    return all(word in fault.name for word in words.split(" and ")) if words else True


def line(verdict: Verdict) -> str:
    what = "; ".join(verdict.found[:2]) or f"harmless: {verdict.harmless or '???'}"
    return f"{verdict.name[:110]:110} {what[:150]}\n"


def table(verdicts: list[dict[str, Any]]) -> str:
    """How many of each kind were found, and what the others do, in markdown."""
    lines = [
        "| fault | planted | found | the same code | harmless, for a reason | undecided |",
        "|---|---|---|---|---|---|",
    ]
    for kind, what in KINDS.items():
        rows = [row for row in verdicts if row["name"].split(" ", 1)[1].startswith(f"{kind}: ")]
        found = sum(bool(row["found"]) for row in rows)
        same = sum(row["harmless"] == SAME_CODE for row in rows)
        reasons = sum(bool(row["harmless"]) for row in rows) - same
        cells = len(rows), found, same, reasons, len(rows) - found - same - reasons
        lines.append(f"| {what} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.ptx_emulator.faults")
    parser.add_argument("--list", action="store_true", help="the faults, without planting them")
    parser.add_argument("--table", action="store_true", help="what is on record, in markdown")
    parser.add_argument("--untried", action="store_true", help="those without a verdict on record")
    parser.add_argument("--only", default="", help="those whose names have all words: a and b")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", type=Path, help="the record to add to, verdict by verdict")
    options = parser.parse_args()
    if options.list:
        sys.stdout.write("".join(f"{fault.name}\n" for fault in faults()))
        return 0
    if options.table:
        sys.stdout.write(table(list(on_record().values())) + "\n")
        return 0
    verdicts = run(options)
    missed = [verdict for verdict in verdicts if not verdict.found and not verdict.harmless]
    caught = sum(bool(verdict.found) for verdict in verdicts)
    sys.stdout.write(
        f"{len(verdicts)} faults: {caught} found, {len(verdicts) - caught - len(missed)} harmless,"
        f" {len(missed)} missed\n"
    )
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
