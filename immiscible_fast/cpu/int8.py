"""Inner products in eight bits, where that pays: the costs of near-optimal methods on a CPU.

1. Images (less their mean, which changes no assignment) and noises become int8, each row with a
   scale of its own; the processor multiplies those four at a time.
2. A rounded coordinate is off by a third of a percent of its row's largest, so a product of many is
   off by about one percent of the products' spread, and an assignment by far less.
3. Samples of which one coordinate dwarfs the others would lose more. So a block of the products is
   computed in float32 too, and if the errors there are too large, all of them are.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .threads import share

Rows = tuple[Tensor, NDArray[np.float32]]

LEAST_TOL = 0.005  # a finer tolerance asks for better costs than these
ERROR_PER_TOL = 2.0  # standard error of a cost that is allowed, in units of tol
LARGEST_ERROR = 0.05  # ... and at most, in standard deviations of the costs
LEAST_N = 256  # on one thread: to quantise is a larger share of less work
LEAST_N_EACH, MOST_THREADS = (
    512,
    4,
)  # of several threads, which share the product better than the rest
LEAST_DIM, LARGEST_DIM = 256, 1 << 17  # above the last, sums might pass 2^31
PROBED = 16  # rows and columns of the block that is computed twice
BLOCK = 1 << 18  # numbers that a thread takes at a time
THREADED_FROM = 1 << 19  # numbers to quantise; for fewer, threads cost more than they save


def pays(n: int, dim: int, tol: float) -> bool:
    """Whether products of n by n samples are computed faster in eight bits, to ``tol``."""
    threads = min(torch.get_num_threads(), MOST_THREADS)
    fits = n >= (LEAST_N if threads == 1 else LEAST_N_EACH * threads)
    fits = fits and LEAST_DIM <= dim <= LARGEST_DIM
    return fits and tol >= LEAST_TOL and supported()


@functools.cache
def supported() -> bool:
    """Whether this processor multiplies int8 faster than float32, and this torch does so.

    Without VNNI, oneDNN adds pairs of products in 16 bits, which is no faster and may saturate.
    """
    onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (onednn and hasattr(torch, "_int_mm")):
        return False
    from llvmlite import binding

    if not binding.get_host_cpu_features().get("avx512vnni", False):
        return False
    most = torch.full((32, 64), 127, dtype=torch.int8, device="cpu")
    try:
        return bool((torch._int_mm(most, most.T) == 64 * 127 * 127).all())
    except RuntimeError:
        return False


def product(x: Tensor, noise: Tensor, factor: float, tol: float) -> Tensor | None:
    """About ``factor * x @ noise.mT`` (B, n, n) in float32, up to constants of a column; None if
    the errors of some problem's products are too large for ``tol``.
    """
    from immiscible_fast.kernels.cpu.quantise import rescale

    batch, n = x.shape[:2]
    shift = x.mean(1, dtype=torch.float32)
    (values_x, scale_x), (values_noise, scale_noise) = _quantised(x, shift, noise)
    whole = torch.empty(batch, n, n, dtype=torch.int32, device=x.device)
    for b in range(batch):
        torch._int_mm(values_x[b], values_noise[b].T, out=whole[b])
    cost = whole.view(torch.float32)
    rescale(whole.numpy(), cost.numpy(), scale_x, scale_noise, np.float32(factor))
    step = -(-n // PROBED)
    some_x = x[:, ::step].to(torch.float32) - shift[:, None]
    exact = (some_x @ noise[:, ::step].to(torch.float32).mT).mul_(factor)
    limit = min(ERROR_PER_TOL * tol, LARGEST_ERROR)
    error = _spread(exact - cost[:, ::step, ::step])
    return cost if bool((error <= limit * _spread(exact)).all()) else None


def _spread(cost: Tensor) -> Tensor:
    """Standard deviations (B,) of the doubly centred costs; squares do not vanish in float64."""
    cost = cost.to(torch.float64)
    centred = cost - cost.mean(1, keepdim=True)
    centred -= centred.mean(2, keepdim=True)
    return centred.square_().mean((1, 2)).sqrt_()


def _quantised(x: Tensor, shift: Tensor, noise: Tensor) -> tuple[Rows, Rows]:
    """int8 values (B, n, D) and scales (B, n), of the images less ``shift`` (B, D) and of the
    noises."""
    from immiscible_fast.kernels.cpu.quantise import quantise

    batch, n, dim = x.shape
    rows, nothing = max(1, BLOCK // dim), np.zeros(dim, np.float32)
    less: list[NDArray[np.float32]] = list(shift.contiguous().numpy())
    result = [
        (torch.empty_like(x, dtype=torch.int8), np.empty((batch, n), np.float32)) for _ in range(2)
    ]

    def block(of_noise: int, b: int, begin: int) -> None:
        part = slice(begin, begin + rows)
        samples = (noise if of_noise else x)[b, part].to(torch.float32)
        values, scale = result[of_noise]
        array = samples.contiguous().resolve_neg().numpy()
        quantise(array, nothing if of_noise else less[b], values[b, part].numpy(), scale[b, part])

    blocks = list(itertools.product(range(2), range(batch), range(0, n, rows)))
    threads = min(torch.get_num_threads(), len(blocks))
    if threads > 1 and x.numel() >= THREADED_FROM:
        share(block, blocks, threads)
    else:
        for one in blocks:
            block(*one)
    return result[0], result[1]
