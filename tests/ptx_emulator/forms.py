"""What each arithmetic instruction computes in one lane, as a C expression, by its whole name: a
modifier that nobody thought of is an error and not a wrong number.

``x``, ``y`` and ``z`` are the sources. Types are PTX's own, with ``u`` for ``b``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .ptx import BITS

SIGNED, UNSIGNED = ("s16", "s32", "s64"), ("u16", "u32", "u64")
INTEGERS = SIGNED + UNSIGNED
FLOATS = ("f32", "f64")
ORDERED = {"eq": "==", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
UNORDERED = {
    "ne": "(x < y || x > y)",
    "equ": "!(x < y || x > y)",
    "neu": "!(x == y)",
    "ltu": "!(x >= y)",
    "leu": "!(x > y)",
    "gtu": "!(x <= y)",
    "geu": "!(x < y)",
    "num": "(x == x && y == y)",
    "nan": "!(x == x && y == y)",
}
ROUNDING = {"rni": "rint", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}


@dataclass(frozen=True)
class Form:
    result: str
    sources: tuple[str, ...]
    expression: str


def unsigned(kind: str) -> str:
    return f"u{BITS[kind]}"


def _integers() -> Iterator[tuple[str, Form]]:
    """What wraps around is computed without signs."""
    for kind in INTEGERS:
        of, bits = unsigned(kind), BITS[kind]
        yield f"add.{kind}", Form(of, (of, of), "x + y")
        yield f"sub.{kind}", Form(of, (of, of), "x - y")
        yield f"mul.lo.{kind}", Form(of, (of, of), f"({of})((u64)x * y)")
        yield f"mad.lo.{kind}", Form(of, (of, of, of), f"({of})((u64)x * y + z)")
        yield f"min.{kind}", Form(kind, (kind, kind), "x < y ? x : y")
        yield f"max.{kind}", Form(kind, (kind, kind), "x > y ? x : y")
        if bits < 64:
            wide = kind[0] + str(2 * bits)
            product = f"({wide})x * ({wide})y"
            yield f"mul.wide.{kind}", Form(wide, (kind, kind), product)
            z = unsigned(wide)
            yield f"mad.wide.{kind}", Form(z, (kind, kind, z), f"({z})({product}) + z")
        if bits > 16:
            wide = "__int128" if kind[0] == "s" else "unsigned __int128"
            high = f"(({wide})x * y) >> {bits}"
            yield f"mul.hi.{kind}", Form(kind, (kind, kind), high)
            # By zero, and where a quotient overflows, C has no answer; the device has.
            yield f"div.{kind}", Form(kind, (kind, kind), f"quotient_{kind}(x, y)")
            yield f"rem.{kind}", Form(kind, (kind, kind), f"remainder_{kind}(x, y)")
    for kind in SIGNED:
        negative = f"({kind})(0 - ({unsigned(kind)})x)"
        yield f"neg.{kind}", Form(kind, (kind,), negative)
        yield f"abs.{kind}", Form(kind, (kind,), f"x < 0 ? {negative} : x")


def _bits() -> Iterator[tuple[str, Form]]:
    for kind in (*UNSIGNED, "pred"):
        name = kind.replace("u", "b")
        for operation, sign in (("and", "&"), ("or", "|"), ("xor", "^")):
            yield f"{operation}.{name}", Form(kind, (kind, kind), f"x {sign} y")
        yield f"not.{name}", Form(kind, (kind,), "!x" if kind == "pred" else "~x")
    for kind in UNSIGNED:
        bits = BITS[kind]
        right = f"y >= {bits} ? 0 : x >> y"
        yield f"shl.b{bits}", Form(kind, (kind, "u32"), f"y >= {bits} ? 0 : x << y")
        yield f"shr.b{bits}", Form(kind, (kind, "u32"), right)
        yield f"shr.u{bits}", Form(kind, (kind, "u32"), right)
        fill = f"x >> (y >= {bits} ? {bits - 1} : y)"  # shifts past the width leave the sign
        yield f"shr.s{bits}", Form(f"s{bits}", (f"s{bits}", "u32"), fill)
    for kind in ("f16", "bf16"):  # the sign alone
        yield f"abs.{kind}", Form("u16", ("u16",), "x & 0x7fff")
        yield f"neg.{kind}", Form("u16", ("u16",), "x ^ 0x8000")
        yield f"abs.{kind}x2", Form("u32", ("u32",), "x & 0x7fff7fffu")
        yield f"neg.{kind}x2", Form("u32", ("u32",), "x ^ 0x80008000u")
    yield "prmt.b32", Form("u32", ("u32",) * 3, "permuted(x, y, z)")
    for bits in (32, 64):
        yield f"popc.b{bits}", Form("u32", (f"u{bits}",), "__builtin_popcountll(x)")
        for kind in (f"u{bits}", f"s{bits}"):
            yield f"bfe.{kind}", Form(kind, (kind, "u32", "u32"), f"field_{kind}(x, y, z)")


def _floats() -> Iterator[tuple[str, Form]]:
    """Rounded to nearest even; the approximations are those of C's library."""
    for kind in FLOATS:
        end = "f" if kind == "f32" else ""
        for name, sign in (("add", "+"), ("sub", "-"), ("mul", "*")):
            for full in (f"{name}.{kind}", f"{name}.rn.{kind}"):
                yield full, Form(kind, (kind, kind), f"x {sign} y")
        yield f"fma.rn.{kind}", Form(kind, (kind,) * 3, f"fma{end}(x, y, z)")
        for name in ("min", "max"):
            yield f"{name}.{kind}", Form(kind, (kind, kind), f"{name}_{kind}(x, y)")
            both = f"(x != x || y != y ? ({kind})NAN : {name}_{kind}(x, y))"
            yield f"{name}.NaN.{kind}", Form(kind, (kind, kind), both)
        yield f"abs.{kind}", Form(kind, (kind,), f"fabs{end}(x)")
        yield f"neg.{kind}", Form(kind, (kind,), "-x")
        yield f"div.rn.{kind}", Form(kind, (kind, kind), "x / y")
        yield f"sqrt.rn.{kind}", Form(kind, (kind,), f"sqrt{end}(x)")
    yield "div.full.f32", Form("f32", ("f32", "f32"), "x / y")
    for name, text in {"sqrt": "sqrtf(x)", "ex2": "exp2f(x)"}.items():
        yield f"{name}.approx.f32", Form("f32", ("f32",), text)
    texts = {"fma.rn": "fmaf({0}, {1}, {2})", "ex2.approx": "exp2f({0})"}
    texts |= {"sqrt.approx": "sqrtf({0})"}
    texts |= {"add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div.full": "{0} / {1}"}
    texts |= {name: f"{name}_f32({{0}}, {{1}})" for name in ("min", "max")}
    for name, text in texts.items():  # with .ftz what is subnormal counts as zero
        count = text.count("{")
        inside = text.format(*(f"ftz({letter})" for letter in "xyz"[:count]))
        yield f"{name}.ftz.f32", Form("f32", ("f32",) * count, f"ftz({inside})")


