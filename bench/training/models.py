"""What predicts velocity, noise or image from noised images (n, c, h, w), times in [0, 1] (n,), and
classes (n,) where the model is told them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from immiscible_fast.demo.model import VelocityMLP

from .data import Images
from .settings import Settings

LEVELS = (1, 2, 3)  # channels of the small UNet's levels, in widths
GROUPS = 8  # of group normalisation
FREQUENCIES = 16
DIFFUSERS_LEVELS = (1, 2, 2, 2)  # of DDPM's model for CIFAR-10, 35.7 million weights at width 128


def make_model(settings: Settings, images: Images) -> nn.Module:
    """The model of a run, its first weights drawn from the seed alone."""
    classes = images.classes if settings.conditional else 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if settings.model == "mlp":
            return MLP(images.shape, settings.width, classes)
        if settings.model == "unet":
            return UNet(images.shape, settings.width, classes)
        return Diffusers(images.shape, settings.width, classes)


class MLP(nn.Module):
    """The demo's residual perceptron; a class goes in as one more number for each that there is."""

    def __init__(self, shape: tuple[int, ...], width: int, classes: int) -> None:
        super().__init__()
        self.dim, self.classes = math.prod(shape), classes
        self.net = VelocityMLP(self.dim + classes, torch.default_generator, width)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        flat = x.flatten(1)
        if self.classes:
            assert labels is not None
            flat = torch.cat([flat, nn.functional.one_hot(labels, self.classes).to(flat)], 1)
        out: Tensor = self.net(flat, t)[:, : self.dim]
        return out.reshape(x.shape)


class Block(nn.Module):
    """Two convolutions around a residual, with a scale and a shift that time and class give."""

    def __init__(self, inputs: int, outputs: int, told: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, size) for size in (inputs, outputs))
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.told = nn.Linear(told, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        hidden = self.first(nn.functional.silu(self.norms[0](x)))
        scale, shift = self.told(told)[:, :, None, None].chunk(2, 1)
        hidden = self.norms[1](hidden) * (1 + scale) + shift
        out: Tensor = self.skip(x) + self.second(nn.functional.silu(hidden))
        return out


class UNet(nn.Module):
    """Three levels, one block down and one up on each, two in the middle."""

    def __init__(self, shape: tuple[int, ...], width: int, classes: int) -> None:
        super().__init__()
        if width % GROUPS:
            raise ValueError(f"width must be a multiple of {GROUPS} for a UNet, got {width}")
        sizes = [width * level for level in LEVELS]
        told = 4 * width
        self.time = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, told), nn.SiLU(), nn.Linear(told, told)
        )
        self.label = nn.Embedding(classes, told) if classes else None
        self.enter = nn.Conv2d(shape[0], width, 3, padding=1)
        before = [width, *sizes[:-1]]
        self.down = nn.ModuleList(Block(a, b, told) for a, b in zip(before, sizes, strict=True))
        self.middle = nn.ModuleList(Block(sizes[-1], sizes[-1], told) for _ in range(2))
        self.up = nn.ModuleList(
            Block(2 * b, a, told) for a, b in reversed(list(zip(before, sizes, strict=True)))
        )
        self.norm = nn.GroupNorm(GROUPS, width)
        self.leave = nn.Conv2d(width, shape[0], 3, padding=1)
        self.register_buffer("frequencies", math.pi * 2 ** (torch.arange(FREQUENCIES) / 4))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        angle = t[:, None] * self.frequencies
        told = self.time(torch.cat([angle.sin(), angle.cos()], 1))
        if self.label is not None:
            told = told + self.label(labels)
        told = nn.functional.silu(told)
        hidden, kept = self.enter(x), []
        for k, block in enumerate(self.down):
            if k:
                hidden = nn.functional.avg_pool2d(hidden, 2, ceil_mode=True)
            hidden = block(hidden, told)
            kept.append(hidden)
        for block in self.middle:
            hidden = block(hidden, told)
        for block in self.up:
            skip = kept.pop()
            if hidden.shape[-2:] != skip.shape[-2:]:
                hidden = nn.functional.interpolate(hidden, size=skip.shape[-2:])
            hidden = block(torch.cat([hidden, skip], 1), told)
        out: Tensor = self.leave(nn.functional.silu(self.norm(hidden)))
        return out


class Diffusers(nn.Module):
    """diffusers' UNet2DModel, laid out as DDPM's model for CIFAR-10."""

    def __init__(self, shape: tuple[int, ...], width: int, classes: int) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        channels, height, _ = shape
        self.net = UNet2DModel(
            sample_size=height,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=tuple(width * level for level in DIFFUSERS_LEVELS),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=min(32, width),
            dropout=0.1,
            num_class_embeds=classes or None,
        )

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        out: Tensor = self.net(x, 1000 * t, class_labels=labels).sample
        return out
