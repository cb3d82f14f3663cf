"""Kernels in PTX, written by hand, to run in the emulator."""

from __future__ import annotations

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
