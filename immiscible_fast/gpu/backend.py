"""The GPU solver: a fixed sequence of launches, without a look at what they compute.

1. The costs, if samples are given; their centres, scale and first prices.
2. Annealed Sinkhorn moves the prices near to where they should be; rows list their candidates, and
   claim and bid for the cheapest.
3. Shortest-path forests match the rest, exactly, or near-optimally at the prices as they are: then
   the certificate says which problems are not as good as they should be, and those are solved
   exactly after all.
4. The last resort, of bounded work, is for what a forest has left.

Nothing here waits for the device or depends on its data, so a CUDA graph can hold all of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from immiscible_fast.kernels.gpu import launch
from immiscible_fast.kernels.gpu.augment import augment_rows, restart_where_huge
from immiscible_fast.kernels.gpu.certificate import Proof, certificate
from immiscible_fast.kernels.gpu.launch import AMD, capability, planned, properties
from immiscible_fast.kernels.gpu.pairwise import pairwise
from immiscible_fast.kernels.gpu.problems import Problems
from immiscible_fast.kernels.gpu.sinkhorn import sinkhorn
from immiscible_fast.kernels.gpu.statistics import INVALID, Units, statistics
from immiscible_fast.kernels.gpu.workspace import Workspace, grow_forests, start_matching

from ..costs import cost_matrix as reference_costs
from ..types import Answer

P = ParamSpec("P")
R = TypeVar("R")

# Columns up to which "auto" is exact, which costs under 1.3 times as much there: 30 updates and 43
# ticks instead of 24 and 31 at 256, less a certificate; at 1024, 89 ticks instead of 41 (photos in
# bench/gpu_work_counts.json).
EXACT_UP_TO = 512
LARGEST_TOL = 1e6  # anything goes, and prices stay finite
LOOSE = 1e-3  # standard deviations a row; exact answers that far from their proof are none


class Matching(NamedTuple):
    """Flat answers of the kernels, in units of the scale."""

    column: Tensor  # (B n) int32
    price: Tensor  # (B m) float64
    units: Units
    proof: Proof
    converged: Tensor  # (problems,) bool


def on_its_device(function: Callable[P, R]) -> Callable[P, R]:
    """Launch on the device of the first argument, whichever is the current one, with the kernels
    that a call like this one had before."""

    @functools.wraps(function)
    def launching(*args: P.args, **options: P.kwargs) -> R:
        device = cast(Tensor, args[0]).device
        if device.type not in launch.PLANNED:
            return function(*args, **options)
        given = map(properties, (*args, *options.items()))
        key = function.__name__, *given
        here = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
        with here:
            return planned(key, function, *args, **options)

    return launching


@on_its_device
def solve(cost: Tensor, method: str, tol: float) -> Answer:
    """Solve (n, m) or (B, n, m) costs of any real dtype; ``method`` as in ``solve_assignment``."""
    if cost.ndim == 2:
        return Answer(*[field.squeeze(0) for field in solve(cost.unsqueeze(0), method, tol)])
    if not cost.is_floating_point() or cost.dtype.itemsize == 1:
        cost = cost.to(torch.float32 if cost.dtype.is_floating_point else torch.float64)
    batch, n, m = cost.shape
    if n > m:
        return _solve_tall(cost, method, tol)
    if cost.numel() == 0:
        return _empty_answer(cost)
    if cost.stride(2) != 1:
        cost = cost.contiguous()
    matching = match(Problems(cost), method, tol, proven=True)
    scale = matching.units.scale
    return Answer(
        matching.column.view(batch, n).to(torch.int64),
        matching.proof.cost / scale,
        matching.proof.bound / scale,
        matching.converged,
        matching.price.view(batch, m) / scale[:, None],
    )


@on_its_device
def assign(
    x: Tensor,
    noise: Tensor,
    labels: Tensor | None,
    metric: str,
    method: str,
    tol: float,
    proven: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """(index (B, n) int64, converged (B,) bool, gap (B,) float64) of samples (B, n, D) and labels
    (B, n); the gap is infinite but where it is wanted to be ``proven``."""
    batch, n, _ = x.shape
    if x.numel() == 0 or n == 1:
        index = torch.arange(n, device=x.device).expand(batch, n).contiguous()
        gap = torch.zeros(batch, dtype=torch.float64, device=x.device)
        return index, torch.ones(batch, dtype=torch.bool, device=x.device), gap
    gap = torch.full((batch,), torch.inf, dtype=torch.float64, device=x.device)
    x, noise = _multipliable(x), _multipliable(noise)
    if labels is None:
        problems = Problems(_assignment_cost(x, noise, metric))
        matching = match(problems, method, tol, proven=proven)
        index = matching.column.view(batch, n).to(torch.int64)
        return index, matching.converged, _gap(matching, metric) if proven else gap
    order, first, last = _sort_groups(labels)
    x = torch.take_along_dim(x, order[:, :, None], 1)
    noise = torch.take_along_dim(noise, order[:, :, None], 1)
    cost = _assignment_cost(x, noise, metric, first)
    problems = Problems(cost, first.reshape(-1), last.reshape(-1))
    matching = match(problems, method, tol, proven=proven)
    column = matching.column.view(batch, n).to(torch.int64)
    index = torch.empty_like(order).scatter_(1, order, torch.gather(order, 1, column))
    if proven:
        begins = first == torch.arange(n, device=x.device)  # the slots that hold a group
        gap = torch.where(begins, _gap(matching, metric).view(batch, n), 0).sum(1)
    return index, matching.converged.view(batch, n).all(1), gap


def _gap(matching: Matching, metric: str) -> Tensor:
    """Of each problem, in the units of the metric, which has twice the inner product that stands
    for squared distances."""
    gap: Tensor = (matching.proof.cost - matching.proof.bound) / matching.units.scale
    return 2 * gap if metric == "sqeuclidean" else gap


def match(problems: Problems, method: str, tol: float, *, proven: bool = False) -> Matching:
    """Solve n <= m problems; ``proof`` is of the answer if ``proven``, else nothing to rely on."""
    tol = min(tol, LARGEST_TOL)
    small = problems.cost.shape[2] <= EXACT_UP_TO
    exact = method == "exact" or (method == "auto" and small)
    units, start = statistics(problems)
    price = sinkhorn(problems, units, start, exact=exact)
    work, proof = Workspace.of(problems, price), Proof.empty(problems)
    left = torch.ones_like(units.flags)
    if not exact:
        every = left
        start_matching(problems, units, work, every, exact=False)
        left = grow_forests(problems, units, work, every, exact=False)
        certificate(problems, units, price, work.column, proof, every, left, 1.01 * tol)
    failed = solve_exactly(problems, units, work, left, spread=exact)
    if exact:
        again = restart_where_huge(problems, units, work, left)
        start_matching(problems, units, work, again, bids=False)
        failed = torch.where(again > 0, augment_rows(problems, units, work, again), failed)
    if proven:  # and what is far from its proof, as where sums overflow, is not called solved
        loose = torch.zeros_like(left)
        eps = LOOSE if exact else 1.01 * tol
        certificate(problems, units, price, work.column, proof, left, loose, eps)
        failed = failed | loose
    converged = (failed == 0) & ((units.flags & INVALID.value) == 0)
    return Matching(work.column, price, units, proof, converged)


def solve_exactly(
    problems: Problems, units: Units, work: Workspace, wanted: Tensor, *, spread: bool
) -> Tensor:
    """Solve the problems that are ``wanted`` from the workspace's prices; 1 where that failed. If
    hardly any is, its forests are not to be ``spread``: all launches would be made for nothing."""
    start_matching(problems, units, work, wanted)
    grow_forests(problems, units, work, wanted, exact=True, spread=spread)
    return augment_rows(problems, units, work, wanted)


@on_its_device
def cost_matrix(x: Tensor, y: Tensor, metric: str) -> Tensor:
    """``pairwise_cost`` of (B, n, D) and (B, m, D) samples, in float32; float64 is for torch."""
    if torch.float64 in (x.dtype, y.dtype):
        return reference_costs(x, y, metric)
    x, y, shift = _multipliable(x), _multipliable(y), None
    if metric in ("sqeuclidean", "euclidean") and x.shape[1] > 0:
        shift = x.mean(1, dtype=torch.float32)  # changes no distance, and keeps digits
    return _launch(x, y, metric, shift, shift)


def _multipliable(x: Tensor) -> Tensor:
    """In a type that the kernels or torch can multiply: float8 is too narrow."""
    return x.to(torch.float32) if x.dtype.itemsize == 1 else x


def _launch(
    x: Tensor,
    y: Tensor,
    metric: str,
    shift_x: Tensor | None,
    shift_y: Tensor | None,
    first: Tensor | None = None,
) -> Tensor:
    out = torch.empty(*x.shape[:2], y.shape[1], dtype=torch.float32, device=x.device)
    precision = _precision(x.device)
    pairwise(
        x,
        y,
        out,
        metric=metric,
        precision=precision,
        shift_x=shift_x,
        shift_y=shift_y,
        group=first,
    )
    return out


def _precision(device: torch.device) -> str:
    """TF32 only if torch may use it, too; else three of them, which are as good as float32."""
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # once that is set, the older name raises
        allowed = matmul.fp32_precision == "tf32"
    else:
        allowed = torch.get_float32_matmul_precision() != "highest"
    if allowed:
        return "tf32"
    return "ieee" if capability(device) == AMD else "tf32x3"


def _assignment_cost(x: Tensor, noise: Tensor, metric: str, first: Tensor | None = None) -> Tensor:
    """Square costs with the same optimal assignments as ``metric``. Inner products stand for
    squared distances, and the means, which change nothing, are taken out of them."""
    if torch.float64 in (x.dtype, noise.dtype):
        return _float64_cost(x.to(torch.float64), noise.to(torch.float64), metric)
    if metric in ("sqeuclidean", "dot"):
        mean_x, mean_noise = (part.mean(1, dtype=torch.float32) for part in (x, noise))
        return _launch(x, noise, "dot", mean_x, mean_noise, first)
    if metric == "euclidean":
        shift = x.mean(1, dtype=torch.float32)
        return _launch(x, noise, metric, shift, shift, first)
    return _launch(x, noise, metric, None, None, first)


def _float64_cost(x: Tensor, noise: Tensor, metric: str) -> Tensor:
    """The same by torch's own products, which are made for it."""
    if metric in ("euclidean", "manhattan"):
        power = 2.0 if metric == "euclidean" else 1.0
        return torch.cdist(x, noise, power, "donot_use_mm_for_euclid_dist")
    if metric == "cosine":
        x, noise = (torch.nn.functional.normalize(part, dim=-1) for part in (x, noise))
    return -((x - x.mean(1, keepdim=True)) @ (noise - noise.mean(1, keepdim=True)).mT)


