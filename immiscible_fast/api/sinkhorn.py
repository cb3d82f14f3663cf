"""``sinkhorn``: the entropic optimal transport plan of a cost matrix, with uniform marginals.

1. With potentials f, g the plan is P_ij = exp((f_i + g_j - c_ij) / eps); its row and column sums
   are made 1/n and 1/m in turn (Cuturi 2013).
2. In the log domain f_i <- -eps log(n sum_j exp((g_j - c_ij) / eps)), and so for g: no entry can
   overflow, and no row can vanish. eps falls by halves from the spread of the costs to what is
   asked for, a round of updates each, so that potentials move far while the problem is smooth.
3. A round is one update in the log domain and, with the plan K of its potentials, cheap ones
   u <- 1 / (n K v), v <- 1 / (m K^T u) of factors that the potentials take up (Schmitzer 2019).
   Factors that leave float64 are dropped: the log domain carries on.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .. import validation
from ..samples import outside_autocast

SCALINGS = 19  # updates by matrix-vector products for one in the log domain
HALVINGS = 20  # of eps, where the costs are not looked at


class Coupling(NamedTuple):
    """Answer of ``sinkhorn``; for a batch every field has a leading dimension B. All float64."""

    plan: Tensor  # (n, m), sums to one; columns sum to 1/m, rows to 1/n within the error
    f: Tensor  # (n,) potentials of the rows
    g: Tensor  # (m,) potentials of the columns
    error: Tensor  # () sum of |row sum - 1/n|


def sinkhorn(cost: Tensor, eps: float, *, tol: float = 1e-9, max_updates: int = 1000) -> Coupling:
    """Entropic optimal transport: the plan P that minimises sum P_ij (c_ij + eps log P_ij).

    Parameters
    ----------
    cost : Tensor, shape (n, m) or (B, n, m)
        Any float dtype; ``inf`` forbids a pair. Rows weigh 1/n each, columns 1/m each.
    eps : float
        Regularisation, in the units of the cost. It may be as small as one likes beside the costs;
        small ones take more updates.
    tol : float
        Updates end when the row sums are off by this much in all (of 1). On a GPU that would be to
        wait for the device: there, all ``max_updates`` are made.
    max_updates : int
        Most updates of rows and columns with ``eps`` itself, in rounds of 20.

    Returns
    -------
    Coupling
        Named tuple ``(plan, f, g, error)``, on the device of ``cost``; ``error`` tells whether
        ``tol`` was reached.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it got and what it wants. NaN, -inf and rows or columns that are
        forbidden whole are refused on a CPU.

    Examples
    --------
    >>> import torch
    >>> sinkhorn(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 0.5).plan
    tensor([[0.4404, 0.0596],
            [0.0596, 0.4404]], dtype=torch.float64)

    References
    ----------
    M. Cuturi, "Sinkhorn Distances", NeurIPS 2013. B. Schmitzer, "Stabilized Sparse Scaling
    Algorithms for Entropy Regularized Transport Problems", SIAM J. Sci. Comput. 41, 2019.
    """
    matrix = validation.check_floating("cost", cost)
    fits = matrix.ndim in (2, 3) and 0 not in matrix.shape[-2:]
    validation.check_shape("cost", matrix, fits, "(n, m) or (B, n, m), n and m >= 1")
    validation.check_data("cost", matrix)
    eps = validation.check_positive("eps", eps)
    tol = validation.check_positive("tol", tol)
    max_updates = validation.check_count("max_updates", max_updates)
    looks = validation.may_look(matrix)
    if looks:
        _check_costs(matrix)
    rounds = -(-max_updates // (1 + SCALINGS))
    with torch.no_grad(), outside_autocast(matrix):
        return _solve(matrix.to(torch.float64), eps, tol, rounds, looks)


def _solve(cost: Tensor, eps: float, tol: float, rounds: int, looks: bool) -> Coupling:
    g = torch.zeros_like(cost[..., :1, :])
    spread = _spread(cost)
    halvings = HALVINGS
    if looks:
        ratio = (spread / eps).clamp(min=1).log2()
        halvings = math.ceil(float(ratio.amax())) if ratio.numel() else 0
    for step in range(halvings):
        larger = (spread * 0.5**step).clamp(min=eps)
        f, g = _updated(cost, g, larger)
        g = _scaled(_plan(cost, f, g, larger), g, larger)
    answer = _coupling(cost, g, eps)
    for _ in range(rounds - 1):
        if looks and bool((answer.error <= tol).all()):
            break
        g = _scaled(answer.plan, answer.g[..., None, :], eps)
        answer = _coupling(cost, g, eps)
    return answer


def _coupling(cost: Tensor, g: Tensor, eps: float) -> Coupling:
    f, g = _updated(cost, g, eps)
    plan = _plan(cost, f, g, eps)
    error = (plan.sum(-1) - 1 / cost.shape[-2]).abs().sum(-1)
    return Coupling(plan, f[..., 0], g[..., 0, :], error)


def _updated(cost: Tensor, g: Tensor, eps: Tensor | float) -> tuple[Tensor, Tensor]:
    """Potentials of the rows (..., n, 1) from those of the columns, and then of the columns
    (..., 1, m) from them."""
    n, m = cost.shape[-2:]
    f = -eps * (torch.logsumexp((g - cost) / eps, -1, keepdim=True) + math.log(n))
    g = -eps * (torch.logsumexp((f - cost) / eps, -2, keepdim=True) + math.log(m))
    return f, g


def _scaled(plan: Tensor, g: Tensor, eps: Tensor | float) -> Tensor:
    """Potentials of the columns after some updates of factors of the rows and columns of a plan."""
    n, m = plan.shape[-2:]
    v = torch.ones_like(g)
    for _ in range(SCALINGS):
        u = 1 / (n * torch.matmul(v, plan.mT))
        v = 1 / (m * torch.matmul(u, plan))
    step = eps * v.log()
    return g + torch.where(step.isfinite().all(-1, keepdim=True), step, 0)


def _plan(cost: Tensor, f: Tensor, g: Tensor, eps: Tensor | float) -> Tensor:
    return ((f + g - cost) / eps).exp_()


def _spread(cost: Tensor) -> Tensor:
    """Largest finite cost less the least, (..., 1, 1)."""
    finite = cost.isfinite()
    largest = torch.where(finite, cost, -torch.inf).amax((-2, -1), keepdim=True)
    return largest - torch.where(finite, cost, torch.inf).amin((-2, -1), keepdim=True)


def _check_costs(cost: Tensor) -> None:
    if bool((cost.isnan() | cost.isneginf()).any()):
        raise ValueError("cost must not contain NaN or -inf, got some")
    allowed = cost.isfinite()
    if not bool(allowed.any(-1).all() & allowed.any(-2).all()):
        raise ValueError("cost must allow a pair in each row and each column, got some all inf")
