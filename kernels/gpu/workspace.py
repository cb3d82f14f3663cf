"""What the stages of matching share, and their launchers: lists, claims, bids, forests."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .grow import STATES, forest_kernel
from .launch import Options, cdiv, launch, launch_by_turns, next_power_of_2, registers
from .lists import lists_kernel
from .matching import bids_kernel, settle_kernel
from .problems import Problems
from .scan import NOBODY
from .schedule import (
    CROWD,
    MOST_PARTS,
    MOST_ROUNDS,
    PATIENCE,
    SPREAD_FROM,
    SPREAD_ROWS,
    candidates_of,
    launches_of,
    most_ticks,
    rounds_of,
)
from .spread import COUNTS, forest_step_kernel
from .statistics import Units

WIDEST_HELD = 16384  # columns of a row that registers hold, in the order of their reduced costs
REPORT = ("bids", "rounds", "phases", "turns", "list_scans", "row_scans", "ticks", "scans")


class Workspace(NamedTuple):
    """Arrays in memory of the device, flat; what belongs to columns is (B m), to rows (B n)."""

    listed: Tensor  # (B n K) int32, columns of the candidates
    value: Tensor  # (B n K) float64, their costs
    bound: Tensor  # rows: the least cost and price of what is not listed
    least: Tensor  # rows: duals, of free rows at least
    paid: Tensor  # rows: cost of the column that is held
    price: Tensor  # columns
    column: Tensor  # rows: int32, negative where free
    owner: Tensor  # columns: int32, negative where free
    offer: Tensor  # (3, B m) int64, bits of distances
    near: Tensor  # (2, B m) float64, distances
    parent: Tensor  # columns: int64, turn and row
    active: Tensor  # (2, 2 B m) int32, rows that reach out: of a part's columns, and free ones
    reach: Tensor  # (2, 2 B m) float64, and from what distance
    best: Tensor  # rows: int64, distance of the nearest end of the tree of a free row
    end: Tensor  # rows: int32, and its column
    scanned: Tensor  # rows: float64, the distance at which the whole row was met
    root: Tensor  # columns: int32, the tree of a free column
    report: Tensor  # (problems, 8) int32, work that was done; see ``REPORT``

    @classmethod
    def of(cls, problems: Problems, price: Tensor) -> Workspace:
        """Arrays for problems with these prices (B m) float64, which are to be raised in place."""
        batch, n, m = problems.cost.shape
        new = partial(torch.empty, device=price.device)
        rows = partial(new, batch * n)
        columns = partial(new, batch * m)
        real, whole, wide = torch.float64, torch.int32, torch.int64
        slots = batch * n * list_length(problems)
        return cls(
            new(slots, dtype=whole), new(slots, dtype=real),
            rows(dtype=real), rows(dtype=real), rows(dtype=real), price,
            rows(dtype=whole), columns(dtype=whole),
            new(3, batch * m, dtype=wide), new(2, batch * m, dtype=real), columns(dtype=wide),
            new(2, 2 * batch * m, dtype=whole), new(2, 2 * batch * m, dtype=real),
            rows(dtype=wide), rows(dtype=whole), rows(dtype=real), columns(dtype=whole),
            torch.zeros(problems.slots, 8, dtype=whole, device=price.device),
        )  # fmt: skip


def list_length(problems: Problems, exact: bool = True) -> int:
    """K, the candidates of a row; a power of two."""
    m = problems.cost.shape[2]
    return min(candidates_of(m, exact), max(2, next_power_of_2(m)))


def tile_rows(warps: int, length: int) -> int:
    """Rows whose lists are read at a time: about two entries a thread."""
    return max(1, min(64, warps * 64 // length))


def start_matching(
    problems: Problems,
    units: Units,
    work: Workspace,
    wanted: Tensor,
    *,
    exact: bool = True,
    bids: bool = True,
) -> None:
    """Lists, and a matching of tight pairs, of the problems of which ``wanted`` (problems,) int32
    is positive, at the prices that the workspace has; bids raise them."""
    cost, first, last = problems
    batch, n, m = cost.shape
    length, lanes = list_length(problems, exact), min(problems.lanes, 1024)
    # A row is read three times where its order can be kept in registers, else a dozen.
    widest = lanes if problems.grouped else WIDEST_HELD
    block = lanes if problems.grouped else problems.lanes
    warps = max(1, min(16, block // 256))
    work.owner.fill_(NOBODY.value)
    launch(
        lists_kernel, batch * n,
        cost, work.price, units.scale, first, last, wanted,
        work.listed, work.value, work.bound, work.least, work.paid, work.column, work.owner,
        stride_batch=cost.stride(0), stride_row=cost.stride(1), n=n, m=m,
        K=length, BLOCK=block, WIDTH=max(32, next_power_of_2(m)) if m <= widest else 0,
        GROUPED=problems.grouped, num_warps=warps,
        **registers(cost.device, 128 if warps > 8 else 224),
    )  # fmt: skip
    launch(
        settle_kernel, problems.slots,
        work.price, first, last, wanted, work.column, work.owner,
        work.offer, work.near, work.parent, work.best, work.end, work.scanned,
        n=n, m=m, size=batch * m, BLOCK=lanes, GROUPED=problems.grouped,
        **problems.lane_options,
    )  # fmt: skip
    if bids and n == m:
        options = problems.lane_options
        launch(
            bids_kernel, problems.slots,
            first, last, wanted, work.listed, work.value, work.bound, work.least, work.paid,
            work.price, work.column, work.owner, work.parent, work.active, work.report,
            n=n, m=m, rounds=rounds_of(exact), K=length,
            ROWS=tile_rows(options["num_warps"], length), BLOCK=lanes, GROUPED=problems.grouped,
            MOST=MOST_ROUNDS, CROWD=CROWD, **options,
        )  # fmt: skip


def grow_forests(
    problems: Problems,
    units: Units,
    work: Workspace,
    wanted: Tensor,
    *,
    exact: bool,
    spread: bool = True,
) -> Tensor:
    """Match the free rows of problems that are ``wanted``: near-optimally at their prices, or
    exactly, raising them. Returns (problems,) int32, 1 where some are left. Large problems may be
    ``spread`` over the device, by many launches."""
    cost, first, last = problems
    batch, n, m = cost.shape
    length, warps = list_length(problems, exact), problems.lane_options["num_warps"]
    shape = {
        "stride_batch": cost.stride(0), "stride_row": cost.stride(1), "n": n, "m": m,
        "size": batch * m, "PATIENCE": 0 if exact else PATIENCE, "WIDE": n < m, "K": length,
        "BLOCK": min(problems.lanes, 512),
    }  # fmt: skip
    parts, state = parts_of(problems) if spread else 1, None
    if parts > 1:
        state = spread_forests(problems, units, work, wanted, parts, shape)
    if problems.grouped:  # whose programs need more registers than 16 warps can have
        warps = min(warps, 8)
    options = {"num_warps": warps, **registers(cost.device, 128 if warps > 8 else 224)}
    left = torch.zeros_like(wanted)
    launch(
        forest_kernel, problems.slots,
        cost, units.scale, units.flags, first, last, wanted, left, *work, state,
        **shape, limit=most_ticks(n), ROWS=tile_rows(warps, length), GROUPED=problems.grouped,
        **options,
    )  # fmt: skip
    return left


def parts_of(problems: Problems) -> int:
    """Programs of one problem: more than one where it is large, and few are to be solved."""
    batch, n, m = problems.cost.shape
    if problems.grouped or m < SPREAD_FROM or n < SPREAD_ROWS:
        return 1
    parts = min(MOST_PARTS, next_power_of_2(m) // 16)
    while parts * batch > 2 * MOST_PARTS:
        parts //= 2
    return parts if parts >= 4 else 1


def spread_forests(
    problems: Problems, units: Units, work: Workspace, wanted: Tensor, parts: int,
    shape: Options,
) -> Tensor:  # fmt: skip
    """Make ticks, each by a launch of so many programs a problem; returns their last state."""
    batch, _, m = problems.cost.shape
    new = partial(torch.empty, device=wanted.device)
    state = torch.zeros(2, batch * STATES.value, dtype=torch.int32, device=wanted.device)
    count = new(2, batch * parts * COUNTS.value, dtype=torch.int32)
    real = new(2, batch * 2, dtype=torch.float64), new(2, batch * parts * 2, dtype=torch.float64)
    turned = []
    for side in (0, 1):
        pairs = ((pair[1 - side], pair[side]) for pair in (state, real[0], count, real[1]))
        turned.append(sum(pairs, (problems.cost, units.scale, units.flags, wanted, *work)))
    exact = shape["PATIENCE"] == 0
    # Whole rows, which only exact forests meet, are wider than a program's part.
    block = shape["BLOCK"] if exact else max(32, next_power_of_2(cdiv(m, parts)))
    warps = min(4, block // 32)  # so that no two hold the same entry
    options = {
        **shape, "BLOCK": block, "ROWS": tile_rows(warps, shape["K"]), "PARTS": parts,
        "num_warps": warps, **registers(wanted.device, 224),
    }  # fmt: skip
    launches = launches_of(m, exact)
    launch_by_turns(forest_step_kernel, batch * parts, turned, launches, options)
    return state[(launches - 1) % 2]
