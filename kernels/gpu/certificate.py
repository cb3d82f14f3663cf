"""Certificate of any prices, for any assignment, in float64 and in units of the scale.

1. ``row_terms_kernel``: u_i = min_j (c_ij + p_j), and the cost of the pair of row i.
2. ``certify_kernel``: cost = sum of the latter; sum_i u_i - sum_j p_j + (m - n) min_j p_j is a
   lower bound of the cost of every assignment, by duality. Sums are taken in one order: same bits
   every time.
3. Rounding is accounted for. With e = 2^-53, a rounded minimum of rounded sums is at most e |u_i|
   above the true one, and a sum in which a term passes through d additions is off by at most d e
   times the sum of its terms' magnitudes (Higham 2002, 4.2). The bound is lowered by all of that.
   The cost carries the errors of its additions along (Knuth's two-sum) and is raised by what these
   lose: nothing, where they are zero, as those of integers are.
4. A problem whose gap exceeds n eps is marked as unfinished: rounding kept the solver from it.

Problems of which ``wanted`` is not positive are passed over.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch, registers
from .problems import Problems, one_problem, part_of_batch, precise, row_columns
from .scan import best_two
from .statistics import Units

ROUNDING = tl.constexpr(2.0**-53 * (1 + 2.0**-20))  # of one addition, and of adding up such bounds
DEPTH = tl.constexpr(24)  # additions within a block, of the parts, and of the minimum


@triton.jit(do_not_specialize=["n"])
def row_terms_kernel(
    p_cost, p_price, p_scale, p_first, p_last, p_wanted, p_column, p_least, p_paid,
    stride_batch, stride_row, n, m, BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    i_batch, i_row = part_of_batch(n)
    i_problem, start, stop = row_columns(p_first, p_last, i_batch, i_row, i_row < n, n, m, GROUPED)
    if tl.load(p_wanted + i_problem) > 0:
        i_flat = i_batch * n + i_row
        scale = tl.load(p_scale + i_problem)
        p_row = p_cost + i_batch * stride_batch + i_row.to(tl.int64) * stride_row
        p_own = p_price + i_batch * m
        least, _, _ = best_two(p_row, p_own, 0.0, scale, start, stop, BLOCK)
        j = tl.load(p_column + i_flat)
        paid = precise(tl.load(p_row + j, mask=j >= 0, other=0.0), scale)
        tl.store(p_least + i_flat, least)
        tl.store(p_paid + i_flat, paid)


@triton.jit
def total(p_array, start, stop, BLOCK: tl.constexpr):
    """(sum, sum of magnitudes)."""
    b_sum = tl.zeros([BLOCK], tl.float64)
    b_size = tl.zeros([BLOCK], tl.float64)
    for i_start in range(start, stop, BLOCK):
        o_index = i_start + tl.arange(0, BLOCK)
        b_term = tl.load(p_array + o_index, mask=o_index < stop, other=0.0)
        b_sum += b_term
        b_size += tl.abs(b_term)
    return tl.sum(b_sum, 0), tl.sum(b_size, 0)


@triton.jit
def add_exactly(x, x_error, x_size, y, y_error, y_size):
    """(sum, errors that it left out, sum of their magnitudes) of two such."""
    s = x + y
    finite = tl.abs(s) < float("inf")  # else there is no error to speak of
    x, y, whole = tl.where(finite, x, 0.0), tl.where(finite, y, 0.0), tl.where(finite, s, 0.0)
    z = whole - x
    error = (x - (whole - z)) + (y - z)
    return s, x_error + y_error + error, x_size + y_size + tl.abs(error)


@triton.jit
def exact_total(p_array, start, stop, depth, BLOCK: tl.constexpr):
    """A sum that is not below the true one, and only by rounding above it."""
    b_sum = tl.zeros([BLOCK], tl.float64)
    b_error = tl.zeros([BLOCK], tl.float64)
    b_size = tl.zeros([BLOCK], tl.float64)
    for i_start in range(start, stop, BLOCK):
        o_index = i_start + tl.arange(0, BLOCK)
        b_term = tl.load(p_array + o_index, mask=o_index < stop, other=0.0)
        b_sum, b_error, b_size = add_exactly(b_sum, b_error, b_size, b_term, 0.0, 0.0)
    value, error, size = tl.reduce((b_sum, b_error, b_size), 0, add_exactly)
    lost = size * (depth * (ROUNDING * 2.0))
    lacking = error + lost
    # The last addition is rounded, too: up, unless there is nothing to add.
    rounded = value + lacking
    return tl.where(lacking == 0.0, value, rounded + tl.abs(rounded) * (ROUNDING * 2.0))


@triton.jit(do_not_specialize=["n", "m"])
def certify_kernel(
    p_price, p_unit, p_first, p_last, p_wanted, p_least, p_paid, p_cost, p_bound, p_left, n, m, eps,
    BLOCK: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    i_batch, row, row_stop, col, col_stop = one_problem(p_first, p_last, n, m, GROUPED)
    i_slot = tl.program_id(0)
    if (row < row_stop) & (tl.load(p_wanted + i_slot) > 0):
        p_price += i_batch * m
        b_cheapest = tl.full([BLOCK], float("inf"), tl.float64)
        for i_start in range(col, col_stop, BLOCK):
            o_col = i_start + tl.arange(0, BLOCK)
            b_price = tl.load(p_price + o_col, mask=o_col < col_stop, other=float("inf"))
            b_cheapest = tl.minimum(b_cheapest, b_price)
        depth = ((col_stop - col) // BLOCK + DEPTH).to(tl.float64)
        spare = ((col_stop - col) - (row_stop - row)) * tl.min(b_cheapest, 0)
        cost = exact_total(p_paid + i_batch * n, row, row_stop, depth, BLOCK)
        least, least_size = total(p_least + i_batch * n, row, row_stop, BLOCK)
        price, price_size = total(p_price, col, col_stop, BLOCK)
        size = least_size + price_size + tl.abs(spare)
        lost = size * (depth * ROUNDING)
        bound = least + spare - price - lost
        tl.store(p_cost + i_slot, cost)
        tl.store(p_bound + i_slot, bound)
        close = cost <= bound + (row_stop - row) * (eps * tl.load(p_unit + i_slot)) + 4 * lost
        if close == 0:  # also where it is no number
            tl.store(p_left + i_slot, 1)


class Proof(NamedTuple):
    """What is known of the answers, in float64 and units of the scale."""

    least: Tensor  # (B n) duals of the rows, min_j (c_ij + p_j)
    paid: Tensor  # (B n) costs of the pairs
    cost: Tensor  # (problems,) not below what the pairs cost
    bound: Tensor  # (problems,) no assignment costs less

    @classmethod
    def empty(cls, problems: Problems) -> Proof:
        batch, n, _ = problems.cost.shape
        sizes = (batch * n, batch * n, problems.slots, problems.slots)
        device = problems.cost.device
        return cls(*(torch.empty(size, dtype=torch.float64, device=device) for size in sizes))


def certificate(
    problems: Problems, units: Units, price: Tensor, column: Tensor,
    proof: Proof, wanted: Tensor, left: Tensor, eps: float,
) -> None:  # fmt: skip
    """Write ``proof`` of the problems that are ``wanted``, and 1 into ``left`` (problems,) int32 of
    those that are not within ``eps`` standard deviations a row.

    ``price`` (B m) float64 in units of the scale, ``column`` (B n) int32.
    """
    cost, first, last = problems
    batch, n, m = cost.shape
    shape = {"n": n, "m": m, "GROUPED": problems.grouped, "num_warps": 4}
    launch(
        row_terms_kernel, n * batch,
        cost, price, units.scale, first, last, wanted, column, proof.least, proof.paid,
        stride_batch=cost.stride(0), stride_row=cost.stride(1),
        BLOCK=min(problems.lanes, 1024), **shape,
    )  # fmt: skip
    launch(
        certify_kernel, problems.slots,
        price, units.unit, first, last, wanted, *proof, left,
        eps=eps, BLOCK=min(problems.lanes, 1024), **shape, **registers(cost.device, 224),
    )  # fmt: skip
