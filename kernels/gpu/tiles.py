"""Launch parameters of the cost kernels, from sizes, types and the device alone.

1. A kind of arithmetic has a few tiles, each with the share of the device's rate that it reaches:
   larger tiles load less for each product.
2. A device works through its tiles in rounds, of one tile on each multiprocessor; the tile that
   takes the least time (rounds x area / share) is best. So few samples get small tiles, which fill
   the device, and many samples large ones.
3. Operands of several steps are on the way at a time, as many as shared memory holds, up to four.
4. Registers limit the rest: the widest tile is for devices whose tensor cores take operands that
   come straight from memory, and for the A100; what passes through registers on its way comes in
   less deep blocks, and what is loaded a little at a time in the smallest. None of these spills; a
   test compiles them all.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

from .launch import AMD, processors, shared_memory

STRIPE = 8  # tile rows that share columns in the L2 cache
WIDE = ((8, 0), (9, 0), AMD)


class Tile(NamedTuple):
    BLOCK_N: int
    BLOCK_M: int
    BYTES_D: int  # of a row that are multiplied at a time
    num_warps: int
    share: float


class Parameters(NamedTuple):
    """What a launch is told beside its tensors, by the names it is told it."""

    BLOCK_N: int
    BLOCK_M: int
    BLOCK_D: int
    num_warps: int
    num_stages: int


ONCE = (
    Tile(128, 256, 128, 8, 1.0),
    Tile(128, 128, 128, 8, 0.85),
    Tile(64, 128, 128, 4, 0.7),
    Tile(64, 64, 128, 4, 0.5),
)
TILES = {
    "once": ONCE,  # one product on tensor cores: float16, bfloat16, "tf32"
    "tf32x3": (Tile(128, 128, 128, 8, 1.0), Tile(64, 128, 128, 4, 0.8), Tile(64, 64, 128, 4, 0.6)),
    "tf32x3, by register": (Tile(128, 64, 64, 8, 1.0), Tile(64, 64, 64, 4, 0.8)),
    "ieee": (Tile(64, 128, 64, 8, 1.0), Tile(64, 64, 64, 4, 0.8)),  # no tensor cores
}


@functools.lru_cache(maxsize=1024)
def launch_parameters(
    n: int,
    m: int,
    D: int,
    dtype: torch.dtype,
    capability: tuple[int, int],
    *,
    batch: int = 1,
    precision: str = "ieee",
    plain: bool = True,
    align: int = 16,
    align_out: int = 4,
    grouped: bool = False,
) -> Parameters:
    """For products of type ``dtype``: ``plain`` operands go to them as they are in memory, rows of
    samples start at multiples of ``align`` entries and those of costs of ``align_out``. Of wide
    tiles, fewer are without a common group.
    """
    once = dtype != torch.float32 or precision == "tf32" or capability == AMD
    by_register = capability[0] not in (9, 10)  # how tensor cores get their operands
    kind = "once" if once else precision
    pieces = in_pieces(align, dtype)
    if kind == "tf32x3" and by_register:
        kind = "tf32x3, by register"
    wide = plain and not grouped and capability in WIDE
    tiles = [tile for tile in TILES[kind] if tile.BLOCK_M <= 128 or wide]
    if pieces or (kind == "ieee" and align_out == 1):
        tiles = tiles[-1:]
    tile = min(tiles, key=lambda tile: _time(tile, n, m, batch, capability))
    depth = tile.BYTES_D // dtype.itemsize
    if pieces or (by_register and kind == "once" and not plain):
        depth //= 2
    depth = max(16, min(depth, 1 << (D - 1).bit_length()))
    stage = (tile.BLOCK_N + tile.BLOCK_M) * depth * dtype.itemsize
    # A step's operands lie in shared memory until they are used; in registers they lie already.
    stages = min(4, shared_memory(capability) // stage + by_register)
    return Parameters(
        tile.BLOCK_N, tile.BLOCK_M, depth, tile.num_warps, 2 if capability == AMD else stages
    )


def in_pieces(align: int, dtype: torch.dtype) -> bool:
    """Whether rows have to be loaded less than sixteen bytes at a time."""
    return align * dtype.itemsize < 16


def _time(tile: Tile, n: int, m: int, batch: int, capability: tuple[int, int]) -> float:
    tiles = batch * -(-n // tile.BLOCK_N) * -(-m // tile.BLOCK_M)
    rounds = -(-tiles // processors(capability))
    return rounds * tile.BLOCK_N * tile.BLOCK_M / tile.share
