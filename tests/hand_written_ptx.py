"""Kernels in PTX, written by hand, to run in the emulator."""

from __future__ import annotations

import numpy as np
import torch
from ptx_emulator import Emulator

REGISTER = {16: "h", 32: "r", 64: "d"}


def kernel(body: str, threads: int = 32, parameters: int = 2, registers: str = "") -> str:
    """PTX of a kernel that gets addresses in %a0, %a1, ..., and in %t its thread's number."""
    names = [f"one_param_{k}" for k in range(parameters)]
    loads = "\n".join(f"ld.param.b64 %a{k}, [{name}];" for k, name in enumerate(names))
    head = ", ".join(f".param .u64 .ptr .global .align 1 {name}" for name in names)
    return (
        ".version 8.0\n.target sm_90\n.extern .shared .align 16 .b8 global_smem[];\n"
        f".visible .entry one({head})\n.reqntid {threads}\n{{\n"
        ".reg .pred %p<9>;\n.reg .b16 %h<9>;\n.reg .b32 %r<40>;\n.reg .b64 %d<9>;\n"
        f".reg .b64 %a<9>;\n.reg .b32 %t;\n.reg .b64 %w;\n{registers}\n{loads}\n"
        f"mov.u32 %t, %tid.x;\ncvt.u64.u32 %w, %t;\n{body}\nret;\n}}\n"
    )


def run(ptx: str, *tensors: torch.Tensor, shared: int = 0) -> None:
    with Emulator("sm_90", "random") as emulator:
        emulator.run_ptx(ptx, *tensors, shared=shared)
    emulator.assert_clean()


def words(rng, *shape, bits=32):
    return rng.integers(0, 256, (*shape, bits // 8), np.uint8).view(f"u{bits // 8}")[..., 0]


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array).view(np.uint8).reshape(-1).copy())


def lanes(body, given, results, threads=32, bits=32, shared=0, registers=""):
    """Each row of what is given is in %r1, %r2, ... (or %d1, ... of 64 bits); what the registers
    with these names hold after the body, as rows."""
    one, size, count = REGISTER[bits], bits // 8, threads * bits // 8
    loads = [f"ld.global.b{bits} %{one}{k + 1}, [%a0+{count * k}];" for k in range(len(given))]
    stores = [f"st.global.b{bits} [%a1+{count * k}], {name};" for k, name in enumerate(results)]
    start = f"mad.lo.s64 %a0, %w, {size}, %a0;\nmad.lo.s64 %a1, %w, {size}, %a1;"
    code = "\n".join([start, *loads, body, *stores])
    out = torch.zeros(len(results) * count, dtype=torch.uint8)
    given = given if len(given) else np.zeros((1, threads), f"u{size}")
    run(kernel(code, threads, registers=registers), tensor(given), out, shared=shared)
    return out.numpy().view(f"u{size}").reshape(len(results), threads)


def vector(names):
    return names[0] if len(names) == 1 else "{" + ", ".join(names) + "}"
