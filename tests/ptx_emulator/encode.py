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
from .ptx import BITS, LANES, Instruction, Kernel, UnsupportedPTX, elements

OP = np.dtype(
    [
        *((name, np.uint32) for name in ("code", "line", "block", "guard", "negated")),
        ("target", np.uint32, 2),
        ("source", np.uint32, 4),
        *((name, np.int32) for name in "abcd"),
        *((name, np.uint32) for name in ("list", "n")),
    ]
)
ENTER, BRANCH, EXIT, BARRIER, SELECT = range(5)
SPECIAL = (
    "parameter", "load", "store", "atomic", "unpack", "pack", "shuffle", "reduce", "vote",
    "warp_barrier", "nothing", "proxy_fence", "matrix", "multiply", "group_fence", "group_commit",
    "group_wait", "group_multiply", "copy", "copy_commit", "copy_wait",
)  # fmt: skip
CODES = {name: 5 + k for k, name in enumerate(SPECIAL)}
FORM_CODES = {name: 5 + len(SPECIAL) + k for k, name in enumerate(FORMS)}
WIDE, SHARED, SIGN = 1, 2, 4
ATOMICS = ("max.s", "min.s", "max.u", "min.u", "add", "or", "and", "xor", "exch", "cas")
ATOMICS += ("add.f32", "add.f64")
FRAGMENTS = ("bf16", "f16", "tf32")
SPECIAL_REGISTERS = ("%tid.x", "%ctaid.x", "%ctaid.y", "%ctaid.z")
FIXED = {"%tid.y": 0, "%tid.z": 0}

# Names of what is more than arithmetic. What a pattern does not match is not known.
MEMORY = re.compile(
    r"(ld|st)(?:\.volatile|\.weak|\.relaxed\.(?:cta|gpu|sys))?\.(global|shared)(?:::cta)?"
    r"(?:\.(?:ca|cg|cs|cv|wb|wt|nc|L1::\w+|L2::\w+))*(?:\.v([248]))?\.([bsuf](?:8|16|32|64))"
)
ATOMIC = re.compile(
    r"(atom|red)\.(global|shared)(?:::cta)?(?:\.(?:cta|gpu|sys|relaxed|acquire|release|acq_rel))*"
    r"\.(max|min|add|or|and|xor|exch|cas)\.([bsuf](?:32|64))"
)
MATRIX = re.compile(
    r"(ld|st)matrix\.sync\.aligned\.m8n8\.x([124])(\.trans)?\.shared(?:::cta)?\.b16"
)
MULTIPLY = re.compile(
    r"mma\.sync\.aligned\.m16n8k(8|16)\.row\.col\.f32\.(bf16|f16|tf32)\.(bf16|f16|tf32)\.f32"
)
GROUP_MULTIPLY = re.compile(
    r"wgmma\.mma_async\.sync\.aligned\.m64n(\d+)k(8|16)\.f32\.(bf16|f16|tf32)\.(bf16|f16|tf32)"
)
COPY = re.compile(r"cp\.async\.(?:ca|cg)\.shared(?:::cta)?\.global(?:\.L2::\w+)?")
FENCE = re.compile(r"(?:fence|membar)(?:\.(?:acq_rel|sc|gl|cta|gpu|sys|cluster))+")
PROXY_FENCE = re.compile(r"fence\.proxy\.async(?:\.shared::cta|\.global)?")
SHUFFLE = re.compile(r"shfl\.sync\.(bfly|up|down|idx)\.b32")
REDUCE = re.compile(r"redux\.sync\.(min|max|add|and|or|xor)\.([bsu])32")
VOTE = re.compile(r"vote\.sync\.(any|all|ballot)\.(pred|b32)")
PARAMETER = re.compile(r"ld\.param\.([bsuf](?:8|16|32|64))")
JOINED = re.compile(r"(setp\.\w+)\.(and|or|xor)\.(\w+)")


