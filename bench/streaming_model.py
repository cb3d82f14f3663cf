"""A model of streaming on a GPU, from counted products and bytes: nothing here is measured there.

    python -m bench.streaming_model

prints a table of seconds. A pass computes n x n costs of D products each; how many passes there are
is counted on a CPU (bench/results/streaming). Rates are an H100's, at about half to three quarters
of what its data sheet says. Two ways:

- ``fused``, what runs there: kernels that keep no block (kernels/gpu/streaming.py). Prices take two
  products an update, the sums of rows being one of them; lists take one, and one of every eighth
  tile. Both are of samples in bfloat16; for the proof they are converted to float32, and multiplied
  without tensor cores. Distances that are no products in bfloat16 take TF32 and three of them.
- ``by blocks``, where there is no Triton: float32 products by torch, of which each block is written
  once and read or written five times more by what follows.

Lists are solved by a CPU either way, at a microsecond a bid.
"""

from __future__ import annotations

from . import record, tables

SIZES = [(n, dim) for n in (131_072, 1_048_576) for dim in (3072, 16384)]
PRICES, LISTS, PROOF = 4.9, 1.0, 1.0  # passes: Sinkhorn with the deviation, lists, certificate
REFILLS = 3.0  # as many as patches of photographs took; digits took none
FLOAT32, BFLOAT16 = 45e12, 600e12  # products and sums a second
BANDWIDTH = 2.5e12  # bytes a second
EXPONENTIALS = 3.0e12  # a second
TOUCHED = 6  # times that a block is written or read, by torch
TWICE, SAMPLED = 2, 1 + 1 / 8  # products for each pass of prices, and of lists
FOUND = 8 * 512 * 3  # bytes of a row that are written and read for a list
CHUNK = 1.2e9  # bytes, of samples that are converted and of what is found in some rows
BIDS, BID = 20, 1e-6  # a row; seconds
CELLS = {
    "n": "{n:,}",
    "D": "{dim:,}",
    "one pass, float32": "{one_pass} s",
    "by blocks": "{by_blocks} s",
    "fused": "{fused} s",
    "samples": "{samples:,.1f} GB",
    "beyond them": "{beyond:,.1f} GB",
}


def estimate(n: int, dim: int) -> record.Row:
    """Seconds of one pass of products and of both ways; gigabytes of both kinds of samples, in two
    bytes a number, and on the device beyond these (as many on the host)."""
    pairs, products = float(n) * n, 2.0 * n * n * dim
    bids = BIDS * n * BID
    one = products / FLOAT32 + TOUCHED * 4 * pairs / BANDWIDTH
    narrow = TWICE * PRICES + SAMPLED * (LISTS + REFILLS)
    fused = narrow * products / BFLOAT16 + SAMPLED * PROOF * products / FLOAT32
    fused += TWICE * PRICES * pairs / EXPONENTIALS
    fused += (LISTS + REFILLS + PROOF) * n * FOUND / BANDWIDTH
    return {
        **{"n": n, "dim": dim, "one_pass": one, "fused": fused + bids},
        "by_blocks": (PRICES + LISTS + REFILLS + PROOF) * one + bids,
        **{"samples": 4.0 * n * dim / 1e9, "beyond": (CHUNK + 600.0 * n) / 1e9},
    }


def table() -> str:
    rows = [estimate(n, dim) for n, dim in SIZES]
    for row in rows:
        for name in ("one_pass", "by_blocks", "fused"):
            row[name] = f"{row[name]:,.2g}" if row[name] < 100 else f"{row[name]:,.0f}"
    return tables.formatted(rows, CELLS)


if __name__ == "__main__":
    print(table())
