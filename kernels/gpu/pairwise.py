"""Cost of every pair of samples, (B, n, D) x (B, m, D) -> (B, n, m), on tensor cores.

1. With rows x_i, y_j (each less its problem's shift, if one is given, which is subtracted in
   float32 and keeps the digits that a common offset would cost), one product gives them all:
       dot          -x_i.y_j
       sqeuclidean  |x_i|^2 + |y_j|^2 - 2 x_i.y_j, not below 0
       euclidean    its root
       cosine       1 - x_i.y_j / (|x_i| |y_j|), where a zero row has cosine 0 with any other
2. Squared norms are taken of the rows as the product sees them, rounded to its type, so that equal
   rows are at distance 0 up to the accumulation's rounding.
3. For the cosine, rows are first multiplied by the power of two that brings their largest entry
   into [1, 2): exact, and no square overflows or vanishes.
4. manhattan, sum_d |x_id - y_jd|, is no product; coordinates are added one by one.
5. Programs are ordered so that those which run together share rows of x and y in the L2 cache.
6. Tensor cores work at full speed on rows that lie in memory as the product sees them, aligned.
   Where rows do not, a copy that does is made by the kernel of the norms, which has to read them
   anyway, if it is small beside the costs; else each tile of the product makes it for itself.
7. Where samples come in groups, sorted, a tile whose rows and columns have no group in common is
   left unwritten.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import AMD, Options, Tensors, capability, cdiv, launch, next_power_of_2
from .tiles import STRIPE, in_pieces, launch_parameters

DOT_TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}

COPY_BYTES = 128 << 20  # copies of the samples may take that, or a quarter of float32 costs


@triton.jit
def locate_tile(n, m, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, STRIPE: tl.constexpr):
    """Problem, tile row and tile column of this program: down STRIPE rows, then right (5)."""
    tiles_n, tiles_m = tl.cdiv(n, BLOCK_N), tl.cdiv(m, BLOCK_M)
    i_tile = tl.program_id(0) % (tiles_n * tiles_m)
    i_b = tl.program_id(0) // (tiles_n * tiles_m)
    i_first = i_tile // (STRIPE * tiles_m) * STRIPE
    height = tl.minimum(tiles_n - i_first, STRIPE)
    i_rest = i_tile % (STRIPE * tiles_m)
    return i_b.to(tl.int64), i_first + i_rest % height, i_rest // height


@triton.jit
def share_no_group(group, i_n, i_m, n, m, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr):
    """Whether the sorted groups of a tile's rows and those of its columns lie apart (7)."""
    first_n = tl.load(group + i_n * BLOCK_N)
    last_n = tl.load(group + tl.minimum(i_n * BLOCK_N + BLOCK_N, n) - 1)
    first_m = tl.load(group + i_m * BLOCK_M)
    last_m = tl.load(group + tl.minimum(i_m * BLOCK_M + BLOCK_M, m) - 1)
    return (last_n < first_m) | (last_m < first_n)


@triton.jit
def load_samples(p_x, m_x, p_shift, m_d, b_factor, DOT_TYPE: tl.constexpr):
    """A tile as the product wants it; what is not asked for costs nothing (1, 3)."""
    b_x = tl.load(p_x) if m_x is None else tl.load(p_x, mask=m_x, other=0.0)
    if p_shift is not None:
        b_shift = tl.load(p_shift) if m_d is None else tl.load(p_shift, mask=m_d, other=0.0)
        b_x = b_x.to(tl.float32) - b_shift
    if b_factor is not None:
        b_x = b_x.to(tl.float32) * b_factor
    return b_x.to(DOT_TYPE)