def _comparisons() -> Iterator[tuple[str, Form]]:
    for kind in (*INTEGERS, "f16", "bf16", *FLOATS):
        name = f"setp.{{}}.{kind}"
        for test, sign in ORDERED.items():
            yield name.format(test), Form("pred", (kind, kind), f"x {sign} y")
        if kind in INTEGERS:
            yield name.format("ne"), Form("pred", (kind, kind), "x != y")
        else:
            for test, text in UNORDERED.items():
                yield name.format(test), Form("pred", (kind, kind), text)
    for kind in UNSIGNED:
        yield f"setp.eq.b{BITS[kind]}", Form("pred", (kind, kind), "x == y")
        yield f"setp.ne.b{BITS[kind]}", Form("pred", (kind, kind), "x != y")


def _moves() -> Iterator[tuple[str, Form]]:
    for kind in (*INTEGERS, *FLOATS, "b16", "b32", "b64"):
        of = unsigned(kind)
        yield f"selp.{kind}", Form(of, (of, of, "pred"), "z ? x : y")
        yield f"mov.{kind}", Form(of, (of,), "x")
    yield "mov.pred", Form("pred", ("pred",), "x")
    for space in ("global", "shared"):
        for name in (f"cvta.{space}.u64", f"cvta.to.{space}.u64"):
            yield name, Form("u64", ("u64",), "x")


