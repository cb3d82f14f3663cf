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
from .problems import CENTRED, EUCLIDEAN, SAMPLES, Samples

OWN = "immiscible_fast"
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


def inventory(methods: list[Method]) -> dict[str, str]:
    """Package -> version of everything that ``methods`` want."""
    return {name: record.version(name) for name in sorted({m.package for m in methods})}


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


def peer(
    path: str, place: int | None, *words: str, wide: bool = False, **options: Any
) -> Callable[[Tensor], Any]:
    """A call of ``module:function`` that takes an array: what it returns at this place, or (rows,
    columns); ``wide`` if it has to be told that n != m."""

    def solve(cost: Tensor) -> Any:
        extended = {"extend_cost": True} if wide and cost.shape[-2] != cost.shape[-1] else {}
        module, name = path.split(":")
        function = getattr(importlib.import_module(module), name)
        found = function(array(cost), *words, **options, **extended)
        return columns(found, len(cost)) if place is None else np.asarray(found[place])

    return solve


scipy_solve = peer("scipy.optimize:linear_sum_assignment", None)


def lapx_named(name: str, place: int | None = None) -> Callable[[Tensor], Any]:
    return peer(f"lap:{name}", place, wide=True, return_cost=False)


def one_by_one(solve: Callable[[Tensor], Any], costs: Tensor) -> NDArray[np.int64]:
    return np.stack([solve(cost) for cost in costs])


def fastlap_batch(costs: Tensor) -> Any:
    import fastlap

    return np.asarray([rows for _, rows, _ in fastlap.solve_lap_batch(array(costs), "lapjv")])


def pot_emd(cost: Tensor) -> Any:
    import ot

    return ot.emd([], [], array(cost)).argmax(1)


def pot_sinkhorn(eps: float, updates: int, cost: Tensor) -> NDArray[np.int64]:
    """POT's Sinkhorn, ``eps`` in standard deviations, then a greedy rounding to a permutation."""
    import ot

    matrix = array(cost).astype(np.float64)
    plan = ot.sinkhorn([], [], matrix, eps * matrix.std(), numItermax=updates, warn=False)
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
    return fast_assign(drawn.x, drawn.noise, method=method, tol=tol, labels=drawn.labels)


def own_pair_on_cpu(drawn: Samples) -> Tensor:
    return own_pair("exact", 0.01, Samples(drawn.x.cpu(), drawn.noise.cpu())).to(drawn.x.device)


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
    """The sampler's plan and its own draw of pairs; judged by the plan, the better of the two."""
    from torchcfm.optimal_transport import OTPlanSampler

    sampler = OTPlanSampler(method="exact")
    plan = sampler.get_map(drawn.x, drawn.noise)
    sampler.sample_map(plan, len(plan))
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
SOLVERS = [
    Method("exact", own("exact"), rectangles=True),
    Method("linear_sum_assignment", own_drop_in, rectangles=True),
    SCIPY("scipy", scipy_solve, rectangles=True),
    SCIPY("scipy, raw L2", scipy_solve, takes=EUCLIDEAN, exact=False),
    Method("lapjv", peer("lapjv:lapjv", 0), "lapjv"),
    LAPX("lapx lapjv", lapx_named("lapjv", 0), rectangles=True),
    *(LAPX(f"lapx {f}", lapx_named(f), rectangles=True) for f in ("lapjvs", "lapjvr", "lapjvh")),
    LAPCPP("lapcpp", peer("lapcpp:lapjv", None, wide=True, return_cost=False), rectangles=True),
    *(FASTLAP(f"fastlap {f}", peer("fastlap:solve_lap", 1, f)) for f in ("lapjv", "auction")),
    POT("POT emd", pot_emd),
    POT("POT sinkhorn 0.1", partial(pot_sinkhorn, 0.1, 300), exact=False),
    TLA("torch-linear-assignment", torch_linear_assignment),
]
BATCHES = [
    SOLVERS[0],
    Method("batch_linear_assignment", batch_linear_assignment, rectangles=True),
    SCIPY("scipy, one by one", partial(one_by_one, scipy_solve), rectangles=True),
    *(LAPX(f"lapx {f}", lapx_named(f, 1)) for f in ("lapjvs_batch", "lapjvr_batch")),
    LAPCPP("lapcpp lapjv_batch", peer("lapcpp:lapjv_batch", 1, return_cost=False)),
    FASTLAP("fastlap solve_lap_batch", fastlap_batch),
    SOLVERS[-1],
]


