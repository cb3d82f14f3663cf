"""Operations and bytes that a stage must spend, from sizes alone: what its time is held against.

Bytes are those of device memory if every array is read or written once by every launch that needs
it. A matrix of n = 1024 lies in the L2 cache of a large GPU, so its stages may pass the bandwidth
of the memory.
"""

from __future__ import annotations

from immiscible_fast.kernels.gpu.schedule import EXACT_UPDATES, UPDATES, candidates_of

FLOAT, DOUBLE = 4, 8


def product_flops(n: int, m: int, dim: int, batch: int = 1) -> int:
    return 2 * batch * n * m * dim


def product_bytes(
    n: int, m: int, dim: int, batch: int = 1, size: int = FLOAT, out: int = FLOAT
) -> int:
    """Samples read once, costs written once."""
    return batch * (size * dim * (n + m) + out * n * m)


def rows_per_block(n: int) -> int:
    """As ``Problems.rows_per_block``: rows of which partial sums are left in memory."""
    return 8 if n <= 2048 else 16 if n <= 8192 else 32


def stage_bytes(stage: str, n: int, dim: int, *, batch: int = 1, exact: bool = False) -> int | None:
    """Fewest bytes of a stage of a square float32 problem; None of one that is not known, and of
    forests, which read what the data make them read.

    ``lists`` counts the scan that lists candidates, and the lists.
    """
    matrix = FLOAT * batch * n * n
    parts = batch * -(-n // rows_per_block(n)) * n
    columns = batch * n
    samples = 2 * batch * n * dim  # read for their means first; and then rounded to two bytes each
    known = {
        "distances": product_bytes(n, n, dim, batch) + samples * (FLOAT if exact else FLOAT + 4),
        "statistics": 2 * matrix + 2 * parts * (DOUBLE + FLOAT),
        "sinkhorn": (EXACT_UPDATES if exact else UPDATES) * (matrix + 4 * columns * FLOAT),
        "lists": matrix + columns * candidates_of(n, exact) * (DOUBLE + FLOAT),
        "certificate": matrix + columns * (2 * DOUBLE + FLOAT),
    }
    return known.get(stage)


def gigabytes_per_second(count: int | None, milliseconds: float | None) -> float | None:
    if count is None or not milliseconds:
        return None
    return float(f"{count / milliseconds / 1e6:.4g}")


def teraflops(count: int, milliseconds: float | None) -> float | None:
    return None if not milliseconds else float(f"{count / milliseconds / 1e9:.4g}")


def share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else round(part / whole, 4)
