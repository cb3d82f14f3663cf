"""A small velocity field v(x, t) and the Euler steps that sample from it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

WIDTH = 256
BLOCKS = 2
FREQUENCIES = 16


class VelocityMLP(nn.Module):
    """Residual multilayer perceptron, conditioned on time.

    A gate that depends on time alone adds a multiple of the input to the output: noise has as many
    dimensions as the image and would not fit through the hidden layers when there are many.

    Parameters
    ----------
    dimensions : int
        Of an image.
    generator : torch.Generator
        Draws the initial weights; the global random state is not touched.
    width : int
        Of the hidden layers.
    """

    frequencies: Tensor

    def __init__(self, dimensions: int, generator: torch.Generator, width: int = WIDTH) -> None:
        super().__init__()
        time = 2 * FREQUENCIES + 1
        self.enter = _linear(dimensions + time, width, generator)
        self.blocks = nn.ModuleList(_linear(width, width, generator) for _ in range(BLOCKS))
        self.leave = _linear(width, dimensions, generator)
        self.gate = _linear(time, 1, generator)
        octaves = torch.arange(FREQUENCIES) / 4
        self.register_buffer("frequencies", math.pi * 2**octaves)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Velocity (n, d) at the points ``x`` (n, d) and times ``t`` (n,)."""
        t = t[:, None]
        angle = t * self.frequencies
        time = torch.cat([t, angle.sin(), angle.cos()], 1)
        hidden = nn.functional.silu(self.enter(torch.cat([x, time], 1)))
        for block in self.blocks:
            hidden = hidden + nn.functional.silu(block(hidden))
        out: Tensor = self.leave(hidden) + x * self.gate(time)
        return out


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
    bound = 1 / math.sqrt(inputs)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.zero_()
    return layer


@torch.no_grad()
def euler_sample(model: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Follow the velocity from ``noise`` (n, ...) at t = 1 to images at t = 0 in equal steps."""
    x = noise
    for step in range(steps):
        x = x - model(x, x.new_full((len(x),), 1 - step / steps)) / steps
    return x
