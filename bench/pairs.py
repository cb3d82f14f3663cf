"""From images and noise to pairs, as in a training step: by us, by peers and by the papers' code.

A method takes ``families.Samples`` and returns the index of the noise of each image or, for
best-of-k, the chosen noise itself (then noises are no permutation of the ones that were drawn).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from immiscible_fast import fast_assign, pairwise_cost

from . import peers
from .families import Samples
from .peers import EUCLIDEAN, OWN, Method

BROADCAST_LIMIT = 2 << 30  # bytes of the papers' (n, n, D) array that a benchmark may take
KNN_SEED = 7


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
    return peers.scipy_solve(torch.cdist(drawn.x.flatten(1), drawn.noise.flatten(1)))


def broadcast_distance(x: Tensor, noise: Tensor) -> Tensor:
    """As the papers' code does: float16 differences of all pairs at once, (n, n, D)."""
    left = (0.1 * x.flatten(1)).to(torch.float16)
    right = (0.1 * noise.flatten(1)).to(torch.float16)
    return torch.linalg.vector_norm(left[:, None] - right[None], dim=2)


def broadcast_then_scipy(drawn: Samples) -> Any:
    return peers.scipy_solve(broadcast_distance(drawn.x, drawn.noise).to(torch.float32))


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
    cost = centred_product(x, noise)
    loss = SamplesLoss(
        "sinkhorn", potentials=True, eps=eps * float(cost.std()), n_iters=updates, debias=False
    )
    g = loss(x, noise)[1].reshape(-1)
    square = (noise * noise).sum(1) - 2 * x @ noise.T
    plan = torch.softmax((g - square) / (eps * cost.std()), 1)
    return peers.round_plan(plan.double().cpu().numpy())


def by_class(pair: Callable[[Samples], Any], drawn: Samples) -> Any:
    """One problem for each class, as class-conditional couplings are written (C2OT)."""
    assert drawn.labels is not None
    index = torch.arange(len(drawn.x), device=drawn.x.device)
    for label in drawn.labels.unique():
        member = torch.nonzero(drawn.labels == label)[:, 0]
        local = pair(Samples(drawn.x[member], drawn.noise[member]))
        index[member] = member[torch.as_tensor(local, dtype=torch.int64).to(member.device)]
    return index


def largest_broadcast(dim: int) -> int:
    """Largest n whose (n, n, D) array in float16 stays within the limit."""
    return int((BROADCAST_LIMIT / (2 * dim)) ** 0.5)


def pair_methods(dim: int, sweep: bool) -> list[Method]:
    """Ways to pair images with noise; ``sweep`` adds the settings that trade quality for time."""
    pot = partial(Method, package="POT", module="ot", exact=False)
    knn = partial(Method, package="torch", module="torch", exact=False, bijective=False, growth=1)
    own = partial(Method, package=OWN, growth=2)
    methods = [
        own("exact", partial(own_pair, "exact", 0.01)),
        own("auction 0.01", partial(own_pair, "auction", 0.01), exact=False),
        Method(
            "product + scipy", partial(product_then, peers.scipy_solve), "scipy", "scipy.optimize"
        ),
        Method("product + lapjv", partial(product_then, peers.lapjv_solve), "lapjv", "lapjv"),
        Method(
            "product + lapx lapjvr",
            partial(product_then, partial(peers.lapx_named, "lapjvr")),
            "lapx",
            "lap",
        ),
        Method("product + lapcpp", partial(product_then, peers.lapcpp_solve), "lapcpp", "lapcpp"),
        Method("cdist + scipy", cdist_then_scipy, "scipy", "scipy.optimize", EUCLIDEAN),
        Method(
            "official broadcast fp16 + scipy",
            broadcast_then_scipy,
            "scipy",
            "scipy.optimize",
            EUCLIDEAN,
            largest=largest_broadcast(dim),
            growth=2,
        ),
        Method("torchcfm exact", torchcfm_exact, "torchcfm", "torchcfm.optimal_transport"),
        knn("best of 4, L2", partial(best_of, 4)),
    ]
    if not sweep:
        return methods
    for tol in (0.5, 0.2, 0.1, 0.03, 0.003):
        methods.append(own(f"auction {tol:g}", partial(own_pair, "auction", tol), exact=False))
    for tol in (0.1, 0.01):
        methods.append(own(f"sinkhorn {tol:g}", partial(own_pair, "sinkhorn", tol), exact=False))
    for k in (2, 8, 16, 64):
        methods.append(knn(f"best of {k}, L2", partial(best_of, k)))
    for eps, updates, kind in (
        (1.0, 50, "sinkhorn"),
        (0.3, 100, "sinkhorn"),
        (0.1, 300, "sinkhorn"),
    ):
        solve = partial(peers.pot_sinkhorn, eps, updates, kind)
        methods.append(
            pot(f"product + POT sinkhorn {eps:g} + rounding", partial(product_then, solve))
        )
    methods.append(
        Method(
            "flash-sinkhorn 0.1 + rounding",
            partial(flash_sinkhorn_then_round, 0.1, 100),
            "flash-sinkhorn",
            "flash_sinkhorn",
            exact=False,
            only="cuda",
        )
    )
    return methods


def group_methods() -> list[Method]:
    """Pairs that stay within the class of the image."""
    lapjvr = partial(product_then, partial(peers.lapx_named, "lapjvr"))
    lapcpp = partial(product_then, peers.lapcpp_solve)
    scipy = partial(by_class, cdist_then_scipy)
    return [
        Method("exact, labels", own_groups),
        Method("cdist + scipy by class", scipy, "scipy", "scipy.optimize", EUCLIDEAN),
        Method("product + lapx lapjvr by class", partial(by_class, lapjvr), "lapx", "lap"),
        Method("product + lapcpp by class", partial(by_class, lapcpp), "lapcpp", "lapcpp"),
    ]


def distances(metric: str) -> list[Method]:
    """Distance matrices of flattened (n, D) samples."""
    torch_method = partial(Method, package="torch", module="torch")
    methods = [
        Method("pairwise_cost", lambda x, y: pairwise_cost(x, y, metric=metric)),
        torch_method("torch.matmul", lambda x, y: x @ y.T, exact=False),
    ]
    if metric == "euclidean":
        methods += [
            torch_method("torch.cdist", torch.cdist),
            torch_method("official broadcast fp16", lambda x, y: 10 * broadcast_distance(x, y)),
        ]
    if metric == "sqeuclidean":
        methods.append(
            torch_method("torch.cdist squared", lambda x, y: torch.cdist(x, y).square_())
        )
    return methods