@triton.jit(do_not_specialize=["n"])
def norm_kernel(
    x, shift, factor, norm, copy,
    n, D, width,
    stride_xb, stride_xn, stride_xd, stride_shift,
    COSINE: tl.constexpr, DOT_TYPE: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Squared norms (2), or for the cosine each row's factor (3) and 1 / norm of what it gives; and
    the copy (6), whose rows are ``width`` entries long, the last of them zero."""
    blocks = tl.cdiv(n, ROWS)
    i_b = (tl.program_id(0) // blocks).to(tl.int64)
    o_n = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
    o_d = tl.arange(0, BLOCK_D)
    m_n = o_n < n
    p_x = x + i_b * stride_xb + o_n.to(tl.int64)[:, None] * stride_xn
    b_factor = None
    if COSINE:
        b_largest = tl.zeros((ROWS, BLOCK_D), tl.float32)
        for i_d in range(0, D, BLOCK_D):
            o_x = (i_d + o_d).to(tl.int64)[None, :]
            b_x = tl.load(p_x + o_x * stride_xd, mask=m_n[:, None] & (o_x < D), other=0.0)
            b_largest = tl.maximum(b_largest, tl.abs(b_x.to(tl.float32)))
        exponent = tl.max(b_largest, axis=1).to(tl.int32, bitcast=True) >> 23
        inverse = tl.maximum(254 - exponent, 1) << 23
        b_row = inverse.to(tl.float32, bitcast=True)
        tl.store(factor + i_b * n + o_n, b_row, mask=m_n)
        b_factor = b_row[:, None]
    b_sum = tl.zeros((ROWS, BLOCK_D), tl.float32)
    for i_d in range(0, width, BLOCK_D):
        o_x = (i_d + o_d).to(tl.int64)[None, :]
        p_shift = None
        if shift is not None:
            p_shift = shift + i_b * stride_shift + o_x
        m_x = m_n[:, None] & (o_x < D)
        b_x = load_samples(p_x + o_x * stride_xd, m_x, p_shift, o_x < D, b_factor, DOT_TYPE)
        if copy is not None:
            p_copy = copy + (i_b * n + o_n)[:, None] * width + o_x
            tl.store(p_copy, b_x, mask=m_n[:, None] & (o_x < width))
        b_x = b_x.to(tl.float32)
        b_sum += b_x * b_x
    b_norm = tl.sum(b_sum, axis=1)
    if COSINE:
        b_norm = tl.where(b_norm == 0, 0.0, 1 / tl.sqrt(tl.where(b_norm == 0, 1.0, b_norm)))
    tl.store(norm + i_b * n + o_n, b_norm, mask=m_n)


@triton.jit(do_not_specialize=["n", "m"])
def product_kernel(
    x, y, out, norm_x, norm_y, factor_x, factor_y, shift_x, shift_y, group,
    scale, n, m, D,
    stride_xb, stride_xn, stride_xd, stride_yb, stride_ym, stride_yd, stride_ob, stride_on,
    stride_shift_x, stride_shift_y, stride_group,
    METRIC: tl.constexpr, PRECISION: tl.constexpr, DOT_TYPE: tl.constexpr, WIDEN: tl.constexpr,
    EVEN_D: tl.constexpr, ALIGN_D: tl.constexpr, ALIGN_M: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, STRIPE: tl.constexpr,
):  # fmt: skip
    """One tile of costs by one product (1)."""
    i_b, i_n, i_m = locate_tile(n, m, BLOCK_N, BLOCK_M, STRIPE)
    if group is not None:
        apart = share_no_group(group + i_b * stride_group, i_n, i_m, n, m, BLOCK_N, BLOCK_M)
        if apart:
            return
    if ALIGN_D > 1:  # the compiler learns how many coordinates can be loaded at a time
        D = D // ALIGN_D * ALIGN_D
        stride_xb, stride_yb = stride_xb // ALIGN_D * ALIGN_D, stride_yb // ALIGN_D * ALIGN_D
        stride_xn, stride_ym = stride_xn // ALIGN_D * ALIGN_D, stride_ym // ALIGN_D * ALIGN_D
    # Rows past the end repeat the last one, so that no load has to be masked for them.
    o_n = tl.minimum(i_n * BLOCK_N + tl.arange(0, BLOCK_N), n - 1).to(tl.int64)
    o_m = tl.minimum(i_m * BLOCK_M + tl.arange(0, BLOCK_M), m - 1).to(tl.int64)
    o_d = tl.arange(0, BLOCK_D).to(tl.int64)
    p_x = x + i_b * stride_xb + o_n[:, None] * stride_xn + o_d[None, :] * stride_xd
    p_y = y + i_b * stride_yb + o_m[None, :] * stride_ym + o_d[:, None] * stride_yd
    b_factor_x, b_factor_y = None, None
    if factor_x is not None:
        b_factor_x = tl.load(factor_x + i_b * n + o_n)[:, None]
        b_factor_y = tl.load(factor_y + i_b * m + o_m)[None, :]
    step = tl.full((), BLOCK_D, tl.int64)
    b_dot = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    for i_d in range(tl.cdiv(D, BLOCK_D)):
        m_x, m_y = None, None
        if not EVEN_D:
            m_x, m_y = o_d[None, :] < D - i_d * BLOCK_D, o_d[:, None] < D - i_d * BLOCK_D
        p_shift_x, p_shift_y = None, None
        if shift_x is not None:
            p_shift_x = shift_x + i_b * stride_shift_x + i_d * BLOCK_D + o_d[None, :]
        if shift_y is not None:
            p_shift_y = shift_y + i_b * stride_shift_y + i_d * BLOCK_D + o_d[:, None]
        b_x = load_samples(p_x, m_x, p_shift_x, m_x, b_factor_x, DOT_TYPE)
        b_y = load_samples(p_y, m_y, p_shift_y, m_y, b_factor_y, DOT_TYPE)
        if WIDEN:
            b_x, b_y = b_x.to(tl.float32), b_y.to(tl.float32)
        b_dot = tl.dot(b_x, b_y, b_dot, input_precision=PRECISION)
        p_x += step * stride_xd
        p_y += step * stride_yd
    b_cost = -b_dot
    if METRIC != "dot":
        b_norm_x = tl.load(norm_x + i_b * n + o_n)[:, None]
        b_norm_y = tl.load(norm_y + i_b * m + o_m)[None, :]
        if METRIC == "cosine":
            b_cost = 1 - b_dot * b_norm_x * b_norm_y
        else:
            b_cost = b_norm_x + b_norm_y - 2 * b_dot
            b_cost = tl.where(b_cost < 0, 0.0, b_cost)  # NaN stays
        if METRIC == "euclidean":
            b_cost = tl.sqrt(b_cost)
    store_costs(out, b_cost * scale, i_b, i_n, i_m, n, m, stride_ob, stride_on, ALIGN_M)


@triton.jit
def store_costs(out, b_cost, i_b, i_n, i_m, n, m, stride_ob, stride_on, ALIGN_M: tl.constexpr):
    BLOCK_N: tl.constexpr = b_cost.shape[0]
    BLOCK_M: tl.constexpr = b_cost.shape[1]
    if ALIGN_M > 1:  # the compiler learns how many columns can be stored at a time
        m = m // ALIGN_M * ALIGN_M
        stride_ob = stride_ob // ALIGN_M * ALIGN_M
        stride_on = stride_on // ALIGN_M * ALIGN_M
    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    p_out = out + i_b * stride_ob + o_n.to(tl.int64)[:, None] * stride_on + o_m[None, :]
    m_out = (o_n < n)[:, None] & (o_m < m)[None, :]
    tl.store(p_out, b_cost.to(out.dtype.element_ty), mask=m_out)


@triton.jit(do_not_specialize=["n", "m"])
def manhattan_kernel(
    x, y, out, shift_x, shift_y, group,
    scale, n, m, D,
    stride_xb, stride_xn, stride_xd, stride_yb, stride_ym, stride_yd, stride_ob, stride_on,
    stride_shift_x, stride_shift_y, stride_group,
    ALIGN_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, STRIPE: tl.constexpr,
):  # fmt: skip
    """One tile of costs, a coordinate at a time (4)."""
    i_b, i_n, i_m = locate_tile(n, m, BLOCK_N, BLOCK_M, STRIPE)
    if group is not None:
        apart = share_no_group(group + i_b * stride_group, i_n, i_m, n, m, BLOCK_N, BLOCK_M)
        if apart:
            return
    o_n = tl.minimum(i_n * BLOCK_N + tl.arange(0, BLOCK_N), n - 1).to(tl.int64)
    o_m = tl.minimum(i_m * BLOCK_M + tl.arange(0, BLOCK_M), m - 1).to(tl.int64)
    p_x = x + i_b * stride_xb + o_n * stride_xn
    p_y = y + i_b * stride_yb + o_m * stride_ym
    one = tl.full((), 1, tl.int64)
    b_cost = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    for i_d in range(D):
        b_x, b_y = tl.load(p_x).to(tl.float32), tl.load(p_y).to(tl.float32)
        if shift_x is not None:
            b_x -= tl.load(shift_x + i_b * stride_shift_x + i_d)
        if shift_y is not None:
            b_y -= tl.load(shift_y + i_b * stride_shift_y + i_d)
        b_cost += tl.abs(b_x[:, None] - b_y[None, :])
        p_x += one * stride_xd
        p_y += one * stride_yd
    store_costs(out, b_cost * scale, i_b, i_n, i_m, n, m, stride_ob, stride_on, ALIGN_M)


def pairwise(
    x: Tensor,
    y: Tensor,
    out: Tensor,
    *,
    metric: str,
    precision: str = "ieee",
    scale: float = 1.0,
    shift_x: Tensor | None = None,
    shift_y: Tensor | None = None,
    group: Tensor | None = None,
) -> None:
    """Write ``scale`` times the costs of x (B, n, D) and y (B, m, D) to ``out`` (B, n, m).

    x and y are float32, float16 or bfloat16, with any strides; products of unlike types are
    float32 ones, for which ``precision`` is "ieee", "tf32" or "tf32x3", or "bf16": rows are rounded
    to that. ``out`` is float32 or float16, with unit stride along m. ``shift_x``, ``shift_y``
    (B, D), float32, are subtracted from rows first (not for the cosine); distances want the same in
    both. ``group``, (n,) or (B, n) int32, ascending, with n = m: costs between groups need not be
    written.
    """
    if torch.float64 in (x.dtype, y.dtype, out.dtype):
        raise TypeError("these kernels compute in float32; float64 costs are made by torch")
    if out.numel() == 0:
        return
    (batch, n, D), m = x.shape, y.shape[1]
    shifts = shift_x, shift_y
    arguments = {
        "scale": scale,
        "n": n,
        "m": m,
        "D": D,
        "stride_ob": out.stride(0),
        "stride_on": out.stride(1),
        "stride_shift_x": 0 if shift_x is None else shift_x.stride(0),
        "stride_shift_y": 0 if shift_y is None else shift_y.stride(0),
        "stride_group": 0 if group is None or group.ndim == 1 else group.stride(0),
        "ALIGN_M": math.gcd(m, *out.stride()[:2], 4),
        "STRIPE": STRIPE,
    }
    if metric == "manhattan":
        return _launch_manhattan(x, y, out, (*shifts, group), arguments)
    dtype = x.dtype if x.dtype == y.dtype else torch.float32
    if dtype == torch.float32 and precision == "bf16":
        dtype = torch.bfloat16
    plain = shift_x is None and shift_y is None and metric != "cosine"
    plain = plain and x.dtype == y.dtype == dtype
    align = math.gcd(D, *x.stride()[:2], *y.stride()[:2], 16)
    once = dtype != torch.float32 or precision == "tf32"
    copied = (in_pieces(align, dtype) or (once and not plain)) and copies_fit(x, y, out, dtype)
    x, norm_x, factor_x = prepare(x, shift_x, metric, dtype, copied)
    y, norm_y, factor_y = prepare(y, shift_y, metric, dtype, copied)
    if copied:
        plain, align, D = True, 16, x.shape[2]
        arguments["D"], shifts = D, (None, None)
        factor_x = factor_y = None
    of = capability(x.device)
    if dtype != torch.float32 or of == AMD:  # whose matrix cores multiply float32 as it is
        precision = "ieee"
    parameters = launch_parameters(
        n, m, D, dtype, of, batch=batch, precision=precision,
        plain=plain, align=align, align_out=arguments["ALIGN_M"], grouped=group is not None,
    )  # fmt: skip
    tiles = cdiv(n, parameters.BLOCK_N) * cdiv(m, parameters.BLOCK_M)
    launch(
        product_kernel, batch * tiles,
        x, y, out, norm_x, norm_y, factor_x, factor_y, *shifts, group, **arguments,
        stride_xb=x.stride(0), stride_xn=x.stride(1), stride_xd=x.stride(2),
        stride_yb=y.stride(0), stride_ym=y.stride(1), stride_yd=y.stride(2),
        METRIC=metric, PRECISION=precision,
        DOT_TYPE=DOT_TYPES[dtype], WIDEN=x.device.type == "cpu",
        EVEN_D=D % parameters.BLOCK_D == 0, ALIGN_D=align, **parameters._asdict(),
    )  # fmt: skip


def copies_fit(x: Tensor, y: Tensor, out: Tensor, dtype: torch.dtype) -> bool:
    """Whether copies of the samples are small, or small beside the costs (6)."""
    return (x.numel() + y.numel()) * dtype.itemsize <= max(COPY_BYTES, out.numel())


def prepare(
    x: Tensor, shift: Tensor | None, metric: str, dtype: torch.dtype, copied: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Samples for the product of a metric, and the (B, n) norms and factors that it needs."""
    if metric == "dot" and not copied:
        return x, None, None
    batch, n, D = x.shape
    width = cdiv(D, 16) * 16 if copied else D
    block = max(16, min(next_power_of_2(D), 1024))
    rows = min(32, 2048 // block)
    norm = torch.empty(batch, n, dtype=torch.float32, device=x.device)
    factor = torch.empty_like(norm) if metric == "cosine" else None
    copy = torch.empty(batch, n, width, dtype=dtype, device=x.device) if copied else None
    launch(
        norm_kernel, batch * cdiv(n, rows),
        x, shift, factor, norm, copy, n=n, D=D, width=width,
        stride_xb=x.stride(0), stride_xn=x.stride(1), stride_xd=x.stride(2),
        stride_shift=0 if shift is None else shift.stride(0), COSINE=metric == "cosine",
        DOT_TYPE=DOT_TYPES[dtype], ROWS=rows, BLOCK_D=block, num_warps=4,
    )  # fmt: skip
    return x if copy is None else copy, None if metric == "dot" else norm, factor


def _launch_manhattan(
    x: Tensor,
    y: Tensor,
    out: Tensor,
    others: Tensors,
    arguments: Options,
) -> None:
    x, y = _by_coordinate(x), _by_coordinate(y)
    (batch, n), m = x.shape[:2], y.shape[1]
    height, width = (64, 128) if batch * n * m > 2**21 else (32, 32)
    tiles = cdiv(n, height) * cdiv(m, width)
    launch(
        manhattan_kernel, batch * tiles,
        x, y, out, *others, **arguments,
        stride_xb=x.stride(0), stride_xn=x.stride(1), stride_xd=x.stride(2),
        stride_yb=y.stride(0), stride_ym=y.stride(1), stride_yd=y.stride(2),
        BLOCK_N=height, BLOCK_M=width, num_warps=8 if width == 128 else 4,
    )  # fmt: skip


def _by_coordinate(x: Tensor) -> Tensor:
    """The same samples with those of one coordinate side by side, as a column of them is read."""
    one = x[:1] if x.stride(0) == 0 else x
    return one.mT.contiguous().mT.expand_as(x)
