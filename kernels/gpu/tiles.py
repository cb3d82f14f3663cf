"""Launch parameters of the cost kernels, from sizes, types and the device alone.

1. A kind of arithmetic has a few tiles, each with the share of the device's rate that it reaches:
   larger tiles load less for each product.
2. A device works through its tiles in rounds, of one tile on each multiprocessor; the tile that
   takes the least time (rounds x area / share) is best. So few samples get small tiles, which fill
   the device, and many samples large ones.
3. As many tiles of operands are on the way at a time as shared memory holds, up to four.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from .launch import AMD, processors, shared_memory

STRIPE = 8  # tile rows that share columns in the L2 cache


class Tile(NamedTuple):
    BLOCK_N: int
    BLOCK_M: int
    BLOCK_D: int
    num_warps: int
    share: float


class Parameters(NamedTuple):
    """What a launch is told beside its tensors; ``_asdict()`` gives keywords."""

    BLOCK_N: int
    BLOCK_M: int
    BLOCK_D: int
    num_warps: int
    num_stages: int


TILES = {
    "half": (
        Tile(128, 256, 64, 8, 1.0),
        Tile(128, 128, 64, 8, 0.85),
        Tile(64, 128, 64, 4, 0.7),
        Tile(64, 64, 64, 4, 0.5),
    ),
    "tf32": (
        Tile(128, 256, 32, 8, 1.0),
        Tile(128, 128, 32, 8, 0.85),
        Tile(64, 128, 32, 4, 0.7),
        Tile(64, 64, 32, 4, 0.5),
    ),
    "tf32x3": (Tile(128, 128, 32, 8, 1.0), Tile(64, 128, 32, 4, 0.8), Tile(64, 64, 32, 4, 0.6)),
    "ieee": (Tile(128, 128, 16, 8, 1.0), Tile(64, 64, 16, 4, 0.8)),
}


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
) -> Parameters:
    """For products of type ``dtype``; ``plain`` operands go to them as they are in memory.

    Rows start at multiples of ``align`` entries. Where loads take few entries at a time, or what
    they give passes through registers, wide tiles would need more registers than there are.
    """
    kind = precision if dtype == torch.float32 else "half"
    loads = align * dtype.itemsize >= 8 and plain
    tiles = [tile for tile in TILES[kind] if tile.BLOCK_M <= 128 or loads]
    tile = min(tiles, key=lambda tile: _time(tile, n, m, batch, capability))
    depth = tile.BLOCK_D if align * dtype.itemsize >= 8 else tile.BLOCK_D // 2
    depth = max(16, min(depth, 1 << (D - 1).bit_length()))
    stage = (tile.BLOCK_N + tile.BLOCK_M) * depth * dtype.itemsize
    stages = 2 if capability == AMD else min(4, shared_memory(capability) // stage)
    return Parameters(tile.BLOCK_N, tile.BLOCK_M, depth, tile.num_warps, stages)


def _time(tile: Tile, n: int, m: int, batch: int, capability: tuple[int, int]) -> float:
    tiles = batch * -(-n // tile.BLOCK_N) * -(-m // tile.BLOCK_M)
    rounds = -(-tiles // processors(capability))
    return rounds * tile.BLOCK_N * tile.BLOCK_M / tile.share
