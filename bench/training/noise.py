"""The noise of a run's images, by the package's public functions, and who takes part in pairing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from immiscible_fast import NoisePool, assign_noise, select_noise

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
        self.settings, self.center = settings, center
        within = settings.within == "labels"
        self.pool = (
            NoisePool(settings.pool, generator=generator, labels=within)
            if settings.noise == "pool"
            else None
        )

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
        self,
        x: Tensor,
        labels: Tensor,
        level: Tensor,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        """Noise for images (n, c, h, w) of classes (n,) and noise levels (n,) from 0 to 1."""
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        if self.settings.noise == "plain":
            return noise
        lot = torch.rand(len(x), generator=generator, device=x.device)
        part = (lot < self.share(progress)) & (level >= self.settings.pair_above)
        size = self.settings.together if self.settings.noise == "assigned" else len(x)
        for rows in torch.arange(len(x), device=x.device).split(size):
            rows = rows[part[rows]]
            if len(rows):
                noise[rows] = self._paired(x[rows], labels[rows], noise[rows], generator)
        return noise

    def _paired(
        self, x: Tensor, labels: Tensor, noise: Tensor, generator: torch.Generator
    ) -> Tensor:
        settings = self.settings
        if self.pool is not None:
            return self.pool.take(x, labels if settings.within == "labels" else None)
        if settings.noise.startswith("best-"):
            score = settings.noise.removeprefix("best-")
            center = self.center
            return select_noise(x, settings.k, score=score, center=center, generator=generator)
        if settings.within == "labels":
            return assign_noise(x, noise, labels=labels)
        if settings.within == "conditions":
            weight = settings.condition_weight
            return assign_noise(x, noise, conditions=labels, condition_weight=weight)
        return assign_noise(x, noise)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.pool is None else {"pool": self.pool.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.pool is not None:
            self.pool.load_state_dict(state["pool"])
