"""``OTPlanSampler`` of torchcfm: the same calls, a permutation instead of draws, on any device.

1. "exact": n images and as many noises are an assignment problem. Of n and m samples each weighs
   1/n and 1/m, so that with L = lcm(n, m) copies in all both sides have L points of one weight: an
   assignment problem again, whose L pairs are the plan.
2. "sinkhorn": the entropic plan P of ``immiscible_fast.sinkhorn``, with ``reg`` as its eps.
3. Pairs without replacement are stratified: the plan's mass, ordered by the columns (x1), is cut
   into as many equal parts as pairs are wanted, and each part gives one pair. So each sample of x1
   comes once and in order, if there are as many as in x0, and P_ij times their number is still how
   often a pair (i, j) is expected.

torchcfm itself is needed only for its flow matchers.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import validation
from ..api.fast_assign import fast_assign
from ..api.pairwise_cost import pairwise_cost
from ..api.sinkhorn import sinkhorn

LARGEST = 8192  # points of either side, copies and all, unless there are as many samples
TOLERANCE = 1e-3  # of the sum of a plan's rows, beyond which a user wants to know
HALF = 2.0**-25  # of the spacing of random float32


class OTPlanSampler:
    """Stands in for ``torchcfm.optimal_transport.OTPlanSampler``.

    Parameters
    ----------
    method : str
        "exact" or "sinkhorn". "unbalanced" and "partial" plans are torchcfm's alone.
    reg : float
        Entropic regularisation of "sinkhorn", in units of the cost.
    reg_m : float
        Of "unbalanced" only: without effect.
    normalize_cost : bool
        Divide the cost by its maximum, which matters to "sinkhorn" only.
    num_threads : int or "max"
        Without effect: the solver takes what threads torch may.
    warn : bool
        Whether to warn if "sinkhorn" is far from converged.
    per_label : bool
        ``sample_plan_with_labels`` pairs within the labels ``y1``: of the noises of x0, those that
        came with the images of a class stay in it, so that a class-conditional model sees the
        whole Gaussian in every class. Needs as many samples in x0 as in x1, and "exact".
    generator : torch.Generator, optional
        Draws whatever is random. A permutation ("exact", sizes equal, ``replace=False``) is not.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it got and what it wants.

    Notes
    -----
    torchcfm draws pairs from the plan with replacement, unless told otherwise, so that over a third
    of x1 is missing from every batch and others come twice. Here ``replace`` is False unless told
    otherwise: x1 comes whole and in order.

    Examples
    --------
    >>> import torch
    >>> x0, x1 = torch.tensor([[0.0], [5.0], [9.0]]), torch.tensor([[8.0], [1.0], [4.0]])
    >>> OTPlanSampler("exact").sample_plan(x0, x1)[0]
    tensor([[9.],
            [0.],
            [5.]])

    References
    ----------
    A. Tong et al., "Improving and generalizing flow-based generative models with minibatch optimal
    transport", TMLR 2024.
    """

    def __init__(
        self,
        method: str,
        reg: float = 0.05,
        reg_m: float = 1.0,
        normalize_cost: bool = False,
        num_threads: int | str = 1,
        warn: bool = True,
        *,
        per_label: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        if isinstance(method, str) and method in ("unbalanced", "partial"):
            raise ValueError(
                f"method must be exact or sinkhorn, got {method!r}: its plan leaves samples "
                "out, so take torchcfm.optimal_transport.OTPlanSampler for it"
            )
        validation.check_choice("method", method, ("exact", "sinkhorn"))
        if not isinstance(num_threads, int) and str(num_threads) != "max":
            raise TypeError(f"num_threads must be an integer or 'max', got {num_threads!r}")
        if validation.check_flag("per_label", per_label) and method != "exact":
            raise ValueError(f"per_label=True needs method='exact', got {method!r}")
        self.method = method
        self.reg = validation.check_number("reg", reg)
        self.reg_m = validation.check_number("reg_m", reg_m)
        self.normalize_cost = validation.check_flag("normalize_cost", normalize_cost)
        self.warn = validation.check_flag("warn", warn)
        self.per_label = per_label
        self.generator = validation.check_generator(generator)

    def get_map(self, x0: Tensor, x1: Tensor) -> NDArray[np.float64]:
        """The plan between x0 (n, ...) and x1 (m, ...), (n, m), on the host, as torchcfm gives it.

        "exact" says 1 / lcm(n, m) for each pair, and 0 elsewhere.
        """
        if self.method == "sinkhorn":
            return _array(self._entropic(x0, x1))
        rows, columns = self._pairs(x0, x1)
        plan = torch.zeros(x0.shape[0], x1.shape[0], dtype=torch.float64, device=x0.device)
        weight = plan.new_full(rows.shape, 1 / rows.numel())
        return _array(plan.index_put_((rows, columns), weight, accumulate=True))

    def sample_map(
        self, pi: NDArray[Any] | Tensor, batch_size: int, replace: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of ``batch_size`` pairs of a plan (n, m), on the host."""
        numbers = isinstance(pi, np.ndarray) and pi.dtype.kind in "fiub"
        plan = torch.as_tensor(pi) if numbers else pi
        plan = validation.check_real("pi", plan)
        fits = plan.ndim == 2 and plan.numel() > 0
        validation.check_shape("pi", plan, fits, "(n, m), n, m >= 1")
        validation.check_values("pi", plan)
        count = validation.check_count("batch_size", batch_size, least=0)
        validation.check_flag("replace", replace)
        rows, columns = self._draw(plan.to(torch.float64), count, replace)
        return _array(rows), _array(columns)

    def sample_plan(self, x0: Tensor, x1: Tensor, replace: bool = False) -> tuple[Tensor, Tensor]:
        """As many pairs as there are samples in x0: ``(x0[i], x1[j])``."""
        rows, columns = self._sample(x0, x1, replace)
        return x0[rows], x1[columns]

    def sample_plan_with_labels(
        self,
        x0: Tensor,
        x1: Tensor,
        y0: Tensor | None = None,
        y1: Tensor | None = None,
        replace: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """The same with the labels of the samples: ``(x0[i], x1[j], y0[i], y1[j])``."""
        if self.per_label and y1 is None:
            raise ValueError("y1 must be given if per_label=True, got None")
        rows, columns = self._sample(x0, x1, replace, y1 if self.per_label else None)
        labels = (_entries("y0", y0, x0, rows), _entries("y1", y1, x1, columns))
        return x0[rows], x1[columns], *labels

    def sample_trajectory(self, X: Tensor) -> NDArray[Any]:
        """Populations (n, times, ...) with each sample in the row of the one that it comes from,
        on the host, as torchcfm gives it."""
        validation.check_values("X", validation.check_samples("X", X, batched=True))
        rows = torch.arange(X.shape[0], device=X.device)
        moved = [X[:, 0]]
        for now, later in zip(X.unbind(1), X.unbind(1)[1:], strict=False):
            if self.method == "exact":
                columns = fast_assign(now, later)
            else:
                columns = self._race(self._entropic(now, later))
            rows = columns[rows]
            moved.append(later[rows])
        return _array(torch.stack(moved, 1))

    def _sample(
        self, x0: Tensor, x1: Tensor, replace: bool, labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Indices of as many pairs as there are samples in x0, on its device."""
        validation.check_flag("replace", replace)
        if self.method == "sinkhorn":
            return self._draw(self._entropic(x0, x1), x0.shape[0], replace)
        rows, columns = self._pairs(x0, x1, labels)
        count = rows.numel()
        if count == x0.shape[0] and not replace:
            return rows, columns
        kept = (self._points(x0.shape[0], replace, x0.device) * count).long()
        return rows[kept], columns[kept]

    def _pairs(self, x0: Tensor, x1: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rows and columns of pairs of equal weight, which are the exact plan, by column."""
        self._check(x0, x1, same_count=labels is not None)
        n, m = x0.shape[0], x1.shape[0]
        points = math.lcm(n, m)
        if points > max(n, m, LARGEST):
            raise ValueError(
                f"x0 and x1 must hold equally many samples, or sizes with a common multiple of at "
                f"most {LARGEST}, got {n} and {m}"
            )
        columns = torch.arange(points, device=x0.device)
        if n == m:
            return fast_assign(x1, x0, labels=labels), columns
        if points == 0:
            raise ValueError(f"x0 and x1 must both hold samples, or neither, got {n} and {m}")
        columns = columns // (points // m)
        rows = torch.arange(points, device=x0.device) // (points // n)
        return rows[fast_assign(x1[columns], x0[rows])], columns

    @staticmethod
    def _check(x0: Tensor, x1: Tensor, same_count: bool = False) -> None:
        pair = validation.check_pair("x0", x0, "x1", x1, batched=False, same_count=same_count)
        for name, samples in zip(("x0", "x1"), pair, strict=True):
            validation.check_values(name, samples)

    def _entropic(self, x0: Tensor, x1: Tensor) -> Tensor:
        self._check(x0, x1)
        cost = pairwise_cost(x0, x1)
        if self.normalize_cost:
            cost = cost / cost.amax()
        answer = sinkhorn(cost, self.reg)
        if self.warn and validation.may_look(cost) and float(answer.error) > TOLERANCE:
            warnings.warn(
                f"the Sinkhorn plan is not converged, its rows are off by {float(answer.error):.2g}"
                f" of 1: reg = {self.reg} is small beside costs up to {float(cost.amax()):.3g}",
                stacklevel=4,
            )
        return answer.plan

    def _draw(self, plan: Tensor, count: int, replace: bool) -> tuple[Tensor, Tensor]:
        """Indices of so many pairs, by column: the column by its mass, and its row by its share."""
        mass = plan.sum(0).cumsum(0)
        points = self._points(count, replace, plan.device) * mass[-1]
        columns = torch.searchsorted(mass, points).clamp(max=plan.shape[1] - 1)
        return self._race(plan.T[columns]), columns

    def _race(self, weights: Tensor) -> Tensor:
        """A column of each row, drawn in proportion to the weights: the first of clocks that run at
        their rates."""
        clocks = weights.new_empty(weights.shape, device=self._source(weights.device))
        clocks.exponential_(generator=self.generator)
        return (weights / clocks.to(weights.device)).argmax(1)

    def _points(self, count: int, replace: bool, device: torch.device) -> Tensor:
        """Points of (0, 1): one in each of ``count`` equal parts, in order, or all anywhere; none
        so near to a border that rounding could carry it over."""
        source = self._source(device)
        uniform = torch.rand(count, generator=self.generator, device=source, dtype=torch.float32)
        points = uniform.to(device, torch.float64) + HALF
        return points if replace else (torch.arange(count, device=device) + points) / count

    def _source(self, device: torch.device) -> torch.device:
        return device if self.generator is None else self.generator.device


def _array(values: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = values.detach().cpu().numpy()
    return array


def _entries(name: str, labels: Any, x: Tensor, chosen: Tensor) -> Any:
    """Those of the chosen samples, if samples have labels."""
    if labels is None:
        return None
    shape = tuple(getattr(labels, "shape", ()))
    if shape[:1] != x.shape[:1]:
        raise ValueError(f"{name} must have one entry for each of {len(x)} samples, got {shape}")
    return labels[chosen]
