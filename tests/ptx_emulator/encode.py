"""A kernel in PTX, to the instructions of the emulator's machine (runtime/schedule.h).

Every register is an array of 32 lanes in a warp's file, and so is every constant; an instruction
names registers by their offset there.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from .forms import FORMS
from .machine import (
    BARRIER,
    BRANCH,
    CODES,
    COPY,
    ENTER,
    EXIT,
    FIXED,
    FORM_CODES,
    OP,
    PLAIN,
    SELECT,
    SPECIAL_REGISTERS,
    WIDE,
    Program,
)
from .ptx import BITS, LANES, Instruction, Kernel, UnsupportedPTX, elements
from .special import ENCODERS

NARROWING = re.compile(r"cvt\.[us]16\.[us](?:32|64)|cvt\.[us]32\.[us]64")
BARRIER_NAME = re.compile(r"bar(?:rier)?(?:\.cta)?\.sync(?:\.aligned)?")
JOINED = re.compile(r"(setp\.\w+)\.(and|or|xor)\.(\w+)")


Token = tuple[str, Any]  # an operand until the file is laid out


@dataclass
class Encoded:
    """A kernel's instructions, its vectors of registers, and its register file at the start."""

    kernel: Kernel
    ops: Any
    lists: Any
    file: Any
    defined: int
    special: dict[str, int]

    def program(self, parameters: Any) -> Program:
        return Program(
            ops=self.ops.ctypes.data,
            lists=self.lists.ctypes.data,
            file=self.file.ctypes.data,
            file_bytes=len(self.file),
            defined=self.defined,
            parameters=parameters.ctypes.data,
            warps=self.kernel.warps,
            thread_numbers=self.special["%tid.x"],
            program_number=(ctypes.c_uint32 * 3)(*(self.special[n] for n in SPECIAL_REGISTERS[1:])),
        )


def encode(kernel: Kernel, poison: int = 0x7F) -> Encoded:
    return Encoder(kernel).encoded(poison)


