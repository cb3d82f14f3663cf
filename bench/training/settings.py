"""What one training run is made of: a TOML file, flags that go before it, and checks of both."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import BaseModel, Field, ValidationError, model_validator

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
ELSEWHERE = {  # settings that change where and how, not what comes out
    *("folder", "output", "threads", "device", "precision", "save_every", "tensorboard"),
    *("sampling_steps", "last_only", "judge_at", "inception"),
}


class Settings(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """One training run.

    Raises
    ------
    ValueError
        If a value is out of range, naming the setting, what it got and what it wants.
    """

    data: Literal["digits", "mnist", "patches", "cifar10", "celeba", "tiny-imagenet"] = "digits"
    folder: Path | None = None  # of the files of cifar10, celeba, tiny-imagenet
    size: Annotated[int, Field(ge=4)] = 8  # pixels to a side of photo patches
    flip: bool = False  # images left to right, each with probability 1/2
    model: Literal["mlp", "unet", "diffusers"] = "mlp"
    width: Count = 256  # hidden units of the MLP, channels of a UNet's first level
    conditional: bool = False  # whether the model is told the class
    objective: Literal["flow", "epsilon", "v", "consistency"] = "flow"
    finest: Annotated[int, Field(ge=10)] = 40  # noise levels at the end of consistency training
    noise: Literal["plain", "assigned", "pool", "best-dot", "best-euclidean", "surplus"] = "plain"
    assign_batch: Annotated[int, Field(ge=0)] = (
        0  # images assigned together; 0: an optimizer step's
    )
    pool: Count = 512  # noises that wait in the pool
    max_age: Count | None = None  # images that a noise waits there at most
    k: Count = 4  # of best-of-k
    within: Literal["batch", "labels", "conditions"] = "batch"  # in its class; or that at a price
    condition_weight: Amount = 1.0  # of that price, in squared pixel units
    pair_probability: Share = 1.0  # with which an image takes part in the pairing
    fade_from: Share = 1.0  # share of the training after which that probability falls, to 0
    pair_above: Share = 0.0  # share of all noise levels below which images take no part
    batch: Count = 64
    steps: Count = 1000
    lr: Annotated[float, Field(gt=0)] = 1e-3
    rate: Literal["constant", "cosine"] = "constant"
    warmup: Annotated[int, Field(ge=0)] = 0
    clip: Amount = 0.0  # norm of the gradient, 0: as it is
    ema: Share = 0.995
    seed: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on a GPU
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = 1
    judged: Annotated[int, Field(ge=2)] = 2000  # samples that are compared with the images
    sampling_steps: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 4, 8, 16, 50)
    last_only: int = 16  # sampling steps from which on only the trained model is judged
    judge_at: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (
        *(1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1.0),
    )  # shares of the steps after which the model is judged
    inception: Path | None = None  # torch-fidelity's weights, for FID
    save_every: Count = 1000  # steps from one checkpoint to the next
    tensorboard: bool = False  # write the loss as TensorBoard's events, too
    output: Path = Path("output/training")

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        larger, smaller = sorted((self.together, self.batch), reverse=True)
        if larger % smaller:
            raise ValueError(
                f"assign_batch must divide batch, {self.batch}, or be a multiple of it, got "
                f"{self.assign_batch}"
            )
        allowed = {"assigned": ("batch", "labels", "conditions"), "pool": ("batch", "labels")}
        wanted = allowed.get(self.noise, ("batch",))
        if self.within not in wanted:
            raise ValueError(
                f"within must be one of {', '.join(wanted)} for noise {self.noise!r}, got "
                f"{self.within!r}"
            )
        return self

    @property
    def name(self) -> str:
        """What tells this run from others: settings that are not the default, ``key=value``."""
        fields = type(self).model_fields
        parts = [f"{k}={v}" for k, v in self if k not in ELSEWHERE and v != fields[k].default]
        return " ".join(parts) or "default"

    @property
    def together(self) -> int:
        """Images that are paired together."""
        return self.assign_batch or self.batch

    @property
    def judged_after(self) -> tuple[int, ...]:
        """Training steps after which the model is judged."""
        return tuple(sorted({max(1, round(share * self.steps)) for share in self.judge_at}))

    def counts_after(self, step: int) -> tuple[int, ...]:
        """Numbers of sampling steps that are judged after a training step."""
        last = step == self.judged_after[-1]
        return tuple(n for n in self.sampling_steps if last or n < self.last_only)


def read_toml(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)


def parse(argv: list[str], **described: Any) -> Settings:
    """Settings of the command line: a TOML file, if one is named, and flags that override it."""
    plan, flags = {}, argv
    try:
        if argv and argv[0].endswith(".toml"):
            plan, flags = read_toml(Path(argv[0])), argv[1:]
        return tyro.cli(Settings, args=flags, default=Settings(**plan), **described)
    except (OSError, ValidationError) as error:
        sys.exit(str(error))
