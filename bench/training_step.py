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

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from immiscible_fast import assign_noise, prefetch

from . import problems, record
from .training.models import UNet
from .training.objectives import Flow
from .turns import both_clocks, in_turns

PLAIN = "as drawn"
WAYS = (PLAIN, "assigned", "prefetch")
SKIPPED = 2  # steps: the first is slow, and prefetch has begun by the third


def pairs(way: str, batches: list[Tensor], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Each batch with its noise."""
    generator = torch.Generator(batches[0].device).manual_seed(seed)
    if way == "prefetch":
        yield from prefetch(batches, generator=generator)
        return
    for x in batches:
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        yield x, noise if way == PLAIN else assign_noise(x, noise)


def train_step(
    model: UNet, optimizer: torch.optim.Optimizer, loop: Iterator[tuple[Tensor, Tensor]]
) -> None:
    x, noise = next(loop)
    loss = Flow().loss(model, x, noise, torch.rand(len(x), device=x.device), 0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def main(
    device: str = "cpu",
    batch: int = 256,
    width: int = 16,  # channels of the finest scale
    steps: int = 40,  # of each way
    out: Path = record.RESULTS / "training_step",
) -> None:
    where = torch.device(device)
    if where.type == "cpu":
        torch.set_num_threads(1)
    images = torch.from_numpy(problems.photo(np.random.default_rng(0), 4 * batch)).to(where)
    batches = [images[torch.randperm(len(images))[:batch]] for _ in range(4)]
    torch.manual_seed(0)
    model = UNet((3, 32, 32), width, 0).to(where)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    rounds = steps + SKIPPED
    loops = {way: pairs(way, [batches[i % 4] for i in range(rounds)], 1) for way in WAYS}
    calls = {way: partial(train_step, model, optimizer, loop) for way, loop in loops.items()}
    wait = torch.cuda.synchronize if where.type == "cuda" else lambda: None
    with closing(loops["prefetch"]):
        found = in_turns(calls, rounds, both_clocks, wait)
    medians = {way: 1e3 * np.median(times[SKIPPED:], 0) for way, times in found.items()}
    ways = {}
    for way, (clock, thread) in medians.items():
        ratio, thread_ratio = (medians[way] / medians[PLAIN]).round(4).tolist()
        ways[way] = {
            **{"ms": round(float(clock), 2), "ratio": ratio},
            **{"thread_ms": round(float(thread), 2), "thread_ratio": thread_ratio},
        }
        print(way, ways[way])
    settings = {"batch": batch, "width": width, "steps": steps}
    facts = record.device_facts(where.type, 1)
    print(record.save(out, facts, settings=settings, ways=ways))


if __name__ == "__main__":
    import tyro

    tyro.cli(main, description=__doc__)
