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
import csv
import hashlib
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import data
from .evaluate import CHUNK, MEASURES, Judge
from .models import make_model
from .noise import Pairing
from .objectives import make_objective
from .settings import Settings, parse

IMAGES, NOISE, JUDGED, POOL, RESAMPLED = range(5)  # what random numbers are for
LOG_EVERY = 50
SHOWN = 48
ELSEWHERE = {  # settings that change where and how, not what comes out
    *("folder", "output", "threads", "device", "precision", "tensorboard", "save_every"),
    *("sampling_steps", "last_only", "judge_at", "inception"),
}
RESULT_FIELDS = ("train_step", "sampling_steps", *MEASURES)
Row = dict[str, Any]


class Window(NamedTuple):
    """What some optimizer steps train on, (steps, batch, ...)."""

    x: Tensor
    noise: Tensor
    level: Tensor
    labels: Tensor


def keyed(seed: int, *what: int, device: Any = "cpu") -> torch.Generator:
    """A generator for one purpose at one step: what is drawn there depends on nothing before."""
    (state,) = np.random.SeedSequence([seed, *what]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def name_of(settings: Settings) -> str:
    """What tells this run from others: settings that are not the default, ``key=value``."""
    parts = []
    for field in fields(Settings):
        value = getattr(settings, field.name)
        if field.name not in ELSEWHERE and value != field.default:
            parts.append(f"{field.name}={value}")
    return " ".join(parts) or "default"


class Run:
    """The state of a training run between two optimizer steps."""

    def __init__(self, settings: Settings, images: data.Images) -> None:
        name = settings.device
        self.device = torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
        )
        self.settings, self.images = settings, images
        self.pixels = replace(images, pixels=images.pixels.to(self.device))
        self.labels = images.labels.to(self.device)
        self.model = make_model(settings, images).to(self.device)
        self.average = copy.deepcopy(self.model).eval()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.lr)
        self.objective = make_objective(settings.objective, settings.finest)
        some = torch.linspace(0, len(images.pixels) - 1, min(len(images.pixels), 10_000)).long()
        center = images.take(some).mean(0).to(self.device)
        pool = keyed(settings.seed, POOL, device=self.device)
        self.pairing = Pairing(settings, center, pool)
        self.step = 0
        self.rows: list[Row] = []
        self._window: tuple[int, Window] | None = None

    @property
    def folder(self) -> Path:
        name = name_of(self.settings)
        digest = hashlib.sha256(name.encode()).hexdigest()[:10]
        kind = f"{self.settings.data}-{self.settings.objective}-{self.settings.noise}"
        return self.settings.output / f"{kind}-{digest}"

    def window(self, number: int) -> Window:
        """The batches of the steps that have their noise found at once. Images, times and classes
        of a step depend on the seed alone, so that all kinds of noise see the same."""
        settings, steps = self.settings, self.pairing.steps
        index, level, flips = [], [], []
        for step in range(number * steps, (number + 1) * steps):
            generator = keyed(settings.seed, IMAGES, step)
            size = (settings.batch,)
            index.append(torch.randint(len(self.labels), size, generator=generator))
            level.append(torch.rand(size, generator=generator))
            flips.append(torch.rand(size, generator=generator) < 0.5)
        chosen = torch.cat(index).to(self.device)
        x, labels = self.pixels.take(chosen), self.labels[chosen]
        if settings.flip:
            x = torch.where(torch.cat(flips).to(self.device)[:, None, None, None], x.flip(3), x)
        u = torch.cat(level).to(self.device)
        generator = keyed(settings.seed, NOISE, number, device=self.device)
        progress = number * steps / settings.steps
        noise = self.pairing.take(x, labels, u, progress, generator)
        parts = (x, noise, u, labels)
        return Window(*(part.reshape(steps, settings.batch, *part.shape[1:]) for part in parts))

    def train_step(self) -> Tensor:
        """One optimizer step; its loss, on the device."""
        settings = self.settings
        number, place = divmod(self.step, self.pairing.steps)
        if self._window is None or self._window[0] != number:
            self._window = number, self.window(number)
        x, noise, level, labels = (part[place] for part in self._window[1])
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        told = labels if settings.conditional else None
        self.model.train()
        with self.cast():
            done = self.step / settings.steps
            loss = self.objective.loss(self.model, x, noise, level, told, done)
        self.optimizer.zero_grad()
        loss.backward()
        if settings.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        self.optimizer.step()
        self.step += 1
        decay = min(settings.ema, self.step / (self.step + 9))  # or the first weights would linger
        with torch.no_grad():
            slow, fast = list(self.average.parameters()), list(self.model.parameters())
            torch._foreach_lerp_(slow, fast, 1 - decay)
        return loss.detach()

    def rate(self) -> float:
        settings = self.settings
        rate = settings.lr * min(1.0, (self.step + 1) / max(1, settings.warmup))
        if settings.rate == "cosine":
            rate *= (1 + np.cos(np.pi * self.step / settings.steps)) / 2
        return float(rate)

    def cast(self) -> AbstractContextManager[Any]:
        """Products in bfloat16 where that is wanted; weights and sums stay in float32."""
        wanted, kind = self.settings.precision, self.device.type
        low = wanted == "bfloat16" or (wanted == "auto" and kind == "cuda")
        return torch.autocast(kind, torch.bfloat16, enabled=low)

    @torch.no_grad()
    def sample(self, count: int, steps: int) -> tuple[Tensor, Tensor | None]:
        """Samples of the averaged weights, and the classes that were asked for."""
        settings = self.settings
        generator = keyed(settings.seed, JUDGED)
        noise = torch.randn(count, *self.images.shape, generator=generator).to(self.device)
        labels = None
        if settings.conditional:  # as often as the images have them
            index = torch.randint(len(self.labels), (count,), generator=generator)
            labels = self.labels[index.to(self.device)]
        again = keyed(settings.seed, RESAMPLED, device=self.device)
        out = []
        for rows in torch.arange(count, device=self.device).split(CHUNK):
            told = None if labels is None else labels[rows]
            with self.cast():
                out.append(self.objective.sample(self.average, noise[rows], told, steps, again))
        return torch.cat(out).float().cpu(), labels

    def judge(self, judge: Judge) -> list[Row]:
        """What the model is worth now, for each number of sampling steps."""
        found = []
        for steps in self.settings.counts_after(self.step):
            samples, labels = self.sample(self.settings.judged, steps)
            measured = judge.measure(samples, labels)
            found.append({"train_step": self.step, "sampling_steps": steps, **measured})
        return found

    def save(self) -> None:
        state = {
            "settings": name_of(self.settings),
            "step": self.step,
            "rows": self.rows,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "pairing": self.pairing.state_dict(),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / "checkpoint.part"
        torch.save(state, part)
        part.replace(self.folder / "checkpoint.pt")

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one of this run."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["settings"] != name_of(self.settings):
            raise ValueError(f"output must be a folder without another run's {path}")
        self.step, self.rows = state["step"], state["rows"]
        for name in ("model", "average", "optimizer", "pairing"):
            getattr(self, name).load_state_dict(state[name])


def execute(
    settings: Settings,
    images: data.Images,
    judge: Judge,
    on_step: Callable[[int, float | None], None] = lambda step, loss: None,
    keep: bool = True,
) -> Run:
    """Train to the end, from a checkpoint if there is one; ``rows`` are the distances after
    ``judged_after``.

    Parameters
    ----------
    on_step : callable
        Called after each step with its number and, now and then, with the loss.
    keep : bool
        Whether to write checkpoints.
    """
    torch.set_num_threads(settings.threads)
    run = Run(settings, images)
    if keep:
        run.resume()
    while run.step < settings.steps:
        loss = run.train_step()
        seen = run.step % LOG_EVERY == 0 or run.step == settings.steps
        value = float(loss) if seen else None
        if value is not None and not np.isfinite(value):
            raise RuntimeError(f"the loss is {value} after {run.step} steps of {name_of(settings)}")
        if run.step in settings.judged_after:
            run.rows += run.judge(judge)
        on_step(run.step, value)
        if keep and (run.step % settings.save_every == 0 or run.step == settings.steps):
            run.save()
    if keep:
        write_rows(run.folder / "results.csv", run.rows)
        write_samples(run)
    return run


def write_rows(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, RESULT_FIELDS, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: rounded(value) for key, value in row.items()})


