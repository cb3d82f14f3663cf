"""Each instruction that the emulator of PTX knows, against a reference in exact arithmetic."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("triton")
from hand_written_ptx import kernel, run
from ptx_emulator import UnsupportedPTX
from ptx_emulator.compilation import has_compiler
from ptx_emulator.forms import FORMS
from ptx_emulator.ptx import BITS

pytestmark = pytest.mark.skipif(not has_compiler(), reason="takes gcc, or what CC names")

LANES = 256
FAMILIES = sorted({name.split(".")[0] for name in FORMS})
REGISTER = {8: "h", 16: "h", 32: "r", 64: "d"}  # by bits
# Digits, exponent of the least number, and of the first that overflows.
FORMATS = {
    "f16": (11, -24, 16), "bf16": (8, -133, 128), "tf32": (11, -136, 128),
    "f32": (24, -149, 128), "f64": (53, -1074, 1024),
}  # fmt: skip
APPROXIMATE = {"ex2": np.exp2, "lg2": np.log2, "rcp": np.reciprocal, "sqrt": np.sqrt}
APPROXIMATE |= {"rsqrt": lambda x: 1 / np.sqrt(x)}
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda x, y: x == y, "ne": lambda x, y: x != y, "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y, "gt": lambda x, y: x > y, "ge": lambda x, y: x >= y,
}  # fmt: skip
COMPARE |= {"lo": COMPARE["lt"], "ls": COMPARE["le"], "hi": COMPARE["gt"], "hs": COMPARE["ge"]}
ROUND = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}


def samples(rng: np.random.Generator, kind: str, third: bool) -> np.ndarray:
    """Bits of random lanes, and of what is special."""
    bits = BITS[kind]
    if kind == "pred":
        return rng.integers(0, 2, LANES).astype(np.uint8)
    random = rng.integers(0, 256, LANES * bits // 8, dtype=np.uint8).view(f"u{bits // 8}")
    top = 2 ** (bits - 1)
    edges = [0, 1, top - 1, top, top + 1, 2 * top - 1, bits, bits - 1, bits // 2]
    if kind in ("f16", "bf16", "f32", "f64"):
        digits, _, most = FORMATS[kind]
        one, unit = (most - 1) << (digits - 1), 1 << (digits - 1)
        infinity = (2 * most - 1) << (digits - 1)
        edges = [0, 1, unit - 1, unit, one, one + unit // 2, one + 1, infinity - 1, infinity]
        edges += [infinity + unit // 2, one + 31 * unit, one + 63 * unit, one + 16 * unit]
        if kind in ("f32", "f64"):  # ties of conversions to fewer digits
            edges += [one + (1 << k) for k in range(digits - 1)]
            edges += [one + (3 << k) for k in range(digits - 2)]
            edges += [one - 20 * unit + (5 << k) for k in range(digits - 3)]
        edges = [edge % top for edge in edges]
        edges += [top + edge for edge in edges]
        near = one + rng.integers(-14, 15, LANES // 2) * unit
        random[: LANES // 2] = near.astype(f"u{bits // 8}") | random[: LANES // 2] % unit
    elif kind in ("u32", "s32") or third:
        edges += [8, 15, 16, 31, 32, 33, 63, 64, 65, 255, 256, 300]
    places = rng.permutation(LANES)[: len(edges)]
    random[places] = np.array(edges, dtype=object)[: len(places)].astype(random.dtype)
    return random


def number(raw: int, kind: str) -> Any:
    """What these bits stand for."""
    bits = BITS[kind]
    if kind[0] == "s":
        return raw - (raw >> (bits - 1) << bits)
    if kind in ("f32", "f64"):
        return float(np.array(raw, f"u{bits // 8}").view(f"f{bits // 8}"))
    if kind == "f16":
        return float(np.array(raw, "u2").view("f2"))
    if kind == "bf16":
        return number(raw << 16, "f32")
    return raw


def rounded(value: Any, kind: str, away: bool = False) -> float:
    """The number of this format that is nearest; of two, the even one, or the one away from 0."""
    if isinstance(value, float) and (not math.isfinite(value) or value == 0):
        return value
    exact = Fraction(value)
    digits, least, most = FORMATS[kind]
    size = abs(exact)
    if not size:
        return 0.0
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= size < Fraction(2) ** exponent
    unit = Fraction(2) ** max(exponent - digits + 1, least)
    count = math.floor(size / unit + Fraction(1, 2)) if away else round(size / unit)
    magnitude = math.inf if count * unit >= 2**most else float(count * unit)
    return magnitude if exact > 0 else -magnitude


def bits_of(value: Any, kind: str) -> int:
    if isinstance(value, float):
        if math.isnan(value) and kind in ("f16", "bf16", "tf32"):  # NaN has no payload there
            return {"f16": 0x7FFF, "bf16": 0x7FFF, "tf32": 0x7FFFFFFF}[kind]
        if kind == "bf16" or kind == "tf32":
            whole = int(np.float32(value).view("u4"))
            return whole >> 16 if kind == "bf16" else whole
        of = kind[1:]
        with np.errstate(over="ignore"):
            return int(np.array(value, f"f{int(of) // 8}").view(f"u{int(of) // 8}"))
    return int(value) & (2 ** BITS[kind] - 1)


def field(x: int, at: int, size: int, kind: str) -> int:
    bits, at, size = BITS[kind], at & 255, size & 255
    pattern = x & (2**bits - 1)
    sign = pattern >> min(at + size - 1, bits - 1) & 1 if kind[0] == "s" and size else 0
    taken = max(0, min(size, bits - at))
    low = pattern >> at & (2**taken - 1)
    return low | (-sign << taken)


def integer(operation: str, kind: str, x: int, y: int = 0, z: int = 0) -> int:
    bits = BITS[kind]
    unsigned = x & (2**bits - 1)
    quotient = 0 if not y else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
    return {
        "add": lambda: x + y, "sub": lambda: x - y, "neg": lambda: -x, "abs": lambda: abs(x),
        "mul.lo": lambda: x * y, "mul.wide": lambda: x * y, "mul.hi": lambda: x * y >> bits,
        "mad.lo": lambda: x * y + z, "mad.wide": lambda: x * y + z,
        "min": lambda: min(x, y), "max": lambda: max(x, y), "not": lambda: ~x,
        "and": lambda: x & y, "or": lambda: x | y, "xor": lambda: x ^ y,
        "div": lambda: quotient if y else -1, "rem": lambda: x - quotient * y,
        "shl": lambda: x << min(y, bits), "shr": lambda: x >> min(y, bits),
        "popc": lambda: unsigned.bit_count(), "clz": lambda: bits - unsigned.bit_length(),
        "bfe": lambda: field(x, y, z, kind),
    }[operation]()  # fmt: skip


def extreme(name: str, x: float, y: float) -> float:
    if math.isnan(x) or math.isnan(y):
        return math.nan if ".NaN" in name else y if math.isnan(x) else x
    key = (x, math.copysign(1, x)), (y, math.copysign(1, y))
    return (min if name.startswith("min") else max)(key)[0]


def floating(name: str, kind: str, x: float, y: float = 0.0, z: float = 0.0) -> float:
    operation, of = name.split(".")[0], np.float32 if kind == "f32" else np.float64
    if operation in ("abs", "neg"):
        return math.copysign(x, 1) if operation == "abs" else -x
    if operation == "copysign":
        return math.copysign(y, x)
    if operation in ("min", "max"):
        return extreme(name, x, y)
    with np.errstate(all="ignore"):
        if operation == "fma":
            given = x, y, z
            if all(map(math.isfinite, given)):
                exact = Fraction(x) * Fraction(y) + Fraction(z)
                if exact:
                    return rounded(exact, kind)
            if math.isfinite(x) and math.isfinite(y) and not math.isfinite(z):
                return z  # the product does not overflow first
            return float(np.float64(x) * np.float64(y) + np.float64(z))
        if operation in APPROXIMATE:
            return float(APPROXIMATE[operation](of(x)))
        first, second = of(x), of(y)
        pairs = {"add": first + second, "sub": first - second, "mul": first * second}
        return float(pairs[operation] if operation in pairs else first / second)


def compared(test: str, x: Any, y: Any) -> bool:
    if isinstance(x, float):
        lost = math.isnan(x) or math.isnan(y)
        if test in ("num", "nan"):
            return lost == (test == "nan")
        if lost:
            return len(test) == 3
        test = test[:2]
    return COMPARE[test](x, y)


def converted(name: str, x: Any, y: Any = 0) -> Any:
    parts = name.split(".")
    to, of = parts[-2:]
    if "x2" in to:
        low, high = (bits_of(rounded(value, to[:-2]), to[:-2]) for value in (y, x))
        return high << 16 | low
    if to == "tf32":
        return bits_of(rounded(x, "tf32", away=True), "tf32")
    if to in FORMATS:
        if parts[1] in ROUND:
            return math.copysign(ROUND[parts[1]](x), x) if math.isfinite(x) else x
        return rounded(x, to)
    if isinstance(x, float):
        least, most = (-(2 ** (BITS[to] - 1)), 2 ** (BITS[to] - 1) - 1)
        least, most = (least, most) if to[0] == "s" else (0, most - least)
        if math.isnan(x):
            return 2 ** (BITS[to] - 1) if of == "f64" or BITS[to] == 64 else 0
        x = ROUND[parts[1]](x) if math.isfinite(x) else math.copysign(2**70, x)
        return int(min(max(x, least), most))
    return x


def expected(name: str, given: list[Any]) -> Any:
    operation, *_, kind = name.split(".")
    kind = "s" + kind[1:] if name.startswith("shr.s") else kind
    if operation == "setp":
        return compared(name.split(".")[1], *given)
    if operation == "cvt":
        return converted(name, *given)
    if operation in ("mov", "cvta"):
        return given[0]
    if operation == "selp":
        return given[0] if given[2] else given[1]
    if ".ftz" in name:
        flat = [math.copysign(0, x) if abs(x) < 2.0**-126 else x for x in given]
        result = floating(name, kind, *flat)
        return math.copysign(0, result) if abs(result) < 2.0**-126 else result
    if kind in ("f16", "bf16", "f16x2", "bf16x2"):  # the sign of each half
        mask = 0x80008000 if "x2" in kind else 0x8000
        return given[0] ^ mask if operation == "neg" else given[0] & ~mask
    if kind in ("f32", "f64"):
        return floating(name, kind, *given)
    if operation in ("mul", "mad"):
        operation = ".".join(name.split(".")[:2])
    return integer(operation, kind if kind != "pred" else "u8", *given) & (
        1 if kind == "pred" else -1
    )


def source_kinds(name: str) -> list[str]:
    """Of the operands as PTX types them: what is computed without a sign may have one."""
    kinds, last = list(FORMS[name].sources), name.split(".")[-1]
    operation = name.split(".")[0]
    if "tf32" in name:
        return ["f32"]
    if last[0] == "s" and operation in ("add", "sub", "mul", "mad") and "wide" not in name:
        return [last] * len(kinds)
    return kinds


def same(got: np.ndarray, want: list[Any], kind: str, name: str) -> np.ndarray:
    """Where they agree: in their bits, but for what NaN carries and for approximations."""
    if kind not in FORMATS:
        return np.array([int(g) == bits_of(w, kind) for g, w in zip(got, want, strict=True)])
    values = [number(int(g), kind) for g in got]
    near = re.search(r"approx|full", name)
    return np.array([
        (math.isnan(g) and math.isnan(w))
        or bits_of(g, kind) == bits_of(float(w), kind)
        or (bool(near) and math.isclose(g, w, rel_tol=3e-7, abs_tol=3e-7 * (abs(w) < 1e-37)))
        for g, w in zip(values, want, strict=True)
    ])  # fmt: skip


def program(names: list[str]) -> str:
    """Each form on its own inputs; %a0: 3 rows of each form's, 8 bytes a lane; %a1: results."""
    lines = ["mul.wide.u32 %w, %t, 8;\nadd.s64 %a0, %a0, %w;\nadd.s64 %a1, %a1, %w;"]
    for row, name in enumerate(names):
        form, operands = FORMS[name], []
        for k, kind in enumerate(form.sources):
            place = f"[%a0+{8 * LANES * (3 * row + k)}]"
            bits = BITS[kind]
            register = f"%{REGISTER[bits]}{k}"
            lines.append(f"ld.global.b{bits} {register}, {place};")
            if kind == "pred":
                lines.append(f"cvt.u32.u16 %r{k}, {register};\nsetp.ne.s32 %p{k}, %r{k}, 0;")
                register = f"%p{k}"
            operands.append(register)
        place, bits = f"[%a1+{8 * LANES * row}]", BITS[form.result]
        target = "%p5" if form.result == "pred" else f"%{REGISTER[bits]}5"
        lines.append(f"{name} {target}, {', '.join(operands)};")
        if form.result == "pred":
            target = "%h5"
            lines.append("selp.b16 %h5, 1, 0, %p5;")
        lines.append(f"st.global.b{bits} {place}, {target};")
    return kernel("\n".join(lines), LANES)


