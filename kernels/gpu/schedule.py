"""How the GPU's solver goes about its work, as data: eps, updates, budgets, and when many programs
share a problem.

What a device can hold (tiles, warps, rows of a program) is in ``tiles``, ``problems`` and
``launch``. Up to which size ``method="auto"`` is exact is for the driver to choose.
"""

from __future__ import annotations

# Sinkhorn's temperature, in standard deviations of the centred costs: from where the problem is
# smooth to where a row's plan is all but an assignment.
FIRST_EPS, LAST_EPS = 1.0, 0.003
UPDATES, OVER_RELAXATION, AT_LAST = 24, 1.65, 3  # the last ones at LAST_EPS
# These save a third of an exact forest's turns.
EXACT_UPDATES, EXACT_OVER_RELAXATION, EXACT_AT_LAST = 30, 1.5, 1

# Rounds of bids without eps, which save half of an exact forest's turns and none of a near-optimal
# one's; and how many at most while more than one row in ``CROWD`` is free, as where ties are the
# rule: 64 leave integers (n = 1024) 76 ticks, 16 leave 155, and none 1,010.
EXACT_ROUNDS, MOST_ROUNDS, CROWD = 16, 64, 16

# Turns that a phase of a near-optimal forest may grow; twice as many after one that found nothing.
# The worst of ten photos keeps 99.956 % of the gain at n = 512, 99.91 % with 6.
PATIENCE = 7

# Scans of rows that the last resort may take, for each row of a problem.
SCANS = 64

# From so many columns and rows on, many programs share a problem, at most so many.
SPREAD_FROM, SPREAD_ROWS, MOST_PARTS = 257, 256, 128


def rounds_of(exact: bool) -> int:
    return EXACT_ROUNDS if exact else 0


def candidates_of(m: int, exact: bool) -> int:
    """Columns in a row's list: more where rows are long, so that few lists turn out to be too
    short. What is near-optimal takes no more turns from shorter ones, but where ties are the rule
    has rows left in the end: 1,571 of 4,096 with lists of 16 on integers, none with 64."""
    longest = 32 if m <= 1024 else 64
    return longest if exact or m > 2048 else longest // 2


def launches_of(m: int, exact: bool) -> int:
    """Launches of one tick each: as nine photos of ten take (``tests.gpu_work_counts --seed``)."""
    return m // 4 if exact else 44 + m // 36


def most_ticks(n: int) -> int:
    """Of the program that goes on from there; what it leaves is for the last resort."""
    return 4096 + 4 * n
