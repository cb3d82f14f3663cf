"""Train one model with one kind of noise, and judge it as it learns.

    python -m bench.training.run --data mnist --model unet --width 24 --noise assigned
    python -m bench.training.run bench/training/plans/mnist-gpu.toml --seed 1

A TOML file may hold any of the settings; flags go before it. A run that was stopped goes on from
its last checkpoint, with the same numbers (on a CPU). Writes OUTPUT/<run>/results.csv (distances
after some of the training steps, by number of sampling steps), log.csv (loss), samples.png, and
TensorBoard's events with --tensorboard.
"""

from __future__ import annotations

import copy
import hashlib
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from immiscible_fast.demo.train import move_average

from . import data
from .evaluate import CHUNK, MEASURES, Judge, write_whole
from .models import make_model
from .noise import Pairing
from .objectives import make_objective
from .pictures import write_rows_of_samples
from .settings import Settings, parse

IMAGES, NOISE, JUDGED, POOL, RESAMPLED = range(5)  # what random numbers are for
LOG_EVERY = 50
SHOWN = 24
STATEFUL = ("model", "average", "optimizer", "pairing")
COUNTED = ("step", "rows", "losses")


def keyed(seed: int, *what: int, device: Any = "cpu") -> torch.Generator:
    """A generator for one purpose at one step: what is drawn there depends on nothing before."""
    (state,) = np.random.SeedSequence([seed, *what]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


class Run:
    """The state of a training run between two optimizer steps."""

    def __init__(self, settings: Settings, images: data.Images) -> None:
        best = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(best if settings.device == "auto" else settings.device)
        self.settings, self.shape = settings, images.shape
        self.images = replace(
            images, pixels=images.pixels.to(self.device), labels=images.labels.to(self.device)
        )
        self.model = make_model(settings, images).to(self.device)
        self.average = copy.deepcopy(self.model).eval()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.lr)
        self.objective = make_objective(settings.objective, settings.finest)
        pool = keyed(settings.seed, POOL, device=self.device)
        self.pairing = Pairing(settings, images.some().mean(0).to(self.device), pool)
        self.step, self.rows, self.losses = 0, list[dict[str, Any]](), list[tuple[int, float]]()
        self._window: tuple[int, list[Tensor]] | None = None

    @property
    def folder(self) -> Path:
        settings = self.settings
        digest = hashlib.sha256(settings.name.encode()).hexdigest()[:10]
        return settings.output / f"{settings.data}-{settings.objective}-{settings.noise}-{digest}"

    def window(self, number: int) -> list[Tensor]:
        """Images, noise, levels and classes, (steps, batch, ...), of steps whose noise is found at
        once. All but the noise follows from step and seed, so that all kinds of noise see the same.
        """
        settings, steps = self.settings, self.pairing.steps
        drawn = []
        for step in range(number * steps, (number + 1) * steps):
            draw, size = keyed(settings.seed, IMAGES, step), (settings.batch,)
            index = torch.randint(len(self.images.labels), size, generator=draw)
            drawn.append((index, *(torch.rand(size, generator=draw) for _ in range(2))))
        index, level, lot = (torch.cat(part).to(self.device) for part in zip(*drawn, strict=True))
        x, labels = self.images.take(index), self.images.labels[index]
        if settings.flip:
            x = torch.where(lot[:, None, None, None] < 0.5, x.flip(3), x)
        draw = keyed(settings.seed, NOISE, number, device=self.device)
        noise = self.pairing.take(x, labels, level, number * steps / settings.steps, draw)
        return [part.unflatten(0, (steps, -1)) for part in (x, noise, level, labels)]

    def train_step(self) -> Tensor:
        """One optimizer step; its loss, on the device."""
        settings = self.settings
        number, place = divmod(self.step, self.pairing.steps)
        if self._window is None or self._window[0] != number:
            self._window = number, self.window(number)
        x, noise, level, labels = (part[place] for part in self._window[1])
        self.optimizer.param_groups[0]["lr"] = self.rate()
        model = partial(self.model.train(), labels=labels if settings.conditional else None)
        with self.cast():
            loss = self.objective.loss(model, x, noise, level, self.step / settings.steps)
        self.optimizer.zero_grad()
        loss.backward()
        if settings.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        self.optimizer.step()
        self.step += 1
        move_average(self.average, self.model, self.step, settings.ema)
        return loss.detach()

    def rate(self) -> float:
        settings = self.settings
        warm = min(1.0, (self.step + 1) / max(1, settings.warmup))
        cosine = (1 + np.cos(np.pi * self.step / settings.steps)) / 2
        return float(settings.lr * warm * (cosine if settings.rate == "cosine" else 1))

    def cast(self) -> torch.autocast:
        """Products in bfloat16 where that is wanted; weights and sums stay in float32."""
        wanted, kind = self.settings.precision, self.device.type
        low = wanted == "bfloat16" or (wanted == "auto" and kind == "cuda")
        return torch.autocast(kind, torch.bfloat16, enabled=low)

    @torch.no_grad()
    def sample(self, count: int, steps: int) -> tuple[Tensor, Tensor | None]:
        """Samples of the averaged weights, and the classes that were asked for."""
        draw = keyed(self.settings.seed, JUDGED)
        noise = torch.randn(count, *self.shape, generator=draw).to(self.device)
        index = torch.randint(len(self.images.labels), (count,), generator=draw).to(self.device)
        labels = self.images.labels[index] if self.settings.conditional else None
        again, out = keyed(self.settings.seed, RESAMPLED, device=self.device), []
        for rows in torch.arange(count, device=self.device).split(CHUNK):
            model = partial(self.average, labels=None if labels is None else labels[rows])
            with self.cast():
                out.append(self.objective.sample(model, noise[rows], steps, again))
        return torch.cat(out).float().cpu(), labels

    def judge(self, judge: Judge) -> None:
        """Write down what the model is worth now, for each number of sampling steps."""
        for steps in self.settings.counts_after(self.step):
            measured = judge.measure(*self.sample(self.settings.judged, steps))
            self.rows.append({"train_step": self.step, "sampling_steps": steps, **measured})

    def save(self) -> None:
        """A checkpoint, results.csv and log.csv."""
        state = {name: getattr(self, name).state_dict() for name in STATEFUL}
        write_whole(state | {k: getattr(self, k) for k in COUNTED}, self.folder / "checkpoint.pt")
        table = pd.DataFrame(self.rows, columns=["train_step", "sampling_steps", *MEASURES])
        table.to_csv(self.folder / "results.csv", index=False, float_format="%.5g")
        log = pd.DataFrame(self.losses, columns=["train_step", "loss"])
        log.to_csv(self.folder / "log.csv", index=False, float_format="%.5g")

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one of this run."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        for name in STATEFUL:
            getattr(self, name).load_state_dict(state[name])
        self.__dict__.update({name: state[name] for name in COUNTED})

    def show(self) -> None:
        """samples.png, with a line for each number of sampling steps."""
        counts = self.settings.counts_after(self.settings.judged_after[-1])
        rows = {f"{n} steps": self.sample(SHOWN, n)[0] for n in counts}
        write_rows_of_samples(rows, self.folder / "samples.png")