class Encoder:
    """Writes the machine's instructions of one kernel."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.ops: list[dict[str, Any]] = []
        self.lists: list[Token | None] = []
        self.constants: dict[tuple[int, int], int] = {}  # (bits, value): number
        self.labels: dict[str, int] = {}
        self.temporaries = 0
        self.parameter = {name: k for k, (name, _) in enumerate(kernel.parameters)}
        self.registers = dict(kernel.registers) | dict.fromkeys(SPECIAL_REGISTERS, "b32")

    # Operands are tokens until the file is laid out: ("register", name) or ("constant", key).

    def constant(self, value: int, bits: int) -> tuple[str, Any]:
        return "constant", (bits, value & (2**bits - 1))

    def temporary(self, kind: str) -> str:
        self.temporaries += 1
        name = f"%temporary{self.temporaries}"
        self.registers[name] = kind
        return name

    def value(self, operand: str, kind: str, one: Instruction) -> tuple[str, Any]:
        """A source of this type: a register, a constant, or part of a wider register."""
        bits = 8 if kind == "pred" else BITS[kind]
        if operand.startswith("!"):
            negated = self.temporary("pred")
            self.form("not.pred", negated, [self.value(operand[1:], "pred", one)], one)
            return "register", negated
        if operand in self.registers:
            own = self.registers[operand]
            if (own == "pred") == (kind == "pred") and BITS[own] == bits:
                return "register", operand
            if "pred" in (own, kind) or BITS[own] < bits:
                raise UnsupportedPTX(f"{operand} has {BITS[own]} bits, not those of {kind}")
            part = self.temporary(f"b{bits}")
            name = f"cvt.u{bits}.u{BITS[own]}"
            self.form(name, part, [("register", operand)], one)
            return "register", part
        if operand in self.kernel.shared:
            return self.constant(0, bits)
        if operand in FIXED:
            return self.constant(FIXED[operand], bits)
        if operand == "%ntid.x":
            return self.constant(self.kernel.threads, bits)
        found = re.fullmatch(r"0[fd]([0-9A-Fa-f]+)", operand)
        if not found and not re.fullmatch(r"-?(0x[0-9A-Fa-f]+|\d+)U?", operand):
            raise UnsupportedPTX(f"operand {operand}")
        number = int(found[1], 16) if found else int(operand.rstrip("U"), 0)
        return self.constant(int(number != 0) if kind == "pred" else number, bits)

    def address(self, operand: str) -> tuple[tuple[str, Any] | None, int, int]:
        """(register, offset, WIDE if it has 64 bits)."""
        base, _, offset = re.sub(r"\s", "", operand)[1:-1].partition("+")
        shift = int(offset or "0", 0)
        if base in self.registers:
            return ("register", base), shift, WIDE * (BITS[self.registers[base]] == 64)
        return None, shift + (0 if base in self.kernel.shared else int(base, 0)), 0

    def many(self, names: list[str]) -> dict[str, int]:
        """A vector of registers, as the table's entries."""
        for name in names:
            if name not in self.registers and name != "_":
                raise UnsupportedPTX(f"operand {name}")
        start = len(self.lists)
        self.lists += [None if name == "_" else ("register", name) for name in names]
        return {"list": start, "n": len(names)}

    # Instructions

    def add(self, code: int, one: Instruction | None = None, **fields: Any) -> None:
        op = {"code": code, "line": one.line if one else 0, **fields}
        if one is not None and one.guard:
            op |= {"guard": ("register", one.guard.lstrip("!")), "negated": one.guard[0] == "!"}
        self.ops.append(op)

    def form(self, name: str, target: str, sources: list[Any], one: Instruction) -> None:
        code = FORM_CODES.get(name)
        if code is None:
            raise UnsupportedPTX(name)
        result = FORMS[name].result
        own = self.registers[target]
        copies = name.startswith("mov") or NARROWING.fullmatch(name)
        how = SELECT if name.startswith("selp") else COPY if copies else PLAIN
        spread = {"c": how, "d": max(1, BITS[result] // 16)}
        if result != "pred" and BITS[own] > BITS[result]:  # narrow results fill the register
            part = self.temporary(f"b{BITS[result]}")
            self.add(code, one, target=[("register", part)], source=sources, **spread)
            wide = f"cvt.{result[0]}{BITS[own]}.{result}"
            self.form(wide, target, [("register", part)], one)
        elif BITS[own] != BITS[result]:
            raise UnsupportedPTX(f"{target} has {BITS[own]} bits, {name} gives {result}")
        else:
            self.add(code, one, target=[("register", target)], source=sources, **spread)

    def instruction(self, one: Instruction) -> None:
        joined = JOINED.fullmatch(one.name)
        if joined:  # a comparison, then a predicate
            test = self.temporary("pred")
            name = f"{joined[1]}.{joined[3]}"
            self.arithmetic(Instruction(name, (test, *one.operands[1:3]), one.guard, one.line))
            rest = (one.operands[0], test, one.operands[3])
            self.arithmetic(Instruction(f"{joined[2]}.pred", rest, one.guard, one.line))
        elif one.name in FORMS and "{" not in "".join(one.operands):
            self.arithmetic(one)
        elif one.parts[0] == "mov" and len(one.operands) == 2:
            self.vector_move(one)
        else:
            for pattern, encoder in ENCODERS:
                found = pattern.fullmatch(one.name)
                if found:
                    encoder(self, one, found)
                    return
            raise UnsupportedPTX(one.name)

    def arithmetic(self, one: Instruction) -> None:
        form, (target, *sources) = FORMS[one.name], one.operands
        if len(sources) != len(form.sources):
            raise UnsupportedPTX(str(one))
        values = [self.value(s, kind, one) for s, kind in zip(sources, form.sources, strict=True)]
        self.form(one.name, target, values, one)

    def vector_move(self, one: Instruction) -> None:
        """Pack and unpack: ``mov.b32 {%rs1, %rs2}, %r1`` and the other way round."""
        target, source = one.operands
        unpacks = target.startswith("{")
        names = elements(target if unpacks else source)
        total = BITS[one.parts[-1]]
        shape = {"a": total // 8, "b": total // 8 // len(names), **self.many(names)}
        if unpacks:
            whole = self.value(source, f"b{total}", one)
            self.add(CODES["unpack"], one, source=[whole], **shape)
        else:
            self.add(CODES["pack"], one, target=[("register", target)], **shape)

    def block(self, number: int) -> None:
        block = self.kernel.blocks[number]
        self.labels[block.label] = len(self.ops)
        self.add(ENTER, block=number, n=len(block.instructions))
        for one in block.instructions:
            try:
                self.control(one) if one.ends_block else self.instruction(one)
            except (UnsupportedPTX, KeyError, ValueError, IndexError) as error:
                raise UnsupportedPTX(
                    f"{self.kernel.name}, line {one.line} of its PTX"
                    f" ({self.kernel.places[one.line]}): no meaning is known of '{one}' ({error})"
                ) from None

    def control(self, one: Instruction) -> None:
        if one.is_barrier:
            size = int(one.operands[1]) if len(one.operands) > 1 else self.kernel.threads
            known = BARRIER_NAME.fullmatch(one.name) and one.operands[0] == "0"
            if not known or size != self.kernel.threads:
                raise UnsupportedPTX(str(one))
            self.add(BARRIER, one, a=int(one.line in self.kernel.asked))
        elif one.name in ("ret", "exit"):
            self.add(EXIT, one)
        elif one.name in ("bra", "bra.uni"):
            self.add(BRANCH, one, a=("label", one.operands[0]))
        else:
            raise UnsupportedPTX(one.name)

    def encoded(self, poison: int) -> Encoded:
        for number in range(len(self.kernel.blocks)):
            self.block(number)
        self.labels["end"] = len(self.ops)
        self.add(ENTER, block=len(self.kernel.blocks) - 1)
        self.add(EXIT)
        place, file, defined = self.layout(poison)

        def settle(value: Any) -> Any:
            if isinstance(value, tuple):
                kind, key = value
                return self.labels[key] if kind == "label" else place[kind, key]
            return 0 if value is None else value

        ops = np.zeros(len(self.ops), OP)
        for k, op in enumerate(self.ops):
            for name, value in op.items():
                if isinstance(value, list):
                    ops[name][k, : len(value)] = [settle(one) for one in value]
                else:
                    ops[name][k] = settle(value)
        lists = np.array([settle(one) for one in self.lists] or [0], np.uint32)
        special = {name: place["register", name] for name in SPECIAL_REGISTERS}
        return Encoded(self.kernel, ops, lists, file, defined, special)

    def layout(self, poison: int) -> tuple[dict[tuple[str, Any], int], Any, int]:
        """Offsets of constants and registers, wide ones first, the file, and its defined part."""
        used: list[Any] = [*self.lists]
        for op in self.ops:
            for value in op.values():
                used += value if isinstance(value, list) else [value]
        constants = {one[1] for one in used if isinstance(one, tuple) and one[0] == "constant"}
        place: dict[tuple[str, Any], int] = {}
        at = 8 * LANES  # nothing is at 0: that means no register
        values = []
        for bits, value in sorted(constants, reverse=True):
            place["constant", (bits, value)] = at
            values.append((at, bits, value))
            at += bits // 8 * LANES
        for name in SPECIAL_REGISTERS:
            place["register", name] = at = -(-at // 64) * 64
            at += 4 * LANES
        defined = at = -(-at // 256) * 256
        for name in sorted(self.registers, key=lambda name: -BITS[self.registers[name]]):
            if ("register", name) not in place:
                place["register", name] = at
                at += BITS[self.registers[name]] // 8 * LANES
        file = np.full(-(-at // 64) * 64, poison, np.uint8)
        for start, bits, value in values:
            size = bits // 8 * LANES
            file[start : start + size] = np.full(LANES, value, f"u{bits // 8}").view(np.uint8)
        predicates = [n for n, kind in self.registers.items() if kind == "pred"]
        for name in predicates:  # their bytes are 0 or 1
            file[place["register", name] :][:LANES] = poison & 1
        return place, file, defined
