"""Passes over costs that are products and that nobody keeps: Sinkhorn's masses and shortlists.

With rows x_i and y_j, contiguous, and terms r_i and t_j of rows and columns,

1. c_ij = r_i + t_j - f x_i.y_j or, with ROOT, s times the root of that where it is positive. A
   program goes through tiles of them, one after another, and keeps what it needs of each.
2. Sinkhorn's masses take two products. ``row_sums_kernel`` goes along rows: the largest exponent
   -(c_ij + p_j) / eps so far, and the sum of powers of two relative to it. ``column_sums_kernel``
   then goes down columns, and adds up what each row gives, its own sum being known.
3. Shortlists take one product, and one of a share of the columns. ``minima_kernel`` keeps the least
   c_ij + p_j of each of many groups of columns; the ``rank``-th least of them is a limit below
   which there are about as many columns as were asked for. ``collect_kernel`` writes down whatever
   is at or below the limit. A row with more than there is room for says so by its count.
4. Programs that share rows (or columns) take every ``splits``-th tile each and write to places of
   their own, which are added up or sorted afterwards: no atomics, and the same input gives the same
   bits. Programs that run together share what they read in the L2 cache.
5. Rows and columns past the end repeat the last one, so no load is masked. Nor does any need to be
   for coordinates: samples are padded to whole steps with zeros.

Dao, Fu, Ermon, Rudra and Re, "FlashAttention", 2022, for the running maximum and sum.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import AMD, Options, capability, cdiv, launch, next_power_of_2, processors
from .sinkhorn import LOG2_E
from .tiles import launch_parameters

SPLITS = 8  # that programs share rows by, at least, for the sake of the cache
SLOTS, LEAST_SLOTS = 512, 32  # for what is below a row's limit: in all, and of one program
SAMPLED = 8  # of so many tiles one is looked at for a limit, where there are many
SPARE = 2  # ranks beyond the expected one
LARGE = 8192  # columns from which on that is so


class Product(NamedTuple):
    """Costs (n, m) of point 1."""

    x: Tensor  # (n, D) float32, float16 or bfloat16, contiguous
    y: Tensor  # (m, D), likewise
    row: Tensor  # (n,) float32
    column: Tensor  # (m,) float32
    factor: float
    root: bool
    shrink: float = 1.0
    precision: str = "ieee"  # of float32 products; or "tf32", "tf32x3"


class Found(NamedTuple):
    """What is at or below the limits of rows."""

    cost: Tensor  # (n, slots) float32, infinite where there is none
    column: Tensor  # (n, slots) int64
    whole: Tensor  # (n,) bool: whether that is all


@triton.jit
def product_tile(
    p_x, p_y, p_row, p_column, i_n, i_m, n, m, D, factor, shrink,
    ROOT: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Points 1 and 5."""
    o_n = tl.minimum(i_n * BLOCK_N + tl.arange(0, BLOCK_N), n - 1)
    o_m = tl.minimum(i_m * BLOCK_M + tl.arange(0, BLOCK_M), m - 1)
    o_d = tl.arange(0, BLOCK_D)
    p_x += o_n.to(tl.int64)[:, None] * D + o_d[None, :]
    p_y += o_m.to(tl.int64)[None, :] * D + o_d[:, None]
    b_dot = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    for _ in range(D // BLOCK_D):
        b_x, b_y = tl.load(p_x), tl.load(p_y)
        if WIDEN:
            b_x, b_y = b_x.to(tl.float32), b_y.to(tl.float32)
        b_dot = tl.dot(b_x, b_y, b_dot, input_precision=PRECISION)
        p_x += BLOCK_D
        p_y += BLOCK_D
    b_cost = tl.load(p_row + o_n)[:, None] + tl.load(p_column + o_m)[None, :] - factor * b_dot
    if ROOT:
        b_cost = tl.sqrt(tl.maximum(b_cost, 0.0)) * shrink
    return b_cost


@triton.jit(do_not_specialize=["n", "m", "splits"])
def row_sums_kernel(
    p_x, p_y, p_row, p_column, p_price, p_top, p_sum,
    n, m, D, factor, shrink, splits, rate,
    ROOT: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    i_n, i_split = tl.program_id(0) // splits, tl.program_id(0) % splits
    b_top = tl.full([BLOCK_N], -float("inf"), tl.float32)
    b_sum = tl.zeros([BLOCK_N], tl.float32)
    for i_m in range(i_split, tl.cdiv(m, BLOCK_M), splits):
        b_cost = product_tile(
            p_x, p_y, p_row, p_column, i_n, i_m, n, m, D, factor, shrink,
            ROOT, PRECISION, WIDEN, BLOCK_N, BLOCK_M, BLOCK_D,
        )  # fmt: skip
        o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
        b_price = tl.load(p_price + tl.minimum(o_m, m - 1))
        b_value = -rate * (b_cost + b_price[None, :])
        b_value = tl.where((o_m < m)[None, :], b_value, -float("inf"))
        b_new = tl.maximum(b_top, tl.max(b_value, 1))  # finite: a tile has a column
        b_sum = b_sum * tl.exp2(b_top - b_new) + tl.sum(tl.exp2(b_value - b_new[:, None]), 1)
        b_top = b_new
    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    o_out = o_n.to(tl.int64) * splits + i_split
    tl.store(p_top + o_out, b_top, mask=o_n < n)
    tl.store(p_sum + o_out, b_sum, mask=o_n < n)


@triton.jit(do_not_specialize=["n", "m", "splits"])
def column_sums_kernel(
    p_x, p_y, p_row, p_column, p_price, p_logsum, p_mass,
    n, m, D, factor, shrink, splits, rate,
    ROOT: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    i_m, i_split = tl.program_id(0) // splits, tl.program_id(0) % splits
    o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    b_price = tl.load(p_price + tl.minimum(o_m, m - 1))
    b_mass = tl.zeros([BLOCK_M], tl.float32)
    for i_n in range(i_split, tl.cdiv(n, BLOCK_N), splits):
        b_cost = product_tile(
            p_x, p_y, p_row, p_column, i_n, i_m, n, m, D, factor, shrink,
            ROOT, PRECISION, WIDEN, BLOCK_N, BLOCK_M, BLOCK_D,
        )  # fmt: skip
        o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
        b_logsum = tl.load(p_logsum + tl.minimum(o_n, n - 1))
        b_value = -rate * (b_cost + b_price[None, :]) - b_logsum[:, None]
        b_mass += tl.sum(tl.where((o_n < n)[:, None], tl.exp2(b_value), 0.0), 0)
    tl.store(p_mass + i_split.to(tl.int64) * m + o_m, b_mass, mask=o_m < m)


@triton.jit(do_not_specialize=["n", "m", "splits", "every"])
def minima_kernel(
    p_x, p_y, p_row, p_column, p_price, p_minima,
    n, m, D, factor, shrink, splits, every,
    ROOT: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Of every ``every``-th tile; a group is two columns of all tiles of a program."""
    i_n, i_split = tl.program_id(0) // splits, tl.program_id(0) % splits
    GROUPS: tl.constexpr = BLOCK_M // 2
    b_least = tl.full((BLOCK_N, GROUPS), float("inf"), tl.float32)
    for i_m in range(i_split * every, tl.cdiv(m, BLOCK_M), splits * every):
        b_cost = product_tile(
            p_x, p_y, p_row, p_column, i_n, i_m, n, m, D, factor, shrink,
            ROOT, PRECISION, WIDEN, BLOCK_N, BLOCK_M, BLOCK_D,
        )  # fmt: skip
        o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
        b_value = b_cost + tl.load(p_price + tl.minimum(o_m, m - 1))[None, :]
        b_value = tl.where((o_m < m)[None, :], b_value, float("inf"))
        b_least = tl.minimum(b_least, tl.min(tl.reshape(b_value, (BLOCK_N, GROUPS, 2)), 2))
    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    p_out = p_minima + (o_n.to(tl.int64) * splits + i_split)[:, None] * GROUPS
    tl.store(p_out + tl.arange(0, GROUPS)[None, :], b_least, mask=(o_n < n)[:, None])


@triton.jit(do_not_specialize=["n", "m", "splits"])
def collect_kernel(
    p_x, p_y, p_row, p_column, p_price, p_limit, p_cost, p_found, p_count,
    n, m, D, factor, shrink, splits,
    ROOT: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, ROOM: tl.constexpr,
):  # fmt: skip
    i_n, i_split = tl.program_id(0) // splits, tl.program_id(0) % splits
    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    b_limit = tl.load(p_limit + tl.minimum(o_n, n - 1))
    i_first = (i_n * BLOCK_N).to(tl.int64) * splits + i_split
    p_cost += i_first * ROOM
    p_found += i_first * ROOM
    o_place = tl.arange(0, BLOCK_N) * splits
    b_count = tl.zeros([BLOCK_N], tl.int32)
    for i_m in range(i_split, tl.cdiv(m, BLOCK_M), splits):
        b_cost = product_tile(
            p_x, p_y, p_row, p_column, i_n, i_m, n, m, D, factor, shrink,
            ROOT, PRECISION, WIDEN, BLOCK_N, BLOCK_M, BLOCK_D,
        )  # fmt: skip
        o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
        b_value = b_cost + tl.load(p_price + tl.minimum(o_m, m - 1))[None, :]
        m_hit = (b_value <= b_limit[:, None]) & (o_m < m)[None, :]
        b_hit = m_hit.to(tl.int32)
        o_slot = b_count[:, None] + tl.cumsum(b_hit, 1) - 1
        m_hit = m_hit & (o_n < n)[:, None] & (o_slot < ROOM)
        o_out = o_place[:, None] * ROOM + o_slot
        tl.store(p_cost + o_out, b_cost, mask=m_hit)
        tl.store(p_found + o_out, o_m[None, :] + tl.zeros_like(b_hit), mask=m_hit)
        b_count += tl.sum(b_hit, 1)
    tl.store(p_count + i_first + o_place, b_count, mask=o_n < n)


def padded(x: Tensor) -> Tensor:
    """Samples (n, D) as the kernels take them, contiguous and with zeros behind (5)."""
    D = x.shape[1]
    missing = -D % (16 if D <= 128 else 64) if D else 16
    return torch.nn.functional.pad(x, (0, missing)) if missing else x.contiguous()


def row_sums(costs: Product, price: Tensor, eps: float) -> Tensor:
    """(n,) logarithms, to base two, of sum_j exp(-(c_ij + p_j) / eps)."""
    options, rows, tiles = _options(costs)
    splits = _splits(rows, tiles, price.device)
    top, total = (torch.empty(len(costs.x), splits, device=price.device) for _ in range(2))
    launch(
        row_sums_kernel, rows * splits,
        costs.x, costs.y, costs.row, costs.column, price, top, total,
        splits=splits, rate=LOG2_E.value / eps, **options,
    )  # fmt: skip
    most = top.amax(1)
    return most + (total * torch.exp2(top - most[:, None])).sum(1).log2()


def column_masses(costs: Product, price: Tensor, logsum: Tensor, eps: float) -> Tensor:
    """(m,) float64, what rows with these sums give to the columns, one each in all."""
    options, rows, tiles = _options(costs)
    splits = _splits(tiles, rows, price.device)
    mass = torch.empty(splits, len(costs.y), device=price.device)
    launch(
        column_sums_kernel, tiles * splits,
        costs.x, costs.y, costs.row, costs.column, price, logsum, mass,
        splits=splits, rate=LOG2_E.value / eps, **options,
    )  # fmt: skip
    return mass.sum(0, dtype=torch.float64)


def sampled(m: int) -> int:
    """Limits are found from every which tile of so many columns."""
    return SAMPLED if m >= LARGE else 1


def minima(
    costs: Product, price: Tensor, wanted: int, every: int, before: Tensor | None = None
) -> Tensor:
    """(n, k) least values of c_ij + p_j, of groups of columns, and of ``before``: at or below the
    largest of a row there are about ``wanted`` columns, if there are as many."""
    options, rows, tiles = _options(costs)
    splits = _splits(rows, cdiv(tiles, every), price.device)
    least = torch.empty(len(costs.x), splits * options["BLOCK_M"] // 2, device=price.device)
    launch(
        minima_kernel, rows * splits,
        costs.x, costs.y, costs.row, costs.column, price, least,
        splits=splits, every=every, **options,
    )  # fmt: skip
    least = least if before is None else torch.cat([before, least], 1)
    rank = wanted if every == 1 else wanted // every + SPARE
    return least.topk(min(rank, least.shape[1]), 1, largest=False).values


def collect(costs: Product, price: Tensor, limit: Tensor, first: int = 0) -> Found:
    """All columns with c_ij + p_j at or below the ``limit`` (n,) of their row, from number
    ``first`` on."""
    n = len(costs.x)
    options, rows, tiles = _options(costs, narrow=True)
    splits = _splits(rows, tiles, price.device)
    room = max(LEAST_SLOTS, SLOTS // next_power_of_2(splits))
    cost = torch.empty(n, splits, room, device=price.device)
    column = torch.empty(n, splits, room, dtype=torch.int32, device=price.device)
    count = torch.empty(n, splits, dtype=torch.int32, device=price.device)
    launch(
        collect_kernel, rows * splits,
        costs.x, costs.y, costs.row, costs.column, price, limit, cost, column, count,
        splits=splits, ROOM=room, **options,
    )  # fmt: skip
    written = torch.arange(room, device=price.device) < count[..., None]
    cost = cost.where(written, torch.inf).flatten(1)
    column = column.where(written, 0).flatten(1).to(torch.int64) + first
    return Found(cost, column, (count <= room).all(1))


def nothing(n: int, device: torch.device) -> Found:
    whole = torch.ones(n, dtype=torch.bool, device=device)
    return Found(whole.new_empty(n, 0, dtype=torch.float32), whole.new_empty(n, 0).long(), whole)


def cheapest(found: Found, more: Found, price: Tensor, first: Tensor, room: int) -> Found:
    """The ``room`` cheapest of both at ``price`` (m,), ascending. Of columns that tie, those at or
    after the ``first`` (n,) of the row come first: lists of equal rows need not be equal."""
    cost, column = (torch.cat([found[k], more[k]], 1) for k in range(2))
    bits = (cost + price[column]).view(torch.int32).to(torch.int64)
    order = torch.where(bits >= 0, bits, bits ^ 0x7FFFFFFF)  # that of the numbers
    key = (order << 32) | ((column - first[:, None]) % len(price))
    place = key.argsort(1)[:, :room]
    return Found(cost.gather(1, place), column.gather(1, place), found.whole & more.whole)


def _splits(blocks: int, tiles: int, device: torch.device) -> int:
    """By how many programs each of so many blocks of rows (or columns) is shared (4)."""
    return min(tiles, max(SPLITS, 2 * processors(capability(device)) // blocks))


def _options(costs: Product, narrow: bool = False) -> tuple[Options, int, int]:
    """What launches are told, and how many tiles there are in a column and in a row. What needs
    many registers beside the costs wants ``narrow`` tiles."""
    (n, D), m = costs.x.shape, len(costs.y)
    dtype, of = costs.x.dtype, capability(costs.x.device)
    precision = costs.precision if dtype == torch.float32 and of != AMD else "ieee"
    tile = launch_parameters(n, m, D, dtype, of, precision=precision, grouped=True)
    width, depth = tile.BLOCK_M // 2 if narrow else tile.BLOCK_M, tile.BLOCK_D
    while D % depth:
        depth //= 2
    options = {
        "n": n, "m": m, "D": D, "factor": costs.factor, "shrink": costs.shrink,
        "ROOT": costs.root, "PRECISION": precision, "WIDEN": costs.x.device.type == "cpu",
        **tile._asdict(), "BLOCK_M": width, "BLOCK_D": depth,
    }  # fmt: skip
    return options, cdiv(n, tile.BLOCK_N), cdiv(m, width)
