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
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from immiscible_fast import assign_noise, fast_assign
from immiscible_fast.distributed.group import Group

from . import families, record

RESULTS = record.RESULTS / "distributed"
GPUS: dict[str, float] = {  # assumed, of one GPU of a node of eight
    "bytes_per_s_in_node": 300e9,
    "bytes_per_s_between_nodes": 40e9,
    "latency_s_in_node": 3e-6,
    "latency_s_between_nodes": 10e-6,
    "node": 8,
    "flops": 300e12,
    "memory_bytes_per_s": 2.5e12,
    "memory_bytes": 80e9,
    "passes_over_the_matrix": 20,  # of 16 Sinkhorn updates, lists, certificate and product
    "steps": 100,  # of shortest-path forests, one launch each
    "launch_s": 5e-6,
}
WORDS = 64  # bytes of agreement


def counted(size: int, rows: int, dim: int, itemsize: int) -> dict[str, dict[str, int]]:
    """Collectives of a call, in a row, and bytes that a rank receives in them from others."""
    n, others = size * rows, size - 1
    sample = dim * itemsize
    return {
        "official": {
            "collectives": 2 + others + 1,  # two gathers, a send to each, a barrier
            "bytes": others * rows * sample + others * rows * n * itemsize + rows * sample,
        },
        "ours": {"collectives": 2, "bytes": others * (2 * rows * sample + WORDS)},
        "ours, shared seed": {"collectives": 2, "bytes": others * (rows * sample + WORDS)},
    }


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
        "of ours: agreement": lambda: own.words(words),
        "of ours: gathering": lambda: own.rows(counts, [x, noise]),
        "of ours: solving": lambda: fast_assign(*everything),
    }


def one_rank(rank: int, size: int, meeting: str, options: dict[str, int], answers: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", meeting, world_size=size, rank=rank)
    rng = np.random.default_rng(0)
    n, rows, dim = size * options["rows"], options["rows"], options["dim"]
    images = torch.from_numpy(families.onef(rng, n, dim)).float()
    noise = torch.from_numpy(rng.standard_normal((n, dim))).float()
    part = slice(rank * rows, (rank + 1) * rows)
    calls = ways(images[part].contiguous(), noise[part].contiguous())
    times: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(options["rounds"] + 1):  # the first is warm-up
        for name in np.roll(list(calls), k).tolist():
            dist.barrier()
            begin = time.perf_counter()
            calls[name]()
            dist.barrier()
            times[name].append(time.perf_counter() - begin)
    answers.put((rank, {name: median(found[1:]) for name, found in times.items()}))
    dist.destroy_process_group()


def measured(size: int, options: dict[str, int]) -> dict[str, Any]:
    """Milliseconds of the slowest rank, and counted bytes, for so many processes."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(
                target=one_rank, args=(rank, size, f"file://{folder}/meeting", options, answers)
            )
            for rank in range(size)
        ]
        for process in processes:
            process.start()
        found = [answers.get()[1] for _ in processes]
        for process in processes:
            process.join()
    ms = {name: round(1e3 * max(one[name] for one in found), 3) for name in found[0]}
    return {"ranks": size, "n": size * options["rows"], "ms": ms,
            "counted": counted(size, options["rows"], options["dim"], 4)}  # fmt: skip


def simulated(size: int, n: int, dim: int, itemsize: int, gpu: dict[str, float]) -> dict[str, Any]:
    """Milliseconds of a replicated call on so many GPUs; a ring, and its slowest links."""
    across = size > gpu["node"]
    speed = gpu["bytes_per_s_between_nodes" if across else "bytes_per_s_in_node"]
    latency = gpu["latency_s_between_nodes" if across else "latency_s_in_node"]

    def gather(message: float) -> float:
        """Of ``message`` bytes from each: small ones in log2 steps, large ones round the ring."""
        total = (size - 1) * message
        return math.ceil(math.log2(size)) * latency + total / speed

    matrix = 4.0 * n * n
    moved = gather(2 * n / size * dim * itemsize)
    product = 2.0 * n * n * dim / gpu["flops"]
    solve = (
        gpu["passes_over_the_matrix"] * matrix / gpu["memory_bytes_per_s"]
        + gpu["steps"] * gpu["launch_s"]
    )
    fits = matrix + 2.0 * n * dim * itemsize < gpu["memory_bytes"]
    parts = {"agreement": gather(WORDS), "gathering": moved, "product": product, "solving": solve}
    ms = {name: round(1e3 * seconds, 3) for name, seconds in parts.items()}
    return {"gpus": size, "n": n, "dim": dim, "fits": fits, "ms": ms,
            "total_ms": round(1e3 * sum(parts.values()), 3),
            "shared_seed_total_ms": round(1e3 * (sum(parts.values()) - moved / 2), 3)}  # fmt: skip
