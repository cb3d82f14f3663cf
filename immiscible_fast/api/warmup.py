"""``warmup``: compile before the first training step what it would have to wait for."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from .. import validation
from ..choices import METHODS, Method
from ..compat import linear_sum_assignment
from ..devices import on_gpu
from ..metrics import METRICS, Metric
from .fast_assign import fast_assign
from .solve_assignment import solve_assignment

CPU_SIZES = (2, 256)  # few rows and many are solved by entry points of their own
DIMENSIONS = 64  # of the samples on a CPU, where code fits every size


def warmup(
    dtypes: Iterable[torch.dtype] = (torch.float32, torch.float64),
    *,
    device: torch.device | str = "cpu",
    n: int = 256,
    dim: int = 1024,
    metric: Metric = "sqeuclidean",
    method: Method = "auto",
) -> None:
    """Compile what assignments will need, so that the first training step is not a slow one.

    On a CPU that takes up to half a minute for each of float32 and float64, once: the code is kept
    on disk for later processes, which load it in a fraction of a second. It fits all sizes, metrics
    and methods, and serves ``fast_assign``, ``solve_assignment`` and the drop-ins. On a GPU the
    kernels are compiled, and kept by Triton, for sizes, types and options like those given.

    Parameters
    ----------
    dtypes : dtypes
        Floating-point types of the samples or costs to come. float16 and bfloat16 are solved in
        float32; whatever has a ``cost_limit`` in float64.
    device : torch.device or str
        Where they will be.
    n, dim : int
        Images in a batch, and numbers in an image; they matter on a GPU only.
    metric, method : str
        As in ``fast_assign``; they matter on a GPU, and "streaming" on a CPU, too.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it got and what it wants.

    Examples
    --------
    >>> import torch
    >>> warmup([torch.float32])
    """
    validation.check_choice("metric", metric, METRICS)
    validation.check_choice("method", method, METHODS)
    n, dim = validation.check_count("n", n), validation.check_count("dim", dim)
    device = validation.check_device("device", device)
    if not isinstance(dtypes, Iterable):
        raise TypeError(f"dtypes must be a list of torch.dtype, got {type(dtypes).__name__}")
    generator = torch.Generator().manual_seed(0)
    for dtype in [validation.check_dtype("dtypes", dtype) for dtype in dtypes]:
        if on_gpu(torch.empty(0, device=device)):
            x, noise = torch.randn(2, n, dim, generator=generator).to(device, dtype)
            fast_assign(x, noise, metric=metric, method=method)
            solve_assignment(torch.rand(n, n, generator=generator).to(device, dtype), method=method)
            continue
        for count in CPU_SIZES:
            cost = torch.rand(count, count, generator=generator).to(device, dtype)
            solve_assignment(cost)
            linear_sum_assignment(cost)
            solved_as = torch.float64 if dtype == torch.float64 else torch.float32
            linear_sum_assignment(cost.cpu().to(solved_as).numpy())
        if method == "streaming":
            fast_assign(*torch.randn(2, 128, 4, generator=generator), method=method)
        if dtype != torch.float64:
            _compile_products(torch.randn(1, max(CPU_SIZES), DIMENSIONS, generator=generator))


def _compile_products(samples: torch.Tensor) -> None:
    """Those in eight bits, of near-optimal methods and larger batches."""
    from ..cpu import int8

    if int8.supported():
        int8.product(samples, samples, -2.0, 1.0)
