"""The emulator's machine as Python sees it: its instructions and what they are given
(runtime/warp.h, runtime/handlers.h)."""

from __future__ import annotations

import ctypes

import numpy as np

from .forms import FORMS

OP = np.dtype(
    [
        *((name, np.uint32) for name in ("code", "line", "block", "guard", "negated")),
        ("target", np.uint32, 2),
        ("source", np.uint32, 4),
        *((name, np.int32) for name in "abcd"),
        *((name, np.uint32) for name in ("list", "n")),
    ]
)
PLAIN, SELECT, COPY = range(3)
ENTER, BRANCH, EXIT, BARRIER = range(4)
SPECIAL = (
    "parameter", "load", "store", "atomic", "unpack", "pack", "shuffle", "reduce", "vote",
    "warp_barrier", "nothing", "proxy_fence", "matrix", "multiply", "group_fence", "group_commit",
    "group_wait", "group_multiply", "copy", "copy_commit", "copy_wait",
)  # fmt: skip
CODES = {name: 4 + k for k, name in enumerate(SPECIAL)}
FORM_CODES = {name: 4 + len(SPECIAL) + k for k, name in enumerate(FORMS)}
WIDE, SHARED, SIGN = 1, 2, 4
ATOMICS = (
    "max.s", "min.s", "max.u", "min.u", "add", "or", "and", "xor", "exch", "cas", "add.f32",
    "add.f64",
)  # fmt: skip
FRAGMENTS = ("bf16", "f16", "tf32")
SPECIAL_REGISTERS = ("%tid.x", "%ctaid.x", "%ctaid.y", "%ctaid.z")
FIXED = {"%tid.y": 0, "%tid.z": 0}


class Program(ctypes.Structure):
    """``Program`` of runtime/warp.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("ops", "lists", "file")),
        *((name, ctypes.c_uint64) for name in ("file_bytes", "defined")),
        ("parameters", ctypes.c_void_p),
        *((name, ctypes.c_uint32) for name in ("warps", "thread_numbers")),
        ("program_number", ctypes.c_uint32 * 3),
    ]
