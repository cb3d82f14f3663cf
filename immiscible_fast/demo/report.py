"""From the runs of all seeds to a table, a verdict for each of its cells, and plain words.

A verdict says "helped" or "hurt" only where every seed agrees and the mean changes by 5 % or more;
anything else is "no clear difference". Nothing in here knows what to expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .settings import MANY_STEPS, POOL, SAMPLING_STEPS, SMALL_BATCH, DemoSettings
from .train import SeedResult

HELPED, UNCLEAR, HURT = "helped", "no clear difference", "hurt"
COMPARED = {HELPED: "clearly lower", UNCLEAR: "no clear difference", HURT: "clearly higher"}
CLEAR_CHANGE = 0.05
WORSENED = 1.2  # last distance over the best before it, from where the report speaks of it

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Costs:
    """Medians over all steps of all seeds, and means of the distance of the pairs."""

    first_call_s: float
    assignment_ms: float
    plain_step_ms: float
    assigned_step_ms: float
    plain_distance: float
    assigned_distance: float

    @property
    def share_of_step(self) -> float:
        return self.assignment_ms / self.assigned_step_ms

    @property
    def distance_removed(self) -> float:
        return 1 - self.assigned_distance / self.plain_distance


@dataclass(frozen=True)
class Report:
    """All that the demo found; arrays have axes (checkpoints, sampling steps) or say otherwise."""

    settings: DemoSettings
    data: str
    frechet: Array  # (seeds, checkpoints, arms, sampling steps)
    frechet_many: Array  # (seeds, arms), at the end, with MANY_STEPS sampling steps
    frechet_small: Array  # (seeds, 2, sampling steps), in small batches: plain noise, from a pool
    floor: float
    costs: Costs

    @property
    def mean(self) -> Array:
        """(checkpoints, arms, sampling steps)"""
        mean: Array = self.frechet.mean(0)
        return mean

    @property
    def change(self) -> Array:
        """Relative change of the mean distance by assignment."""
        return relative_change(self.mean[:, 0], self.mean[:, 1])

    def verdict(self, checkpoint: int, k: int) -> str:
        return verdict_on(self.frechet[:, checkpoint, 0, k], self.frechet[:, checkpoint, 1, k])

    @property
    def verdicts(self) -> list[list[str]]:
        """(checkpoints, sampling steps)"""
        checkpoints, _, counts = self.mean.shape
        return [[self.verdict(c, k) for k in range(counts)] for c in range(checkpoints)]


def verdict_on(plain: Array, assigned: Array) -> str:
    """Verdict on Frechet distances (seeds,) of both arms."""
    change = relative_change(plain.mean(), assigned.mean())
    if (assigned < plain).all() and change <= -CLEAR_CHANGE:
        return HELPED
    if (assigned > plain).all() and change >= CLEAR_CHANGE:
        return HURT
    return UNCLEAR


def relative_change(plain: Array, assigned: Array) -> Array:
    """-0.4 is 40 % less by assignment."""
    change: Array = assigned / np.maximum(plain, np.finfo(float).tiny) - 1
    return change


def make_report(
    settings: DemoSettings, data: str, results: Sequence[SeedResult], first_call_s: float
) -> Report:
    """Put the results of all seeds together."""
    noise_ms = np.median(np.concatenate([result.noise_ms for result in results]), axis=0)
    step_ms = np.median(np.concatenate([result.step_ms for result in results]), axis=0)
    pairs = np.concatenate([result.pair_distance for result in results]).mean(0)
    costs = Costs(
        first_call_s=first_call_s,
        assignment_ms=float(noise_ms[1] - noise_ms[0]),
        plain_step_ms=float(step_ms[0]),
        assigned_step_ms=float(step_ms[1]),
        plain_distance=float(pairs[0]),
        assigned_distance=float(pairs[1]),
    )
    frechet = np.stack([result.frechet for result in results])
    floor = float(np.mean([result.floor for result in results]))
    many = np.stack([result.frechet_many for result in results])
    small = np.stack([result.frechet_small for result in results])
    return Report(settings, data, frechet, many, small, floor, costs)


def in_words(report: Report) -> list[str]:
    """What the numbers say about where assignment helped, a sentence or two to an entry."""
    return [
        *_at_the_end(report),
        _with_many_steps(report),
        _over_the_run(report),
        *_best_of_each(report),
        *_worsening(report),
        _costs(report.costs),
        _in_small_batches(report),
        *_caution(report.settings.seeds),
    ]


def _at_the_end(report: Report) -> list[str]:
    """One sentence for each verdict that occurs after the last training step."""
    wording = {
        HELPED: "assigned noise gave a clearly lower Frechet distance with",
        UNCLEAR: "there was no clear difference with",
        HURT: "assigned noise gave a clearly higher Frechet distance with",
    }
    sentences = []
    for verdict, words in wording.items():
        cells = [k for k in range(len(SAMPLING_STEPS)) if report.verdict(-1, k) == verdict]
        if cells:
            changes = [f"{SAMPLING_STEPS[k]} ({report.change[-1, k]:+.0%})" for k in cells]
            sentences.append(
                f"After {report.settings.steps} training steps {words} {_listed(changes)} "
                f"{_sampling_steps(cells)}."
            )
    return sentences


def _with_many_steps(report: Report) -> str:
    plain, assigned = report.frechet_many.T
    return (
        f"With as many as {MANY_STEPS} sampling steps the distance of plain noise was then "
        f"{plain.mean():.3f} and that of assigned noise {assigned.mean():.3f} "
        f"({relative_change(plain.mean(), assigned.mean()):+.0%}): "
        f"{COMPARED[verdict_on(plain, assigned)]}."
    )


def _over_the_run(report: Report) -> str:
    verdicts = [verdict for row in report.verdicts for verdict in row]
    helped, unclear, hurt = (verdicts.count(verdict) for verdict in (HELPED, UNCLEAR, HURT))
    return (
        f"Of the {len(verdicts)} cells of the table, assignment helped in {helped}, made no clear "
        f"difference in {unclear} and hurt in {hurt}."
    )


def _best_of_each(report: Report) -> list[str]:
    """When each arm was at its best, for the most and the least changed count of sampling steps."""
    order = np.argsort(report.change[-1], kind="stable")
    sentences = []
    for k in dict.fromkeys([int(order[0]), int(order[-1])]):
        plain, assigned = report.mean[:, 0, k], report.mean[:, 1, k]
        steps = report.settings.checkpoints
        reached = np.flatnonzero(assigned <= plain.min())
        when = f"reached that after {steps[reached[0]]}" if len(reached) else "never reached that"
        sentences.append(
            f"With {SAMPLING_STEPS[k]} {_sampling_steps([k])} the lowest distance of plain noise "
            f"was {plain.min():.2f}, after {steps[plain.argmin()]} training steps; assigned noise "
            f"{when}, and its own lowest was {assigned.min():.2f}, after "
            f"{steps[assigned.argmin()]}."
        )
    return sentences


def _worsening(report: Report) -> list[str]:
    """Which arm got worse again as it was trained on, and at how many sampling steps."""
    rise = report.mean[-1] / np.maximum(report.mean.min(0), np.finfo(float).tiny)  # (arms, k)
    sentences = []
    for arm, name in enumerate(("Plain", "Assigned")):
        cells = np.flatnonzero(rise[arm] >= WORSENED).tolist()
        if cells:
            counts = [f"{SAMPLING_STEPS[k]} ({rise[arm, k]:.1f} times its best)" for k in cells]
            sentences.append(
                f"{name} noise got worse again with more training at {_listed(counts)} "
                f"{_sampling_steps(cells)}."
            )
    if sentences:
        sentences.append(
            "(A better trained model follows its paths from noise to image more closely; where "
            "these are curved, a few straight steps cut across them.)"
        )
    return [" ".join(sentences)] if sentences else []


def _costs(costs: Costs) -> str:
    return (
        f"The assignment took {costs.assignment_ms:.2f} ms (median) of a step of "
        f"{costs.assigned_step_ms:.2f} ms, {costs.share_of_step:.0%}, and brought the mean squared "
        f"distance between image and noise from {costs.plain_distance:.3f} to "
        f"{costs.assigned_distance:.3f} per value, {costs.distance_removed:.1%} less. Its first "
        f"call took {costs.first_call_s:.1f} s, compilation included where there was any."
    )


def _in_small_batches(report: Report) -> str:
    cells = []
    for k, count in enumerate(SAMPLING_STEPS):
        plain, pooled = report.frechet_small[..., k].T
        verdict = COMPARED[verdict_on(plain, pooled)]
        cells.append(f"{plain.mean():.2f} and {pooled.mean():.2f} with {count} ({verdict})")
    return (
        f"In batches of {SMALL_BATCH}, where there is little to assign, the distances of plain "
        f"noise and of noise from a pool of {POOL} were, after {report.settings.small_steps} "
        f"training steps, {_listed(cells)} sampling steps."
    )


def _caution(seeds: int) -> list[str]:
    if seeds > 1:
        return []
    return ["This was one seed, which cannot tell a difference from luck: try --seeds 3."]


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


def _sampling_steps(cells: Sequence[int]) -> str:
    alone = len(cells) == 1 and SAMPLING_STEPS[cells[0]] == 1
    return "sampling step" if alone else "sampling steps"
