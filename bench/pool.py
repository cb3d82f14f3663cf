"""What a batch's noise takes: out of a pool, beside reading the pool once; and best of k.

    python -m bench.pool                     # or: python -m bench.pool --device cuda

Calls that are compared take turns in one process. ``pool.take`` chooses from a copy in bfloat16 or
from the pool
itself; beside it stand the time to read the pool once, and that to draw as much noise without a
pool. ``select_noise`` stands beside drawing k candidates and keeping the best. With one thread it
is the thread's own time that counts, so that other programs on the machine take nothing from it.
Writes bench/results/pool/<date>-<device>.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from immiscible_fast import NoisePool, select_noise

from . import families, record

RESULTS = record.RESULTS / "pool"
SIZE, BATCH, K = 512, 4, 64
COMPARED = (  # a call, and what it stands beside
    ("take, from bfloat16", "read the pool once"),
    ("take, from float32", "read the pool once"),
    ("take, from bfloat16", "take, from float32"),
    ("best of k, dot", "k candidates, dot"),
    ("best of k, euclidean", "k candidates, euclidean"),
    ("best of k, dot", "randn"),
    ("best of k, euclidean", "randn"),
)


def candidates(x: Tensor, k: int, score: str, generator: torch.Generator) -> Tensor:
    """The best of k noises, all of which are drawn, as trainers do it."""
    noise = torch.randn(len(x), k, *x.shape[1:], generator=generator, device=x.device)
    if score == "dot":
        value = torch.einsum("nkd,nd->nk", noise.flatten(2), x.flatten(1))
    else:
        value = -(x[:, None] - noise).flatten(2).square().sum(2)
    return noise[torch.arange(len(x), device=x.device), value.argmax(1)]


def turns(calls: dict[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, list[float]]:
    """Milliseconds of each call in each turn but the first."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            begin = _now(device)
            call()
            if turn:
                taken[name].append(1e3 * (_now(device) - begin))
    return taken


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    one_thread = device == "cpu" and torch.get_num_threads() == 1
    return time.thread_time() if one_thread else time.perf_counter()


def same_choice(xs: Tensor, generator: torch.Generator) -> dict[str, float]:
    """How a choice by bfloat16 compares with that by float32, from the same pool and images."""
    pool = NoisePool(SIZE, generator=generator, score_dtype=torch.float32)
    narrow = NoisePool(SIZE, generator=torch.Generator(xs.device), score_dtype=torch.bfloat16)
    same = gain = best = 0.0
    for x in xs:
        narrow.load_state_dict(pool.state_dict())
        by_float32, by_bfloat16 = pool.take(x), narrow.take(x)
        centred = x - pool.state_dict()["pools"][0]["mean"].reshape(x.shape[1:])
        same += float((by_float32 == by_bfloat16).flatten(1).all(1).sum())
        gain += float((centred * by_bfloat16).sum())
        best += float((centred * by_float32).sum())
    return {"same": round(same / xs.shape[:2].numel(), 4), "share_of_gain": round(gain / best, 6)}


def measure(device: str, rounds: int) -> dict[str, Any]:
    images = families.samples("latents", 16 * BATCH).x.to(device)  # 4 x 64 x 64
    xs = images.unflatten(0, (-1, BATCH))
    generator = torch.Generator(device).manual_seed(0)
    pools = {
        dtype: NoisePool(SIZE, generator=generator, score_dtype=dtype)
        for dtype in (torch.bfloat16, torch.float32)
    }
    for pool in pools.values():
        for x in xs:
            pool.take(x)
    data = torch.randn(SIZE, *images.shape[1:], generator=generator, device=device)
    x = xs[0]
    reading: dict[str, Callable[[], Any]] = {
        "take, from bfloat16": lambda: pools[torch.bfloat16].take(x),
        "take, from float32": lambda: pools[torch.float32].take(x),
        "read the pool once": data.amax,  # a maximum reads everything and computes next to nothing
        "randn": lambda: torch.randn(x.shape, generator=generator, device=device),
    }
    choosing: dict[str, Callable[[], Any]] = {}
    for score in ("dot", "euclidean"):
        choosing[f"best of k, {score}"] = lambda s=score: select_noise(
            x, K, score=s, generator=generator
        )
        choosing[f"k candidates, {score}"] = lambda s=score: candidates(x, K, s, generator)
    taken = turns(reading, rounds, device) | turns(choosing, rounds, device)
    ratios = [
        {
            "call": call,
            "beside": beside,
            "median": round(median(taken[call]) / median(taken[beside]), 3),
            "fastest": round(min(taken[call]) / min(taken[beside]), 3),
        }
        for call, beside in COMPARED
    ]
    return {
        "setting": {"size": SIZE, "batch": BATCH, "dim": x[0].numel(), "k": K, "rounds": rounds},
        "ms": {
            name: {"median": round(median(times), 4), "fastest": round(min(times), 4)}
            for name, times in taken.items()
        },
        "read_gb_s": round(data.numel() * 4e-6 / min(taken["read the pool once"]), 1),
        "ratios": ratios,
        "bfloat16": same_choice(xs, generator),
    }


def table(result: dict[str, Any]) -> str:
    lines = ["| call | median | fastest |", "|---|---:|---:|"]
    for name, times in result["ms"].items():
        lines.append(f"| {name} | {times['median']:.3f} ms | {times['fastest']:.3f} ms |")
    lines += ["", "| ratio | of medians | of the fastest |", "|---|---:|---:|"]
    for ratio in result["ratios"]:
        name = f"{ratio['call']} / {ratio['beside']}"
        lines.append(f"| {name} | {ratio['median']:.2f} | {ratio['fastest']:.2f} |")
    rounded = result["bfloat16"]
    lines += [
        "",
        f"The pool is read at {result['read_gb_s']} GB/s. By bfloat16 {rounded['same']:.1%} of the "
        f"choices are those by float32, with {rounded['share_of_gain']:.3%} of the gain.",
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pool", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, help="for all libraries (default: all cores)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    if options.threads:
        record.pin(options.threads)
    result = measure(options.device, options.rounds)
    print(table(result))
    device = record.device_facts(options.device, torch.get_num_threads())
    print(record.save(options.out, device, **result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
