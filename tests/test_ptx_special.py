"""What the emulator of PTX does beyond arithmetic, against numpy: memory, atomics, shuffles,
votes, copies, control and parameters."""

from __future__ import annotations

import operator
from functools import reduce

import numpy as np
import pytest
import torch

pytest.importorskip("triton")
from hand_written_ptx import REGISTER, kernel, lanes, run, tensor, vector, words
from ptx_emulator.compilation import has_compiler
from ptx_emulator.ptx import BITS

pytestmark = pytest.mark.skipif(not has_compiler(), reason="takes gcc, or what CC names")

MEMORY = [
    (kind, wide, count)
    for kind in BITS if kind not in ("pred", "f16", "bf16")
    for wide in REGISTER if wide >= BITS[kind] and (kind[0] != "f" or wide == BITS[kind])
    for count in (1, 2, 4, 8) if count * BITS[kind] <= 256 and (count < 8 or BITS[kind] == 32)
]  # fmt: skip


@pytest.mark.parametrize("space", ["global", "shared"])
def test_memory_in_vectors_and_in_wider_registers(space, rng):
    """Registers are cut off when stored, and filled up, by the sign of signed types, by loads."""
    given = words(rng, 8, 32, bits=64)
    memory = torch.zeros(len(MEMORY), 32, 32, dtype=torch.uint8)
    loaded = torch.zeros(len(MEMORY), 8, 32, dtype=torch.int64)
    lines = ["mad.lo.s64 %a0, %w, 8, %a0;\nmad.lo.s64 %a1, %w, 32, %a1;"]
    lines.append("mad.lo.s64 %a2, %w, 8, %a2;\nshl.b32 %r30, %t, 5;")
    place, base = ("[%a1+{}]", "[%r30+{}]")[space == "shared"], 1024 * (space == "global")
    for case, (kind, wide, count) in enumerate(MEMORY):
        names = [f"%{REGISTER[wide]}{k}" for k in range(count)]
        form = f"{space}{f'.v{count}' if count > 1 else ''}.{kind}"
        if space == "shared":
            lines += [f"st.shared.v4.b32 [%r30+{k}], {{0, 0, 0, 0}};" for k in (0, 16)]
        lines += [f"ld.global.b{wide} {name}, [%a0+{256 * k}];" for k, name in enumerate(names)]
        lines.append(f"st.{form} {place.format(base * case)}, {vector(names)};")
        lines.append(f"ld.{form} {vector(names)}, {place.format(base * case)};")
        lines += [
            f"st.global.b{wide} [%a2+{256 * (8 * case + k)}], {name};"
            for k, name in enumerate(names)
        ]
        if space == "shared":
            for k in (0, 16):
                lines.append(f"ld.shared.v4.b32 {{%r31, %r32, %r33, %r34}}, [%r30+{k}];")
                to = f"[%a1+{1024 * case + k}]"
                lines.append(f"st.global.v4.b32 {to}, {{%r31, %r32, %r33, %r34}};")
    run(kernel("\n".join(lines), parameters=3), tensor(given), memory, loaded, shared=1024)
    for case, (kind, wide, count) in enumerate(MEMORY):
        part = f"{'i' if kind[0] == 's' else 'u'}{BITS[kind] // 8}"
        kept = given[:count].astype(f"u{BITS[kind] // 8}")
        want = np.zeros((32, 32), np.uint8)
        want[:, : count * BITS[kind] // 8] = np.ascontiguousarray(kept.T).view(np.uint8)
        assert np.array_equal(memory[case].numpy(), want), MEMORY[case]
        own = loaded[case, :count].numpy().astype(f"u{wide // 8}")
        filled = kept.view(part).astype(f"{part[0]}{wide // 8}").view(f"u{wide // 8}")
        assert np.array_equal(own, filled), MEMORY[case]


def test_memory_that_is_cached_in_some_way_and_parts_that_are_not_wanted(rng):
    given = words(rng, 4, 32)
    body = """setp.ne.s32 %p0, 0, 0;
        ld.volatile.global.b32 %r1, [%a0];
        ld.global.nc.L1::evict_last.b32 %r2, [%a0+128];
        ld.relaxed.gpu.global.ca.b32 %r3, [%a0+256];
        @%p0 st.global.b32 [%a1], 7;
        shl.b32 %r30, %t, 4;
        st.shared::cta.v4.b32 [%r30], {%r1, %r2, %r3, 258};
        .pragma "used_bytes_mask 0xf0f0";
        ld.shared.v4.b32 {%r4, %r5, %r6, %r7}, [%r30];
        ld.shared.v2.b32 {_, %r8}, [%r30+8];"""
    got = lanes(body, given, ["%r5", "%r7", "%r8"], shared=512)
    assert np.array_equal(got, [given[1], np.full(32, 258), np.full(32, 258)])


ATOMICS = [
    *((op, kind) for op in ("min", "max") for kind in ("u32", "s32", "u64", "s64")),
    *(("add", kind) for kind in ("u32", "s32", "u64", "f32", "f64")),
    *((op, kind) for op in ("and", "or", "xor", "exch", "cas") for kind in ("b32", "b64")),
]
FOLD = {"add": operator.add, "and": operator.and_, "or": operator.or_, "xor": operator.xor}
FOLD |= {"min": np.minimum, "max": np.maximum, "exch": lambda old, new: new}


@pytest.mark.parametrize("space", ["global", "shared"])
@pytest.mark.parametrize("op, kind", ATOMICS)
def test_atomics(space, op, kind, rng):
    bits = BITS[kind]
    of = {"s": "i", "f": "f"}.get(kind[0], "u") + str(bits // 8)
    held, new = words(rng, 2, 32, bits=bits)
    if kind[0] == "f":
        held, new = rng.normal(size=(2, 32)).astype(of).view(f"u{bits // 8}")
    compare = np.where(rng.random(32) < 0.5, held, new)
    one, step = REGISTER[bits], bits // 8
    where = "%a3" if space == "global" else "%r30"
    extra = f"%{one}3, %{one}2" if op == "cas" else f"%{one}2"
    body = f"""add.s64 %a3, %a1, {32 * step};
        mul.lo.s32 %r30, %t, {step};
        st.{space}.b{bits} [{where}], %{one}1;
        atom.{space}.gpu.acq_rel.{op}.{kind} %{one}4, [{where}], {extra};
        ld.{space}.b{bits} %{one}5, [{where}];
        st.{space}.b{bits} [{where}], %{one}1;
        {"" if op in ("exch", "cas") else f"red.{space}.relaxed.{op}.{kind} [{where}], {extra};"}
        ld.{space}.b{bits} %{one}6, [{where}];"""
    names = [f"%{one}{k}" for k in (4, 5, 6)]
    old, now, reduced = lanes(body, np.stack([held, new, compare]), names, bits=bits, shared=256)
    if op == "cas":
        want = np.where(held == compare, new, held)
    else:
        want = FOLD[op](held.view(of), new.view(of)).view(f"u{bits // 8}")
    assert np.array_equal(old, held)
    assert np.array_equal(now, want)
    assert np.array_equal(reduced, held if op in ("exch", "cas") else want)


def shuffled(mode, value, lane_or_delta, clamp):
    """As the ISA writes it."""
    out, valid = np.zeros_like(value), np.zeros_like(value)
    for lane in range(32):
        b, limit, segment = int(lane_or_delta[lane]) & 31, clamp & 31, clamp >> 8 & 31
        most, least = lane & segment | limit & ~segment, lane & segment
        j = {"up": lane - b, "down": lane + b, "bfly": lane ^ b}.get(mode, least | b & ~segment)
        valid[lane] = j >= most if mode == "up" else j <= most
        out[lane] = value[j if valid[lane] else lane]
    return out, valid


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
def test_shuffles(mode, rng):
    given = words(rng, 2, 32)
    clamps = [(32 - width) << 8 | (0 if mode == "up" else 31) for width in (32, 16, 8, 2, 1)]
    clamps += [0x1B, 0x1807, 0x0A13]
    for clamp in clamps:
        for given[1] in (rng.integers(0, 64, 32), np.full(32, rng.integers(32))):
            body = f"shfl.sync.{mode}.b32 %r3|%p1, %r1, %r2, {clamp}, -1;\nselp.b32 %r4, 1, 0, %p1;"
            body += f"\nshfl.sync.{mode}.b32 %r1, %r1, %r2, {clamp:#x}, 0xffffffff;"
            value, valid, again = lanes(body, given, ["%r3", "%r4", "%r1"])
            want, stayed = shuffled(mode, given[0], given[1], clamp)
            assert np.array_equal(valid, stayed)
            assert np.array_equal(value, want)
            assert np.array_equal(again, want)


def test_reductions_and_votes_of_the_lanes_that_take_part(rng):
    given = words(rng, 2, 32)
    member = rng.random(32) < 0.7
    member[rng.integers(32)] = True
    given[1] = np.where(rng.random(32) < rng.choice([0.1, 0.9, 1, 0]), 1, 0)
    mask = int(sum(1 << int(k) for k in np.flatnonzero(member)))
    forms = [f"{op}.{kind}" for op in ("min", "max", "add") for kind in ("s32", "u32")]
    forms += ["and.b32", "or.b32", "xor.b32"]
    body = [f"shr.u32 %r30, {mask:#x}, %t;\nand.b32 %r30, %r30, 1;\nsetp.ne.s32 %p1, %r30, 0;"]
    body += ["setp.ne.s32 %p2, %r2, 0;"]
    body += [f"mov.b32 %r{10 + k}, 77;" for k in range(12)]
    body += [f"@%p1 redux.sync.{form} %r{10 + k}, %r1, {mask:#x};" for k, form in enumerate(forms)]
    body += [
        f"@%p1 vote.sync.{form}.pred %p{3 + k}, %p2, {mask:#x};\n"
        f"@%p1 selp.b32 %r{19 + k}, 1, 0, %p{3 + k};"
        for k, form in enumerate(("any", "all"))
    ]
    body += [f"@%p1 vote.sync.ballot.b32 %r21, %p2, {mask:#x};\n@%p1 bar.warp.sync {mask:#x};"]
    got = lanes("\n".join(body), given, [f"%r{10 + k}" for k in range(12)])
    value, flag = given[0][member], given[1][member] == 1
    want = []
    for form in forms:
        op, kind = form.split(".")
        signed = value.view("i4" if kind == "s32" else "u4").astype(object)
        fold = reduce(FOLD[op], signed)
        want.append(int(fold) & 0xFFFFFFFF)
    ballot = sum(1 << int(k) for k in np.flatnonzero(member & (given[1] == 1)))
    want += [flag.any(), flag.all(), ballot]
    assert np.array_equal(got[:, member], np.repeat(np.array([want], np.uint32).T, member.sum(), 1))
    assert (got[:, ~member] == 77).all()


def test_copies_fill_up_with_zeros_and_arrive_when_they_are_waited_for(rng):
    """Lane by lane: a group of 16 bytes of which some are read, then one of 8 and 4 bytes."""
    image, taken = words(rng, 32, 8), rng.integers(0, 17, 32).astype("u4")
    out = torch.zeros(32, 16, dtype=torch.int32)
    body = """shl.b32 %r30, %t, 5;
        mad.lo.s64 %a0, %w, 32, %a0;
        mad.lo.s64 %a3, %w, 4, %a2;
        mad.lo.s64 %a1, %w, 64, %a1;
        ld.global.b32 %r29, [%a3];
        cp.async.cg.shared.global [%r30], [%a0], 16, %r29;
        cp.async.commit_group;
        cp.async.ca.shared.global [%r30+16], [%a0+16], 0x8;
        cp.async.ca.shared.global [%r30+24], [%a0+24], 4;
        cp.async.ca.shared.global [%r30+28], [%a0+28], 4, 0;
        cp.async.commit_group;
        cp.async.wait_group 1;
        ld.shared.v4.b32 {%r1, %r2, %r3, %r4}, [%r30];
        cp.async.wait_group 0;
        ld.shared.v4.b32 {%r5, %r6, %r7, %r8}, [%r30+16];
        st.global.v4.b32 [%a1], {%r1, %r2, %r3, %r4};
        st.global.v4.b32 [%a1+16], {%r5, %r6, %r7, %r8};
        cp.async.cg.shared.global [%r30], [%a0+16], 16;
        cp.async.wait_all;
        ld.shared.v4.b32 {%r1, %r2, %r3, %r4}, [%r30];
        st.global.v4.b32 [%a1+32], {%r1, %r2, %r3, %r4};"""
    run(kernel(body, parameters=3), tensor(image), out, tensor(taken), shared=1024)
    want = image.copy()
    bytes_of = want.view(np.uint8)
    bytes_of[:, :16][np.arange(16) >= taken[:, None]] = 0
    want[:, 7] = 0
    got = out.numpy().view("u4")
    assert np.array_equal(got[:, :8], want)
    assert np.array_equal(got[:, 8:12], image[:, 4:])


def test_lanes_part_meet_again_and_leave(rng):
    """A loop whose length is a lane's own inside of a choice; then all shuffle, and some return."""
    given = rng.integers(1, 30, (2, 32)).astype("u4")
    body = """setp.gt.u32 %p1, %r1, 15;
        mov.b32 %r3, 0;
        mov.b32 %r4, %r2;
        @%p1 bra $upper;
    $loop:
        add.s32 %r3, %r3, %r4;
        sub.s32 %r4, %r4, 1;
        setp.ne.s32 %p2, %r4, 0;
        @%p2 bra $loop;
        bra.uni $meet;
    $upper:
        mov.b32 %r3, 1000;
        @!%p1 mov.b32 %r3, 7;
        @%p1 add.s32 %r3, %r3, 1;
    $meet:
        shfl.sync.bfly.b32 %r5, %r3, 1, 31, -1;
        st.global.b32 [%a1], %r3;
        @!%p1 ret;
        st.global.b32 [%a1], 5;"""
    got = lanes(body, given, ["%r3", "%r5"])
    x, y = given
    want = np.where(x > 15, 1001, y * (y + 1) // 2)
    assert np.array_equal(got[0], want)
    assert np.array_equal(got[1], np.where(x > 15, want[np.arange(32) ^ 1], 0))
