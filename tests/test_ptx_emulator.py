"""What the emulator finds: each fault in a minimal kernel, and nothing in what mends it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")
import triton
from hand_written_ptx import kernel
from ptx_emulator import ORDERS, Emulator, with_gaps
from ptx_emulator.__main__ import main
from ptx_emulator.compilation import has_compiler
from ptx_emulator.findings import KINDS, NOTES, FoundError
from triton import language as tl

import immiscible_fast

pytestmark = pytest.mark.skipif(not has_compiler(), reason="takes gcc, or what CC names")

ROOT = Path(__file__).parent.parent
FIRST, SECOND = "setp.eq.s32 %p1, %t, 0;\n", "setp.ge.s32 %p1, %t, 32;\n"
LOW = "and.b32 %r1, %t, 31;\nsetp.lt.s32 %p1, %r1, 16;\n"  # half of each warp
OWN = "shl.b32 %r30, %t, 2;\nst.shared.b32 [%r30], %t;\n"
OTHER = "xor.b32 %r31, %r30, {};\nld.shared.b32 %r1, [%r31];"
SEEN, FENCE = "fence.proxy.async.shared::cta;", "wgmma.fence.sync.aligned;"
WAIT = "wgmma.wait_group.sync.aligned 0;"
FRAGMENTS = "{%r1, %r2, %r3, %r4}, {%t, %t, %t, %t}"
PRODUCT = f"""{FIRST}setp.ne.s32 %p0, 0, 0;
shl.b32 %r30, %t, 4;
st.shared.v4.b32 [%r30], {{0, 0, 0, 0}};
{SEEN}
bar.sync 0;
mov.b64 %d0, 0x4000004000000000;
mov.b32 %r1, 0; mov.b32 %r2, 0; mov.b32 %r3, 0; mov.b32 %r4, 0;
{FENCE}
wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {FRAGMENTS}, %d0, %p0, 1, 1, 0;
wgmma.commit_group.sync.aligned;
{WAIT}
@%p1 st.global.b32 [%a1], %r1;"""
COPY = "shl.b32 %r30, %t, 2;\ncp.async.ca.shared.global [%r30], [%a0], 4;\n"

# (kind, a faulty body, what mends it); %a0 has 64 integers, %a1 as many; two warps, two programs.
FAULTS = [
    ("RACE_WARPS", OWN + OTHER.format(128), OWN + "bar.sync 0;\n" + OTHER.format(128)),
    ("RACE_LANES", OWN + OTHER.format(4), OWN + "bar.warp.sync -1;\n" + OTHER.format(4)),
    ("RACE_PROGRAMS", FIRST + "mov.b32 %r1, %ctaid.x;\n@%p1 st.global.b32 [%a1], %r1;",
     FIRST + "@%p1 red.global.add.u32 [%a1], 1;"),
    ("SAME_VALUE", "st.shared.b32 [global_smem], 7;",
     FIRST + "@%p1 st.shared.b32 [global_smem], 7;"),
    ("UNINITIALISED", "shl.b32 %r30, %t, 2;\n" + OTHER.format(0), OWN + OTHER.format(0)),
    ("UNDEFINED_REGISTER", "@%p1 bra $end;\n$end:", FIRST + "@%p1 bra $end;\n$end:"),
    ("UNDEFINED_REGISTER", "ld.global.b32 %r1, [%d1];",
     "mov.b64 %d1, %a0;\nld.global.b32 %r1, [%d1];"),
    ("UNDEFINED_REGISTER", FIRST + "selp.b32 %r1, %r2, 7, %p1;\nred.global.add.u32 [%a1], %r1;",
     "setp.lt.s32 %p1, %t, 0;\nselp.b32 %r1, %r2, 7, %p1;\nred.global.add.u32 [%a1], %r1;"),
    ("OUT_OF_BOUNDS", "ld.global.b32 %r1, [%a0+256];", "ld.global.b32 %r1, [%a0+252];"),
    ("OUT_OF_BOUNDS", "st.shared.b32 [global_smem+2048], %t;", OWN),
    ("MISALIGNED", "ld.global.b32 %r1, [%a0+2];", "ld.global.b16 %h1, [%a0+2];"),
    ("MISALIGNED", "ld.global.v2.b32 {%r1, %r2}, [%a0+4];",
     "ld.global.v2.b32 {%r1, %r2}, [%a0+8];"),
    ("DIVERGENT_BRANCH", LOW + "@%p1 bra $end;\nadd.s32 %r1, %r1, 1;\n$end:",
     SECOND + "@%p1 bra $end;\nadd.s32 %r1, %t, 1;\n$end:"),
    ("DIVERGENT_SYNC", LOW + "@%p1 shfl.sync.bfly.b32 %r1, %t, 1, 31, -1;",
     LOW + "@%p1 shfl.sync.bfly.b32 %r1, %t, 1, 31, 65535;"),
    ("DIVERGENT_SYNC", LOW + "@%p1 shfl.sync.bfly.b32 %r1, %t, 16, 31, 65535;",
     "shfl.sync.bfly.b32 %r1, %t, 16, 31, -1;"),
    ("DIVERGENT_BARRIER", LOW + "@%p1 bar.sync 0;", "bar.sync 0;"),
    ("MIXED_BARRIER", SECOND + "@%p1 bra $other;\nbar.sync 0;\nret;\n$other:\nbar.sync 0;",
     SECOND + "@%p1 bra $other;\n$other:\nbar.sync 0;"),
    ("EXITED_BARRIER", SECOND + "@%p1 ret;\nbar.sync 0;", SECOND + "bar.sync 0;\n@%p1 ret;"),
    ("DEADLOCK", "$again:\nbra.uni $again;",
     "mov.b32 %r1, 9;\n$again:\nsub.s32 %r1, %r1, 1;\nsetp.ne.s32 %p1, %r1, 0;\n@%p1 bra $again;"),
    ("IN_FLIGHT", COPY, COPY + "cp.async.wait_all;"),
    ("UNINITIALISED", COPY + "ld.shared.b32 %r1, [%r30];",
     COPY + "cp.async.wait_all;\nld.shared.b32 %r1, [%r30];"),
]  # fmt: skip


def kinds(body, order="random", threads=64, grid=(2,)):
    given, out = torch.arange(64, dtype=torch.int32), torch.zeros(64, dtype=torch.int32)
    with Emulator("sm_90", order, limit=5000) as emulator:
        emulator.run_ptx(kernel(body, threads), given, out, grid=grid, shared=2048)
    return {one.kind for one in emulator.findings.count}


@pytest.mark.parametrize("kind, faulty, mended", FAULTS)
def test_a_fault_is_found_in_every_order_and_not_where_it_is_mended(kind, faulty, mended):
    shown = [kinds(faulty, order) for order in ORDERS]
    assert kind in shown[0]
    assert all(found == shown[0] for found in shown)
    for order in ORDERS:
        found = kinds(mended, order)
        assert kind not in found and found <= NOTES, found


def test_a_launch_ends_at_its_first_error():
    given, out = torch.arange(64, dtype=torch.int32), torch.zeros(64, dtype=torch.int32)
    body = OWN + OTHER.format(128) + "\n$again:\nbra.uni $again;"
    with Emulator("sm_90", stop=True) as emulator, pytest.raises(FoundError, match="UNINIT"):
        emulator.run_ptx(kernel(body, 64), given, out, shared=2048)
    assert {one.kind for one in emulator.findings.errors} == {"UNINITIALISED"}


@pytest.mark.parametrize("kind, without", [
    ("MISSING_FENCE", SEEN), ("MISSING_FENCE", FENCE), ("IN_FLIGHT", WAIT),
    ("UNDEFINED_REGISTER", WAIT),
])  # fmt: skip
def test_asynchronous_products(kind, without):
    for order in ORDERS:
        assert kind in kinds(PRODUCT.replace(without, ""), order, 128, (1,))
        assert kinds(PRODUCT, order, 128, (1,)) == set()


def test_every_kind_is_provoked_and_explained():
    elsewhere = {"OUT_OF_VIEW", "READ_ONLY_WRITE", "MISSING_FENCE"}
    assert {kind for kind, *_ in FAULTS} | elsewhere == set(KINDS)
    table = [line for line in (ROOT / "tests/ptx_emulator/README.md").read_text().split("\n")
             if line.startswith("|")]  # fmt: skip
    assert set(re.findall(r"`([A-Z_]+)`", "".join(table))) == set(KINDS)
    notes = next(line for line in table if line.startswith("| notes"))
    assert set(re.findall(r"`([A-Z_]+)`", notes)) == NOTES


def test_a_write_through_a_pointer_that_came_from_memory():
    for pointer, kinds_of_it in (("%d1", ["READ_ONLY_WRITE"]), ("%a0", [])):
        target, table = torch.zeros(4, dtype=torch.int32), torch.zeros(2, dtype=torch.int64)
        table[0] = target.data_ptr()
        body = FIRST + f"ld.global.b64 %d1, [%a1];\n@%p1 st.global.b32 [{pointer}], 1;"
        with Emulator() as emulator:
            emulator.run_ptx(kernel(body), target, table)
        assert [one.kind for one in emulator.findings.errors] == kinds_of_it
        assert target.sum() == (not kinds_of_it)


@triton.jit
def row_sums(x_ptr, out_ptr, stride, columns, BLOCK: tl.constexpr):
    o_columns = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + tl.program_id(0) * stride + o_columns, mask=o_columns < columns, other=0)
    tl.store(out_ptr + tl.program_id(0), tl.sum(x))


def sums(x, columns=200, **options):
    out = torch.zeros(len(x))
    with Emulator("sm_90", **options) as emulator:
        row_sums[(len(x),)](x, out, x.stride(0), columns, BLOCK=256)
    return emulator, out


@pytest.mark.parametrize("order", ORDERS)
def test_a_kernel_of_triton(order, rng):
    x = torch.from_numpy(rng.integers(-9, 9, (5, 200))).float()
    emulator, out = sums(with_gaps(x), order=order)
    emulator.assert_clean()
    assert out.equal(x.sum(1))
    (work,) = emulator.work.values()
    assert (work.launches, work.programs) == (1, 5)
    assert (work.bytes_read, work.bytes_written) == (5 * 200 * 4, 5 * 4)
    assert 4 * work.barriers == work.opcodes["bar.sync"] > 0
    assert "row_sums" in emulator.table()

    emulator, _ = sums(with_gaps(x), 208, order=order)
    assert {one.kind for one in emulator.findings.errors} == {"OUT_OF_VIEW"}
    emulator, _ = sums(x, 208, order=order)  # past the last row only; and that is what is stored
    found = {one.kind for one in emulator.findings.errors}
    assert found == {"OUT_OF_BOUNDS", "UNDEFINED_REGISTER"}


@triton.jit
def reversed_rows(x_ptr, out_ptr, BLOCK: tl.constexpr, ASKED: tl.constexpr):
    o_columns = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + o_columns)
    tl.store(x_ptr + o_columns, 2 * x)
    total = tl.sum(x, 0)  # has barriers of its own when it is compiled
    if ASKED:
        tl.debug_barrier()
    tl.store(out_ptr + o_columns, total + tl.load(x_ptr + BLOCK - 1 - o_columns))


@pytest.mark.parametrize("order", ORDERS)
def test_barriers_that_nobody_asked_for(order):
    for asked, asked_only in ((True, True), (False, False), (False, True)):
        x, out = torch.arange(256.0), torch.zeros(256)
        with Emulator("sm_90", order, asked_only=asked_only) as emulator:
            reversed_rows[(1,)](x, out, BLOCK=256, ASKED=asked)
        assert out.equal(torch.arange(256.0).sum() + x.flip(0))
        if asked or not asked_only:
            emulator.assert_clean()
            continue
        with pytest.raises(FoundError, match="RACE_WARPS reversed_rows"):
            emulator.assert_clean()
        for one in emulator.findings.errors:
            assert (one.kind, one.memory) == ("RACE_WARPS", "x_ptr")
            assert re.search(r"\.py:\d+$", one.here)


def test_counts():
    with Emulator() as emulator:
        for _ in range(2):
            out = torch.zeros(64, dtype=torch.int32)
            body = "bar.sync 0;\nmad.lo.s64 %a1, %w, 4, %a1;\nst.global.b32 [%a1], %t;\nbar.sync 0;"
            emulator.run_ptx(kernel(body, 64), out, out, grid=(3, 2, 1))
    work = emulator.work["one"]
    assert (work.launches, work.programs, work.barriers) == (2, 12, 24)
    assert work.instructions == 12 * 2 * (4 + 4 + 1)  # what a kernel begins with, body, ret
    assert (work.bytes_read, work.bytes_written) == (0, 12 * 64 * 4)
    assert work.sectors == 12 * 8
    assert work.opcodes["bar.sync"] == 12 * 2 * 2


def positions():
    return torch.randperm(8)


WRITES = {
    "fill_": lambda x: x.fill_(1),
    "zero_": lambda x: x.zero_(),
    "copy_": lambda x: x.copy_(torch.ones(8)),
    "index_put_": lambda x: x.index_put_((positions(),), torch.ones(8)),
    "item": lambda x: x.__setitem__(positions(), 1.0),
    "scatter_": lambda x: x.scatter_(0, positions(), 1.0),
    "out": lambda x: torch.add(torch.ones(8), 1, out=x),
    "random": lambda x: x.normal_(),
    "halves": lambda x: (x[:4].fill_(1), x[4:].fill_(1)),
    "larger type": lambda x: x.view(torch.float64).fill_(1),
    "smaller type": lambda x: x.view(torch.uint8).fill_(1),
    "strided": lambda x: (x.view(4, 2).T[0].fill_(1), x.view(2, 4).T[1::2].fill_(1)),
}


@pytest.mark.parametrize("write", WRITES)
def test_memory_that_torch_writes(write):
    """All of it is initialised then, and without that, nothing; what a launch writes counts too."""
    body = "rem.u32 %r1, %t, 8;\nmad.wide.u32 %a0, %r1, 4, %a0;\n{} [%a0]{};"
    load, store = body.format("ld.global.b32 %r2,", ""), body.format("st.global.b32", ", %r1")
    for make in (torch.empty, lambda n: torch.ones(n).new_empty(n),
                 lambda n: torch.empty_like(torch.ones(n))):  # fmt: skip
        with Emulator() as emulator:
            blank, part, written, launched = (make(8) for _ in range(4))
            part[:7] = 1
            WRITES[write](written)
            for x, n in ((blank, 1), (part, 1), (written, 0)):
                emulator.findings.count.clear()
                emulator.run_ptx(kernel(load), x, torch.zeros(1))
                assert [one.kind for one in emulator.findings.errors] == ["UNINITIALISED"] * n
            emulator.run_ptx(kernel(store), launched, torch.zeros(1))
            emulator.findings.count.clear()
            emulator.run_ptx(kernel(load), launched, torch.zeros(1))
        emulator.assert_clean()


SCRIPT = """
import sys
import torch, triton
import triton.language as tl