def _sort_groups(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(order, first, last) (B, n): where the sorted samples come from, and the range that the group
    of each has among them, int32."""
    batch, n = labels.shape
    ordered, order = torch.sort(labels, dim=1, stable=True)
    place = torch.arange(n, dtype=torch.int32, device=labels.device)
    edge = torch.ones(batch, n + 1, dtype=torch.bool, device=labels.device)
    edge[:, 1:n] = ordered[:, 1:] != ordered[:, :-1]
    first = torch.where(edge[:, :n], place, 0).cummax(1).values
    after = torch.where(edge[:, 1:], place + 1, n).flip(1).cummin(1).values.flip(1)
    return order, first, after.to(torch.int32).contiguous()


def _solve_tall(cost: Tensor, method: str, tol: float) -> Answer:
    """More rows than columns: the transposed problem, turned back."""
    batch, n, m = cost.shape
    turned = cost.mT.contiguous()
    wide = solve(turned, method, tol)
    index = torch.full((batch, n), -1, dtype=torch.int64, device=cost.device)
    columns = torch.arange(m, device=cost.device).expand(batch, m)
    index.scatter_(1, wide.index, columns)
    if m == 0:
        return wide._replace(index=index, prices=wide.prices[:, :0])
    # The dual of a column is the least that it costs with the prices of the rows, and the bound is
    # that of the wide problem.
    return wide._replace(index=index, prices=-row_minima(turned, wide.prices))


def row_minima(cost: Tensor, prices: Tensor) -> Tensor:
    """min_j (c_ij + p_j), (B, n) float64."""
    problems = Problems(cost if cost.stride(2) == 1 else cost.contiguous())
    batch, n, _ = cost.shape
    proof = Proof.empty(problems)
    column = torch.zeros(batch * n, dtype=torch.int32, device=cost.device)
    ones = torch.ones(batch, dtype=torch.int32, device=cost.device)
    one = ones.to(torch.float64)
    plain = Units(one, one, ones.to(torch.float32), ones)
    certificate(
        problems, plain, prices.contiguous(), column, proof, ones, torch.empty_like(ones), 1
    )
    least: Tensor = proof.least.view(batch, n)
    return least


def _empty_answer(cost: Tensor) -> Answer:
    batch, n, m = cost.shape
    nothing = torch.zeros(batch, dtype=torch.float64, device=cost.device)
    return Answer(
        torch.empty(batch, n, dtype=torch.int64, device=cost.device),
        nothing,
        nothing.clone(),
        torch.ones(batch, dtype=torch.bool, device=cost.device),
        torch.zeros(batch, m, dtype=torch.float64, device=cost.device),
    )
