"""One assignment over ranks, beside the scheme of Immiscible Diffusion's own code.

    python -m bench.distributed                       # 1, 2, 4 and 8 processes on gloo
    python -m bench.distributed --ranks 2 --rows 64   # fewer, smaller

``measured``: each rank holds ``--rows`` images of ``--dim`` numbers in float32 and takes one
thread, and all of them share this machine's cores. Ways take turns, medians of a rank's time from
one barrier to the next. "official" gathers noise everywhere and distances to all, solves with SciPy
on rank 0 and sends each rank its slice in turn. Bytes are those that were handed to collectives.

``simulated``: what the counted bytes and operations would take on GPUs, with the assumed speeds of
``GPUS``; nothing of it was measured. Writes a record to bench/results/distributed/.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from immiscible_fast import assign_noise, fast_assign
from immiscible_fast.distributed.group import Group
from immiscible_fast.distributed.sharded import ROOM
from tests.ranks import launch

from . import problems, record, tables
from .turns import in_turns

GPUS: dict[str, float] = {  # assumed, of one GPU of a node of eight
    "bytes_per_s_in_node": 300e9,
    "bytes_per_s_between_nodes": 40e9,
    "latency_s_in_node": 3e-6,
    "latency_s_between_nodes": 10e-6,
    "node": 8,
    "flops": 300e12,
    "memory_bytes_per_s": 2.5e12,
    "passes_over_the_matrix": 20,  # of 16 Sinkhorn updates, lists, certificate and product
    "steps": 100,  # of shortest-path forests, one launch each
    "launch_s": 5e-6,
    "passes_of_sharded": 270,  # 21 updates of ten reads or writes, as torch does them, and the rest
    "matching_s_per_row": 5e-5,  # of the lists, on the CPU of rank 0: what was measured at n = 4096
}
SIMULATED = [(size, n) for n in (2048, 16384, 131072) for size in (8, 64, 512)]
WORDS = 64  # bytes of agreement
GATHER = "all_gather_single" if hasattr(dist, "all_gather_single") else "all_gather_into_tensor"
RECEIVED: dict[str, Callable[..., int]] = {  # bytes from others, by what was handed over
    "all_gather": lambda parts, own: sum(part.nbytes for part in parts) - own.nbytes,
    GATHER: lambda every, own, *_: every.nbytes - own.nbytes,
    "send": lambda *_: 0,
    "recv": lambda got, *_: got.nbytes,
}


def counted(size: int, rows: int, dim: int, itemsize: int) -> dict[str, dict[str, int]]:
    """Collectives one after another in a call, and bytes that a rank gets from others in them; the
    official scheme has a barrier at its end, too."""
    n, others, sample = size * rows, size - 1, dim * itemsize
    found = {  # the official one has two gathers, and a send to each other rank
        "official": (2 + others, others * rows * (sample + n * itemsize) + rows * sample),
        "ours": (2, others * (2 * rows * sample + WORDS)),
        "ours, shared seed": (2, others * (rows * sample + WORDS)),
    }
    alone = others == 0
    return {
        name: {"collectives": 0 if alone else number, "bytes": 0 if alone else received}
        for name, (number, received) in found.items()
    }


@contextmanager
def counting() -> Iterator[list[int]]:
    """Bytes that this process gets from others, by collective that it takes part in."""
    found: list[int] = []
    with ExitStack() as patches:
        mocks = {
            name: patches.enter_context(patch.object(dist, name, wraps=getattr(dist, name)))
            for name in RECEIVED
        }
        yield found
    for name, mock in mocks.items():
        found += [RECEIVED[name](*call.args) for call in mock.call_args_list]


def official(x: Tensor, noise: Tensor) -> Tensor:
    """The scheme, with torch.cdist in the place of its broadcast of (rows, n, D) in float16."""
    size, rank = dist.get_world_size(), dist.get_rank()
    every = [torch.empty_like(noise) for _ in range(size)]
    dist.all_gather(every, noise)
    whole = torch.cat(every)
    distance = torch.cdist(x, whole)
    blocks = [torch.empty_like(distance) for _ in range(size)]
    dist.all_gather(blocks, distance)
    mine = torch.empty_like(noise)
    if rank == 0:
        _, index = linear_sum_assignment(torch.cat(blocks).numpy())
        mine, *others = whole[torch.from_numpy(index)].split(len(x))
        for other, part in enumerate(others, 1):
            dist.send(part.contiguous(), other)
    else:
        dist.recv(mine, 0)
    dist.barrier()
    return mine


def ways(x: Tensor, noise: Tensor) -> dict[str, Callable[[], object]]:
    """Whole calls, and the parts of ours."""
    group = dist.group.WORLD
    own = Group(group)
    counts = [len(x)] * own.size
    words = torch.zeros(WORDS // 8, dtype=torch.int64)
    everything = own.rows(counts, [x, noise])
    return {
        "official": lambda: official(x, noise),
        "ours": lambda: assign_noise(x, noise, process_group=group),
        "ours, shared seed": lambda: assign_noise(
            x, torch.Generator().manual_seed(0), process_group=group
        ),
        "ours, sharded": lambda: assign_noise(x, noise, method="sinkhorn", process_group=group),
        "of ours: agreement": lambda: own.words(words),
        "of ours: gathering": lambda: own.rows(counts, [x, noise]),
        "of ours: solving": lambda: fast_assign(*everything),
    }


def one_rank(images: Tensor, noise: Tensor, rounds: int) -> dict[str, float]:
    """Medians of this rank's times, after a look at whether it counts as ``counted`` says."""
    rank, size = dist.get_rank(), dist.get_world_size()
    mine, other = (part.chunk(size)[rank].clone() for part in (images, noise))
    calls = ways(mine, other)
    for name, wanted in counted(size, *mine.shape, 4).items():
        with counting() as found:
            calls[name]()
        if size > 1 and rank == size - 1:  # of the official scheme it waits for all sends
            assert sum(found) == wanted["bytes"], (name, found, wanted)
            assert name == "official" or len(found) == wanted["collectives"], (name, found)
    times = in_turns(calls, rounds, wait=dist.barrier)
    return {name: 1e3 * float(np.median(taken)) for name, taken in times.items()}


