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

import argparse
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
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

from . import problems, record, tables

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
WORDS = 64  # bytes of agreement
GATHER = "all_gather_single" if hasattr(dist, "all_gather_single") else "all_gather_into_tensor"
WHOLE = ("official", "ours", "ours, shared seed")
SIMULATED_SIZES = (8, 64, 512)
SIMULATED_N = (2048, 16384, 131072)


def counted(size: int, rows: int, dim: int, itemsize: int) -> dict[str, dict[str, int]]:
    """Collectives one after another in a call, and bytes that a rank gets from others in them; the
    official scheme has a barrier at its end, too."""
    n, others = size * rows, size - 1
    sample = dim * itemsize
    if others == 0:
        return {name: {"collectives": 0, "bytes": 0} for name in WHOLE}
    return {
        "official": {
            "collectives": 2 + others,  # two gathers, and a send to each other rank
            "bytes": others * rows * (sample + n * itemsize) + rows * sample,
        },
        "ours": {"collectives": 2, "bytes": others * (2 * rows * sample + WORDS)},
        "ours, shared seed": {"collectives": 2, "bytes": others * (rows * sample + WORDS)},
    }


@contextmanager
def counting() -> Iterator[dict[str, int]]:
    """Collectives that this process takes part in, and the bytes that it gets from others."""
    found = {"collectives": 0, "bytes": 0}
    gathers = ("all_gather", GATHER)
    with ExitStack() as patches:
        mocks = {
            name: patches.enter_context(patch.object(dist, name, wraps=getattr(dist, name)))
            for name in (*gathers, "send", "recv")
        }
        yield found
    for name, mock in mocks.items():
        for first, *rest in (call.args for call in mock.call_args_list):
            found["collectives"] += 1
            if name != "send":
                got = sum(part.nbytes for part in first) if name == "all_gather" else first.nbytes
                found["bytes"] += got - (rest[0].nbytes if name in gathers else 0)


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
        parts = whole[torch.from_numpy(index)].split(len(x))
        mine = parts[0]
        for other in range(1, size):
            dist.send(parts[other].contiguous(), other)
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


def one_rank(
    rank: int, meeting: str, images: Tensor, noise: Tensor, settings: dict[str, int], answers: Any
) -> None:
    """Medians of this rank's times, after a look at whether it counts as ``counted`` says."""
    torch.set_num_threads(1)
    rows, size = settings["rows"], len(images) // settings["rows"]
    dist.init_process_group("gloo", meeting, world_size=size, rank=rank)
    part = slice(rank * rows, (rank + 1) * rows)
    calls = ways(images[part].clone(), noise[part].clone())
    for name, wanted in counted(size, rows, settings["dim"], 4).items():
        with counting() as found:
            calls[name]()
        if size > 1 and rank == size - 1:  # of the official scheme it waits for all sends
            assert found["bytes"] == wanted["bytes"], (name, found, wanted)
            assert name == "official" or found == wanted, (name, found, wanted)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(settings["rounds"]):
        for name in np.roll(list(calls), k).tolist():
            dist.barrier()
            begin = time.perf_counter()
            calls[name]()
            dist.barrier()
            times[name].append(1e3 * (time.perf_counter() - begin))
    answers.put({name: median(found) for name, found in times.items()})
    dist.destroy_process_group()


