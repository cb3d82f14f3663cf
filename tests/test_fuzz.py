"""The fuzz run catches what it is for."""

from __future__ import annotations

import numpy as np
import pytest

from tests import fuzz, fuzz_problems


@pytest.fixture(autouse=True)
def kept_apart(monkeypatch, tmp_path):
    monkeypatch.setattr(fuzz, "FAILED", tmp_path)


def test_a_problem_follows_from_its_seed_and_number():
    for number in range(40):
        one, other = (fuzz_problems.draw(5, number) for _ in range(2))
        assert np.array_equal(one.pop("costs"), other.pop("costs"))
        assert one == other


def test_a_short_run_finds_nothing_and_counts_everything(rng):
    seed, tally = int(rng.integers(2**31)), fuzz.new_tally()
    for number in range(400):
        fuzz.attempt(seed, number, tally)
    assert tally["failures"] == []
    assert tally["problems"] == 400
    for name in ("family", "dtype", "method", "shape"):
        assert sum(tally[name].values()) == 400
    assert set(tally["method"]) == set(fuzz_problems.METHODS)
    twice = fuzz.merged([tally, tally])
    assert twice["problems"] == 800
    assert twice["row_scans_per_row"] == tally["row_scans_per_row"]


def failures(wanted, count=60):
    tally, number = fuzz.new_tally(), 0
    while tally["problems"] < count:
        problem = fuzz_problems.draw(3, number)
        if wanted(problem):
            fuzz.attempt(3, number, tally)
        number += 1
    return [failure["what"] for failure in tally["failures"]]


def test_a_wrong_cost_a_lying_certificate_and_spent_budgets_are_caught(monkeypatch):
    def square(method):
        return lambda p: (
            p["method"] == method and p["family"] == "uniform" and min(p["costs"].shape[1:]) > 5
        )

    original = fuzz_problems.linear_sum_assignment

    def worst(cost, maximize, **options):
        return original(cost, not maximize, **options)

    monkeypatch.setattr(fuzz_problems, "linear_sum_assignment", worst)
    assert failures(square("linear_sum_assignment"), 1)
    solve = fuzz_problems.solve_assignment

    def boast(cost, **options):
        answer = solve(cost, **options)
        return answer._replace(lower_bound=answer.lower_bound + 1)

    wide = lambda p: p["method"] == "exact" and min(p["costs"].shape) > 0  # noqa: E731
    monkeypatch.setattr(fuzz_problems, "solve_assignment", boast)
    assert failures(lambda p: wide(p) and p["family"] == "uniform", 1)
    monkeypatch.setattr(fuzz_problems, "solve_assignment", solve)
    monkeypatch.setattr(fuzz_problems, "budget", lambda n, m: dict.fromkeys(NAMES, 0))
    assert any("budget" in what for what in failures(wide, 5))


NAMES = fuzz_problems.COUNTERS
