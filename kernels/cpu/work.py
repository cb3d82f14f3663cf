"""What one solve counts, work that does not depend on the machine, and whether it is to stop."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BIDS = 0  # bids of the auction
BID_SCANS = 1  # whole rows scanned for them
DUAL_SCANS = 2  # whole rows scanned for the row duals of the exact finish
REDUCTIONS = 3  # bids without eps of the exact finish
PATHS = 4  # shortest augmenting paths
LIST_RELAXATIONS = 5  # candidate lists offered to a search
ROW_RELAXATIONS = 6  # whole rows offered to a search
TIE_SCANS = 7  # whole rows scanned to match ties
PASS_SCANS = 8  # rows read in passes over the whole matrix: statistics, certificate, lists
COUNTERS = (
    "bids",
    "bid_scans",
    "dual_scans",
    "reductions",
    "paths",
    "list_relaxations",
    "row_relaxations",
    "tie_scans",
    "pass_scans",
)
SLOTS = 16  # two cache lines a problem, or threads that count side by side wait for each other


class Work(NamedTuple):
    counts: NDArray[np.int64]  # (SLOTS,)
    stop: NDArray[np.int64]  # (1,); whoever sets it from another thread ends the solve within a row