class Program(ctypes.Structure):
    """``Program`` of runtime/warp.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("ops", "lists", "file")),
        *((name, ctypes.c_uint64) for name in ("file_bytes", "defined")),
        ("parameters", ctypes.c_void_p),
        *((name, ctypes.c_uint32) for name in ("warps", "thread_numbers")),
        ("program_number", ctypes.c_uint32 * 3),
    ]


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
    return _Encoder(kernel).encoded(poison)


class _Encoder:
    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.ops: list[dict[str, Any]] = []
        self.lists: list[int] = []
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
        choice = {"c": SELECT} if name.startswith("selp") else {}
        if result != "pred" and BITS[own] > BITS[result]:  # narrow results fill the register
            part = self.temporary(f"b{BITS[result]}")
            self.add(code, one, target=[("register", part)], source=sources, **choice)
            wide = f"cvt.{result[0]}{BITS[own]}.{result}"
            self.form(wide, target, [("register", part)], one)
        elif BITS[own] != BITS[result]:
            raise UnsupportedPTX(f"{target} has {BITS[own]} bits, {name} gives {result}")
        else:
            self.add(code, one, target=[("register", target)], source=sources, **choice)

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
            for pattern, encoder in _ENCODERS:
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
            except UnsupportedPTX as error:
                raise UnsupportedPTX(
                    f"{self.kernel.name}, line {one.line} of its PTX"
                    f" ({self.kernel.places[one.line]}): no meaning is known of '{one}' ({error})"
                ) from None

    def control(self, one: Instruction) -> None:
        if one.is_barrier:
            size = int(one.operands[1]) if len(one.operands) > 1 else self.kernel.threads
            if one.operands[0] != "0" or size != self.kernel.threads:
                raise UnsupportedPTX(str(one))
            self.add(BARRIER, one)
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
        constants = {
            key
            for op in self.ops
            for value in op.values()
            for kind, key in (one for one in (value if isinstance(value, list) else [value])
                              if isinstance(one, tuple))
            if kind == "constant"
        }  # fmt: skip
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


def _parameter(encoder: _Encoder, one: Instruction, found: re.Match[str]) -> None:
    name, kind = one.operands[1].strip("[] "), found[1]
    if name not in encoder.parameter:
        raise UnsupportedPTX(str(one))
    own = BITS[encoder.registers[one.operands[0]]] // 8
    encoder.add(
        CODES["parameter"], one, target=[("register", one.operands[0])],
        a=encoder.parameter[name], b=BITS[kind] // 8, c=SIGN * (kind[0] == "s"), d=own,
    )  # fmt: skip


def _memory(encoder: _Encoder, one: Instruction, found: re.Match[str]) -> None:
    load, shared, count, kind = found[1] == "ld", found[2] == "shared", found[3], found[4]
    where, data = one.operands if not load else one.operands[::-1]
    names = elements(data)
    if len(names) != int(count or 1):
        raise UnsupportedPTX(str(one))
    if not load:  # constants can be stored, too
        names = [n if n in encoder.registers else encoder.value(n, kind, one) for n in names]
    widths = {BITS[encoder.registers[n]] for n in names if isinstance(n, str) and n != "_"}
    widths |= {n[1][0] for n in names if isinstance(n, tuple)}
    if len(widths) != 1:
        raise UnsupportedPTX(str(one))
    base, offset, wide = encoder.address(where)
    start = len(encoder.lists)
    encoder.lists += [
        None if n == "_" else n if isinstance(n, tuple) else ("register", n) for n in names
    ]
    encoder.add(
        CODES["load" if load else "store"], one, source=[base], a=offset, b=BITS[kind] // 8,
        c=wide | SHARED * shared | SIGN * (kind[0] == "s"), d=widths.pop() // 8,
        list=start, n=len(names),
    )  # fmt: skip


def _atomic(encoder: _Encoder, one: Instruction, found: re.Match[str]) -> None:
    returns, kind = found[1] == "atom", found[4]
    name = f"{found[3]}.{kind[0]}" if found[3] in ("max", "min") else found[3]
    name = f"add.{kind}" if kind[0] == "f" and found[3] == "add" else name
    if name not in ATOMICS or (kind[0] == "f" and found[3] != "add"):
        raise UnsupportedPTX(str(one))
    where, *values = one.operands[returns:]
    base, offset, wide = encoder.address(where)
    given = [encoder.value(value, f"b{BITS[kind]}", one) for value in values]
    target = [("register", one.operands[0])] if returns and one.operands[0] != "_" else []
    encoder.add(
        CODES["atomic"], one, target=target, source=[base, *given], a=offset, b=BITS[kind] // 8,
        c=wide | SHARED * (found[2] == "shared"), d=ATOMICS.index(name),
    )  # fmt: skip


def _shuffle(encoder: _Encoder, one: Instruction, found: re.Match[str]) -> None:
    target, _, valid = one.operands[0].partition("|")
    targets = [("register", target)] + [("register", valid)] * bool(valid)
    sources = [encoder.value(operand, "b32", one) for operand in one.operands[1:]]
    way = ("bfly", "up", "down", "idx").index(found[1])
    encoder.add(CODES["shuffle"], one, target=targets, source=sources, a=way)


def _reduce(encoder: _Encoder, one: Instruction, found: re.Match[str]) -> None:
    sources = [encoder.value(operand, "b32", one) for operand in one.operands[1:]]
    which = ("min", "max", "add", "and", "or", "xor").index(found[1])
    target = [("register", one.operands[0])]
    encoder.add(CODES["reduce"], one, target=target, source=sources, a=which, b=found[2] == "s")


def _vote(encoder: _Encoder, one: Instruction, found: re.Match[str]) -> None:
    sources = [
        encoder.value(one.operands[1], "pred", one),
        encoder.value(one.operands[2], "b32", one),
    ]
    which = ("any", "all", "ballot").index(found[1])
    encoder.add(CODES["vote"], one, target=[("register", one.operands[0])], source=sources, a=which)


def _warp_barrier(encoder: _Encoder, one: Instruction, found: re.Match[str]) -> None:
    encoder.add(CODES["warp_barrier"], one, source=[encoder.value(one.operands[0], "b32", one)])


def _matrix(encoder: _Encoder, one: Instruction, found: re.Match[str]) -> None:
    data, where = one.operands if found[1] == "ld" else one.operands[::-1]
    names = elements(data)
    if one.guard or len(names) != int(found[2]):
        raise UnsupportedPTX(str(one))
    base, offset, wide = encoder.address(where)
    encoder.add(
        CODES["matrix"], one, source=[base], a=offset, b=found[1] == "st", c=wide,
        d=found[3] is not None, **encoder.many(names),
    )  # fmt: skip


def _multiply(encoder: _Encoder, one: Instruction, found: re.Match[str]) -> None:
    names = [name for operand in one.operands for name in elements(operand)]
    known = found[2] == found[3] and (found[2] == "tf32") == (found[1] == "8")
    if one.guard or not known or len(names) != 14:
        raise UnsupportedPTX(str(one))
    kind = FRAGMENTS.index(found[2])
    encoder.add(CODES["multiply"], one, a=kind, **encoder.many(names))


def _group_multiply(encoder: _Encoder, one: Instruction, found: re.Match[str]) -> None:
    columns, kind = int(found[1]), found[3]
    target, a, b, scale, sign_a, sign_b, *transposed = one.operands
    names, registers = elements(target), elements(a) if a.startswith("{") else []
    known = sign_a == sign_b == "1" and kind == found[4] and (kind == "tf32") == (found[2] == "8")
    if one.guard or not known or len(names) != columns // 2 or len(registers) not in (0, 4):
        raise UnsupportedPTX(str(one))
    flags = [int(flag, 0) for flag in transposed]
    encoder.add(
        CODES["group_multiply"], one,
        source=[
            None if registers else encoder.value(a, "b64", one),
            encoder.value(b, "b64", one),
            encoder.value(scale, "pred", one),
        ],
        a=FRAGMENTS.index(kind), b=columns,
        c=flags[0] if len(flags) == 2 else 0, d=flags[-1] if flags else 0,
        **encoder.many([*names, *registers]),
    )  # fmt: skip


def _copy(encoder: _Encoder, one: Instruction, found: re.Match[str]) -> None:
    to, of, size, *read = one.operands
    target, offset, wide = encoder.address(to)
    source, shift, _ = encoder.address(of)
    taken = [encoder.value(read[0], "b32", one)] if read else []
    encoder.add(
        CODES["copy"],
        one,
        source=[target, source, *taken],
        a=offset,
        b=int(size, 0),
        c=wide,
        d=shift,
    )


def _wait(name: str, count: bool = False) -> Any:
    def encoder(encoder: _Encoder, one: Instruction, found: re.Match[str]) -> None:
        pending = int(one.operands[0], 0) if count and one.operands else 0
        encoder.add(CODES[name], one, a=pending, b=one.name.endswith("wait_all"))

    return encoder


_ENCODERS = (
    (PARAMETER, _parameter),
    (MEMORY, _memory),
    (ATOMIC, _atomic),
    (SHUFFLE, _shuffle),
    (REDUCE, _reduce),
    (VOTE, _vote),
    (re.compile(r"bar\.warp\.sync"), _warp_barrier),
    (FENCE, _wait("nothing")),
    (PROXY_FENCE, _wait("proxy_fence")),
    (MATRIX, _matrix),
    (MULTIPLY, _multiply),
    (re.compile(r"wgmma\.fence\.sync\.aligned"), _wait("group_fence")),
    (re.compile(r"wgmma\.commit_group\.sync\.aligned"), _wait("group_commit")),
    (re.compile(r"wgmma\.wait_group\.sync\.aligned"), _wait("group_wait", True)),
    (GROUP_MULTIPLY, _group_multiply),
    (COPY, _copy),
    (re.compile(r"cp\.async\.commit_group"), _wait("copy_commit")),
    (re.compile(r"cp\.async\.wait_group"), _wait("copy_wait", True)),
    (re.compile(r"cp\.async\.wait_all"), _wait("copy_wait")),
)