def _conversions() -> Iterator[tuple[str, Form]]:
    every = ("s8", "u8", *INTEGERS)
    for to in every:
        for of in every:
            yield f"cvt.{to}.{of}", Form(to, (of,), f"({to})x")
    for to in FLOATS:
        for of in every:
            yield f"cvt.rn.{to}.{of}", Form(to, (of,), f"({to})x")
        for rounding, name in ROUNDING.items():
            yield f"cvt.{rounding}.{to}.{to}", Form(to, (to,), f"{name}(x)")
    for of in FLOATS:
        for rounding, name in ROUNDING.items():
            for to in INTEGERS:
                bits = BITS[to]
                if to[0] == "s":
                    text = f"to_signed({name}(x), INT{bits}_MIN, INT{bits}_MAX)"
                else:
                    text = f"to_unsigned({name}(x), UINT{bits}_MAX)"
                if of == "f64" or bits == 64:  # NaN is the highest bit there, and 0 elsewhere
                    text = f"x != x ? ({to})1 << {bits - 1} : {text}"
                yield f"cvt.{rounding}.{to}.{of}", Form(to, (of,), text)
    for of in ("f16", "bf16"):
        yield f"cvt.f32.{of}", Form("f32", (of,), "x")
        yield f"cvt.f64.{of}", Form("f64", (of,), "x")
        yield f"cvt.rn.{of}.f32", Form(of, ("f32",), "x")
        pair = f"(u32)to_{of}(x) << 16 | to_{of}(y)"
        yield f"cvt.rn.{of}x2.f32", Form("u32", ("f32", "f32"), pair)
    yield "cvt.rn.f16.f64", Form("f16", ("f64",), "x")
    yield "cvt.f64.f32", Form("f64", ("f32",), "x")
    yield "cvt.rn.f32.f64", Form("f32", ("f64",), "(f32)x")
    yield "cvt.rna.tf32.f32", Form("u32", ("u32",), "to_tf32(x)")


FORMS: dict[str, Form] = dict(
    [*_integers(), *_bits(), *_floats(), *_comparisons(), *_moves(), *_conversions()]
)


def c_type(kind: str) -> str:
    """Of a register in memory: half precision is kept in bits, a predicate in a byte."""
    return {"f16": "u16", "bf16": "u16", "pred": "u8"}.get(kind, kind.replace("b", "u"))


def c_function(number: int, form: Form) -> str:
    """The form for all lanes in ``g``."""
    head, reads = [], {}
    for k, kind in enumerate(form.sources):
        letter = "xyz"[k]
        head.append(f"const {c_type(kind)} *s{k} = READ(o->source[{k}]);")
        half = kind in ("f16", "bf16")
        reads[letter] = f"{'f32' if half else c_type(kind)} {letter} = " + (
            f"from_{kind}(s{k}[l]);" if half else f"s{k}[l];"
        )
    value = form.expression
    if form.result in ("f16", "bf16"):
        value = f"to_{form.result}({value})"
    lane = f"{{ {' '.join(reads.values())} d[l] = {value}; }}"
    return (
        f"static void form_{number}(Ctx *c, Warp *W, const Op *o, u32 g) {{ {' '.join(head)}"
        f" {c_type(form.result)} *d = WRITE(o->target[0]);"
        f" if (g == ~0u) for (int l = 0; l < 32; l++) {lane}"
        f" else for (int l = 0; l < 32; l++) if (g >> l & 1) {lane} }}"
    )


def c_source() -> str:
    """All forms, and their table, which is indexed by the position in ``FORMS``."""
    functions = [c_function(k, form) for k, form in enumerate(FORMS.values())]
    table = ", ".join(f"form_{k}" for k in range(len(FORMS)))
    return "\n".join([*functions, f"static const Handler FORMS[] = {{{table}}};", ""])
