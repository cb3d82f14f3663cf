"""What one training run is made of: a TOML file, flags that go before it, and checks of both."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHOICES = {
    "data": ("digits", "mnist", "patches", "cifar10", "celeba", "tiny-imagenet"),
    "model": ("mlp", "unet", "diffusers"),
    "objective": ("flow", "epsilon", "v", "consistency"),
    "noise": ("plain", "assigned", "pool", "best-dot", "best-euclidean"),
    "within": ("batch", "labels", "conditions"),
    "rate": ("constant", "cosine"),
    "precision": ("auto", "float32", "bfloat16"),
    "device": ("auto", "cpu", "cuda"),
}
RANGES = (
    ("width pool k batch steps threads save_every", 1, None),
    ("assign_batch warmup seed condition_weight clip", 0, None),
    ("pair_probability fade_from pair_above ema", 0, 1),
    ("judged", 2, None),
    ("size", 4, None),
    ("finest", 10, None),
)


@dataclass(frozen=True)
class Settings:
    """One training run.

    Raises
    ------
    ValueError
        If a value is out of range, naming the setting, what it got and what it wants.
    """

    data: str = "digits"
    folder: Path | None = None  # of the files of cifar10, celeba, tiny-imagenet
    size: int = 8  # pixels to a side of photo patches
    flip: bool = False  # images left to right, each with probability 1/2
    model: str = "mlp"
    width: int = 256  # hidden units of the MLP, channels of a UNet's first level
    conditional: bool = False  # whether the model is told the class
    objective: str = "flow"
    finest: int = 40  # noise levels at the end of consistency training
    noise: str = "plain"
    assign_batch: int = 0  # images that are assigned together; 0: those of one optimizer step
    pool: int = 512  # noises that wait in the pool
    k: int = 4  # of best-of-k
    within: str = "batch"  # "labels": noise stays in its class; "conditions": at a price
    condition_weight: float = 1.0  # of that price, in squared pixel units
    pair_probability: float = 1.0  # with which an image takes part in the pairing
    fade_from: float = 1.0  # share of the training after which that probability falls, to 0
    pair_above: float = 0.0  # share of all noise levels below which images take no part
    batch: int = 64
    steps: int = 1000
    lr: float = 1e-3
    rate: str = "constant"
    warmup: int = 0
    clip: float = 0.0  # norm of the gradient, 0: as it is
    ema: float = 0.995
    seed: int = 0
    precision: str = "auto"  # auto: bfloat16 on a GPU
    device: str = "auto"
    threads: int = 1
    judged: int = 2000  # samples that are compared with the images
    sampling_steps: tuple[int, ...] = (1, 2, 4, 8, 16, 50)
    last_only: int = 16  # sampling steps from which on only the trained model is judged
    judge_at: tuple[float, ...] = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1.0)  # of the steps
    inception: Path | None = None  # torch-fidelity's weights, for FID
    save_every: int = 1000  # steps from one checkpoint to the next
    tensorboard: bool = False
    output: Path = Path("output/training")

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        for names, least, most in RANGES:
            for name in names.split():
                value = getattr(self, name)
                if not (value >= least and (most is None or value <= most)):
                    wanted = f"at least {least}" if most is None else f"from {least} to {most}"
                    raise ValueError(f"{name} must be {wanted}, got {value}")
        if self.lr <= 0:
            raise ValueError(f"lr must be above 0, got {self.lr}")
        if not self.sampling_steps or min(self.sampling_steps) < 1:
            raise ValueError(f"sampling_steps must be 1 or more each, got {self.sampling_steps}")
        if not self.judge_at or min(self.judge_at) <= 0 or max(self.judge_at) > 1:
            raise ValueError(f"judge_at must be shares above 0, up to 1, got {self.judge_at}")
        larger, smaller = sorted((self.together, self.batch), reverse=True)
        if larger % smaller:
            raise ValueError(
                f"assign_batch must divide batch, {self.batch}, or be a multiple of it, got "
                f"{self.assign_batch}"
            )
        if self.within == "conditions" and self.noise != "assigned":
            raise ValueError(f"within must be batch or labels for noise {self.noise!r}")
        if self.within == "labels" and self.noise not in ("assigned", "pool"):
            raise ValueError(f"within must be batch for noise {self.noise!r}, got 'labels'")

    @property
    def together(self) -> int:
        """Images that are assigned together."""
        return self.assign_batch or self.batch

    @property
    def judged_after(self) -> tuple[int, ...]:
        """Training steps after which the model is judged."""
        return tuple(sorted({max(1, round(share * self.steps)) for share in self.judge_at}))

    def counts_after(self, step: int) -> tuple[int, ...]:
        """Numbers of sampling steps that are judged after a training step."""
        last = step == self.judged_after[-1]
        return tuple(n for n in self.sampling_steps if last or n < self.last_only)


HINTS = get_type_hints(Settings)


def from_dict(values: dict[str, Any], **over: Any) -> Settings:
    """Settings of a TOML table, with some values in their place.

    Raises
    ------
    ValueError
        If there is no such setting, or a value has another type.
    """
    found = {}
    for name, value in {**values, **over}.items():
        if name not in HINTS:
            raise ValueError(f"settings must be of {', '.join(HINTS)}, got {name!r}")
        found[name] = _typed(name, value)
    return Settings(**found)


def _typed(name: str, value: Any) -> Any:
    wanted = HINTS[name]
    if wanted in (Path, Path | None):
        return None if value is None else Path(value)
    if wanted == tuple[int, ...] or wanted == tuple[float, ...]:
        kind = int if wanted == tuple[int, ...] else float
        return tuple(kind(entry) for entry in value)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise ValueError(f"{name} must be {wanted.__name__}, got {value!r}")
    return value


def read_toml(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)


def parse(argv: list[str] | None, **described: Any) -> Settings:
    """Settings of the command line: a TOML file, if one is named, and flags that override it."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(formatter_class=raw, **described)
    parser.add_argument("config", type=Path, nargs="?", help="TOML file of settings")
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    for name, kind in HINTS.items():
        flag, told = f"--{name.replace('_', '-')}", f"default: {defaults[name]}"
        options: dict[str, Any] = {"default": None, "help": told, "dest": name}
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif kind in (tuple[int, ...], tuple[float, ...]):
            options |= {"nargs": "+", "type": int if kind == tuple[int, ...] else float}
        else:
            options |= {"type": Path if kind == Path | None else kind, "choices": CHOICES.get(name)}
        parser.add_argument(flag, **options)
    given = vars(parser.parse_args(argv))
    config = given.pop("config")
    try:
        values = read_toml(config) if config else {}
        return from_dict(values, **{key: v for key, v in given.items() if v is not None})
    except (OSError, ValueError) as error:
        parser.error(str(error))
