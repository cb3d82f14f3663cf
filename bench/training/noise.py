"""The noise of a run's images, by the package's public functions, and who takes part in pairing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from immiscible_fast import NoisePool, assign_noise, pairwise_cost, select_noise, solve_assignment

from .settings import Settings


class Pairing:
    """Gives the images of a window their noise.

    Parameters
    ----------
    settings : Settings
        Which noise, and which images take part: each with ``pair_probability``, which falls to 0
        after ``fade_from``, and only from the noise level ``pair_above`` on. Whether an image takes
        part does not depend on its noise, so assigned noise stays Gaussian.
    center : Tensor, shape (c, h, w)
        Mean image: what best-of-k is to lean away from.
    generator : torch.Generator
        Draws what waits in the pool.
    """

    def __init__(self, settings: Settings, center: Tensor, generator: torch.Generator) -> None:
        self.settings, self.center, self.pool = settings, center, None
        if settings.noise == "pool":
            options = {"labels": settings.within == "labels", "max_age": settings.max_age}
            self.pool = NoisePool(settings.pool, generator=generator, **options)

    @property
    def steps(self) -> int:
        """Optimizer steps whose noise is found at once."""
        settings = self.settings
        return max(1, settings.together // settings.batch) if settings.noise == "assigned" else 1

    def share(self, progress: float) -> float:
        """Probability that an image takes part after a share ``progress`` of the training."""
        fade = self.settings.fade_from
        left = 1.0 if progress <= fade else (1 - progress) / (1 - fade)
        return self.settings.pair_probability * left

    def take(
        self, x: Tensor, labels: Tensor, level: Tensor, progress: float, draw: torch.Generator
    ) -> Tensor:
        """Noise for images (n, c, h, w) of classes (n,) and noise levels (n,) from 0 to 1."""
        noise = torch.randn(x.shape, generator=draw, device=x.device)
        if self.settings.noise == "plain":
            return noise
        lot = torch.rand(len(x), generator=draw, device=x.device)
        part = (lot < self.share(progress)) & (level >= self.settings.pair_above)
        for rows in torch.arange(len(x), device=x.device).split(self.settings.together):
            rows = rows[part[rows]]
            if len(rows):
                noise[rows] = self.paired(x[rows], labels[rows], noise[rows], draw)
        return noise

    def paired(self, x: Tensor, labels: Tensor, noise: Tensor, draw: torch.Generator) -> Tensor:
        """Noise for images that are paired together: that which was drawn for them, or other."""
        settings, center = self.settings, self.center
        groups = labels if settings.within == "labels" else None
        if self.pool is not None:
            return self.pool.take(x, groups)
        if settings.noise.startswith("best-"):
            score = settings.noise.removeprefix("best-")
            return select_noise(x, settings.k, score=score, center=center, generator=draw)
        if settings.noise == "surplus":  # the best of twice as many; the rest is thrown away
            more = torch.randn(x.shape, generator=draw, device=x.device)
            noise = torch.cat([noise, more])
            cost = pairwise_cost((x - center).flatten(1), noise.flatten(1), metric="dot")
            return noise[solve_assignment(cost).index]
        if settings.within == "conditions":
            weight = settings.condition_weight
            return assign_noise(x, noise, conditions=labels, condition_weight=weight)
        return assign_noise(x, noise, labels=groups)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.pool is None else {"pool": self.pool.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.pool is not None:
            self.pool.load_state_dict(state["pool"])