@triton.jit
def double(x_ptr, out_ptr, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)
    tl.store(out_ptr + o, 2 * tl.load(x_ptr + o))

def doubled(n):
    x, out = torch.arange(64.0), torch.empty(64)
    double[(1,)](x, out, BLOCK=n)
    assert out.equal(2 * x)

if __name__ == "__main__":
    doubled(int(sys.argv[1]))
"""


def test_the_command_on_a_script(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IMMISCIBLE_BACKEND", "triton")
    monkeypatch.setattr(sys, "argv", ["python"])
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    record = tmp_path / "counts" / "64.json"
    options = ["--target", "sm_80", "--opcodes", "--json", str(record)]
    assert main([str(script), "64", *options]) == 0
    counts = json.loads(record.read_text())
    assert counts["what"] == f"{script} 64" and counts["found"] == []
    assert [kernel["launches"] for kernel in counts["kernels"].values()] == [1]
    said = capsys.readouterr().out
    assert re.search(r"^double +1 +1 ", said, re.MULTILINE) and "nothing found" in said
    assert re.search(r"^ +4  st\.global\S*$", said, re.MULTILINE)
    assert main([str(script), "128"]) == 1
    assert re.search(r"OUT_OF_BOUNDS double script.py:\d+ in", capsys.readouterr().out)


@pytest.mark.parametrize("arguments, said", [
    (["nowhere.py"], "there is no nowhere.py"),
    ([__file__, "--target", "gfx942"], "target must be like sm_90, got 'gfx942'"),
    ([__file__, "--order", "sorted"], "invalid choice: 'sorted'"),
])  # fmt: skip
def test_what_the_command_refuses(arguments, said, capsys):
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert said in capsys.readouterr().err


def test_memory_that_a_public_call_allocates_is_followed(monkeypatch):
    """Also inside of the package's own ops, which a dispatch mode sees as one."""
    monkeypatch.setenv("IMMISCIBLE_BACKEND", "triton")
    with Emulator("sm_90") as emulator:
        immiscible_fast.pairwise_cost(torch.ones(3, 4), torch.ones(2, 4))
        written = [bool(fresh.cells["init"].all()) for fresh in emulator.memory.fresh.values()]
    assert written and all(written)
