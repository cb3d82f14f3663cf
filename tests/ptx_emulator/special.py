"""Instructions that are more than arithmetic in each lane: memory, shuffles and votes, matrices,
copies and fences. What a pattern does not match is not known."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .machine import ATOMICS, CODES, FRAGMENTS, SHARED, SIGN
from .ptx import BITS, Instruction, UnsupportedPTX, elements

if TYPE_CHECKING:
    from .encode import Encoder

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


def _parameter(encoder: Encoder, one: Instruction, found: re.Match[str]) -> None:
    name, kind = one.operands[1].strip("[] "), found[1]
    if name not in encoder.parameter:
        raise UnsupportedPTX(str(one))
    own = BITS[encoder.registers[one.operands[0]]] // 8
    encoder.add(
        CODES["parameter"], one, target=[("register", one.operands[0])],
        a=encoder.parameter[name], b=BITS[kind] // 8, c=SIGN * (kind[0] == "s"), d=own,
    )  # fmt: skip


def _memory(encoder: Encoder, one: Instruction, found: re.Match[str]) -> None:
    load, shared, count, kind = found[1] == "ld", found[2] == "shared", found[3], found[4]
    where, data = one.operands if not load else one.operands[::-1]
    names = elements(data)
    if len(names) != int(count or 1):
        raise UnsupportedPTX(str(one))
    values: list[tuple[str, Any] | None] = []
    widths = set()
    for name in names:
        if name in encoder.registers:
            values.append(("register", name))
            widths.add(BITS[encoder.registers[name]])
        elif load and name == "_":
            values.append(None)
        elif not load:  # constants can be stored, too
            values.append(encoder.value(name, kind, one))
            widths.add(BITS[kind])
        else:
            raise UnsupportedPTX(f"operand {name}")
    if len(widths) != 1:
        raise UnsupportedPTX(str(one))
    base, offset, wide = encoder.address(where)
    start = len(encoder.lists)
    encoder.lists += values
    encoder.add(
        CODES["load" if load else "store"], one, source=[base], a=offset, b=BITS[kind] // 8,
        c=wide | SHARED * shared | SIGN * (kind[0] == "s"), d=widths.pop() // 8,
        list=start, n=len(names),
    )  # fmt: skip


def _atomic(encoder: Encoder, one: Instruction, found: re.Match[str]) -> None:
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


def _shuffle(encoder: Encoder, one: Instruction, found: re.Match[str]) -> None:
    target, _, valid = one.operands[0].partition("|")
    targets = [("register", target)] + [("register", valid)] * bool(valid)
    sources = [encoder.value(operand, "b32", one) for operand in one.operands[1:]]
    way = ("bfly", "up", "down", "idx").index(found[1])
    encoder.add(CODES["shuffle"], one, target=targets, source=sources, a=way)


def _reduce(encoder: Encoder, one: Instruction, found: re.Match[str]) -> None:
    sources = [encoder.value(operand, "b32", one) for operand in one.operands[1:]]
    which = ("min", "max", "add", "and", "or", "xor").index(found[1])
    target = [("register", one.operands[0])]
    encoder.add(CODES["reduce"], one, target=target, source=sources, a=which, b=found[2] == "s")


def _vote(encoder: Encoder, one: Instruction, found: re.Match[str]) -> None:
    sources = [
        encoder.value(one.operands[1], "pred", one),
        encoder.value(one.operands[2], "b32", one),
    ]
    which = ("any", "all", "ballot").index(found[1])
    encoder.add(CODES["vote"], one, target=[("register", one.operands[0])], source=sources, a=which)


def _warp_barrier(encoder: Encoder, one: Instruction, found: re.Match[str]) -> None:
    encoder.add(CODES["warp_barrier"], one, source=[encoder.value(one.operands[0], "b32", one)])


def _matrix(encoder: Encoder, one: Instruction, found: re.Match[str]) -> None:
    data, where = one.operands if found[1] == "ld" else one.operands[::-1]
    names = elements(data)
    if one.guard or len(names) != int(found[2]):
        raise UnsupportedPTX(str(one))
    base, offset, wide = encoder.address(where)
    encoder.add(
        CODES["matrix"], one, source=[base], a=offset, b=found[1] == "st", c=wide,
        d=found[3] is not None, **encoder.many(names),
    )  # fmt: skip


def _multiply(encoder: Encoder, one: Instruction, found: re.Match[str]) -> None:
    names = [name for operand in one.operands for name in elements(operand)]
    known = found[2] == found[3] and (found[2] == "tf32") == (found[1] == "8")
    if one.guard or not known or len(names) != 14:
        raise UnsupportedPTX(str(one))
    kind = FRAGMENTS.index(found[2])
    encoder.add(CODES["multiply"], one, a=kind, **encoder.many(names))


def _group_multiply(encoder: Encoder, one: Instruction, found: re.Match[str]) -> None:
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


def _copy(encoder: Encoder, one: Instruction, found: re.Match[str]) -> None:
    to, of, size, *read = one.operands
    if len(read) > 1 or int(size, 0) not in (4, 8, 16):
        raise UnsupportedPTX(str(one))
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
    def encoder(encoder: Encoder, one: Instruction, found: re.Match[str]) -> None:
        pending = int(one.operands[0], 0) if count and one.operands else 0
        encoder.add(CODES[name], one, a=pending, b=one.name.endswith("wait_all"))

    return encoder


ENCODERS = (
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
