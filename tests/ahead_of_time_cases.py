"""What is compiled ahead of time: functions that give (name, call[, everywhere]).

Tensors are on the meta device: they have shapes, strides and types, and no data.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from immiscible_fast.kernels.gpu.pairwise import pairwise

empty = partial(torch.empty, device="meta")


TYPES = {
    "fp16": (torch.float16, "ieee"),
    "bf16": (torch.bfloat16, "ieee"),
    "tf32": (torch.float32, "tf32"),
    "tf32x3": (torch.float32, "tf32x3"),
    "ieee": (torch.float32, "ieee"),
}


def costs(
    dtype, precision, batch, n, D, metric="sqeuclidean", shift=False, out=torch.float32, **more
):
    x, y = empty(batch, n, D, dtype=dtype), empty(batch, n, D, dtype=dtype)
    if shift:
        more |= {"shift_x": empty(batch, D), "shift_y": empty(batch, D)}
    pairwise(x, y, empty(batch, n, n, dtype=out), metric=metric, precision=precision, **more)


def pairwise_cases() -> Iterator[tuple[Any, ...]]:
    for name, (dtype, precision) in TYPES.items():
        for batch, n, D in (
            (1, 4096, 3072),
            (1, 1024, 3072),
            (208, 300, 3072),
            (1, 64, 100),
            (1, 4096, 257),
        ):
            call = partial(costs, dtype, precision, batch, n, D)
            yield f"pairwise {name} {batch}x{n}x{D}", call, name in ("fp16", "tf32") and n == 4096
        yield f"pairwise {name} shift", partial(costs, dtype, precision, 1, 4096, 3072, shift=True)
        yield (
            f"pairwise {name} cosine",
            partial(costs, dtype, precision, 1, 4096, 3072, metric="cosine"),
        )
    yield (
        "pairwise manhattan",
        partial(costs, torch.float32, "ieee", 1, 4096, 3072, metric="manhattan"),
    )


CASES = (pairwise_cases,)
