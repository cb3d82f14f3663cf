"""What a user could call: an adapter for each method, ours and others, behind optional imports.

``SOLVERS`` take a (n, m) cost matrix and return the column of each row (-1: none), ``BATCHES`` take
(B, n, m). ``PAIRS`` go from images and noise to pairs as a training step does: they take
``problems.Samples`` and return the index of each image's noise, or, for best-of-k, the chosen noise
itself. Copies from a device are part of what a peer costs. Whoever is not installed is reported.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from immiscible_fast import (
    NoisePool,
    batch_linear_assignment,
    fast_assign,
    linear_sum_assignment,
    pairwise_cost,
    select_noise,
    solve_assignment,
)

from . import record
from .problems import Samples

CENTRED, EUCLIDEAN = "centred", "euclidean"  # forms of a problem's costs
SAMPLES = "samples"
OWN = "immiscible_fast"
MODULES = {  # of packages that have another name
    "scipy": "scipy.optimize",
    "lapx": "lap",
    "POT": "ot",
    "torch-linear-assignment": "torch_linear_assignment",
    "torchcfm": "torchcfm.optimal_transport",
    "flash-sinkhorn": "flash_sinkhorn",
    "before": OWN,
}
BROADCAST_LIMIT = 2 << 30  # bytes of the papers' (n, n, D) array that a benchmark may take
KNN_SEED = 7


@dataclass(frozen=True)
class Method:
    """One way to solve a problem."""

    name: str
    solve: Callable[..., Any]
    package: str = OWN  # distribution, whose version is recorded
    takes: str = CENTRED  # form of the cost, or ``SAMPLES``
    exact: bool = True  # whether it promises the optimum of the centred costs
    only: str = ""  # device type, where it runs on no other
    rectangles: bool = False  # whether it takes n != m
    bijective: bool = True  # whether every noise is used once
    answers: bool = True  # or it is a part of a call, which has no pairs yet

    @property
    def ours(self) -> bool:
        return self.package == OWN


@cache
def why_missing(module: str) -> str:
    """Why the module does not import here; an empty string if it does."""
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken peer may raise anything
        return f"{type(error).__name__}: {error}".splitlines()[0][:120]
    return ""


def why_not(method: Method, device: str = "cpu") -> str:
    """Why the method cannot run on this device of this machine; an empty string if it can."""
    if method.only and method.only != device:
        return f"runs on {method.only} only"
    return why_missing(MODULES.get(method.package, method.package))


def inventory(methods: list[Method], device: str = "cpu") -> dict[str, str]:
    """Package -> version, or why it is missing, for everything that ``methods`` want."""
    found = {}
    for method in methods:
        reason = why_not(method, device)
        found[method.package] = f"missing ({reason})" if reason else record.version(method.package)
    return dict(sorted(found.items()))


# From costs.


def array(cost: Tensor) -> NDArray[np.float32]:
    """The tensor as numpy sees it: no copy on the CPU."""
    return cost.cpu().numpy()


def own(method: str, tol: float = 0.01) -> Callable[[Tensor], Tensor]:
    """Our solver by its public name, for one problem and for a batch alike."""
    return lambda cost: solve_assignment(cost, method=method, tol=tol).index


def columns(pairs: Any, n: int) -> Any:
    """The column of each row, from (rows, columns)."""
    rows, found = pairs
    if len(rows) == n:
        return found
    index = np.full(n, -1, np.int64)
    index[np.asarray(rows)] = found
    return index


def own_drop_in(cost: Tensor) -> Any:
    return columns(linear_sum_assignment(array(cost)), len(cost))


@cache
def function_of(module: str, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def peer(
    path: str, place: int | None, *words: str, wide: bool = False, **options: Any
) -> Callable[[Tensor], Any]:
    """A call of ``module:function`` that takes an array: what it returns at this place, or (rows,
    columns); ``wide`` if it has to be told that n != m."""

    def solve(cost: Tensor) -> Any:
        extended = {"extend_cost": True} if wide and cost.shape[-2] != cost.shape[-1] else {}
        found = function_of(*path.split(":"))(array(cost), *words, **options, **extended)
        return columns(found, len(cost)) if place is None else np.asarray(found[place])

    return solve


scipy_solve = peer("scipy.optimize:linear_sum_assignment", None)
lapjv_solve = peer("lapjv:lapjv", 0)
lapcpp_solve = peer("lapcpp:lapjv", None, wide=True, return_cost=False)


def lapx_named(name: str, place: int | None = None) -> Callable[[Tensor], Any]:
    return peer(f"lap:{name}", place, wide=True, return_cost=False)


def one_by_one(solve: Callable[[Tensor], Any], costs: Tensor) -> NDArray[np.int64]:
    return np.stack([solve(cost) for cost in costs])


def fastlap_batch(costs: Tensor) -> Any:
    found = function_of("fastlap", "solve_lap_batch")(array(costs), "lapjv")
    return np.asarray([rows for _, rows, _ in found])


def pot_emd(cost: Tensor) -> Any:
    import ot

    weight = np.full(cost.shape[0], 1 / cost.shape[0])
    return ot.emd(weight, weight, array(cost)).argmax(1)


def pot_sinkhorn(eps: float, updates: int, cost: Tensor) -> NDArray[np.int64]:
    """POT's Sinkhorn, ``eps`` in standard deviations, then a greedy rounding to a permutation."""
    import ot

    matrix = array(cost).astype(np.float64)
    weight = np.full(matrix.shape[0], 1 / matrix.shape[0])
    plan = ot.sinkhorn(weight, weight, matrix, eps * matrix.std(), numItermax=updates, warn=False)
    return round_plan(plan)


