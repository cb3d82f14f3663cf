"""The page of the model is what the recorded counts say."""

from __future__ import annotations

import pytest

from bench.gpu import model


def test_the_page_is_of_the_recorded_counts():
    assert model.PAGE.read_text() == model.page(), "python -m bench.gpu.model --write"


def test_counts_are_of_clean_runs_of_all_kernels():
    for n in (512, 1024, 4096):
        for method in model.METHODS:
            found = model.recorded(n, method)
            if found is None:
                continue
            assert found["found"] == []
            assert set(found["kernels"]) <= set(model.STAGES)
    assert model.recorded(1024, "exact") and model.recorded(1024, "sinkhorn")


def test_time_is_the_longer_of_computing_and_moving():
    work = {"launches": 2, "programs": 264, "instructions": 0, "bytes_read": 0, "bytes_written": 0}
    waits = 2 * model.LAUNCH_US
    assert model.kernel_time(work)[3] == pytest.approx(waits)
    computing = {**work, "instructions": 264 * 1755}  # of all processors, at two a cycle
    assert model.kernel_time(computing)[3] == pytest.approx(waits + 1)
    moving = {**computing, "bytes_read": 11_000_000}
    assert model.kernel_time(moving)[3] == pytest.approx(waits + 2)
    alone = {**work, "programs": 2, "instructions": 1755}
    assert model.kernel_time(alone)[3] == pytest.approx(waits + 1)
