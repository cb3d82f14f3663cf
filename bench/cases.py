"""What ``bench.compare`` compares, as data: groups of problems, and the methods that solve them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from tests import checks

from . import peers, problems
from .peers import CENTRED, EUCLIDEAN, SAMPLES, Method
from .problems import Samples

SHARES = (0.01, 0.1, 1 / 3, 2 / 3, 0.9, 0.99)  # n / m of rectangles
RECTANGLES = ("uniform", "boxes", "sparse_gates", "images_and_noise", "one_over_f",
              "exponential_rows", "sparse_hub", "two_valued", "small_integers")  # fmt: skip
LARGEST = {"photo": 4096, "onef": 2048, "digits": 1797, "uniform": 2048, "integers": 64}


@dataclass
class Given:
    """One problem, in all forms that methods take."""

    family: str
    cost: Any  # (n, m) or (B, n, m), on which answers are judged
    inputs: dict[str, Any]
    samples: Samples | None = None
    labels: Any = None

    @property
    def n(self) -> int:
        return int(self.cost.shape[-2])

    @property
    def m(self) -> int:
        return int(self.cost.shape[-1])

    @property
    def facts(self) -> dict[str, Any]:
        """Entries of a row."""
        return {
            "family": self.family,
            "n": self.n,
            "m": self.m,
            "batch": len(self.cost) if self.cost.ndim == 3 else 1,
            "dim": self.samples.x[0].numel() if self.samples else 0,
            "dtype": str(self.cost.dtype),
        }

    @cached_property
    def best(self) -> float:
        """The optimum, by SciPy in float64."""
        costs = self.cost if self.cost.ndim == 3 else self.cost[None]
        return float(sum(map(checks.optimum, costs)))

    @cached_property
    def promised(self) -> float:
        """What an exact method must pay: the optimum, within labels if there are any."""
        if self.labels is None:
            return self.best
        groups = [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]
        return float(sum(checks.optimum(self.cost[np.ix_(rows, rows)]) for rows in groups))

    @cached_property
    def identity(self) -> float:
        """Without assignment; of rectangles, which have no such pairs, the optimum."""
        if self.n != self.m:
            return self.best
        return float(np.trace(self.cost, axis1=-2, axis2=-1, dtype=np.float64).sum())


@dataclass(frozen=True)
class Group:
    """Problems, methods, and which method of ours is held against the peers."""

    title: str
    cases: list[tuple[Any, ...]]  # the family first
    given: Callable[..., Given]
    methods: list[Method]
    ours: str = "exact"
    threads: int = 0  # for all libraries; 0: as they are
    hopeless: float = math.inf

    @staticmethod
    def size(case: tuple[Any, ...]) -> int:
        """n of a square, n + m of a rectangle."""
        return int(case[1] + case[2]) if isinstance(case[-1], str) else int(case[1])


def from_samples(family: str, n: int) -> Given:
    problem = problems.problem(family, n)
    forms = {form: torch.from_numpy(getattr(problem, form)) for form in problem.forms}
    if family in problems.COST_FAMILIES:
        return Given(family, problem.centred, forms)
    forms[SAMPLES] = problem.samples
    return Given(family, problem.centred, forms, problem.samples)


def matrix(family: str, n: int, m: int, dtype: str = "float32") -> Given:
    cost = problems.hard(family, n + m if n != m else [n, 5], n, m, dtype)
    return Given(family, cost, {CENTRED: torch.from_numpy(cost)})


def batch(family: str, n: int, m: int, count: int) -> Given:
    if family == "photo":
        costs = problems.batch_of_costs(count, n)
    else:
        costs = np.stack([problems.hard(family, k, n, m) for k in range(count)])
    return Given(family, costs, {CENTRED: torch.from_numpy(costs)})


def in_classes(family: str, n: int, classes: int) -> Given:
    """Random labels, as classes fall in a batch: of unequal sizes."""
    drawn = problems.problem(family, n).samples
    labels = np.random.default_rng([n, classes]).integers(0, classes, n)
    samples = Samples(drawn.x, drawn.noise, torch.from_numpy(labels))
    cost = problems.problem(family, n).centred
    return Given(f"{family}, {classes} classes", cost, {SAMPLES: samples}, samples, labels)


def small_batch(family: str, n: int, waiting: int) -> Given:
    """Images of a small batch, and as noise what waits in a pool."""
    drawn = problems.samples(family, waiting)
    samples = Samples(drawn.x[:n], drawn.noise)
    return Given(family, np.zeros((n, n), np.float32), {SAMPLES: samples}, samples)


def shapes() -> Iterable[tuple[str, int, int, str]]:
    for family in RECTANGLES:
        for size in (50, 200, 1000, 4000, 10_000):
            for share in SHARES:
                short = max(1, round(size * share / (1 + share)))
                for dtype in ("float32", "float64"):
                    yield family, short, size - short, dtype
                    yield family, size - short, short, dtype


def named(methods: list[Method], *names: str) -> list[Method]:
    return [method for method in methods if method.name in names]


TOO_SLOW = ("POT emd", "torch-linear-assignment")
SQUARE = [m for m in peers.SOLVERS if (m.exact or m.takes == EUCLIDEAN) and m.name not in TOO_SLOW]
GROUPS = {
    "headline": Group(
        "Exact solvers, costs given: peers get centred ones, the best that they can be given.",
        [(f, n) for f in LARGEST for n in (16, 32, 64, 100, 128, 256, 512, 1024, 2048, 4096)
         if n <= LARGEST[f]],
        from_samples,
        SQUARE,
    ),
    "worst_case": Group(
        "The worst that exact can look: every family of the tests, most of them degenerate.",
        [(family, n, n) for family in problems.families.FAMILIES for n in (64, 256, 700, 2048)],
        matrix,
        SQUARE,
        threads=1,
        hopeless=8,
    ),
    "shapes": Group(
        "Rectangles, both ways up, by `linear_sum_assignment` of an array.",
        list(shapes()),
        matrix,
        [m for m in SQUARE if m.rectangles and m.name != "exact"],
        "linear_sum_assignment",
        threads=1,
        hopeless=30,
    ),
    "batches": Group(
        "Many small problems at once.",
        [*(("photo", n, n, b) for b, n in ((1024, 16), (1024, 32), (256, 64), (64, 128), (64, 256),
                                           (16, 512), (8, 1024))),
         *((family, n, m, 64) for family in ("uniform", "boxes")
           for n, m in ((100, 5), (100, 10), (100, 20), (100, 40), (300, 20)))],
        batch,
        peers.BATCHES,
        "batch_linear_assignment",
    ),
    "pairs": Group(
        "From images and noise to pairs, distances included: what a training step pays.",
        [*(("photo", n) for n in (32, 64, 100, 128, 256, 512, 1024, 2048, 4096)),
         *(("digits", n) for n in (64, 256, 1024, 1797)),
         *(("latents", n) for n in (64, 256, 1024)),
         *(("wide_latents", n) for n in (32, 64, 128))],
        from_samples,
        peers.PAIRS,
    ),
    "product": Group(
        "A near-optimal call, its product in float32 and as shipped: in eight bits if that pays.",
        [*(("photo", n) for n in (256, 512, 1024, 2048)), ("onef", 1024), ("digits", 1024),
         ("latents", 256), ("latents", 1024)],
        from_samples,
        named(peers.PAIRS, "exact", "auction 0.01", "auction, float32"),
        threads=1,
    ),
    "stages": Group(
        "One exact call, its product alone, and its assignment alone.",
        [("photo", n) for n in (64, 256, 512, 1024, 2048, 4096)],
        from_samples,
        peers.STAGES,
    ),
    "pool": Group(
        "Noise for a batch of 4: out of a pool of 512, beside reading the pool once; best of k.",
        [("latents", 4, 512)],
        small_batch,
        peers.POOL,
        "pool.take, bfloat16",
        threads=1,
    ),
    "labels": Group(
        "Assignment within random labels, and without labels.",
        [("photo", n, classes) for n in (256, 1024, 4096) for classes in (10, 100, 1000)],
        in_classes,
        peers.LABELLED,
        "exact, labels",
        threads=1,
    ),
}  # fmt: skip