def measured(size: int, settings: dict[str, int]) -> dict[str, Any]:
    """Milliseconds of the slowest rank, and counted bytes, for so many processes."""
    rows, dim = settings["rows"], settings["dim"]
    rng = np.random.default_rng(0)
    images = torch.from_numpy(problems.latents(rng, size * rows)).flatten(1)[:, :dim].contiguous()
    noise = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32))
    fast_assign(images, noise)  # compiled before the fork
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(
                target=one_rank,
                args=(rank, f"file://{folder}/meeting", images, noise, settings, answers),
            )
            for rank in range(size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise RuntimeError("a rank failed, see above")
    found = [answers.get() for _ in processes]
    ms = {name: round(max(one[name] for one in found), 3) for name in found[0]}
    return {"ranks": size, "n": size * rows, "ms": ms, "counted": counted(size, rows, dim, 4)}


def simulated(size: int, n: int, dim: int, itemsize: int, gpu: dict[str, float]) -> dict[str, Any]:
    """Milliseconds of a call on so many GPUs: a ring, and its slowest links."""
    across = size > gpu["node"]
    speed = gpu["bytes_per_s_between_nodes" if across else "bytes_per_s_in_node"]
    latency = gpu["latency_s_between_nodes" if across else "latency_s_in_node"]

    def gather(message: float) -> float:
        """Of ``message`` bytes from each, in log2 steps."""
        return math.ceil(math.log2(size)) * latency + (size - 1) * message / speed

    matrix, sample = 4.0 * n * n, dim * itemsize
    product = 2.0 * n * n * dim / gpu["flops"]
    read, launch = matrix / gpu["memory_bytes_per_s"], gpu["launch_s"]
    seconds = {
        "replicated": {
            "agreement": gather(WORDS),
            "gathering": gather(2 * n / size * sample),
            "product": product,
            "solving": gpu["passes_over_the_matrix"] * read + gpu["steps"] * launch,
        },
        "sharded": {
            "agreement": gather(WORDS),
            "gathering": gather(n / size * sample),
            "product": product / size,
            "solving": gpu["passes_of_sharded"] * read / size + 10 * 21 * launch,
            "sums of columns": 22 * 2 * gather(4.0 * n / size),
            "lists": gather(n / size * (ROOM + 1) * 12.0) + gather(16.0 * n / size),
            "matching": n * gpu["matching_s_per_row"],
        },
    }
    ms = {w: {k: round(1e3 * s, 3) for k, s in parts.items()} for w, parts in seconds.items()}
    gigabytes = {
        "replicated": (matrix + 2.0 * n * sample) / 1e9,
        "sharded": (2 * matrix / size + 2.0 * n * sample) / 1e9,
    }
    return {"gpus": size, "n": n, "dim": dim, "gigabytes": gigabytes, "ms": ms}


def shown(milliseconds: float) -> str:
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def measured_table(result: dict[str, Any]) -> str:
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
    found = counted(8, 256, 4096, 2)
    lines = [
        [name, str(found[name]["collectives"]), f"{found[name]['bytes'] / 1e6:.1f} MB"]
        for name in WHOLE
    ]
    return tables.markdown(["scheme", "collectives one after another", "a rank receives"], lines)


def simulated_table(result: dict[str, Any]) -> str:
    lines = []
    for row in result["simulated"]:
        whole, shard = row["ms"]["replicated"], row["ms"]["sharded"]
        moved = sum(shard[name] for name in ("gathering", "sums of columns", "lists"))
        cells = [whole["gathering"], whole["product"] + whole["solving"], sum(whole.values()),
                 moved, shard["product"] + shard["solving"], shard["matching"],
                 sum(shard.values())]  # fmt: skip
        memory = [f"{row['gigabytes'][way]:.3g} GB" for way in ("replicated", "sharded")]
        lines.append([str(row["gpus"]), f"{row['n']:,}", *map(shown, cells[:3]), memory[0],
                      *map(shown, cells[3:]), memory[1]])  # fmt: skip
    head = ["GPUs", "n", "replicated: gathering", "solving", "whole call", "memory",
            "sharded: messages", "costs and updates", "matching", "whole call",
            "memory"]  # fmt: skip
    return tables.markdown(head, lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--rows", type=int, default=256, help="of each rank")
    parser.add_argument("--dim", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=record.RESULTS / "distributed")
    options = parser.parse_args(argv)
    settings = {"rows": options.rows, "dim": options.dim, "rounds": options.rounds}
    torch.set_num_threads(1)
    result = {
        "settings": {**settings, "backend": "gloo", "threads_of_a_rank": 1},
        "measured": [measured(size, settings) for size in options.ranks],
        "assumed": GPUS,
        "simulated": [
            simulated(size, n, options.dim, 2, GPUS)
            for n in SIMULATED_N
            for size in SIMULATED_SIZES
        ],
    }
    print(measured_table(result), counted_table(), simulated_table(result), sep="\n\n")
    print(record.save(options.out, record.device_facts("cpu", torch.get_num_threads()), **result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
