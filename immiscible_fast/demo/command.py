"""Run the demo from settings to files: data, training, table, words, PNG and JSON."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from .data import ImageSet, load_images
from .figure import write_figure
from .frechet import FrechetMeter
from .record import write_json
from .report import HELPED, HURT, UNCLEAR, Report, in_words, make_report
from .settings import SAMPLING_STEPS, DemoSettings, OptionError
from .train import SeedResult, first_call_seconds, train_pair

MARKS = {HELPED: " ", UNCLEAR: "=", HURT: "!"}
COLOURS = {HELPED: "green", UNCLEAR: "none", HURT: "red"}


def run_demo(settings: DemoSettings) -> Report:
    """Train both models for every seed, print what came out, write ``demo.png`` and ``demo.json``.

    Raises
    ------
    OptionError
        If there are no images where ``settings.data`` points, or no place to write to.
    """
    start = time.perf_counter()
    console, progress_console = Console(highlight=False), Console(stderr=True)
    images = load_images(settings.data, settings.size)
    try:  # now, rather than after the training
        settings.output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.output):
            pass
    except OSError as error:
        raise OptionError(f"--output cannot be written to: {error}") from error
    console.print(f"{images.name}; two models, {settings.steps} steps, {settings.seeds} seed(s)")
    with _torch_threads(settings.threads):
        with progress_console.status("First assignment (compiles once)"):
            first_call_s = first_call_seconds(images.pixels, settings)
        results = _train_all(images, settings, progress_console)
    report = make_report(settings, images.name, results, first_call_s)
    console.print(_table(report))
    for sentence in in_words(report):
        console.print(f"- {sentence}")
    picture, record = settings.output / "demo.png", settings.output / "demo.json"
    write_figure(report, images, results[0].samples, picture)
    write_json(report, record)
    console.print(f"\nDone in {time.perf_counter() - start:.0f} s.")
    for path in (picture, record):
        console.print(str(path), soft_wrap=True)
    return report


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train_all(images: ImageSet, settings: DemoSettings, console: Console) -> list[SeedResult]:
    meter = FrechetMeter(images.pixels)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    results, steps = [], settings.steps + settings.small_steps
    with progress:
        tasks = {
            seed: progress.add_task(f"seed {seed}", total=steps, start=False)
            for seed in settings.run_seeds
        }
        for seed, task in tasks.items():
            progress.start_task(task)
            advance = partial(progress.advance, task)
            results.append(train_pair(images.pixels, meter, settings, seed, advance))
    return results


def _table(report: Report) -> Table:
    seeds = report.settings.seeds
    table = Table(
        title="Frechet distance: plain noise/assigned noise"
        + (f" (mean of {seeds} seeds)" if seeds > 1 else ""),
        caption=f"Lower is better; as many real images, redrawn: {report.floor:.2f}.\n"
        f"'=' {UNCLEAR} (under 5 %, or the seeds disagree), '!' assignment {HURT}",
        box=SIMPLE_HEAD,
    )
    table.add_column("training\nsteps", justify="right")
    for count in SAMPLING_STEPS:
        table.add_column(f"{count} sampling\nstep{'s' if count > 1 else ''}", justify="right")
    for c, steps in enumerate(report.settings.checkpoints):
        cells = [_cell(report, c, k) for k in range(len(SAMPLING_STEPS))]
        table.add_row(str(steps), *cells)
    return table


def _cell(report: Report, checkpoint: int, k: int) -> str:
    plain, assigned = report.mean[checkpoint, :, k]
    verdict = report.verdict(checkpoint, k)
    largest = max(plain, assigned)
    digits = 2 if largest < 10 else 1 if largest < 100 else 0
    text = f"{plain:.{digits}f}/{assigned:.{digits}f}{MARKS[verdict]}"
    return f"[{COLOURS[verdict]}]{text}[/]"
