"""What pairing does to the noise: how much nearer it is, and whether it is Gaussian still.

    python -m bench.training.gaussian          # both tables, to bench/results/training/

Distance: mean over the pairs of |x - e| and |x - e|^2, after assignment over before, on photo
patches and digits for some n. With x centred, the best of n noises for an image leans towards it by
about sqrt(2 ln n), and by no more, so that of the mean squared distance (|x|^2 + D) at most
2 |x| sqrt(2 ln n) can go; of the distance itself half that share, |x| sqrt(2 ln n) / (|x|^2 + D).

Gaussian: all noise that went to the images of many batches, beside fresh noise: the mean square of
standardised means and the variance of coordinates, and two-sample Kolmogorov-Smirnov tests of
norms, of coordinates and of projections on the mean image, on the first principal axis and on a
random one. Each noise is tested; that values of one noise or batch depend on each other is allowed
for by testing one value a noise, and assignment within a batch only makes batches more alike. A
pool holds back what suits nobody, 512 noises at any time: the last row counts these, too.
``lean`` is the mean of e . (x - mean) / |x - mean| over the pairs: what pairing is for.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import normalize

from immiscible_fast import assign_noise

from . import data
from .noise import Pairing
from .settings import Settings
from .tables import RESULTS, write_csv

SIZES = (128, 256, 512, 1024)
PAPER = {  # of the mean distance, by D and n: CIFAR-10
    ("3072", "128"): "1.93 %",
    ("3072", "256"): "2.16 %",
    ("3072", "512"): "2.32 %",
    ("3072", "1024"): "2.44 %",
}
BATCH, NOISES = 64, 8192
REJECTED = 1e-3  # p below which a test says that noise is not Gaussian
WAITING = ", with those that wait"
KINDS = {
    "plain": Settings(),
    "assigned": Settings(noise="assigned"),
    "assigned within classes": Settings(noise="assigned", within="labels"),
    "pool 512, batch 4": Settings(noise="pool", assign_batch=4),
    f"pool 512, batch 4{WAITING}": Settings(noise="pool", assign_batch=4),
    "best of 4, dot": Settings(noise="best-dot"),
    "best of 4, euclidean": Settings(noise="best-euclidean"),
    "best of 16, dot": Settings(noise="best-dot", k=16),
}


def predicted(norm: float, square: float, n: int) -> float:
    """The share of the mean distance that can go at most, for images of mean norm ``norm`` (from
    their mean) whose mean squared distance to their noise is ``square``."""
    return norm * math.sqrt(2 * math.log(n)) / square


def reduction(x: Tensor, sizes: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """For images (N, D) and each n: shares of the distance that assignment removes, in percent."""
    rows = []
    generator = torch.Generator().manual_seed(0)
    norm, dim = float((x - x.mean(0)).norm(dim=1).mean()), x.shape[1]
    raw = float(x.norm(dim=1).square().mean())
    for n in sizes:
        before, after = torch.zeros(2), torch.zeros(2)
        for _ in range(max(1, rounds // n)):
            batch = x[torch.randperm(len(x), generator=generator)[:n]]
            noise = torch.randn(batch.shape, generator=generator)
            for sums, paired in ((before, noise), (after, assign_noise(batch, noise))):
                distance = (batch - paired).norm(dim=1)
                sums += torch.stack([distance.sum(), distance.square().sum()])
        removed = (100 * (1 - after / before)).tolist()
        limit = 100 * predicted(norm, raw + dim, n)
        rows.append({"n": n, "distance": removed[0], "squared": removed[1], "theory": limit})
    return rows


def given(kind: str, images: Tensor, labels: Tensor, count: int) -> tuple[Tensor, ...]:
    """For ``count`` images (N, D) drawn in batches: their noise, the noise that waits and was not
    given yet (W, D), the images, and their classes."""
    draw = torch.Generator().manual_seed(1)
    index = torch.randint(len(images), (count,), generator=draw)
    x, classes, settings = images[index], labels[index], KINDS[kind]
    pairing = Pairing(settings, images.mean(0), draw)
    found = []
    for rows in torch.arange(count).split(settings.together):
        drawn = settings.noise in ("plain", "assigned")
        noise = torch.randn(len(rows), x.shape[1], generator=draw) if drawn else None
        if settings.noise != "plain":
            noise = pairing.paired(x[rows], classes[rows], noise, draw)
        found.append(noise)
    noise = torch.cat(found)
    counted = kind.endswith(WAITING)
    waiting = pairing.state_dict()["pool"]["pools"][0]["noise"] if counted else noise[:0]
    return noise, waiting, x, classes


def examine(
    images: Tensor, given_noise: Tensor, waiting: Tensor, x: Tensor, labels: Tensor
) -> dict[str, float]:
    """Moments of what was ``given``, and p values of its tests against fresh noise."""
    noise = torch.cat([given_noise, waiting])
    count, dim = noise.shape
    fresh = torch.randn(noise.shape, generator=torch.Generator().manual_seed(2))
    mean, number = images.mean(0), torch.arange(count)
    axes = {
        "mean image": mean,
        "first axis": torch.linalg.svd(images - mean, full_matrices=False)[2][0],
        "random axis": torch.randn(dim, generator=torch.Generator().manual_seed(3)),
    }

    def views(e: Tensor) -> dict[str, Tensor]:
        along = {name: e @ normalize(axis, dim=0) for name, axis in axes.items()}
        return {"norms": e.norm(dim=1), "coordinates": e[number, number % dim], **along}

    expected = views(fresh)
    classes = [given_noise[labels == label] for label in labels.unique()]
    return {
        "lean": float((normalize(x - mean, dim=1) * given_noise).sum(1).mean()),
        "mean square of means": _mean_square(noise),
        "of means in a class": max(map(_mean_square, classes)),
        "variance": float(noise.var()),
        "length": float(noise.square().sum(1).mean() / dim),
        **{f"p {k}": float(stats.ks_2samp(v, expected[k]).pvalue) for k, v in views(noise).items()},
    }


def _mean_square(noise: Tensor) -> float:
    """Of standardised means of noise (n, D): about 1 if it is N(0, I)."""
    return float((noise.mean(0) * math.sqrt(len(noise))).square().mean())


def gaussian(row: dict[str, Any]) -> bool:
    """Whether no test rejects, with means and variances as of independent noise or nearer."""
    tests = [float(value) for key, value in row.items() if key.startswith("p ")]
    return min(tests) > REJECTED and float(row["mean square of means"]) < 2


def main(out: Path = RESULTS, sizes: tuple[int, ...] = SIZES, noises: int = NOISES) -> None:
    torch.set_num_threads(1)
    wanted = {"photo patches": Settings(data="patches", size=32), "digits": Settings()}
    distances, moments = [], []
    for name, settings in wanted.items():
        x = data.load(settings).pixels.flatten(1)
        for row in reduction(x, sizes, noises):
            distances.append({"data": name, "dim": x.shape[1], **row})
    digits = data.load(wanted["digits"])
    for kind in KINDS:
        row = {"noise": kind, **examine(x, *given(kind, x, digits.labels, noises))}
        moments.append({"data": "digits", "batch": BATCH, "noises": noises, **row})
    write_csv(out / "distance.csv", distances, float_format="%.4g")
    write_csv(out / "gaussian.csv", moments, float_format="%.4g")


if __name__ == "__main__":
    import tyro

    tyro.cli(main, description=__doc__)
