"""Work of the GPU's forests, counted on a CPU: more work is caught without a clock."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")
pytest.importorskip("sklearn")

from tests import gpu_work_counts


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
