"""Training steps with assigned noise over steps with noise as drawn.

    python -m bench.training_step                 # a small UNet, batch 256, on two cores
    python -m bench.training_step --device cuda --batch 1024

Steps with noise as drawn, assigned in the step, and assigned by ``prefetch`` take turns; what is
timed is all of a step, from asking for the batch to the updated weights. On a CPU the model has one
thread, and the others are there for ``prefetch``. The ratios are those of medians: of what the
clock shows, which takes an idle machine, and on a CPU of the processor time of the thread that
trains, which is what a step takes where there is a core to spare. Writes a record to
bench/results/training_step/.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from immiscible_fast import assign_noise, prefetch

from . import problems, record
from .training.models import UNet

PLAIN = "as drawn"
WAYS = (PLAIN, "assigned", "prefetch")


def pairs(way: str, batches: list[Tensor], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Each batch with its noise."""
    generator = torch.Generator(batches[0].device).manual_seed(seed)
    if way == "prefetch":
        yield from prefetch(batches, generator=generator)
        return
    for x in batches:
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        yield x, noise if way == PLAIN else assign_noise(x, noise)


def measured(options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of each step, by way: of the clock, and of this thread's processor time."""
    device = torch.device(options.device)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(problems.photo(rng, 4 * options.batch)).to(device)
    batches = [images[torch.randperm(len(images))[: options.batch]] for _ in range(4)]
    torch.manual_seed(0)
    model = UNet((3, 32, 32), options.width, 0).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    steps = options.steps + 2  # the first is slow, and prefetch has begun by the third
    loops = {way: pairs(way, [batches[i % 4] for i in range(steps)], 1) for way in WAYS}
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for step in range(steps):
        for way in np.roll(WAYS, step).tolist():
            begin, begin_here = time.perf_counter(), time.thread_time()
            x, noise = next(loops[way])
            t = torch.rand(len(x), device=device)
            time_ = t[:, None, None, None]
            loss = (model((1 - time_) * x + time_ * noise, t) - (noise - x)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            here = time.thread_time() - begin_here
            found[way].append((1e3 * (time.perf_counter() - begin), 1e3 * here))
    for loop in loops.values():
        loop.close()
    return {way: values[2:] for way, values in found.items()}


def summary(found: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Medians, and their ratios to noise as drawn."""
    clock, thread = ({way: median(z[i] for z in found[way]) for way in WAYS} for i in (0, 1))
    return {
        way: {
            "ms": round(clock[way], 2),
            "ratio": round(clock[way] / clock[PLAIN], 4),
            "thread_ms": round(thread[way], 2),
            "thread_ratio": round(thread[way] / thread[PLAIN], 4),
        }
        for way in WAYS
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--width", type=int, default=16, help="channels of the finest scale")
    parser.add_argument("--steps", type=int, default=40, help="of each way")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "training_step")
    options = parser.parse_args(argv)
    kind = torch.device(options.device).type
    if kind == "cpu":
        torch.set_num_threads(1)
    ways = summary(measured(options))
    for way, found in ways.items():
        print(
            f"{way:9} {found['ms']:9.2f} ms a step, {found['ratio']:.3f} of noise as drawn; "
            f"{found['thread_ms']:9.2f} ms of its thread, {found['thread_ratio']:.3f}"
        )
    settings = {"batch": options.batch, "width": options.width, "steps": options.steps}
    device = record.device_facts(kind, 1)
    print(record.save(options.out, device, settings=settings, ways=ways))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
