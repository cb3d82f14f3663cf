"""How kernels are compiled."""

from __future__ import annotations

from numba import njit

# For functions that allocate nothing, and so need no reference counts: with them, two atomic
# operations for every array of every call made the exact finish at n = 1024 five times slower.
kernel = njit(_nrt=False)
inlined_kernel = njit(_nrt=False, inline="always")
