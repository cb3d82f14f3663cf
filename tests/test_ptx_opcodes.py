"""Where arithmetic of PTX is not that of C: one case each, by hand. Ordinary values are compared
wherever emulated kernels are, with float64 and bit for bit with Triton's interpreter."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

pytest.importorskip("triton")
from hand_written_ptx import REGISTER, kernel, run
from ptx_emulator import UnsupportedPTX
from ptx_emulator.compilation import has_compiler
from ptx_emulator.forms import FORMS
from ptx_emulator.ptx import BITS

pytestmark = pytest.mark.skipif(not has_compiler(), reason="takes gcc, or what CC names")

NAN, INF = math.nan, math.inf
LEAST, MOST = -(2**31), 2**31 - 1  # of 32 bits
CASES = [  # (instruction, sources, result)
    ("add.s32", (MOST, 1), LEAST), ("mad.lo.s32", (2**16, 2**16, 7), 7),
    ("mul.hi.s32", (-3, 5), -1), ("mul.hi.u64", (2**63, 6), 3), ("mul.wide.s32", (-3, 5), -15),
    ("mad.wide.u32", (2**31, 2, 1), 2**32 + 1), ("div.s32", (-7, 2), -3), ("rem.s32", (-7, 2), -1),
    ("div.s32", (LEAST, -1), LEAST), ("div.s32", (5, 0), -1), ("rem.u32", (5, 0), 5),
    ("min.u32", (-1, 1), 1), ("max.s32", (-1, 1), 1), ("neg.s16", (-(2**15),), -(2**15)),
    ("abs.s32", (-5,), 5), ("not.b32", (0,), -1), ("not.pred", (1,), 0), ("xor.pred", (1, 1), 0),
    ("shl.b32", (1, 31), LEAST), ("shl.b32", (1, 32), 0), ("shr.u32", (2**31, 40), 0),
    ("shr.s32", (-8, 1), -4), ("shr.s32", (-8, 40), -1), ("shr.b64", (2**63, 63), 1),
    ("popc.b32", (0xF0F,), 8), ("bfe.u32", (0xABCD, 4, 8), 0xBC), ("bfe.s32", (0xF0, 4, 4), -1),
    ("prmt.b32", (0x33221180, 0x77665544, 0x7608), 0x776680FF), ("bfe.u32", (5, 40, 8), 0),
    ("add.f32", (1.0, 2.0**-24), 1.0),
    ("mul.f32", (2.0**100, 2.0**100), INF),
    ("fma.rn.f32", (1 + 2.0**-12, 1 - 2.0**-12, -1.0), -(2.0**-24)), ("min.f32", (NAN, 1.0), 1.0),
    ("min.NaN.f32", (NAN, 1.0), NAN), ("max.f64", (-0.0, 0.0), 0.0),
    ("min.f64", (0.0, -0.0), -0.0), ("neg.f32", (0.0,), -0.0), ("div.rn.f32", (1.0, 0.0), INF),
    ("div.rn.f32", (1.0, 3.0), 1 / 3), ("sqrt.rn.f64", (2.0,), 2**0.5),
    ("ex2.approx.f32", (3.0,), 8.0), ("ex2.approx.f32", (-140.0,), 2.0**-140),
    ("ex2.approx.ftz.f32", (-140.0,), 0.0), ("mul.ftz.f32", (2.0**-100, 2.0**-40), 0.0),
    ("add.ftz.f32", (2.0**-127, 1.0), 1.0), ("abs.f16", (0xBE00,), 0x3E00),
    ("neg.bf16x2", (0x3F80BF80,), 0xBF803F80), ("setp.lt.s32", (-1, 1), 1),
    ("setp.lt.u32", (-1, 1), 0), ("setp.eq.f32", (NAN, NAN), 0), ("setp.ne.f32", (NAN, 1.0), 0),
    ("setp.neu.f32", (NAN, 1.0), 1), ("setp.ltu.f32", (NAN, 1.0), 1),
    ("setp.ltu.f32", (1.0, 1.0), 0), ("setp.ge.f64", (NAN, 1.0), 0),
    ("setp.num.f32", (NAN, 1.0), 0), ("setp.nan.f64", (NAN, 1.0), 1),
    ("setp.eq.f32", (-0.0, 0.0), 1), ("selp.b32", (5, 7, 0), 7), ("selp.f64", (5, 7, 1), 5),
    ("cvt.s64.s32", (-1,), -1), ("cvt.u64.u32", (-1,), 2**32 - 1), ("cvt.s32.s8", (200,), -56),
    ("cvt.u16.u32", (0x12345,), 0x2345), ("cvt.rn.f32.s32", (2**24 + 1,), 2.0**24),
    ("cvt.rni.s32.f32", (2.5,), 2), ("cvt.rzi.s32.f32", (-2.7,), -2),
    ("cvt.rmi.s32.f32", (-2.2,), -3), ("cvt.rpi.s32.f64", (2.2,), 3),
    ("cvt.rni.f32.f32", (2.5,), 2.0), ("cvt.rzi.s32.f32", (1e20,), MOST),
    ("cvt.rzi.u32.f32", (-5.0,), 0), ("cvt.rzi.s32.f32", (NAN,), 0),
    ("cvt.rzi.s32.f64", (NAN,), LEAST), ("cvt.rzi.s64.f32", (NAN,), -(2**63)),
    ("cvt.rzi.u64.f64", (-INF,), 0), ("cvt.rn.f16.f32", (1 + 2.0**-11,), 1.0),
    ("cvt.rn.f16.f32", (65520.0,), INF), ("cvt.rn.bf16.f32", (1 + 2.0**-8,), 1.0),
    ("cvt.rn.bf16.f32", (1 + 2.0**-7.9,), 1 + 2.0**-7), ("cvt.f32.bf16", (1.5,), 1.5),
    ("cvt.f32.f16", (2.0**-24,), 2.0**-24), ("cvt.rn.f32.f64", (1 + 2.0**-24,), 1.0),
    ("cvt.rna.tf32.f32", (0x3F801000,), 0x3F802000), ("cvt.rn.f16x2.f32", (1.0, 2.0), 0x3C004000),
    ("cvt.rn.bf16x2.f32", (1.0, -2.0), 0x3F80C000),
]  # fmt: skip


def bits_of(value, kind):
    if kind == "bf16":
        return bits_of(value, "f32") >> 16
    if kind[0] == "f":
        return int(np.array(value, f"f{BITS[kind] // 8}").view(f"u{BITS[kind] // 8}"))
    return int(value) % 2 ** BITS[kind]


def test_arithmetic():
    lines = []
    for k, (name, sources, _) in enumerate(CASES):
        form = FORMS[name]
        given = [bits_of(*pair) for pair in zip(sources, form.sources, strict=True)]
        bits = BITS[form.result]
        target = "%p1" if form.result == "pred" else f"%{REGISTER[bits]}1"
        lines.append(f"{name} {target}, {', '.join(map(hex, given))};")
        if form.result == "pred":
            lines.append("selp.b16 %h1, 1, 0, %p1;")
            bits, target = 16, "%h1"
        lines.append(f"st.global.b{bits} [%a1+{8 * k}], {target};")
    out = torch.zeros(len(CASES), dtype=torch.int64)
    body = "setp.ne.s32 %p2, %t, 0;\n@%p2 ret;\n" + "\n".join(lines)
    run(kernel(body), torch.zeros(1), out)
    wrong = []
    for (name, sources, result), got in zip(CASES, out.numpy().view("u8").tolist(), strict=True):
        if got != bits_of(result, FORMS[name].result):
            wrong.append(f"{name} {sources}: {got:#x}, not {result}")
    assert wrong == []


LOADS, SAVES = "ld.global.b32 %r{1}, [%d8+{0}];\n", "st.global.b32 [%d8+{0}], %r{1};\n"
KEEPS = "st.shared.b32 [%r30+{0}], %r{1};\n"
D, B128 = "{%r20, %r21, %r22, %r23}", 0x10_0008_0000  # of a descriptor: steps of 128 and 256 bytes
BY_WARP = """ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10, %r11, %r12, %r13}, [%r6];
ldmatrix.sync.aligned.m8n8.x2TRANS.shared.b16 {%r14, %r15}, [%r7];
mma.sync.aligned.m16n8kDEPTH.row.col.f32.KIND.KIND.f32 D, {%r10, %r11, %r12, %r13}, {%r14, %r15}, D;
"""
BY_GROUP = f"""fence.proxy.async.shared::cta;\nbar.sync 0;\nsetp.eq.s32 %p0, 0, 0;
mov.b64 %d0, {B128:#x};\nmov.b64 %d1, {B128 + 2048 // 16:#x};\nwgmma.fence.sync.aligned;
wgmma.mma_async.sync.aligned.m64n8kDEPTH.f32.KIND.KIND D, %d0, %d1, %p0, 1, 1TURNED;
wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n"""


def lines(form, threads, registers):
    return "".join(form.format(4 * threads * k, r) for k, r in enumerate(registers))


def operand(kind, value):
    """What the type keeps of values, as words along the last axis and in float64."""
    if kind == "f16":
        bits = value.astype(np.float16).view(np.uint16)
        return bits.view(np.uint32), bits.view(np.float16).astype(np.float64)
    bits = value.astype(np.float32).view(np.uint32) & (0xFFFF0000 if kind == "bf16" else 0xFFFFE000)
    halves = (bits >> 16).astype(np.uint16).view(np.uint32)
    return halves if kind == "bf16" else bits, bits.view(np.float32).astype(np.float64)


@pytest.mark.parametrize("kind", ["bf16", "f16", "tf32"])
@pytest.mark.parametrize("threads", [32, 128])
def test_matrices(kind, threads, rng):
    """mma.sync, on what ldmatrix loads, and wgmma: against sums in double."""
    rows, depth, top = threads // 2, 8 if kind == "tf32" else 16, 15 if kind == "f16" else 127
    a, b, c = (rng.normal(size=shape) for shape in ((rows, depth), (8, depth), (rows, 8)))
    b[:, :2] = 2.0 + abs(b[:, :2])
    a[0, 0], a[1, 0], a[2, :2], a[3, 0] = NAN, INF, (INF, -INF), 2.0**top
    a[4], c[4] = -0.0, -0.0
    b[0] = abs(b[0])
    (a_words, a), (b_words, b), c = operand(kind, a), operand(kind, b), c.astype(np.float32)
    lane = np.arange(32)
    if threads == 32:
        trans = kind != "tf32"  # then of the matrix that lies the other way round
        if trans:
            b_words = np.ascontiguousarray(b_words.view(np.uint16).T).view(np.uint32)
        b_at = lane % 16 * 16 if trans else lane % 8 * 32 + lane // 8 % 2 * 16
        a_at = (lane % 16) * 32 + lane // 16 * 16
        image = [a_words.ravel(), b_words.ravel(), a_at, 512 + b_at]
        body = BY_WARP.replace("TRANS", ".trans" * trans)
    else:
        parts = (x.reshape(-1, 8, 2, 4).swapaxes(1, 2).ravel() for x in (a_words, b_words))
        image = [*parts, np.zeros(64, np.uint32)]
        body = BY_GROUP.replace("TURNED", "" if kind == "tf32" else ", 0, 0")
    thread = np.arange(threads)[:, None]
    row = thread // 32 * 16 + thread % 32 // 4 + np.array([0, 0, 8, 8])
    column = thread % 4 * 2 + np.array([0, 1, 0, 1])
    image = np.concatenate([*image, c[row, column].T.view(np.uint32).ravel()]).astype(np.uint32)
    kept = range(6 if threads == 32 else 5)
    read = [*range(len(image) // threads - 4), *range(20, 24)]
    for name, text in {"DEPTH": str(depth), "KIND": kind, "D,": f"{D},", "D;": f"{D};"}.items():
        body = body.replace(name, text)
    body = (
        "mad.lo.s64 %d8, %w, 4, %a0;\nshl.b32 %r30, %t, 2;\n"
        + lines(LOADS, threads, read) + lines(KEEPS, threads, kept) + "bar.sync 0;\n" + body
        + "mad.lo.s64 %d8, %w, 4, %a1;\n" + lines(SAVES, threads, range(20, 24))
    )  # fmt: skip
    out = torch.zeros(4, threads)
    run(kernel(body, threads), torch.from_numpy(image.view(np.int32)), out, shared=4096)
    with np.errstate(all="ignore"):
        want = c.astype(np.float64)
        for k in range(depth):
            want = want + a[:, k, None] * b[None, :, k]
        want = want.astype(np.float32)
    got = np.empty_like(want)
    got[row, column] = out.numpy().T
    np.testing.assert_array_equal(got, want)
    numbers = ~np.isnan(want)
    assert (np.signbit(got) == np.signbit(want))[numbers].all()
    assert not numbers[[0, 2]].any() and np.isinf(want[1]).all() and np.signbit(want[4, 0])
    assert kind == "f16" or np.isinf(want[3]).all()


@pytest.mark.parametrize(
    "line", ["sin.approx.f32 %r1, %r2;", "add.sat.s32 %r1, %r2, %r3;", "bar.arrive 0, 32;"]
)
def test_what_is_not_known_is_named(line):
    with pytest.raises(UnsupportedPTX, match=r"one, line \d+ of its PTX.*" + re.escape(line[:-1])):
        run(kernel(line), torch.zeros(1), torch.zeros(1))