def named(methods: list[Method], *names: str) -> list[Method]:
    return [method for method in methods if method.name in names]


def on_samples(
    methods: list[Method], form: str, call: Callable[..., Any], **changes: Any
) -> list[Method]:
    """Methods that take samples, each a call of another one's solver, with a name of this form."""
    return [
        replace(m, name=form.format(m.name), solve=partial(call, m.solve), takes=SAMPLES, **changes)
        for m in methods
    ]


PAIR = partial(Method, takes=SAMPLES)
NEAR = partial(PAIR, exact=False)
OWN_PAIRS = [
    PAIR("exact", partial(own_pair, "exact", 0.01)),
    *(NEAR(f"auction {t:g}", partial(own_pair, "auction", t)) for t in (0.003, 0.01, 0.1, 0.5)),
    NEAR("sinkhorn 0.01", partial(own_pair, "sinkhorn", 0.01)),
    NEAR("auto", partial(own_pair, "auto", 0.01), only="cuda"),  # elsewhere it is one of these
    PAIR("exact, on the CPU", own_pair_on_cpu, only="cuda"),
    NEAR("auction, float32", partial(product_then, own("auction"))),
]
MULTIPLIED = ("scipy", "lapjv", "lapx lapjvr", "lapcpp", "POT emd", "POT sinkhorn 0.1",
              "torch-linear-assignment")  # fmt: skip
PAIRS = [
    *OWN_PAIRS,
    *on_samples(named(SOLVERS, *MULTIPLIED), "product + {}", product_then),
    NEAR("cdist + scipy", cdist_then_scipy, "scipy"),
    NEAR("official broadcast fp16 + scipy", broadcast_then_scipy, "scipy"),
    PAIR("torchcfm exact", torchcfm_exact, "torchcfm"),
    *(NEAR(f"best of {k}, L2", partial(best_of, k), "torch", bijective=False) for k in (4, 16)),
    NEAR("flash-sinkhorn 0.1 + rounding", partial(flash_sinkhorn_then_round, 0.1, 100),
         "flash-sinkhorn", only="cuda"),
]  # fmt: skip
BY_CLASS = named(PAIRS, "cdist + scipy", "product + lapx lapjvr", "product + lapcpp")
LABELLED = [  # pairs that stay within the class of the image
    replace(OWN_PAIRS[0], name="exact, labels"),
    *on_samples(BY_CLASS, "{} by class", by_class),
    NEAR("exact, no labels", lambda drawn: fast_assign(drawn.x, drawn.noise, method="exact")),
]

# For batches that are too small to be assigned.


@cache
def own_pool(size: int, dtype: torch.dtype) -> NoisePool:
    return NoisePool(size, generator=torch.Generator().manual_seed(0), score_dtype=dtype)


def take(dtype: torch.dtype, drawn: Samples) -> Tensor:
    return own_pool(len(drawn.noise), dtype).take(drawn.x)


def own_best(drawn: Samples) -> Tensor:
    return select_noise(drawn.x, 64, generator=torch.Generator().manual_seed(0))


def best_of_drawn(drawn: Samples, k: int = 64) -> Tensor:
    """The best of k noises, all of which are drawn, as trainers do it."""
    noise = torch.randn(len(drawn.x), k, *drawn.x.shape[1:])
    value = torch.einsum("nkd,nd->nk", noise.flatten(2), drawn.x.flatten(1))
    return noise[torch.arange(len(drawn.x)), value.argmax(1)]


PART = partial(NEAR, answers=False)
POOL = [
    *(PART(f"pool.take, {name}", partial(take, getattr(torch, name)))
      for name in ("bfloat16", "float32")),
    PAIR("read the pool once", lambda drawn: drawn.noise.amax(), "torch", answers=False),
    PART("randn", lambda drawn: torch.randn(drawn.x.shape), "torch"),
    PART("best of 64, select_noise", own_best),
    PART("best of 64, drawn", best_of_drawn, "torch"),
]  # fmt: skip
STAGES = [  # a call of ours, and its parts
    OWN_PAIRS[0],
    PART("distance product", lambda drawn: pairwise_cost(drawn.x, drawn.noise, metric="dot")),
    Method("assignment", own_drop_in),
]