@pytest.mark.parametrize("family", FAMILIES)
def test_arithmetic(family, rng):
    names = [name for name in FORMS if name.split(".")[0] == family]
    given = np.zeros((len(names), 3, LANES), np.uint64)
    for row, name in zip(given, names, strict=True):
        for k, kind in enumerate(FORMS[name].sources):
            row[k] = samples(rng, "f32" if "tf32" in name else kind, k == 2)
    result = torch.zeros(len(names), LANES, dtype=torch.int64)
    run(program(names), torch.from_numpy(given.view(np.int64)), result)
    wrong = []
    for row, name, out in zip(given, names, result.numpy().view(np.uint64), strict=True):
        kinds, to = source_kinds(name), FORMS[name].result
        lanes = [
            [number(int(raw), kind) for raw, kind in zip(lane, kinds, strict=False)]
            for lane in row.T
        ]
        want = [expected(name, lane) for lane in lanes]
        lost = np.flatnonzero(~same(out, want, to, name))
        wrong += [f"{name} {lanes[k]}: {out[k]:#x}, not {want[k]}" for k in lost[:3]]
    assert wrong == []


@pytest.mark.parametrize(
    "line", ["sin.approx.f32 %r1, %r2;", "add.sat.s32 %r1, %r2, %r3;", "bar.arrive 0, 32;"]
)
def test_what_is_not_known_is_named(line):
    with pytest.raises(UnsupportedPTX, match=r"one, line \d+ of its PTX.*" + re.escape(line[:-1])):
        run(kernel(line), torch.zeros(1), torch.zeros(1))
