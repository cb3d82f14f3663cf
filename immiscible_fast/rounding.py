"""Directed rounding of what is too rare to be compiled."""

from __future__ import annotations

import math
import sys

import numpy as np


def exact_sum(terms: list[float], towards: float) -> float:
    """The sum, rounded to one side if it has to be; infinite if it is beyond float64 there."""
    try:
        total = math.fsum(terms)
        rest = math.fsum([*terms, -total])
    except OverflowError:
        return towards
    inward = rest == 0 or (rest < 0) == (towards > 0)
    return total if inward else math.nextafter(total, towards)


def scaled_down(value: float, exponent: int) -> float:
    """``value * 2 ** exponent``, rounded down."""
    with np.errstate(over="ignore", under="ignore"):
        scaled = float(np.ldexp(value, exponent))
        if np.isinf(scaled) and np.isfinite(value):
            return sys.float_info.max if scaled > 0 else -np.inf
        return scaled if np.ldexp(scaled, -exponent) <= value else math.nextafter(scaled, -np.inf)
