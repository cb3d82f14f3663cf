"""How kernels are compiled, and how that is kept for other processes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from numba import config, njit
from numba.core.caching import FunctionCache

if config.DISABLE_JIT:
    raise RuntimeError(
        "NUMBA_DISABLE_JIT is set, but the CPU solver exists only as compiled code: unset it, or "
        "choose method='scipy'"
    )

# For functions that allocate nothing, and so need no reference counts: with them, two atomic
# operations for every array of every call made the exact finish at n = 1024 five times slower.
kernel = njit(_nrt=False)
inlined_kernel = njit(_nrt=False, inline="always")


def entry_point(function: Callable[..., Any]) -> Any:
    """What Python calls: compiled for each combination of types, kept on disk where that can be."""
    compiled = njit(nogil=True)(function)
    compiled._cache = Cache(function)
    return compiled


class Cache(FunctionCache):
    """Numba's, except that no state of the disk is an error: the code is compiled anew."""

    _has_warned = False

    def __init__(self, function: Callable[..., Any]) -> None:
        self.lacks = ""  # what there is to say if there is no cache
        try:
            super().__init__(function)
        except Exception:  # in numba's words: no locator available
            self.lacks = "no folder for it can be written"
            self._cache_path = ""

    def load_overload(self, *key: Any) -> Any:
        if self.lacks:
            return None
        try:
            return super().load_overload(*key)
        except Exception:  # a file that is truncated, empty, unreadable or no cache at all
            return None

    def save_overload(self, *entry: Any) -> None:
        if not self.lacks:
            try:
                try:
                    super().save_overload(*entry)
                except Exception:
                    self.flush()  # the index may be what is broken
                    super().save_overload(*entry)
            except Exception as error:  # the disk is full, say
                self.lacks = str(error)
        if self.lacks and not Cache._has_warned:
            Cache._has_warned = True
            warnings.warn(
                f"immiscible_fast cannot keep its compiled code ({self.lacks}), so each process "
                "compiles it anew: set NUMBA_CACHE_DIR to a folder that can be written",
                stacklevel=2,
            )
