"""Run a script with its launches emulated, and say what ran and what was found.

python -m tests.ptx_emulator bench/one_call.py --n 1024 --target sm_80 --seed 7 --opcodes
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import runpy
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

from .emulator import ORDERS, Emulator


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.ptx_emulator",
        description=(__doc__ or "").splitlines()[0],
        epilog="What else is given goes to the script.",
    )
    parser.add_argument("script")
    parser.add_argument("--target", default="sm_90", help="the device to compile for")
    parser.add_argument("--order", choices=ORDERS, default="random", help="of warps and programs")
    parser.add_argument("--seed", type=int, default=1, help="of that order")
    parser.add_argument(
        "--asked-only", action="store_true",
        help="of barriers, count those alone that the source asks for",
    )  # fmt: skip
    parser.add_argument("--opcodes", action="store_true", help="count every instruction")
    parser.add_argument("--json", type=Path, help="where to write the counts of each kernel")
    options, rest = parser.parse_known_args(arguments)
    try:
        rest_of = {"seed": options.seed, "asked_only": options.asked_only}
        emulator = Emulator(options.target, options.order, **rest_of)
    except ValueError as error:
        parser.error(str(error))
    path = options.script
    if not Path(path).exists():
        parser.error(f"there is no {path}")
    gc.freeze()  # no use in looking again and again at what imports left
    backend = os.environ.get("IMMISCIBLE_BACKEND", "triton")  # also of tensors on the CPU
    with (
        mock.patch.dict(os.environ, IMMISCIBLE_BACKEND=backend),
        mock.patch.object(sys, "argv", [path, *rest]),
        emulator,
    ):
        runpy.run_path(path, run_name="__main__")
    report(emulator, options.opcodes)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record(emulator, options, rest), indent=1) + "\n")
    return int(bool(emulator.findings.errors))


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
    ran = {"what": " ".join([options.script, *rest]), "target": options.target}
    ran |= {"order": options.order, "seed": options.seed}
    ran |= {"processor_seconds": round(time.process_time(), 1)}
    kernels = {name: asdict(work) for name, work in emulator.work.items()}
    for work in kernels.values():
        del work["opcodes"], work["seconds"]
    found = [str(one) for one in emulator.findings.errors]
    return {"kind": "emulated", **ran, "found": found, "kernels": kernels}


if __name__ == "__main__":
    raise SystemExit(main())