def measured(size: int, rows: int, dim: int, rounds: int) -> record.Row:
    """Milliseconds of the slowest rank, and counted bytes, for so many processes."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(problems.latents(rng, size * rows)).flatten(1)[:, :dim].contiguous()
    noise = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32))
    fast_assign(images, noise)  # compiled before the fork
    with tempfile.TemporaryDirectory() as folder:
        found = launch(size, one_rank, folder, images, noise, rounds, timeout=600, deadline=3600)
    failed = [one for one in found if not isinstance(one, dict)]
    if failed:
        raise RuntimeError(f"{len(failed)} ranks failed, the first with\n{failed[0]}")
    ms = {name: round(max(one[name] for one in found), 3) for name in found[0]}
    return {"ranks": size, "n": size * rows, "ms": ms, "counted": counted(size, rows, dim, 4)}


def simulated(size: int, n: int, dim: int = 4096, itemsize: int = 2) -> record.Row:
    """Milliseconds and gigabytes of a call on so many GPUs: a ring, and its slowest links."""
    gpu, where = GPUS, "between_nodes" if size > GPUS["node"] else "in_node"

    def gather(message: float) -> float:
        """Of ``message`` bytes from each, in log2 steps."""
        latency = math.ceil(math.log2(size)) * gpu[f"latency_s_{where}"]
        return latency + (size - 1) * message / gpu[f"bytes_per_s_{where}"]

    matrix, sample, launch_s = 4.0 * n * n, dim * itemsize, gpu["launch_s"]
    product, read = 2.0 * n * n * dim / gpu["flops"], matrix / gpu["memory_bytes_per_s"]
    agreement, gathering = gather(WORDS), gather(2 * n / size * sample)
    solving = product + gpu["passes_over_the_matrix"] * read + gpu["steps"] * launch_s
    sums = 22 * 2 * gather(4.0 * n / size)
    lists = gather(n / size * (ROOM + 1) * 12.0) + gather(16.0 * n / size)
    moved = gather(n / size * sample) + sums + lists
    updates = (product + gpu["passes_of_sharded"] * read) / size + 10 * 21 * launch_s
    matching = n * gpu["matching_s_per_row"]
    seconds = {
        **{"gathering": gathering, "solving": solving, "whole": agreement + gathering + solving},
        **{"moved": moved, "updates": updates, "matching": matching},
        "sharded": agreement + moved + updates + matching,
    }
    samples = 2.0 * n * sample
    gigabytes = {"memory": (matrix + samples) / 1e9, "share": (2 * matrix / size + samples) / 1e9}
    shown_ms = {name: shown(1e3 * value) for name, value in seconds.items()}
    return {"gpus": size, "n": n, **shown_ms, **gigabytes}


def shown(milliseconds: float) -> str:
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def measured_table(result: record.Result) -> str:
    """Milliseconds of whole calls and of the parts of ours, by processes."""
    parts = list(result["measured"][0]["ms"])
    head = ["processes", "n", *(name.replace("of ours: ", "") for name in parts)]
    lines = [
        [str(row["ranks"]), str(row["n"]), *(shown(row["ms"][name]) for name in parts)]
        for row in result["measured"]
    ]
    return tables.markdown(head, lines)


def counted_table() -> str:
    """Of 8 ranks with 256 rows of 4096 numbers in 16 bits, as the official recipe trains."""
    lines = [
        [name, str(found["collectives"]), f"{found['bytes'] / 1e6:.1f} MB"]
        for name, found in counted(8, 256, 4096, 2).items()
    ]
    return tables.markdown(["scheme", "collectives one after another", "a rank receives"], lines)


def simulated_table() -> str:
    head = ["GPUs", "n", "replicated: gathering", "solving", "whole call", "memory",
            "sharded: messages", "costs and updates", "matching", "whole call",
            "memory"]  # fmt: skip
    form = ("{gpus} {n:,} {gathering} {solving} {whole} {memory:.3g}_GB {moved} {updates} "
            "{matching} {sharded} {share:.3g}_GB")  # fmt: skip
    lines = [form.format(**simulated(*case)).split(" ") for case in SIMULATED]
    return tables.markdown(head, [[cell.replace("_", " ") for cell in line] for line in lines])


def main(
    ranks: tuple[int, ...] = (1, 2, 4, 8),
    rows: int = 256,  # of each rank
    dim: int = 4096,
    rounds: int = 5,
    out: Path = record.RESULTS / "distributed",
) -> None:
    torch.set_num_threads(1)
    settings: dict[str, Any] = {"rows": rows, "dim": dim, "rounds": rounds}
    result = {
        "settings": {**settings, "backend": "gloo", "threads_of_a_rank": 1},
        "measured": [measured(size, **settings) for size in ranks],
    }
    print(measured_table(result), counted_table(), simulated_table(), sep="\n\n")
    print(record.save(out, record.device_facts("cpu", 1), **result))


if __name__ == "__main__":
    import tyro

    tyro.cli(main, description=__doc__)