def execute(settings: Settings, images: data.Images, judge: Judge, keep: bool = True) -> Run:
    """Train to the end; ``rows`` are the distances after ``judged_after``. With ``keep`` it shows
    how far it is, goes on from a checkpoint if there is one, and writes these and results."""
    torch.set_num_threads(settings.threads)
    run, board = Run(settings, images), None
    if keep:
        run.resume()
    if keep and settings.tensorboard:
        from torch.utils.tensorboard import SummaryWriter

        board = SummaryWriter(str(run.folder))
    for _ in tqdm(range(run.step, settings.steps), unit="step", disable=not keep):
        loss = run.train_step()
        last = run.step == settings.steps
        if run.step % LOG_EVERY == 0 or last:
            run.losses.append((run.step, float(loss)))
            if board:
                board.add_scalar("loss", loss, run.step)
            if not loss.isfinite():
                raise RuntimeError(f"the loss is {loss} after {run.step} steps of {settings.name}")
        if run.step in settings.judged_after:
            run.judge(judge)
        if keep and (run.step % settings.save_every == 0 or last):
            run.save()
    if board:
        board.close()
    if keep:
        run.show()
    return run


def main(argv: list[str]) -> None:
    settings = parse(argv, prog="python -m bench.training.run", description=__doc__)
    print(settings.name)
    try:
        images = data.load(settings)
        run = execute(settings, images, Judge(settings, images))
    except (FileNotFoundError, ModuleNotFoundError) as error:
        sys.exit(str(error))
    print(pd.DataFrame(run.rows).to_string(index=False))
    print(run.folder)


if __name__ == "__main__":
    main(sys.argv[1:])
