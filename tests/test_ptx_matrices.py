"""Matrices in the emulator of PTX, against float64: layouts of fragments, of rows in shared memory
and of their swizzles are those of the PTX ISA."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("triton")
from hand_written_ptx import kernel, lanes, run, tensor, words
from ptx_emulator.compilation import has_compiler

pytestmark = pytest.mark.skipif(not has_compiler(), reason="takes gcc, or what CC names")

LANE = np.arange(32)
GROUP, MEMBER = LANE >> 2, LANE & 3  # of a lane, in the layouts of matrices


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("trans", ["", ".trans"])
def test_matrices_of_eight_by_eight(count, trans, rng):
    """ldmatrix and stmatrix; rows lie anywhere, 16 bytes each."""
    image, held = words(rng, 32, 8, bits=16), words(rng, count, 32)
    rows = rng.permutation(32)
    shape = f"matrix.sync.aligned.m8n8.x{count}{trans}.shared.b16"
    old = [f"%r{10 + k}" for k in range(count)]
    given = np.concatenate([np.ascontiguousarray(image).view("u4").T, held, [16 * rows]])
    given = given.astype("u4")
    body = f"""shl.b32 %r30, %t, 4;
        st.shared.v4.b32 [%r30], {{%r1, %r2, %r3, %r4}};
        bar.sync 0;
        ld{shape} {{{", ".join(old)}}}, [%r{5 + count}];
        bar.sync 0;
        st{shape} [%r{5 + count}], {{{", ".join(f"%r{5 + k}" for k in range(count))}}};
        bar.sync 0;
        ld.shared.v4.b32 {{%r20, %r21, %r22, %r23}}, [%r30];"""
    got = lanes(body, given, [*old, *(f"%r{20 + k}" for k in range(4))], shared=512)
    after = image.copy()
    for k in range(count):
        at = rows[8 * k : 8 * k + 8]
        for half in (0, 1):
            here = (2 * MEMBER + half, GROUP) if trans else (GROUP, 2 * MEMBER + half)
            assert np.array_equal(got[k] >> 16 * half & 0xFFFF, image[at][here])
            matrix, written = np.zeros((8, 8), "u2"), np.zeros((8, 8), bool)
            written[here], matrix[here] = True, held[k] >> 16 * half & 0xFFFF
            after[at] = np.where(written, matrix, after[at])
    assert np.array_equal(got[count:].T, after.view("u4"))


def to_words(matrix, kind):
    """The bits of numbers, one in 32, as ``kind`` has them."""
    if kind == "f16":
        return matrix.astype("f2").view("u2").astype("u4")
    return matrix.astype("f4").view("u4") >> np.uint32(16 if kind == "bf16" else 0)


def numbers(rng, kind, *shape):
    """Numbers that this format has, with what it makes of infinity left out."""
    raw = rng.normal(size=shape).astype("f4").view("u4")
    mask = {"f16": 0xFFFFE000, "bf16": 0xFFFF0000, "tf32": 0xFFFFE000}[kind]
    return (raw & np.uint32(mask)).view("f4").astype("f2" if kind == "f16" else "f4").astype("f8")


def fragment(matrix, kind, columns_first=False):
    """Registers (k, 32) that hold 8 x 8 (tf32: 8 x 4) blocks of A or, transposed, of B."""
    bits, out = to_words(matrix, kind), []
    depth = matrix.shape[1] // 2
    for block in range(2 * (matrix.shape[0] // 8)):
        down, right = (block & 1, block >> 1) if matrix.shape[0] > 8 else (0, block)
        rows = bits[8 * down : 8 * down + 8, depth * right : depth * (right + 1)]
        if kind == "tf32":
            out.append(rows[GROUP, MEMBER])
        else:
            low, high = rows[GROUP, 2 * MEMBER], rows[GROUP, 2 * MEMBER + 1]
            out.append(low | high << np.uint32(16))
    return np.array(out)


def near(got, want, scale):
    """As single precision has it, but for one rounding more."""
    assert (np.abs(got - want) <= 2.0**-22 * scale).all()


@pytest.mark.parametrize("kind", ["f16", "bf16", "tf32"])
def test_products_of_a_warp(kind, rng):
    depth = 8 if kind == "tf32" else 16
    a, b = numbers(rng, kind, 16, depth), numbers(rng, kind, 8, depth)
    c = rng.normal(size=(16, 8)).astype("f4")
    at = [(GROUP + 8 * (k >> 1), 2 * MEMBER + (k & 1)) for k in range(4)]
    given = np.concatenate(
        [fragment(a, kind), fragment(b, kind), [c[place].view("u4") for place in at]]
    )
    name = f"mma.sync.aligned.m16n8k{depth}.row.col.f32.{kind}.{kind}.f32"
    body = f"{name} {{%r20, %r21, %r22, %r23}}, {{%r1, %r2, %r3, %r4}}, {{%r5, %r6}}, "
    body += "{%r7, %r8, %r9, %r10};"
    got = lanes(body, given, [f"%r{k}" for k in range(20, 24)]).view("f4")
    want, scale = a @ b.T + c, np.abs(a) @ np.abs(b.T) + np.abs(c)
    for k, place in enumerate(at):
        near(got[k], want[place], scale[place])


WIDTH = {1: 128, 2: 64, 3: 32}  # bytes of a row, by the mode in a descriptor


def laid_out(matrix, kind, mode, transposed):
    """Bytes of shared memory with this operand, rows of one tile after another, chunks of 16
    bytes swizzled; and its descriptor, at 0. Elements along K are neighbours, or transposed, those
    along the other side."""
    size, row = 4 if kind == "tf32" else 2, WIDTH[mode]
    raw = to_words(matrix.T if transposed else matrix, kind).astype(f"u{size}")
    across = row // size
    tiles = [raw[:, start : start + across] for start in range(0, raw.shape[1], across)]
    out = []
    for tile in tiles:
        image = np.zeros((len(tile), row), np.uint8)
        image[:, : tile.shape[1] * size] = np.ascontiguousarray(tile).view(np.uint8)
        chunks = image.reshape(len(tile), row // 16, 16)
        r = np.arange(len(tile))
        turn = {1: r & 7, 2: r >> 1 & 3, 3: r >> 2 & 1}[mode]
        swizzled = np.zeros_like(chunks)
        for c in range(row // 16):
            swizzled[r, c ^ turn] = chunks[:, c]
        out.append(swizzled.reshape(-1))
    stride, leading = 8 * row, len(raw) * row
    descriptor = mode << 62 | (stride >> 4) << 32 | (leading >> 4) << 16
    return np.concatenate(out), descriptor


def group_product(kind, columns, depth, image, descriptors, steps, given=(), flags=""):
    """D (64, columns) after a product of each step: (what to add to the descriptors' addresses)."""
    d = [f"%x{k}" for k in range(columns // 2)]
    count = columns // 2
    body = [
        "shl.b32 %r30, %t, 4;",
        *(
            f"add.s64 %a4, %a2, {2048 * k};\nmad.lo.s64 %a4, %w, 16, %a4;\n"
            "ld.global.v4.b32 {%r31, %r32, %r33, %r34}, [%a4];\n"
            f"st.shared.v4.b32 [%r30+{2048 * k}], {{%r31, %r32, %r33, %r34}};"
            for k in range(len(image) // 2048)
        ),
        "fence.proxy.async.shared::cta;\nbar.sync 0;",
        *(f"ld.global.b32 %r{k + 1}, [%a0+{512 * k}];" for k in range(len(given))),
        *(f"mov.b32 {one}, 0x7f800000;" for one in d),  # what the first product ignores
        "setp.ne.s32 %p0, 0, 0;\nsetp.eq.s32 %p1, 0, 0;\nwgmma.fence.sync.aligned;",
    ]
    for k, (left, right) in enumerate(steps):
        first = f"{{{', '.join(f'%r{4 * k + j + 1}' for j in range(4))}}}" if len(given) else "%d0"
        body.append(f"mov.b64 %d0, {descriptors[0] + (left >> 4)};")
        body.append(f"mov.b64 %d1, {descriptors[1] + (right >> 4)};")
        body.append(
            f"wgmma.mma_async.sync.aligned.m64n{columns}k{depth}.f32.{kind}.{kind} "
            f"{{{', '.join(d)}}}, {first}, %d1, {'%p1' if k else '%p0'}, 1, 1{flags};"
        )
    body += ["wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;"]
    body += [f"st.global.b32 [%a1+{512 * k}], {one};" for k, one in enumerate(d)]
    start = "mad.lo.s64 %a0, %w, 4, %a0;\nmad.lo.s64 %a1, %w, 4, %a1;\n"
    out = torch.zeros(count * 128)
    given = np.array(given) if len(given) else np.zeros(128, "u4")
    ptx = kernel(start + "\n".join(body), 128, 3, ".reg .b32 %x<130>;")
    run(ptx, tensor(given), out, tensor(image), shared=len(image))
    held, answer = out.numpy().reshape(count, 4, 32), np.zeros((64, columns))
    for k in range(count):
        for warp in range(4):
            row = 16 * warp + GROUP + 8 * (k >> 1 & 1)
            answer[row, 8 * (k >> 2) + 2 * MEMBER + (k & 1)] = held[k, warp]
    return answer


FORMS = [
    (kind, mode, trans_a, trans_b, from_registers)
    for kind in ("f16", "bf16", "tf32") for mode in WIDTH
    for trans_a in (0, 1) for trans_b in (0, 1) for from_registers in (False, True)
    if not ((kind == "tf32" and (trans_a or trans_b)) or (from_registers and trans_a))
]  # fmt: skip


@pytest.mark.parametrize("kind, mode, trans_a, trans_b, from_registers", FORMS)
def test_products_of_a_warp_group(kind, mode, trans_a, trans_b, from_registers, rng):
    depth = 8 if kind == "tf32" else 16
    columns, steps = int(rng.choice([8, 64, 128])), 2 if mode != 3 or (trans_a and trans_b) else 1
    a, b = numbers(rng, kind, 64, steps * depth), numbers(rng, kind, columns, steps * depth)
    (left, one), (right, two) = laid_out(a, kind, mode, trans_a), laid_out(b, kind, mode, trans_b)
    base = -(-len(left) // 1024) * 1024
    image = np.zeros(-(-(base + len(right)) // 2048) * 2048, np.uint8)
    image[: len(left)], image[base : base + len(right)] = left, right
    step = [16 * WIDTH[mode] if transposed else 32 for transposed in (trans_a, trans_b)]
    moves = [(k * step[0], k * step[1]) for k in range(steps)]
    given, flags = (), "" if kind == "tf32" else f", {trans_a}, {trans_b}"
    if from_registers:
        flags = "" if kind == "tf32" else f", {trans_b}"
        parts = [a[:, k * depth : (k + 1) * depth] for k in range(steps)]
        given = np.concatenate([
            np.concatenate([fragment(part[16 * w : 16 * w + 16], kind) for w in range(4)], 1)
            for part in parts
        ])  # fmt: skip
    got = group_product(kind, columns, depth, image, (one, two + (base >> 4)), moves, given, flags)
    near(got, a @ b.T, np.abs(a) @ np.abs(b.T))