def torch_linear_assignment(cost: Tensor) -> Any:
    from torch_linear_assignment import batch_linear_assignment as theirs

    return theirs(cost if cost.ndim == 3 else cost[None]).reshape(cost.shape[:-1])


def round_plan(plan: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows take their likeliest column that is left, the surest row first."""
    left = np.nan_to_num(plan)
    index = np.empty(len(left), np.int64)
    for row in np.argsort(-left.max(1), kind="stable"):
        index[row] = left[row].argmax()
        left[:, index[row]] = -1.0
    return index


# From images and noise.


def own_pair(method: str, tol: float, drawn: Samples) -> Tensor:
    return fast_assign(drawn.x, drawn.noise, method=method, tol=tol)


def own_groups(drawn: Samples) -> Tensor:
    return fast_assign(drawn.x, drawn.noise, method="exact", labels=drawn.labels)


def centred_product(x: Tensor, noise: Tensor) -> Tensor:
    """The cheapest sufficient cost that a careful user would write: what is smaller is centred."""
    x, noise = x.flatten(1), noise.flatten(1)
    if x.shape[1] <= len(x):
        return (x - x.mean(0)).mul_(-2) @ (noise - noise.mean(0)).T
    cost = (x @ noise.T).mul_(-2)
    cost -= cost.mean(0)
    cost -= cost.mean(1, keepdim=True)
    return cost


def product_then(solve: Callable[[Tensor], Any], drawn: Samples) -> Any:
    return solve(centred_product(drawn.x, drawn.noise))


def cdist_then_scipy(drawn: Samples) -> Any:
    """As denoising-diffusion-pytorch does: Euclidean distances, SciPy."""
    return scipy_solve(torch.cdist(drawn.x.flatten(1), drawn.noise.flatten(1)))


def broadcast_then_scipy(drawn: Samples) -> Any:
    """As the papers' code does: float16 differences of all pairs at once, (n, n, D)."""
    left, right = ((0.1 * part.flatten(1)).to(torch.float16) for part in (drawn.x, drawn.noise))
    if 2 * len(left) ** 2 * left.shape[1] > BROADCAST_LIMIT:
        raise MemoryError("its array of all differences would not fit")
    distance = torch.linalg.vector_norm(left[:, None] - right[None], dim=2)
    return scipy_solve(distance.to(torch.float32))


def best_of(k: int, drawn: Samples) -> Tensor:
    """Best of k noises by L2, the given one and k - 1 fresh ones (the papers' "KNN")."""
    x, best = drawn.x, drawn.noise.clone()
    generator = torch.Generator(x.device).manual_seed(KNN_SEED)
    least = torch.linalg.vector_norm((x - best).flatten(1), dim=1)
    for _ in range(k - 1):
        fresh = torch.randn(x.shape, generator=generator, device=x.device)
        distance = torch.linalg.vector_norm((x - fresh).flatten(1), dim=1)
        nearer = distance < least
        best[nearer], least[nearer] = fresh[nearer], distance[nearer]
    return best


def torchcfm_exact(drawn: Samples) -> Any:
    """The sampler's plan and its own draw of pairs; judged by the plan, the better of the two.

    It draws from numpy's global state, which is put back.
    """
    from torchcfm.optimal_transport import OTPlanSampler

    sampler = OTPlanSampler(method="exact")
    plan = sampler.get_map(drawn.x, drawn.noise)
    state = np.random.get_state()
    sampler.sample_map(plan, len(plan))
    np.random.set_state(state)
    return plan.argmax(1)


def flash_sinkhorn_then_round(eps: float, updates: int, drawn: Samples) -> Any:
    """flash-sinkhorn's potentials; the plan that they stand for, rounded. GPU only."""
    from flash_sinkhorn import SamplesLoss

    x, noise = drawn.x.flatten(1), drawn.noise.flatten(1)
    unit = float(centred_product(x, noise).std())
    loss = SamplesLoss("sinkhorn", potentials=True, eps=eps * unit, n_iters=updates, debias=False)
    square = (noise * noise).sum(1) - 2 * x @ noise.T
    plan = torch.softmax((loss(x, noise)[1].reshape(-1) - square) / (eps * unit), 1)
    return round_plan(plan.double().cpu().numpy())


def by_class(pair: Callable[[Samples], Any], drawn: Samples) -> Any:
    """One problem for each class, as class-conditional couplings are written (C2OT)."""
    assert drawn.labels is not None
    index = torch.arange(len(drawn.x), device=drawn.x.device)
    for label in drawn.labels.unique():
        member = torch.nonzero(drawn.labels == label)[:, 0]
        local = pair(Samples(drawn.x[member], drawn.noise[member]))
        index[member] = member[torch.as_tensor(local, dtype=torch.int64).to(member.device)]
    return index


SCIPY, LAPX, LAPCPP, POT, FASTLAP, TLA = (
    partial(Method, package=package)
    for package in ("scipy", "lapx", "lapcpp", "POT", "fastlap", "torch-linear-assignment")
)
LAPJVR = lapx_named("lapjvr")

SOLVERS = [
    Method("exact", own("exact"), rectangles=True),
    Method("linear_sum_assignment", own_drop_in, rectangles=True),
    Method("auction 0.01", own("auction", 0.01), exact=False),
    Method("sinkhorn 0.01", own("sinkhorn", 0.01), exact=False),
    SCIPY("scipy", scipy_solve, rectangles=True),
    SCIPY("scipy, raw L2", scipy_solve, takes=EUCLIDEAN, exact=False),
    Method("lapjv", lapjv_solve, "lapjv"),
    LAPX("lapx lapjv", lapx_named("lapjv", 0), rectangles=True),
    *(LAPX(f"lapx {f}", lapx_named(f), rectangles=True) for f in ("lapjvs", "lapjvr", "lapjvh")),
    LAPCPP("lapcpp", lapcpp_solve, rectangles=True),
    *(FASTLAP(f"fastlap {f}", peer("fastlap:solve_lap", 1, f)) for f in ("lapjv", "auction")),
    POT("POT emd", pot_emd),
    POT("POT sinkhorn 0.1", partial(pot_sinkhorn, 0.1, 300), exact=False),
    TLA("torch-linear-assignment", torch_linear_assignment),
]

BATCHES = [
    Method("exact", own("exact")),
    Method("batch_linear_assignment", batch_linear_assignment, rectangles=True),
    SCIPY("scipy, one by one", partial(one_by_one, scipy_solve), rectangles=True),
    *(LAPX(f"lapx {f}", lapx_named(f, 1)) for f in ("lapjvs_batch", "lapjvr_batch")),
    LAPCPP("lapcpp lapjv_batch", peer("lapcpp:lapjv_batch", 1, return_cost=False)),
    FASTLAP("fastlap solve_lap_batch", fastlap_batch),
    TLA("torch-linear-assignment", torch_linear_assignment),
]

_TOLERANCES = (("exact", 0), *(("auction", t) for t in (0.003, 0.01, 0.1, 0.5)), ("sinkhorn", 0.01))
_OURS = [
    Method(f"{name} {tol:g}" if tol else name, partial(own_pair, name, tol or 0.01), exact=not tol)
    for name, tol in _TOLERANCES
]
_PEERS = [
    SCIPY("product + scipy", partial(product_then, scipy_solve)),
    Method("product + lapjv", partial(product_then, lapjv_solve), "lapjv"),
    LAPX("product + lapx lapjvr", partial(product_then, LAPJVR)),
    LAPCPP("product + lapcpp", partial(product_then, lapcpp_solve)),
    SCIPY("cdist + scipy", cdist_then_scipy, exact=False),
    SCIPY("official broadcast fp16 + scipy", broadcast_then_scipy, exact=False),
    Method("torchcfm exact", torchcfm_exact, "torchcfm"),
    POT("product + POT emd", partial(product_then, pot_emd)),
    TLA("product + torch-linear-assignment", partial(product_then, torch_linear_assignment)),
    *(
        Method(f"best of {k}, L2", partial(best_of, k), "torch", exact=False, bijective=False)
        for k in (4, 16)
    ),
    POT(
        "product + POT sinkhorn 0.1 + rounding",
        partial(product_then, partial(pot_sinkhorn, 0.1, 300)),
        exact=False,
    ),
    Method(
        "flash-sinkhorn 0.1 + rounding",
        partial(flash_sinkhorn_then_round, 0.1, 100),
        "flash-sinkhorn",
        exact=False,
        only="cuda",
    ),
]
_FLOAT32 = Method("auction, float32", partial(product_then, own("auction")), exact=False)
PAIRS = [replace(method, takes=SAMPLES) for method in (*_OURS, _FLOAT32, *_PEERS)]

_LABELLED = [  # pairs that stay within the class of the image
    Method("exact, labels", own_groups),
    SCIPY("cdist + scipy by class", partial(by_class, cdist_then_scipy), exact=False),
    LAPX("product + lapx lapjvr by class", partial(by_class, partial(product_then, LAPJVR))),
    LAPCPP("product + lapcpp by class", partial(by_class, partial(product_then, lapcpp_solve))),
    replace(_OURS[0], name="exact, no labels", exact=False),
]
LABELLED = [replace(method, takes=SAMPLES) for method in _LABELLED]

# For batches that are too small to be assigned.


@cache
def own_pool(size: int, dtype: torch.dtype) -> NoisePool:
    return NoisePool(size, generator=torch.Generator().manual_seed(0), score_dtype=dtype)


def take(dtype: torch.dtype, drawn: Samples) -> Tensor:
    return own_pool(len(drawn.noise), dtype).take(drawn.x)


def best_of_drawn(drawn: Samples, k: int = 64) -> Tensor:
    """The best of k noises, all of which are drawn, as trainers do it."""
    noise = torch.randn(len(drawn.x), k, *drawn.x.shape[1:])
    value = torch.einsum("nkd,nd->nk", noise.flatten(2), drawn.x.flatten(1))
    return noise[torch.arange(len(drawn.x)), value.argmax(1)]


PART = partial(Method, takes=SAMPLES, exact=False, answers=False)
TORCH = partial(PART, package="torch")
POOL = [
    PART("pool.take, bfloat16", partial(take, torch.bfloat16)),
    PART("pool.take, float32", partial(take, torch.float32)),
    TORCH("read the pool once", lambda drawn: drawn.noise.amax(), exact=True),
    TORCH("randn", lambda drawn: torch.randn(drawn.x.shape)),
    PART(
        "best of 64, select_noise",
        lambda drawn: select_noise(drawn.x, 64, generator=torch.Generator().manual_seed(0)),
    ),
    TORCH("best of 64, drawn", best_of_drawn),
]

STAGES = [  # a call of ours, and its parts
    PAIRS[0],
    PART("distance product", lambda drawn: pairwise_cost(drawn.x, drawn.noise, metric="dot")),
    Method("assignment", own_drop_in),
]
