"""What ``bench.compare`` compares, as data: groups of problems, and the methods that solve them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from . import peers, problems
from .peers import Method
from .problems import EUCLIDEAN, Problem

SHARES = (0.01, 0.1, 1 / 3, 2 / 3, 0.9, 0.99)  # n / m of rectangles
RECTANGLES = ("uniform", "boxes", "sparse_gates", "images_and_noise", "one_over_f",
              "exponential_rows", "sparse_hub", "two_valued", "small_integers")  # fmt: skip
LARGEST = {"photo": 4096, "onef": 2048, "digits": 1797, "uniform": 2048, "integers": 64}


@dataclass(frozen=True)
class Group:
    """Problems, methods, and which method of ours is held against the peers."""

    title: str
    cases: list[tuple[Any, ...]]  # the family first
    problem: Callable[..., Problem]
    methods: list[Method]
    ours: str = "exact"
    threads: int = 0  # for all libraries; 0: as they are
    hopeless: float = math.inf

    @staticmethod
    def size(case: tuple[Any, ...]) -> int:
        """n of a square, n + m of a rectangle."""
        return int(case[1] + case[2]) if isinstance(case[-1], str) else int(case[1])


def shapes() -> Iterable[tuple[str, int, int, str]]:
    for family in RECTANGLES:
        for size in (50, 200, 1000, 4000, 10_000):
            for share in SHARES:
                short = max(1, round(size * share / (1 + share)))
                for dtype in ("float32", "float64"):
                    yield family, short, size - short, dtype
                    yield family, size - short, short, dtype


TOO_SLOW = ("POT emd", "torch-linear-assignment")
SQUARE = [m for m in peers.SOLVERS if (m.exact or m.takes == EUCLIDEAN) and m.name not in TOO_SLOW]
GROUPS = {
    "headline": Group(
        "Exact solvers, costs given: peers get centred ones, the best that they can be given.",
        [(f, n) for f in LARGEST for n in (16, 32, 64, 100, 128, 256, 512, 1024, 2048, 4096)
         if n <= LARGEST[f]],
        problems.problem,
        SQUARE,
    ),
    "worst_case": Group(
        "The worst that exact can look: every family of the tests, most of them degenerate.",
        [(family, n, n) for family in problems.families.FAMILIES for n in (64, 256, 700, 2048)],
        problems.hard,
        SQUARE,
        threads=1,
        hopeless=8,
    ),
    "shapes": Group(
        "Rectangles, both ways up, by `linear_sum_assignment` of an array.",
        list(shapes()),
        problems.hard,
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
        problems.batch,
        peers.BATCHES,
        "batch_linear_assignment",
    ),
    "pairs": Group(
        "From images and noise to pairs, distances included: what a training step pays.",
        [*(("photo", n) for n in (32, 64, 100, 128, 256, 512, 1024, 2048, 4096)),
         *(("digits", n) for n in (64, 256, 1024, 1797)),
         *(("latents", n) for n in (64, 256, 1024)),
         *(("wide_latents", n) for n in (32, 64, 128))],
        problems.problem,
        peers.PAIRS,
    ),
    "product": Group(
        "A near-optimal call, its product in float32 and as shipped: in eight bits if that pays.",
        [*(("photo", n) for n in (256, 512, 1024, 2048)), ("onef", 1024), ("digits", 1024),
         ("latents", 256), ("latents", 1024)],
        problems.problem,
        peers.named(peers.PAIRS, "exact", "auction 0.01", "auction, float32"),
        threads=1,
    ),
    "stages": Group(
        "One exact call, its product alone, and its assignment alone.",
        [("photo", n) for n in (64, 256, 512, 1024, 2048, 4096)],
        problems.problem,
        peers.STAGES,
    ),
    "pool": Group(
        "Noise for a batch of 4: out of a pool of 512, beside reading the pool once; best of k.",
        [("latents", 4, 512)],
        problems.small_batch,
        peers.POOL,
        "pool.take, bfloat16",
        threads=1,
    ),
    "labels": Group(
        "Assignment within random labels, and without labels.",
        [("photo", n, classes) for n in (256, 1024, 4096) for classes in (10, 100, 1000)],
        problems.in_classes,
        peers.LABELLED,
        "exact, labels",
        threads=1,
    ),
}  # fmt: skip