def rounded(value: Any) -> Any:
    return f"{value:.5g}" if isinstance(value, float) else value


def write_samples(run: Run) -> None:
    """samples.png: a row of samples for each number of sampling steps."""
    from .pictures import write_rows_of_samples

    counts = run.settings.counts_after(run.settings.judged_after[-1])
    rows = {f"{n} steps": run.sample(SHOWN, n)[0] for n in counts}
    write_rows_of_samples(rows, run.folder / "samples.png")


def main(argv: list[str] | None = None) -> int:
    from tqdm import tqdm

    settings = parse(argv, prog="python -m bench.training.run", description=__doc__)
    try:
        images = data.load(settings)
        judge = Judge.make(settings, images)
    except (FileNotFoundError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    folder = Run(settings, images).folder
    folder.mkdir(parents=True, exist_ok=True)
    board = None
    if settings.tensorboard:
        from torch.utils.tensorboard import SummaryWriter

        board = SummaryWriter(str(folder))
    print(f"{name_of(settings)}\n{folder}")
    bar, began = tqdm(total=settings.steps, unit="step"), time.perf_counter()
    with (folder / "log.csv").open("a", newline="") as file, bar:
        log = csv.writer(file, lineterminator="\n")

        def on_step(step: int, loss: float | None) -> None:
            bar.n = step
            bar.update(0)
            if loss is not None:
                bar.set_postfix(loss=f"{loss:.4f}")
                log.writerow([step, rounded(loss), rounded(time.perf_counter() - began)])
                if board:
                    board.add_scalar("loss", loss, step)

        rows = execute(settings, images, judge, on_step).rows
    for row in rows:
        print(", ".join(f"{key} {rounded(value)}" for key, value in row.items()))
        for measure in MEASURES if board else ():
            if board and measure in row:
                tag = f"{measure}/{row['sampling_steps']} sampling steps"
                board.add_scalar(tag, row[measure], row["train_step"])
    if board:
        board.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
