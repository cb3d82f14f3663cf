"""What a person can set, checked. Nothing heavy is imported: ``--help`` shows the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..choices import METHODS, Method

ARMS = ("plain", "assigned")  # noise as it was drawn, noise matched to the images
SAMPLING_STEPS = (1, 2, 4, 8, 32)
MOST_THREADS = 1024  # more than any machine has use for; torch starts as many as it is told
SMALL_BATCH = 4  # of one more comparison, where noise comes from a pool
POOL = 512  # noises that wait in it
MANY_STEPS = 128  # sampling steps of one more comparison, after the last training step


class OptionError(ValueError):
    """A setting that cannot work; the message is one line for the person who typed it."""


@dataclass(frozen=True)
class DemoSettings:
    """Settings of one run of the demo.

    Raises
    ------
    OptionError
        If a value is out of range, naming the option, what it got and what it wants.
    """

    data: Path | None = None
    size: int = 16
    seed: int = 0
    seeds: int = 3
    steps: int = 2000
    batch: int = 256
    method: Method = "auto"
    threads: int = 1
    output: Path = Path("output")

    def __post_init__(self) -> None:
        _at_least(4, size=self.size)
        _at_least(0, seed=self.seed)
        _at_least(1, seeds=self.seeds, steps=self.steps, threads=self.threads)
        _at_least(2, batch=self.batch)
        _at_most(2**63 - self.seeds, seed=self.seed)  # torch counts seeds in 64 bits
        _at_most(MOST_THREADS, threads=self.threads)
        if self.method not in METHODS:
            raise OptionError(f"--method must be one of {', '.join(METHODS)}, got {self.method}")
        if self.output.exists() and not self.output.is_dir():
            raise OptionError(f"--output must be a folder, got the file {self.output}")

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Training steps after which both models are judged: halves of halves of all of them."""
        return tuple(sorted({max(1, self.steps >> shift) for shift in range(5)}))

    @property
    def small_steps(self) -> int:
        """Training steps in small batches; they are short, but there are two more models."""
        return max(1, self.steps // 2)

    @property
    def run_seeds(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.seeds))


def _at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise OptionError(f"--{name} must be at least {least}, got {value}")


def _at_most(most: int, **values: int) -> None:
    for name, value in values.items():
        if value > most:
            raise OptionError(f"--{name} must be at most {most}, got {value}")
