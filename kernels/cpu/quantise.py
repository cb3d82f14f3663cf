"""Samples as int8, and products of them back in floats.

1. Row i of x, less a shift s, is about scale_i q_i with integers |q_ij| <= 127:
   scale_i = max_j |x_ij - s_j| / 127, q_ij = round((x_ij - s_j) / scale_i).
2. Products of such rows fit in 32 bits for rows of up to 2^31 / 127^2 numbers; scale_i scale'_j
   times the product of q_i and q'_j is about (x_i - s).(y_j - s').

The largest magnitude is found among the bits of the floats, which order positive floats as integers
do: integer maxima become vector instructions, float maxima do not. NaN counts as the largest.
"""

from __future__ import annotations

import numpy as np

from .jit import entry_point

LARGEST = 127
_MAGNITUDE = 0x7FFFFFFF  # of a float's bits, all but the sign


@entry_point
def quantise(x, shift, values, scale):
    """``x`` (n, D) float32 less ``shift`` (D,) as ``values`` (n, D) int8 times ``scale`` (n,); both
    are written."""
    n, dim = x.shape
    row = np.empty(dim, np.float32)
    bits = row.view(np.int32)
    found = np.empty(1, np.int32)
    for i in range(n):
        for j in range(dim):
            row[j] = x[i, j] - shift[j]
        top = np.int32(0)
        for j in range(dim):
            top = max(top, bits[j] & np.int32(_MAGNITUDE))
        found[0] = top
        largest = found.view(np.float32)[0]
        scale[i] = largest / np.float32(LARGEST)
        factor = np.float32(LARGEST) / largest if largest > 0 else np.float32(0)
        for j in range(dim):
            values[i, j] = np.int8(np.rint(row[j] * factor))


@entry_point
def rescale(product, cost, row_scale, column_scale, factor):
    """``cost`` (B, n, m) float32 = factor row_scale_i column_scale_j product_ij, where ``product``
    int32 may be the same memory."""
    batch, n, m = product.shape
    row = np.empty(m, np.float32)
    for b in range(batch):
        for i in range(n):
            scale = factor * row_scale[b, i]
            for j in range(m):
                row[j] = np.float32(product[b, i, j]) * (scale * column_scale[b, j])
            for j in range(m):
                cost[b, i, j] = row[j]
