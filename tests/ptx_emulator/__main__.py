"""Run a test or a script with its launches emulated, and say what ran and what was found.

python -m tests.ptx_emulator tests/test_gpu_stages.py -k units --target sm_90 --order random
python -m tests.ptx_emulator bench/one_call.py --n 1024 --target sm_80 --seed 7 --opcodes
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from .emulator import ORDERS, Emulator


class EachTest:
    """A plugin of pytest: every test in the emulator."""

    def __init__(self, emulator: Emulator):
        self.emulator = emulator

    def pytest_configure(self, config: pytest.Config) -> None:
        """Not once more in an emulator of their own (conftest.py)."""
        if hasattr(config.option, "emulated"):
            config.option.emulated = 0.0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        with self.emulator:
            return (yield)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.ptx_emulator",
        description=(__doc__ or "").splitlines()[0],
        epilog="What else is given goes to pytest, or to the script.",
    )
    parser.add_argument("what", help="a script, or tests as pytest takes them (test_*.py, ::)")
    parser.add_argument("--target", default="sm_90", help="the device to compile for")
    parser.add_argument("--order", choices=ORDERS, default="random", help="of warps and programs")
    parser.add_argument("--seed", type=int, default=1, help="of that order")
    parser.add_argument(
        "--asked-only", action="store_true",
        help="of barriers, count those alone that the source asks for",
    )  # fmt: skip
    parser.add_argument("--opcodes", action="store_true", help="count every instruction")
    parser.add_argument(
        "--unchecked", action="store_true", help="look at bounds only, and be faster"
    )
    parser.add_argument("--json", type=Path, help="where to write the counts of each kernel")
    options, rest = parser.parse_known_args(arguments)
    try:
        emulator = Emulator(
            options.target, options.order, seed=options.seed, check=not options.unchecked,
            asked_only=options.asked_only,
        )  # fmt: skip
    except ValueError as error:
        parser.error(str(error))
    path, _, node = options.what.partition("::")
    if not Path(path).exists():
        parser.error(f"there is no {path}")
    backend = os.environ.get("IMMISCIBLE_BACKEND", "triton")  # also of tensors on the CPU
    with mock.patch.dict(os.environ, IMMISCIBLE_BACKEND=backend):
        if node or Path(path).is_dir() or Path(path).name.startswith("test_"):
            tests = [options.what, "-p", "no:cacheprovider", *rest]
            code = int(pytest.main(tests, plugins=[EachTest(emulator)]))
        else:
            with mock.patch.object(sys, "argv", [path, *rest]), emulator:
                runpy.run_path(path, run_name="__main__")
            code = 0
    report(emulator, options.opcodes)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record(emulator, options, rest), indent=1) + "\n")
    return code or int(bool(emulator.findings.errors))


def report(emulator: Emulator, opcodes: bool) -> None:
    out: Any = sys.stdout.write
    out(emulator.table() + "\n")
    if opcodes:
        for name, work in emulator.work.items():
            out(f"\n{name}\n")
            for opcode, count in work.opcodes.most_common():
                out(f"{count:12}  {opcode}\n")
    out(f"\n{emulator.findings.text()}\n")


def record(emulator: Emulator, options: argparse.Namespace, rest: list[str]) -> dict[str, Any]:
    """What ran, and what it did; a count says the same on every machine, the seconds do not."""
    ran = {"what": " ".join([options.what, *rest]), "target": options.target}
    ran |= {"order": options.order, "seed": options.seed, "checked": not options.unchecked}
    ran |= {"processor_seconds": round(time.process_time(), 1)}
    kernels = {name: asdict(work) for name, work in emulator.work.items()}
    for work in kernels.values():
        del work["opcodes"], work["seconds"]
    found = [str(one) for one in emulator.findings.errors]
    return {"kind": "emulated", **ran, "found": found, "kernels": kernels}


if __name__ == "__main__":
    raise SystemExit(main())
