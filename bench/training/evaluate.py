"""How far samples are from the images: Frechet distances, and how often a class was met.

- pixels: between Gaussians on the images' 64 principal axes, as in the demo; images of more than
  3 x 32 x 32 numbers are averaged down to 32 x 32 first.
- classifier: between Gaussians on the 64 features of a small network that was trained to tell the
  images' classes. It is no FID, and compares with no figure but its own.
- right: share of samples that this network takes for the class that was asked for.
- fid: FID by torchmetrics, with Inception weights of torch-fidelity from a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from immiscible_fast.demo.frechet import FrechetMeter, fit_gaussian, frechet_distance

from .data import Images
from .settings import Settings

MEASURES = ("pixels", "classifier", "right", "fid")
MOST_PIXELS = 32
FEATURES = 64
CHANNELS = (32, 64)
CLASSIFIER_STEPS, CLASSIFIER_BATCH = 1500, 64
CHUNK = 500


class Classifier(nn.Module):
    """Two convolutions, features, classes."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        first, second = CHANNELS
        self.features = nn.Sequential(
            nn.Conv2d(channels, first, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4),
            nn.Flatten(), nn.Linear(16 * second, FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.leave = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.leave(self.features(x))
        return out


def train_classifier(images: Images, steps: int) -> Classifier:
    """A classifier of the images, the same one for every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Classifier(images.shape[0], images.classes)
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)
        for _ in range(steps):
            index = torch.randint(len(images.pixels), (CLASSIFIER_BATCH,))
            x = images.take(index) + 0.1 * torch.randn(CLASSIFIER_BATCH, *images.shape)
            loss = nn.functional.cross_entropy(network(x), images.labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def load_classifier(images: Images, path: Path) -> Classifier:
    """The classifier kept at ``path``, trained if there is none yet."""
    network = Classifier(images.shape[0], images.classes).eval()
    if path.exists():
        network.load_state_dict(torch.load(path, weights_only=True))
        return network
    network = train_classifier(images, CLASSIFIER_STEPS)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{torch.initial_seed()}.part")
    torch.save(network.state_dict(), part)
    part.replace(path)
    return network


@dataclass
class Judge:
    """Measures samples against the images it was made with, on the CPU but for FID."""

    images: Images
    pixels: FrechetMeter
    classifier: Classifier | None
    reference: Any  # Gaussian of the images' features
    fid: Any = None

    @classmethod
    def make(cls, settings: Settings, images: Images) -> Judge:
        real = images.some()
        network = reference = None
        if images.classes > 1:
            size = f"-{settings.size}" if settings.data == "patches" else ""
            path = settings.output / f"classifier-{settings.data}{size}.pt"
            network = load_classifier(images, path)
            reference = fit_gaussian(_features(network, real)[0])
        meter = FrechetMeter(_coarse(real).flatten(1))
        fid = inception_fid(settings.inception, images) if settings.inception else None
        return cls(images, meter, network, reference, fid)

    @torch.no_grad()
    def measure(self, samples: Tensor, labels: Tensor | None) -> dict[str, float]:
        """Measures of samples (k, c, h, w); what cannot be measured is left out."""
        samples = samples.float().cpu()
        found = {"pixels": self.pixels.distance(_coarse(samples).flatten(1))}
        if self.classifier is not None:
            features, classes = _features(self.classifier, samples)
            found["classifier"] = frechet_distance(self.reference, fit_gaussian(features))
            if labels is not None:
                found["right"] = float((classes == labels.cpu()).double().mean())
        if self.fid is not None:
            self.fid.reset()  # keeps the real images
            for chunk in samples.split(CHUNK):
                self.fid.update(as_bytes(chunk).to(self.fid.device), real=False)
            found["fid"] = float(self.fid.compute())
        return found


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
        fid.update(as_bytes(images.take(index)).to(fid.device), real=True)
    return fid


def as_bytes(samples: Tensor) -> Tensor:
    """Images in [-1, 1] as (k, 3, h, w) uint8."""
    levels = ((samples.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.expand(-1, 3, -1, -1)


def _coarse(samples: Tensor) -> Tensor:
    if samples.shape[-1] <= MOST_PIXELS:
        return samples
    return nn.functional.interpolate(samples, size=(MOST_PIXELS, MOST_PIXELS), mode="area")


@torch.no_grad()
def _features(network: Classifier, samples: Tensor) -> tuple[Any, Tensor]:
    """Features (k, FEATURES) as float64, and the class of each sample."""
    features = torch.cat([network.features(chunk) for chunk in samples.split(CHUNK)])
    return features.double().numpy(), network.leave(features).argmax(1)
