"""What is asked of a problem, what comes back, and when it has to be proven."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .certificate import certificate
from .jit import kernel
from .schedule import DWARF, LOOSE

# What becomes of a problem; of a batch, the last of these that befalls one of its problems.
SOLVED, RESCALE, INFEASIBLE, INVALID, CONSTANTS = range(5)
UNSOLVED, UNSURE = -1, -2  # left to the next way of solving it; to be proven


class Task(NamedTuple):
    """What is asked of each problem of a batch; see ``make_solver``."""

    m: int
    constants: float
    exact: bool
    tolerance: float
    warm: bool
    proven: bool


class Answer(NamedTuple):
    """Where the answer to a problem goes."""

    price: NDArray[np.float64]  # (m,); read first, if warm
    column: NDArray[np.int64]  # (n,)
    value: NDArray[np.float64]  # (2,): cost, lower bound
    dual: NDArray[np.float64]  # (n,), of the rows


@kernel
def _may_drown(cost, column, largest):
    """Whether costs, or prices, of the ``largest`` size are so much larger than what is paid that
    float64 may have kept too few digits of it on the way."""
    paid = 0.0
    for i in range(cost.shape[0]):
        paid = max(paid, abs(np.float64(cost[i, column[i]])))
    return not largest <= DWARF * paid


@kernel
def _extremes(price, m):
    least, largest = price[0], price[0]
    for j in range(1, m):
        least = min(least, price[j])
        largest = max(largest, price[j])
    return least, largest


@kernel
def is_sure(cost, column, price, m, magnitude, final):
    """Whether the answer needs no certificate, unless one is asked for. If prices are ``final`` and
    differ by less than they are large, take a constant from them: no digit changes, and sums with
    costs keep more of theirs."""
    least, largest = _extremes(price, m)
    if least == 0 and largest == 0:
        return True  # each row has its cheapest column, and no sum was ever rounded
    shift = 0.0
    if final and 0 < largest <= 2 * least:
        shift = least
    elif final and 2 * largest <= least < 0:
        shift = largest
    if shift != 0:
        for j in range(m):
            price[j] -= shift
    return not _may_drown(cost, column, max(shift - least, largest - shift, magnitude))


@njit
def prove(cost, price, column, m, value, dual, work):
    """Certify the assignment; return whether the gap, if there is one, is but rounding."""
    value[0], value[1] = certificate(cost, price, column, m, dual, work)
    paid = 0.0
    for i in range(cost.shape[0]):
        paid += abs(np.float64(cost[i, column[i]]))
    return value[0] - value[1] <= LOOSE * paid


@njit
def conclude(cost, price, column, magnitude, final, task, answer, work):
    """Prove the assignment if it is to be ``proven`` or could be wrong; as ``prove``. Prices may
    change if they are ``final``."""
    answer.value[:] = 0
    sure = is_sure(cost, column, price, task.m, magnitude, final)
    if sure and task.exact and not task.proven:
        return True
    return prove(cost, price, column, task.m, answer.value, answer.dual, work)
