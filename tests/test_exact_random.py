"""33,280 random problems of every family and many shapes: the answers are optimal and proven so."""

from __future__ import annotations

import pytest
import torch
from checks import assert_exact
from families import FAMILIES, make

from immiscible_fast import Assignment, solve_assignment

SQUARE = (2, 3, 5, 8, 15, 16, 17, 24)
WIDE = ((1, 9), (3, 4), (5, 16), (12, 17))
TALL = ((9, 1), (4, 3), (17, 5), (20, 12))
SHAPES = tuple((n, n) for n in SQUARE) + WIDE + TALL
EACH = 40


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", FAMILIES)
def test_small_problems_are_solved_exactly(family, dtype, rng):
    for n, m in SHAPES:
        costs = [make(family, rng, n, m, dtype) for _ in range(EACH)]
        answers = solve_assignment(torch.stack([torch.from_numpy(cost) for cost in costs]))
        for cost, *answer in zip(costs, *answers, strict=True):
            assert_exact(cost, Assignment(*answer))
