"""Where the problems of one launch lie, and how their costs are read.

1. A batch is (B, n, m). Arrays of rows are flat, (B n), arrays of columns too, (B m); so are those
   of problems, (B).
2. With GROUPED the matrices are square and their samples are sorted by group: a group is a problem
   of its own. ``first`` and ``last`` (B, n) give each row the range of its group in its matrix, of
   rows and columns alike; the entries of the matrix outside it are never read. Arrays of problems
   are (B n) then, and a group's entry is that of its first row.
3. Auction and Sinkhorn see w_ij = (c_ij - centre_i) scale in float32, where scale is a power of two
   near one over the standard deviation, and what is not finite is forbidden, at infinity. The exact
   stages see c_ij scale in float64.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import cdiv, next_power_of_2, registers


class Costs(NamedTuple):
    cost: Tensor
    first: Tensor | None = None  # (B n) int32
    last: Tensor | None = None


class Problems(Costs):
    """Costs (B, n, m) with n <= m and rows that are contiguous, and their groups, if any."""

    @cached_property
    def grouped(self) -> bool:
        return self.first is not None

    @cached_property
    def slots(self) -> int:
        """Programs of a launch over problems: groups are not counted on the host."""
        batch, n, _ = self.cost.shape
        return batch * n if self.grouped else batch

    @cached_property
    def working_dtype(self) -> torch.dtype:
        return torch.float64 if self.cost.dtype == torch.float64 else torch.float32

    @cached_property
    def rows_per_block(self) -> int:
        """Rows of one program of the launches over blocks of rows: enough programs to fill a GPU
        where the problem is small, small partial sums where it is large."""
        n = self.cost.shape[1]
        return 8 if n <= 2048 else 16 if n <= 8192 else 32

    @cached_property
    def rows_per_program(self) -> int:
        """Rows of one program that keeps what it adds up by column in registers: about a program
        for each multiprocessor where there are rows enough."""
        batch, n, _ = self.cost.shape
        return max(1, min(16, cdiv(batch * n, 128)))

    @cached_property
    def block_options(self) -> dict[str, int]:
        """Of those launches; 128 columns that are read at a time are eight entries a thread."""
        return {"num_warps": self.rows_per_block // 2, **registers(self.cost.device, 128)}

    @cached_property
    def lanes(self) -> int:
        """Columns that a program reads at a time, where it reads one row after another."""
        return max(32, min(4096, next_power_of_2(self.cost.shape[2])))

    @cached_property
    def lane_options(self) -> dict[str, int]:
        """Of launches of one program a problem: eight columns a thread, at least."""
        warps = max(1, min(16, self.lanes // 128))
        return {"num_warps": warps, **registers(self.cost.device, 128)}


@triton.jit
def one_problem(p_first, p_last, n, m, GROUPED: tl.constexpr):
    """(batch, first row, row after the last, first column, column after the last) of the problem of
    this program of a launch over problems; no rows where there is none."""
    if GROUPED:
        i_slot = tl.program_id(0)
        i_batch = (i_slot // n).to(tl.int64)
        start = i_slot % n
        stop = tl.load(p_last + i_slot)
        stop = tl.where(tl.load(p_first + i_slot) == start, stop, start)
        return i_batch, start, stop, start, stop
    else:
        return tl.program_id(0).to(tl.int64), n * 0, n, m * 0, m


@triton.jit
def part_of_batch(parts):
    """(batch, part) of this program, of so many parts of each batch."""
    i_program = tl.program_id(0)
    return (i_program // parts).to(tl.int64), i_program % parts


@triton.jit
def row_columns(p_first, p_last, i_batch, i_row, m_row, n, m, GROUPED: tl.constexpr):
    """(problem, first column, column after the last) of rows of a batch."""
    if GROUPED:
        start = tl.load(p_first + i_batch * n + i_row, mask=m_row, other=0)
        stop = tl.load(p_last + i_batch * n + i_row, mask=m_row, other=0)
        return i_batch * n + start, start, stop
    else:
        return i_batch + i_row * 0, i_row * 0, m + i_row * 0


@triton.jit
def column_rows(p_first, p_last, i_batch, i_col, m_col, n, m, GROUPED: tl.constexpr):
    """(problem, first row, row after the last) of columns, likewise."""
    if GROUPED:
        return row_columns(p_first, p_last, i_batch, i_col, m_col, n, m, GROUPED)
    else:
        return i_batch + i_col * 0, i_col * 0, n + i_col * 0


@triton.jit
def widened(b_cost):
    """Costs in the type that they are computed with: float32 for what is narrower."""
    if b_cost.dtype == tl.float64:
        return b_cost
    else:
        return b_cost.to(tl.float32)


@triton.jit
def working(b_cost, centre, scale):
    """w_ij of point 3."""
    b_value = ((widened(b_cost) - centre) * scale).to(tl.float32)
    return tl.where(tl.abs(b_value) < float("inf"), b_value, float("inf"))


@triton.jit
def precise(b_cost, scale):
    """c_ij scale of point 3."""
    b_value = b_cost.to(tl.float64) * scale
    return tl.where(tl.abs(b_value) < float("inf"), b_value, float("inf"))
