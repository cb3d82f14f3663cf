"""What a run found, in words and with places in the source."""

from __future__ import annotations

import ctypes
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .ptx import Kernel

# In the order of the enumeration in runtime/memory.h, with what each means.
KINDS = {
    "RACE_PROGRAMS": "two programs of a launch access it, one writes, not both by atomics",
    "RACE_WARPS": "two warps access it, one writes, with no barrier between",
    "RACE_LANES": "two lanes of a warp access it, one writes, with no bar.warp.sync between",
    "SAME_VALUE": "two threads write the same value, with no barrier between",
    "OUT_OF_BOUNDS": "outside of all memory that the launch was given",
    "OUT_OF_VIEW": "in memory of a tensor, but at no element of it that the launch was given",
    "UNINITIALISED": "memory that nobody wrote",
    "UNDEFINED_REGISTER": "a lane that nobody wrote decides a branch, an address or what is stored",
    "MISALIGNED": "an address that is no multiple of the size",
    "READ_ONLY_WRITE": "a write where the code seemed to write nothing",
    "DIVERGENT_BRANCH": "lanes of a warp part",
    "DIVERGENT_SYNC": "a lane that is named does not take part",
    "DIVERGENT_BARRIER": "a barrier that only some lanes of a warp reach",
    "MIXED_BARRIER": "warps wait at different barriers",
    "EXITED_BARRIER": "a barrier that some warps cannot reach any more",
    "IN_FLIGHT": "an asynchronous copy or product that is never waited for",
    "MISSING_FENCE": "an asynchronous product of what no fence has made visible",
    "DEADLOCK": "more instructions than the limit",
}
NAMES = ("", *KINDS)
# Allowed by PTX, and of interest all the same.
NOTES = frozenset({"RACE_LANES", "SAME_VALUE", "DIVERGENT_BRANCH", "IN_FLIGHT"})
FIELDS = ("kind", "line", "other", "program", "thread", "other_thread")


class FoundError(AssertionError):
    """Something was found, and it is no note."""


class Report(ctypes.Structure):
    """``Report`` of runtime/memory.h."""

    _fields_ = [
        *((name, ctypes.c_uint32) for name in FIELDS),
        *((name, ctypes.c_uint64) for name in ("address", "count")),
        ("allocation", ctypes.c_int32),
        ("offset", ctypes.c_uint32),
    ]


@dataclass(frozen=True)
class Finding:
    kind: str
    kernel: str
    memory: str  # the argument that it is in
    here: str  # file:line
    there: str  # of the other access, if there is one

    @property
    def is_note(self) -> bool:
        return self.kind in NOTES

    def __str__(self) -> str:
        other = f" with {self.there}" if self.there else ""
        where = f" in {self.memory}" if self.memory else ""
        return f"{self.kind} {self.kernel} {self.here}{other}{where}: {KINDS[self.kind]}"


class Findings:
    """All of one emulator, counted."""

    def __init__(self) -> None:
        self.count: Counter[Finding] = Counter()
        self.first: dict[Finding, str] = {}

    def add(self, kernel: Kernel, report: Report, memory: list[str]) -> None:
        finding = Finding(
            NAMES[report.kind],
            kernel.name,
            memory[report.allocation] if report.allocation >= 0 else "",
            place(kernel, report.line),
            place(kernel, report.other),
        )
        self.count[finding] += report.count
        self.first.setdefault(
            finding,
            f"PTX {report.line}, program {report.program}, thread {report.thread}"
            f" (with {report.other_thread}), byte {report.offset}",
        )

    @property
    def errors(self) -> list[Finding]:
        return sorted((one for one in self.count if not one.is_note), key=str)

    @property
    def notes(self) -> list[Finding]:
        return sorted((one for one in self.count if one.is_note), key=str)

    def text(self, notes: bool = True) -> str:
        listed = self.errors + (self.notes if notes else [])
        lines = [f"{one}; {self.count[one]} times, first: {self.first[one]}" for one in listed]
        return "\n".join(lines) or "nothing found"


def place(kernel: Kernel, line: int) -> str:
    return Path(kernel.places.get(line, "")).name if line else ""
