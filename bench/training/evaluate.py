"""How far samples are from the images: Frechet distances, and how often a class was met.

- pixels: between Gaussians on the images' 64 principal axes, as in the demo; images of more than
  3 x 32 x 32 numbers are averaged down to 32 x 32 first.
- classifier: between Gaussians on the 64 features of a small network that was trained to tell the
  images' classes. It is no FID, and compares with no figure but its own.
- right: share of samples that this network takes for the class that was asked for.
- fid: FID by torchmetrics, with Inception weights of torch-fidelity from a file.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from immiscible_fast.demo.frechet import FrechetMeter, fit_gaussian, frechet_distance

from .data import Images
from .settings import Settings

MEASURES = ("pixels", "classifier", "right", "fid")
MOST_PIXELS = 32
CLASSIFIER_STEPS, CLASSIFIER_BATCH = 1500, 64
CHUNK = 500


def classifier(images: Images, path: Path) -> nn.Sequential:
    """Two convolutions, 64 features, classes: kept at ``path``, or trained, the same for all."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        features = nn.Sequential(
            nn.Conv2d(images.shape[0], 32, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4),
            nn.Flatten(), nn.Linear(16 * 64, 64), nn.ReLU(),
        )  # fmt: skip
        leave = nn.Linear(64, images.classes)
        network = nn.Sequential(OrderedDict(features=features, leave=leave))
        if path.exists():
            network.load_state_dict(torch.load(path, weights_only=True))
            return network.eval()
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)
        for _ in range(CLASSIFIER_STEPS):
            index = torch.randint(len(images.pixels), (CLASSIFIER_BATCH,))
            x = images.take(index) + 0.1 * torch.randn(CLASSIFIER_BATCH, *images.shape)
            loss = nn.functional.cross_entropy(network(x), images.labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    write_whole(network.state_dict(), path)
    return network.eval()


def write_whole(state: Any, path: Path) -> None:
    """Whoever stops it, or writes at the same time, leaves no half of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{torch.initial_seed()}.part")
    torch.save(state, part)
    part.replace(path)


class Judge:
    """Measures samples against the images it was made with, on the CPU but for FID."""

    def __init__(self, settings: Settings, images: Images) -> None:
        real = images.some()
        self.pixels = FrechetMeter(_coarse(real).flatten(1))
        self.fid = inception_fid(settings.inception, images) if settings.inception else None
        self.network = None
        if images.classes > 1:
            size = f"-{settings.size}" if settings.data == "patches" else ""
            path = settings.output / f"classifier-{settings.data}{size}.pt"
            self.network = classifier(images, path)
            self.reference = fit_gaussian(self._features(real)[0])

    @torch.no_grad()
    def measure(self, samples: Tensor, labels: Tensor | None) -> dict[str, float]:
        """Measures of samples (k, c, h, w); what cannot be measured is left out."""
        samples = samples.float().cpu()
        found = {"pixels": self.pixels.distance(_coarse(samples).flatten(1))}
        if self.network is not None:
            features, classes = self._features(samples)
            found["classifier"] = frechet_distance(self.reference, fit_gaussian(features))
            if labels is not None:
                found["right"] = float((classes == labels.cpu()).double().mean())
        if self.fid is not None:
            self.fid.reset()  # keeps the real images
            for chunk in samples.split(CHUNK):
                self.fid.update(as_bytes(chunk, 3).to(self.fid.device), real=False)
            found["fid"] = float(self.fid.compute())
        return found

    @torch.no_grad()
    def _features(self, samples: Tensor) -> tuple[Any, Tensor]:
        """Features (k, 64) as float64, and the class of each sample."""
        features = torch.cat([self.network.features(chunk) for chunk in samples.split(CHUNK)])
        return features.double().numpy(), self.network.leave(features).argmax(1)


def inception_fid(weights: Path, images: Images, feature: Any = 2048) -> Any:
    """torchmetrics' FID with the images as its real ones.

    Raises
    ------
    FileNotFoundError
        If there are no weights: where they are from.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    if not weights.is_file():
        raise FileNotFoundError(
            "inception must be the file pt_inception-2015-12-05-6726825d.pth of torch-fidelity's "
            f"releases on github.com, got {weights}"
        )
    fid = FrechetInceptionDistance(
        feature=feature, reset_real_features=False, feature_extractor_weights_path=str(weights)
    ).to("cuda" if torch.cuda.is_available() else "cpu")
    for index in torch.arange(len(images.pixels)).split(CHUNK):
        fid.update(as_bytes(images.take(index), 3).to(fid.device), real=True)
    return fid


def as_bytes(samples: Tensor, channels: int = -1) -> Tensor:
    """Images in [-1, 1] as uint8, (k, c, h, w), grey ones in so many channels."""
    return ((samples.clamp(-1, 1) + 1) * 127.5).round().byte().expand(-1, channels, -1, -1)


def _coarse(samples: Tensor) -> Tensor:
    if samples.shape[-1] <= MOST_PIXELS:
        return samples
    return nn.functional.interpolate(samples, size=(MOST_PIXELS, MOST_PIXELS), mode="area")
