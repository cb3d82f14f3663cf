"""Train two models side by side that differ only in which noise goes with which image."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import NoisePool, diffuse, fast_assign
from ..api.options import AssignOptions
from ..choices import Method
from .frechet import FrechetMeter
from .model import VelocityMLP, euler_sample
from .settings import ARMS, MANY_STEPS, POOL, SAMPLING_STEPS, SMALL_BATCH, DemoSettings

LEARNING_RATE = 1e-3
AVERAGE_DECAY = 0.995
JUDGED_SAMPLES = 2000
KEPT_SAMPLES = 18

Array = NDArray[np.float64]


class SeedResult(NamedTuple):
    """What one seed gave; the axis ``arms`` is in the order of ``ARMS``."""

    frechet: Array  # (checkpoints, arms, sampling steps)
    frechet_many: Array  # (arms,), of the trained models with MANY_STEPS sampling steps
    frechet_small: Array  # (2, sampling steps), of models trained in small batches: noise as it was
    # drawn, noise from a pool
    floor: float  # Frechet distance of as many real images, drawn with replacement
    pair_distance: Array  # (training steps, arms), mean squared distance per pixel
    noise_ms: Array  # (training steps, arms), time to make the noised batch
    step_ms: Array  # (training steps, arms), time of the whole step, noising included
    samples: Tensor  # (arms, sampling steps, KEPT_SAMPLES, d), of the trained models


class FlowLoss(NamedTuple):
    value: Tensor  # ()
    noise: Tensor  # (n, d), the noise in the batch, in the order of the images
    noise_ms: float


class Step(NamedTuple):
    pair_distance: float
    noise_ms: float
    step_ms: float


def flow_loss(
    model: nn.Module, x: Tensor, t: Tensor, noise: Tensor, assign: bool, method: Method
) -> FlowLoss:
    """Flow-matching loss of images ``x`` (n, d) at times ``t`` (n,) against the noise in use."""
    start = time.perf_counter()
    options: AssignOptions = {"method": method} if assign else {}
    x_t, used = diffuse(x, t, "flow", noise=noise, assign=assign, **options)
    noise_ms = (time.perf_counter() - start) * 1e3
    return FlowLoss((model(x_t, t) - (used - x)).square().mean(), used, noise_ms)


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move averaged weights towards those after the ``step``-th step, from 1."""
    decay = min(decay, step / (step + 9))  # or the first weights would linger
    for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)


class Arm:
    """One model, its optimizer, and the moving average of its weights, which is what is judged."""

    def __init__(self, initial: VelocityMLP, assign: bool, method: Method) -> None:
        self.model, self.average = copy.deepcopy(initial), copy.deepcopy(initial)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        self.assign, self.method = assign, method

    def train(self, x: Tensor, t: Tensor, noise: Tensor, step: int) -> Step:
        """One optimizer step, the ``step``-th from 1."""
        start = time.perf_counter()
        loss = flow_loss(self.model, x, t, noise, self.assign, self.method)
        self.optimizer.zero_grad()
        loss.value.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        move_average(self.average, self.model, step, AVERAGE_DECAY)
        step_ms = (time.perf_counter() - start) * 1e3
        return Step(float((loss.noise - x).square().mean()), loss.noise_ms, step_ms)

    def judge(
        self, meter: FrechetMeter, noise: Tensor, counts: Sequence[int] = SAMPLING_STEPS
    ) -> list[float]:
        """Frechet distance of samples from ``noise`` (k, d), for each count of sampling steps."""
        return [meter.distance(euler_sample(self.average, noise, count)) for count in counts]

    def sample(self, noise: Tensor) -> Tensor:
        """Samples from ``noise`` (k, d) for each count of sampling steps, (counts, k, d)."""
        return torch.stack([euler_sample(self.average, noise, count) for count in SAMPLING_STEPS])


def first_call_seconds(images: Tensor, settings: DemoSettings) -> float:
    """Seconds of a first assignment of the size in use, compilation included where there is any."""
    generator = torch.Generator().manual_seed(settings.seed)
    x = _draw_batch(images, settings.batch, generator)
    noise = torch.randn(x.shape, generator=generator)
    start = time.perf_counter()
    fast_assign(x, noise, method=settings.method)
    return time.perf_counter() - start


def train_pair(
    images: Tensor,
    meter: FrechetMeter,
    settings: DemoSettings,
    seed: int,
    on_step: Callable[[], None] = lambda: None,
) -> SeedResult:
    """Train both arms from one seed: same weights to start from, batches, noise and times.

    Parameters
    ----------
    images : Tensor, shape (n, d)
        Real images.
    meter : FrechetMeter
        Made with the same images.
    settings : DemoSettings
        Steps, batch size and method.
    seed : int
        Of every random number in here.
    on_step : callable
        Called after every training step, those in small batches included.
    """
    generator = torch.Generator().manual_seed(seed)
    initial = VelocityMLP(images.shape[1], generator)
    arms = [Arm(initial, name == "assigned", settings.method) for name in ARMS]
    start = torch.randn(JUDGED_SAMPLES, images.shape[1], generator=generator)
    floor = meter.distance(_draw_batch(images, JUDGED_SAMPLES, generator))
    steps, frechet = [], []
    for step in range(1, settings.steps + 1):
        x = _draw_batch(images, settings.batch, generator)
        noise = torch.randn(x.shape, generator=generator)
        t = torch.rand(len(x), generator=generator)
        steps.append([arm.train(x, t, noise, step) for arm in arms])
        if step in settings.checkpoints:
            frechet.append([arm.judge(meter, start) for arm in arms])
        on_step()
    measured = np.array(steps)  # (training steps, arms, fields of Step)
    samples = torch.stack([arm.sample(start[:KEPT_SAMPLES]) for arm in arms])
    pair_distance, noise_ms, step_ms = np.moveaxis(measured, 2, 0)
    return SeedResult(
        frechet=np.array(frechet),
        frechet_many=np.array([arm.judge(meter, start, [MANY_STEPS])[0] for arm in arms]),
        frechet_small=train_small(images, meter, settings, seed, on_step),
        floor=floor,
        pair_distance=pair_distance,
        noise_ms=noise_ms,
        step_ms=step_ms,
        samples=samples,
    )


def train_small(
    images: Tensor,
    meter: FrechetMeter,
    settings: DemoSettings,
    seed: int,
    on_step: Callable[[], None] = lambda: None,
) -> Array:
    """Train in batches of SMALL_BATCH, with noise as it is drawn and with noise from a pool.

    Parameters are those of ``train_pair``; again only the noise differs. Returns the Frechet
    distances (2, sampling steps).
    """
    generator = torch.Generator().manual_seed(seed)
    initial = VelocityMLP(images.shape[1], generator)
    plain, pooled = (Arm(initial, False, settings.method) for _ in range(2))
    start = torch.randn(JUDGED_SAMPLES, images.shape[1], generator=generator)
    pool = NoisePool(POOL, generator=torch.Generator().manual_seed(seed))
    for step in range(1, settings.small_steps + 1):
        x = _draw_batch(images, SMALL_BATCH, generator)
        t = torch.rand(len(x), generator=generator)
        plain.train(x, t, torch.randn(x.shape, generator=generator), step)
        pooled.train(x, t, pool.take(x), step)
        on_step()
    return np.array([arm.judge(meter, start) for arm in (plain, pooled)])


def _draw_batch(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return images[torch.randint(len(images), (count,), generator=generator)]
