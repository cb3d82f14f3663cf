"""PTX, as Triton emits it: parsed into basic blocks of instructions."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Bits of a register, or of an access, of each type.
BITS = {
    "pred": 8, "b8": 8, "u8": 8, "s8": 8, "b16": 16, "u16": 16, "s16": 16, "f16": 16, "bf16": 16,
    "b32": 32, "u32": 32, "s32": 32, "f32": 32, "b64": 64, "u64": 64, "s64": 64, "f64": 64,
}  # fmt: skip
LANES = 32
DEBUG_LABELS = ("$L__tmp", "$L__func", "$L__info")


class UnsupportedPTX(NotImplementedError):
    """An instruction, or a form of one, of which the emulator does not know the meaning."""


@dataclass(frozen=True)
class Instruction:
    name: str  # with its modifiers: ``ld.global.v4.b32``
    operands: tuple[str, ...]
    guard: str  # the predicate register, with ! before it if it is negated; empty if there is none
    line: int  # of the PTX

    @property
    def parts(self) -> list[str]:
        return self.name.split(".")

    @property
    def ends_block(self) -> bool:
        return self.parts[0] in ("bra", "ret", "exit") or self.is_barrier

    @property
    def is_barrier(self) -> bool:
        return self.parts[0] in ("bar", "barrier") and self.parts[1] != "warp"

    def __str__(self) -> str:
        guard = f"@{self.guard} " if self.guard else ""
        return f"{guard}{self.name} {', '.join(self.operands)}"


@dataclass
class Block:
    label: str
    instructions: list[Instruction] = field(default_factory=list)


@dataclass
class Kernel:
    name: str
    parameters: list[tuple[str, str]]  # (name, type)
    threads: int
    registers: dict[str, str] = field(default_factory=dict)  # name: type
    blocks: list[Block] = field(default_factory=list)
    places: dict[int, str] = field(default_factory=dict)  # line of the PTX: file:line
    shared: frozenset[str] = frozenset()  # names of the block of shared memory
    asked: frozenset[int] = frozenset()  # lines of the barriers that the source asks for

    @property
    def warps(self) -> int:
        return self.threads // LANES

    def instructions(self) -> Iterator[Instruction]:
        for block in self.blocks:
            yield from block.instructions


def parse(ptx: str, folder: Path | None = None) -> Kernel:
    """The one kernel of a PTX module, the source of which is in this folder."""
    entry = re.search(r"\.visible \.entry (\w+)\(", ptx)
    if entry is None:
        raise UnsupportedPTX("there is no kernel in this module")
    head, body = ptx.split(".visible .entry", 1)[1].split("\n{", 1)
    if ".func" in ptx:
        raise UnsupportedPTX(f"{entry[1]} calls functions")
    threads = re.search(r"\.reqntid (\d+)", head)
    if threads is None or int(threads[1]) % LANES:
        raise UnsupportedPTX(f"{entry[1]} does not say how many whole warps it has")
    kernel = Kernel(
        entry[1],
        [(m[2], m[1]) for m in re.finditer(r"\.param \.(\w+)[^,\n]*?(\w+_param_\d+)", head)],
        int(threads[1]),
        shared=frozenset(re.findall(r"\.extern \.shared[^;]*?(\w+)\[\];", ptx)),
    )
    files = {int(m[1]): m[2] for m in re.finditer(r'\.file\s+(\d+) "([^"]+)"', ptx)}
    first = ptx[: ptx.index(body)].count("\n") + 1
    _Body(kernel, files).read(body, first)
    barriers = (one.line for one in kernel.instructions() if one.is_barrier)
    kernel.asked = frozenset(line for line in barriers if _asked(kernel.places[line], folder))
    return kernel


def _asked(place: str, folder: Path | None) -> bool:
    """Whether the source asks for a barrier there; where there is no source, whatever is written.

    Triton's cache may have compiled an equal file elsewhere, so one in the folder comes first."""
    name, _, line = place.rpartition(":")
    own = folder / Path(name).name if folder else Path(name)
    file = own if own.exists() else Path(name)
    return not place or "debug_barrier" in linecache.getline(str(file), int(line))


