"""Work of the GPU's forests, counted on a CPU: more work is caught without a clock."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

pytest.importorskip("triton")
pytest.importorskip("sklearn")

from immiscible_fast.kernels.gpu import sinkhorn, workspace
from immiscible_fast.kernels.gpu.problems import Problems

from bench import gpu_work_counts


def test_what_is_counted_is_what_ships():
    assert gpu_work_counts.SINKHORN == {
        "exact": (sinkhorn.EXACT_UPDATES, sinkhorn.EXACT_OVER_RELAXATION),
        "sinkhorn": (sinkhorn.UPDATES, sinkhorn.OVER_RELAXATION),
    }
    assert gpu_work_counts.ROUNDS == workspace.ROUNDS
    assert gpu_work_counts.PATIENCE == workspace.PATIENCE
    for n in gpu_work_counts.SIZES:
        problems = Problems(torch.empty(1).expand(1, n, n))
        for method in gpu_work_counts.METHODS:
            length = workspace.list_length(problems, method == "exact")
            assert gpu_work_counts.list_length(n, method) == length


@pytest.mark.parametrize("method", gpu_work_counts.METHODS)
@pytest.mark.parametrize("family", gpu_work_counts.FAMILIES)
def test_work_is_what_was_recorded(family, method):
    found = gpu_work_counts.counted(family, 256, method)
    name = f"{family} n=256 {method}"
    assert gpu_work_counts.exceeded(found, gpu_work_counts.recorded()[name]) == []
    assert found["left"] == 0
    assert found["share"] >= (0.9999999 if method == "exact" else 0.9995)
    assert found["gap_a_row"] <= (1e-9 if method == "exact" else 0.01)


def test_more_work_is_noticed():
    assert gpu_work_counts.exceeded({"turns": 130, "share": 0.5}, {"turns": 40}) == [
        "turns: 130, recorded 40"
    ]
    assert gpu_work_counts.exceeded({"turns": 124}, {"turns": 40}) == []
