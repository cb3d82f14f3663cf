"""Whether a cost matrix would fit: how much memory is free, and how much a solver takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import validation

LARGE = 8192  # samples; no matrix of fewer is asked about, unless ``max_memory`` is given
SHARE = 0.5  # of free memory that a matrix may take
MATRICES = 1.7  # n x n float32 matrices that a solver takes
UNKNOWN = 8 << 30  # bytes, where the system does not say


def too_large(x: Tensor, labels: Tensor | None, batched: bool, max_memory: float | None) -> bool:
    """Whether matrices for samples (n, ...) or (B, n, ...) would take more than ``max_memory``
    bytes or, if that is None, than half of what is free."""
    n = x.shape[int(batched)]
    if validation.is_traced(x) or (max_memory is None and n < LARGE):
        return False
    entries = float(n) * n * (x.shape[0] if batched else 1)
    limit = SHARE * free(x.device) if max_memory is None else max_memory
    size = MATRICES * (8 if x.dtype == torch.float64 else 4)
    if labels is None or entries * size <= limit:
        return entries * size > limit
    if not validation.may_look(labels):
        return False
    groups = labels.reshape(-1, n).cpu().numpy()
    counts = np.concatenate([np.unique(row, return_counts=True)[1] for row in groups])
    sizes, how_many = np.unique(counts, return_counts=True)  # groups of one size are one batch
    return float((sizes.astype(np.float64) ** 2 * how_many).max()) * size > limit


def free(device: torch.device) -> float:
    """Bytes of memory that are free there; of a GPU all that it has, so that calls of one shape do
    the same whatever is allocated, and nothing is asked of it in a CUDA graph."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    known = [UNKNOWN]
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        known = [1024 * int(fields["MemAvailable"].split()[0])]
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text())  # "max", if there is no limit
        known.append(most - int((group / "memory.current").read_text()))
    except (OSError, ValueError, KeyError):
        pass
    return float(max(0, min(known)))
