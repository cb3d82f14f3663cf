"""``AssignmentStats``: what an assignment did to the noise of a batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .metrics import Metric, pair_costs


class AssignmentStats(NamedTuple):
    """What ``return_stats=True`` gives beside the answer; for a batch every field has shape (B,).

    All are tensors on the device of the images, computed there from the pairs alone, without
    waiting for it: only to look at them, as ``float(stats.reduction)`` does, is to wait. They are
    those of what the cost saw: of features, where these were given, and with the weights of a
    mask relative to the largest.
    """

    cost_before: Tensor  # () float64, summed over the pairs as they came
    cost_after: Tensor  # () float64, and as they were assigned
    moved: Tensor  # () float64, share of the images whose noise is another one
    gap: Tensor  # () float64, the sum is at most so far from the least one; inf: no proof (scipy)
    largest_group: Tensor  # () int64, images that could exchange their noise: n without labels
    condition_weight: Tensor  # () float64, of the conditions, as given or found; 0 without any

    @property
    def reduction(self) -> Tensor:
        """Share of the cost that was removed."""
        return 1 - self.cost_after / self.cost_before


def statistics(
    x: Tensor,
    noise: Tensor,
    index: Tensor,
    labels: Tensor | None,
    metric: Metric,
    gap: Tensor,
    weight: Tensor | None,
) -> AssignmentStats:
    """Of samples (B, n, D), an index and labels (B, n), and the gap (B,) of their assignment."""
    batch, n = index.shape
    place = torch.arange(n, device=x.device)
    assigned = torch.take_along_dim(noise, index[:, :, None], 1)
    if labels is None:
        largest = torch.full((batch,), n, device=x.device)
    else:
        ordered = labels.sort(1).values
        counts = torch.searchsorted(ordered, ordered, right=True)
        counts = counts - torch.searchsorted(ordered, ordered)
        largest = counts.amax(1) if n > 0 else counts.sum(1)
    return AssignmentStats(
        pair_costs(x, noise, metric).sum(1, dtype=torch.float64),
        pair_costs(x, assigned, metric).sum(1, dtype=torch.float64),
        (index != place).sum(1).to(torch.float64) / max(n, 1),
        gap,
        largest,
        torch.zeros_like(gap) if weight is None else weight,
    )
