"""A rule read from the trainings, and how often it is right, where it was read and elsewhere."""

from __future__ import annotations

from typing import NamedTuple

from immiscible_fast.demo.report import HELPED, HURT, UNCLEAR

from ..tables import markdown
from .tables import Group

HELD_OUT = "held-out"  # what the names of blocks begin with that nobody looked at for the rule
MEASURES = ("pixels", "classifier")


class Clause(NamedTuple):
    """What becomes of samples at the end of a training with assigned noise, or a pool's."""

    said: str
    objectives: tuple[str, ...]
    across: bool  # whether noise crosses classes that the model is told
    verdict: str
    sampling_steps: tuple[int, ...]

    def holds_for(self, group: Group, noise: str) -> bool:
        how, told = group.how(noise), "conditional" in group.setting
        return (
            how.get("noise") in ("assigned", "pool")
            and group.setting.get("objective", "flow") in self.objectives
            and (told and how.get("within") != "labels") == self.across
        )

    def tally(self, groups: list[Group]) -> tuple[int, int, int]:
        """Verdicts as the clause says, neither, and the opposite: of each distance of each
        comparison that has one."""
        found = [
            group.verdict(noise, group.lengths[-1], count, measure)
            for group in groups
            for noise in group.noises[1:]
            if self.holds_for(group, noise)
            for count in self.sampling_steps
            for measure in MEASURES
        ]
        opposite = HURT if self.verdict == HELPED else HELPED
        return found.count(self.verdict), found.count(UNCLEAR), found.count(opposite)


RULE = (
    Clause(
        "Flow matching or v-prediction, noise within classes if the model is told the class: "
        "better with 1 to 8 sampling steps",
        *(("flow", "v"), False, HELPED, (1, 2, 4, 8)),
    ),
    Clause("The same with 16 sampling steps: better", ("flow", "v"), False, HELPED, (16,)),
    Clause(
        "Told the class, and noise crosses classes: worse with 4 sampling steps or more",
        *(("flow", "v"), True, HURT, (4, 8, 16, 50)),
    ),
    Clause("Predicting epsilon: worse with 50 sampling steps", ("epsilon",), False, HURT, (50,)),
)


def table(groups: list[Group]) -> str:
    """Of each clause how often it is right, neither, wrong: where it comes from, and elsewhere."""
    elsewhere = [group for group in groups if group.block.startswith(HELD_OUT)]
    read_from = [group for group in groups if not group.block.startswith(HELD_OUT)]
    rows = [
        [clause.said, *(" / ".join(map(str, clause.tally(of))) for of in (read_from, elsewhere))]
        for clause in RULE
    ]
    return markdown(["rule", "where it was read", "held out"], rows)
