"""Groups of samples that share one launch: sorted, so that each is a block of the cost matrix."""

from __future__ import annotations

import torch
from torch import Tensor


def sort_groups(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
