"""What is compiled ahead of time: calls of launchers, on tensors of the meta device, which have
shapes, strides and types, and no data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from immiscible_fast.kernels.gpu import streaming
from immiscible_fast.kernels.gpu.augment import augment_rows, restart_where_huge
from immiscible_fast.kernels.gpu.certificate import Proof, certificate
from immiscible_fast.kernels.gpu.pairwise import pairwise
from immiscible_fast.kernels.gpu.problems import Problems
from immiscible_fast.kernels.gpu.sinkhorn import sinkhorn
from immiscible_fast.kernels.gpu.statistics import statistics
from immiscible_fast.kernels.gpu.workspace import Workspace, grow_forests, start_matching

# Which targets a case is compiled for: all, one of each maker and generation that the emulator or
# the assembler tells apart, the one that matters most, or none unless asked for (``make aot``).
EVERYWHERE, SOME, MAIN, RARE = "everywhere", "some", "main", "rare"


@dataclass(frozen=True)
class Case:
    name: str
    call: Callable[[], object]
    where: str = MAIN


empty = partial(torch.empty, device="meta")

TYPES = {
    "fp16": (torch.float16, "ieee"),
    "bf16": (torch.bfloat16, "ieee"),
    "tf32": (torch.float32, "tf32"),
    "tf32x3": (torch.float32, "tf32x3"),
    "ieee": (torch.float32, "ieee"),
    "rounded": (torch.float32, "bf16"),
}


def costs(
    arithmetic: str,
    batch: int = 1,
    n: int = 4096,
    D: int = 3072,
    *,
    metric: str = "sqeuclidean",
    out: torch.dtype = torch.float32,
    shifted: bool = False,
    transposed: bool = False,
    grouped: bool = False,
) -> None:
    dtype, precision = TYPES[arithmetic]
    x = empty(batch, n, D, dtype=dtype)
    y = empty(batch, D, n, dtype=dtype).mT if transposed else empty(batch, n, D, dtype=dtype)
    shift = empty(batch, D) if shifted else None
    group = empty(n, dtype=torch.int32) if grouped else None
    pairwise(
        x, y, empty(batch, n, n, dtype=out),
        metric=metric, precision=precision, shift_x=shift, shift_y=shift, group=group,
    )  # fmt: skip


def pairwise_cases() -> Iterator[Case]:
    for name in TYPES:

        def case(what, where=RARE, *sizes, name=name, **options):
            return Case(f"pairwise {name} {what}", partial(costs, name, *sizes, **options), where)

        often = MAIN if name in ("fp16", "ieee") else RARE
        mostly = RARE if name in ("bf16", "tf32") else MAIN
        yield case("4096", MAIN if name in ("bf16", "rounded") else EVERYWHERE)
        yield case("shifted", mostly, shifted=True)
        yield case("shifted, long", mostly, 1, 4096, 49152, shifted=True)  # too long for a copy
        yield case("1024", often, 1, 1024)
        yield case("208x300", often, 208, 300)
        yield case("64, D=100", often, 1, 64, 100)
        yield case("D=257", RARE, 1, 4096, 257)
        yield case("odd, long", mostly, 1, 1023, 49151)
        yield case("odd, long, shifted", RARE, 1, 1023, 49151, shifted=True)
        yield case("one", often, 1, 1, 1)
        yield case("D=2", RARE, 1, 4096, 2)
        yield case("D=2, many", RARE, 1, 65536, 2)
        yield case("D=49156", RARE, 1, 1024, 49156)
        yield case("odd", RARE, 3, 1023, 3071)
        yield case("to fp16", RARE, out=torch.float16)
        yield case("to fp16, odd, long", RARE, 3, 1023, 49151, out=torch.float16)
        yield case("transposed", RARE, transposed=True)
        yield case("transposed, long", often, 1, 4096, 49152, transposed=True)
        yield case("cosine, long", often, 1, 4096, 49152, metric="cosine")
        yield case("grouped", often, grouped=True)
        for metric in ("dot", "euclidean", "cosine"):
            yield case(metric, metric=metric)
    manhattan = partial(costs, metric="manhattan")
    yield Case("pairwise manhattan", partial(manhattan, "ieee"), EVERYWHERE)
    yield Case("pairwise manhattan shifted", partial(manhattan, "ieee", shifted=True), RARE)
    yield Case("pairwise manhattan fp16", partial(manhattan, "fp16"), RARE)
    yield Case("pairwise manhattan 64", partial(manhattan, "fp16", 1, 64, 100), RARE)


def solve(
    batch: int,
    n: int,
    m: int,
    dtype: torch.dtype = torch.float32,
    *,
    grouped: bool = False,
    spread: tuple[bool, ...] = (),
) -> None:
    """All stages of a solve, in the order of the backend's, near-optimal and exact. Whether forests
    are exact that are ``spread`` is told; they take the compiler long."""
    ranges = [empty(batch * n, dtype=torch.int32) for _ in range(2)] if grouped else ()
    problems = Problems(empty(batch, n, m, dtype=dtype), *ranges)
    units, start = statistics(problems)
    price = sinkhorn(problems, units, start)
    work, proof = Workspace.of(problems, price), Proof.empty(problems)
    wanted = torch.ones_like(units.flags)
    for exact in (False, True):
        start_matching(problems, units, work, wanted, exact=exact)
        left = grow_forests(problems, units, work, wanted, exact=exact, spread=exact in spread)
    certificate(problems, units, price, work.column, proof, wanted, left, 0.01)
    augment_rows(problems, units, work, wanted)
    restart_where_huge(problems, units, work, wanted)


def solver_cases() -> Iterator[Case]:
    def case(name: str, *sizes: int, where=RARE, **options) -> Case:
        return Case(f"solve {name}", partial(solve, *sizes, **options), where)

    yield case("4096", 1, 4096, 4096, where=SOME)
    yield case("4096, spread", 1, 4096, 4096, spread=(True,))
    yield case("600, spread", 1, 600, 600, spread=(True, False))
    yield case("1000x4000, spread", 1, 1000, 4000, spread=(True,))
    yield case("1024", 1, 1024, 1024)
    yield case("208x300", 208, 300, 300, where=MAIN)
    yield case("16384", 1, 16384, 16384)
    yield case("groups", 1, 4096, 4096, grouped=True, where=MAIN)
    yield case("1000x4000", 1, 1000, 4000, where=MAIN)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        where = MAIN if dtype == torch.float64 else RARE
        yield case(f"4096 {dtype}", 1, 4096, 4096, dtype=dtype, where=where)


def stream(arithmetic: str, n: int, m: int, D: int, *, root: bool = False) -> None:
    """All passes of streaming over ``n`` rows."""
    dtype, precision = TYPES[arithmetic]
    x, y = (streaming.padded(empty(size, D, dtype=dtype)) for size in (n, m))
    costs = streaming.Product(x, y, empty(n), empty(m), 2.0, root, 1.0, precision)
    price, limit = empty(m), empty(n)
    if precision != "tf32x3":  # prices take no such care
        streaming.column_masses(costs, price, streaming.row_sums(costs, price, 0.1), 0.1)
    streaming.minima(costs, price, 65, streaming.sampled(m))
    streaming.collect(costs, price, limit)


def streaming_cases() -> Iterator[Case]:
    for name in (name for name in TYPES if name != "rounded"):  # streaming rounds nothing
        where = {"fp16": SOME, "bf16": RARE, "tf32": RARE}.get(name, MAIN)
        yield Case(f"streaming {name}", partial(stream, name, 32768, 131072, 3072), where)
        root = partial(stream, name, 64, 65536, 100, root=True)
        yield Case(f"streaming {name}, few rows", root, MAIN if name == "tf32x3" else RARE)


CASES = (pairwise_cases, solver_cases, streaming_cases)
