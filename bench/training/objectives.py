"""What models learn, and how images are drawn from what they learned.

Each objective turns a level u, uniform on [0, 1), 0 the image and 1 pure noise, into its own time,
gives the loss of a batch, and samples in a number of steps:

- flow: rectified flow (Liu et al., Lipman et al. 2023), Euler steps;
- epsilon, v: DDPM (Ho et al. 2020; Salimans and Ho 2022), 1000 linear betas, deterministic DDIM
  steps with images clipped to [-1, 1];
- consistency: consistency training with the pseudo-Huber loss, weights and doubling number of noise
  levels of Song and Dhariwal (2024), but all levels as often, as in Song et al. (2023): theirs
  hardly see the largest ones in a short training. Multistep sampling, images clipped to [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from immiscible_fast import diffuse
from immiscible_fast.demo.model import euler_sample

Model = Callable[[Tensor, Tensor], Tensor]  # of what is noised, and of times from 0 to 1
TIMESTEPS = 1000
SIGMA_MIN, SIGMA_MAX, RHO, SIGMA_DATA = 0.002, 80.0, 7.0, 0.5
COARSEST = 10  # noise levels at the start of consistency training
HUBER = 0.00054  # times the root of the dimensions


def _wide(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (x.ndim - 1)).to(x)


class Flow:
    def loss(self, model: Model, x: Tensor, noise: Tensor, u: Tensor, done: float) -> Tensor:
        x_t, noise = diffuse(x, u, "flow", noise=noise, assign=False)
        return (model(x_t, u) - (noise - x)).square().mean()

    def sample(self, model: Model, noise: Tensor, steps: int, draw: torch.Generator) -> Tensor:
        return euler_sample(model, noise, steps)


class Ddpm:
    """DDPM that predicts the noise or, with ``v``, sqrt(a) noise - sqrt(1 - a) x."""

    def __init__(self, v: bool) -> None:
        self.v = v
        self.alphas = (1 - torch.linspace(1e-4, 0.02, TIMESTEPS, dtype=torch.float64)).cumprod(0)

    def loss(self, model: Model, x: Tensor, noise: Tensor, u: Tensor, done: float) -> Tensor:
        t = (u * TIMESTEPS).long().clamp(max=TIMESTEPS - 1)
        x_t, noise = diffuse(x, t, self.alphas, noise=noise, assign=False)
        kept = _wide(self.alphas.to(x.device)[t], x)
        target = kept.sqrt() * noise - (1 - kept).sqrt() * x if self.v else noise
        return (model(x_t, (t + 1).to(x) / TIMESTEPS) - target).square().mean()

    def sample(self, model: Model, noise: Tensor, steps: int, draw: torch.Generator) -> Tensor:
        x = noise
        times = [round(TIMESTEPS * (1 - step / steps)) - 1 for step in range(steps)]
        kept = [*self.alphas[times].tolist(), 1.0]  # in the end all of the image
        for k, t in enumerate(times):
            out = model(x, x.new_full((len(x),), (t + 1) / TIMESTEPS))
            known = math.sqrt(kept[k]) * x if self.v else x / math.sqrt(kept[k])
            scale = math.sqrt(1 - kept[k]) / (1 if self.v else math.sqrt(kept[k]))
            image = (known - scale * out).clamp(-1, 1)
            found = (x - math.sqrt(kept[k]) * image) / math.sqrt(1 - kept[k])
            x = math.sqrt(kept[k + 1]) * image + math.sqrt(1 - kept[k + 1]) * found
        return x


class Consistency:
    """Consistency training that ends with ``finest`` noise levels."""

    def __init__(self, finest: int) -> None:
        self.finest = finest

    @staticmethod
    def sigmas(share: Tensor) -> Tensor:
        """Noise levels, the least at 0 and the largest at 1."""
        low, high = SIGMA_MIN ** (1 / RHO), SIGMA_MAX ** (1 / RHO)
        return (low + share * (high - low)) ** RHO

    def levels(self, done: float) -> int:
        """How many noise levels there are after a share of the training."""
        doublings = int(math.log2(self.finest / COARSEST))
        return min(COARSEST * 2 ** int(done * (doublings + 1)), self.finest) + 1

    def denoise(self, model: Model, x: Tensor, sigma: Tensor) -> Tensor:
        """The consistency function; it is the identity at the least noise level."""
        time = (sigma / SIGMA_MIN).log() / math.log(SIGMA_MAX / SIGMA_MIN)
        sigma = _wide(sigma, x)
        total = (sigma**2 + SIGMA_DATA**2).sqrt()
        keep = SIGMA_DATA**2 / ((sigma - SIGMA_MIN) ** 2 + SIGMA_DATA**2)
        scale = SIGMA_DATA * (sigma - SIGMA_MIN) / total
        return keep * x + scale * model(x / total, time)

    def loss(self, model: Model, x: Tensor, noise: Tensor, u: Tensor, done: float) -> Tensor:
        grid = self.sigmas(torch.linspace(0, 1, self.levels(done), device=x.device))
        k = (u * (len(grid) - 1)).long().clamp(max=len(grid) - 2)
        low, high = grid[k], grid[k + 1]
        there = self.denoise(model, x + _wide(high, x) * noise, high)
        with torch.no_grad():
            here = self.denoise(model, x + _wide(low, x) * noise, low)
        c = HUBER * math.sqrt(x[0].numel())
        huber = ((there - here).square().flatten(1).sum(1) + c**2).sqrt() - c
        return (huber / (high - low)).mean()

    def sample(self, model: Model, noise: Tensor, steps: int, draw: torch.Generator) -> Tensor:
        grid = self.sigmas(torch.linspace(1, 0, steps + 1)[:-1]).tolist()
        x = noise * grid[0]
        for k, sigma in enumerate(grid):
            if k:
                fresh = torch.randn(x.shape, generator=draw, device=x.device)
                x = x + math.sqrt(sigma**2 - SIGMA_MIN**2) * fresh
            x = self.denoise(model, x, x.new_full((len(x),), sigma)).clamp(-1, 1)
        return x


def make_objective(name: str, finest: int) -> Flow | Ddpm | Consistency:
    if name == "flow":
        return Flow()
    return Consistency(finest) if name == "consistency" else Ddpm(name == "v")