class _Body:
    """Reads statements; ``{`` and ``}`` of inline assembly give registers names of their own."""

    def __init__(self, kernel: Kernel, files: dict[int, str]):
        self.kernel, self.files = kernel, files
        self.scope, self.scopes = "", 0
        self.place = ""
        self.used_bytes: int | None = None
        kernel.blocks.append(Block("$entry"))

    def read(self, body: str, first: int) -> None:
        for number, text in enumerate(body.split("\n"), first):
            rest = text.split("//")[0].strip()
            while rest:
                if rest[0] == "}" and not self.scope:  # of the kernel itself
                    return
                rest = self.statement(rest, number)

    def statement(self, text: str, number: int) -> str:
        """Read one, and return what follows it on the line."""
        if text[0] in "{}":
            self.scopes += text[0] == "{"
            self.scope = f"_s{self.scopes}_" if text[0] == "{" else ""
            return text[1:].strip()
        label = re.match(r"(\$?[\w$]+):", text)
        if label:
            if not label[1].startswith(DEBUG_LABELS):
                self.kernel.blocks.append(Block(label[1]))
            return text[label.end() :].strip()
        if text.startswith(".loc"):
            _, file, line, *_ = text.split()
            if line != "0":
                self.place = f"{self.files.get(int(file), '?')}:{line}"
            return ""
        if ";" not in text:
            if text.startswith("."):
                return ""
            raise UnsupportedPTX(f"line {number}: {text}")
        statement, rest = (part.strip() for part in text.split(";", 1))
        if statement.startswith(".reg"):
            self.declare(statement)
        elif statement.startswith(".pragma"):
            found = re.search(r"used_bytes_mask (\w+)", statement)
            self.used_bytes = int(found[1], 0) if found else None
        elif statement.startswith("."):
            raise UnsupportedPTX(f"line {number}: {statement}")
        elif statement:
            self.instruction(statement, number)
        return rest

    def declare(self, statement: str) -> None:
        _, kind, names = statement.split(None, 2)
        for name in names.split(","):
            many = re.fullmatch(r"(%\w+)<(\d+)>", name.strip())
            if many:
                for i in range(int(many[2])):
                    self.kernel.registers[f"{many[1]}{i}"] = kind[1:]
            else:
                self.kernel.registers[self.scope + name.strip()] = kind[1:]

    def instruction(self, statement: str, number: int) -> None:
        found = re.match(r"@(!?)([%\w]+)\s+", statement)
        guard = found[1] + self.local(found[2]) if found else ""
        name, *operands = statement[found.end() if found else 0 :].split(None, 1)
        operands = [re.sub(r"[%\w]+", lambda m: self.local(m[0]), one) for one in split(*operands)]
        if self.used_bytes is not None:  # of the load that follows; the others are not looked at
            size = BITS[name.split(".")[-1]] // 8
            used = [
                part if self.used_bytes >> size * k & (1 << size) - 1 else "_"
                for k, part in enumerate(elements(operands[0]))
            ]
            operands[0], self.used_bytes = "{" + ",".join(used) + "}", None
        one = Instruction(name, tuple(operands), guard, number)
        self.kernel.blocks[-1].instructions.append(one)
        self.kernel.places[number] = self.place
        if one.ends_block:
            self.kernel.blocks.append(Block(f"$after{number}"))

    def local(self, name: str) -> str:
        own = self.scope + name
        return own if self.scope and own in self.kernel.registers else name


def split(text: str = "") -> list[str]:
    """Operands: what commas separate outside of brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "{[") - (char in "}]")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts if part.strip()]


def elements(operand: str) -> list[str]:
    """Registers of a vector operand, or the one register that it is."""
    return [part.strip() for part in operand.strip("{} ").split(",")]
