"""The bench of streaming, on a small problem, and the model beside it."""

from __future__ import annotations

import numpy as np
import pytest

from bench import streaming, streaming_model


@pytest.mark.parametrize("family", streaming.FAMILIES)
def test_families_have_as_many_samples_as_were_asked_for(family):
    x, noise = streaming.samples(family, 100)
    assert x.shape == noise.shape == (100, 64)
    assert float(x.abs().max()) < 2
    assert len(np.unique(x.numpy(), axis=0)) > 90


def test_a_comparison_has_shares_that_no_method_can_pass(monkeypatch):
    monkeypatch.setattr(streaming, "BATCHES", (64,))
    monkeypatch.setattr(streaming.memory, "in_fresh_process", lambda work, *case: work(*case))
    rows = streaming.compare("digits", 200)
    share = {row["method"]: row["share"] for row in rows}
    assert set(share) == set(streaming.methods(200)) >= {"exact", "batches of 64"}
    assert 0.99 < share["streaming"] <= share["exact"] + 1e-6 <= 1 + 2e-6
    assert share["batches of 64"] < 0.95
    assert all(0.5 < share[name] < share["exact"] for name in streaming.NEEDS if name in share)
    assert streaming.tables.formatted(rows, streaming.CELLS).count("\n") == 1 + len(rows)


def test_the_exponent_is_a_slope():
    rows = [
        {"family": "digits", "method": "streaming", "n": n, "processor_seconds": 3.0 * n**1.7}
        for n in (10, 20, 80)
    ]
    assert streaming.exponents(rows) == {"digits": 1.7}


def test_the_model_grows_with_the_square_of_n_and_with_the_dimension():
    small, large = streaming_model.estimate(1 << 17, 3072), streaming_model.estimate(1 << 18, 3072)
    assert np.isclose(large["one_pass"] / small["one_pass"], 4)
    assert 3.5 < large["by_blocks"] / small["by_blocks"] < 4  # bids grow with n
    assert streaming_model.estimate(1 << 17, 6144)["fused"] > 1.4 * small["fused"]
    page = (streaming.record.ROOT / "docs/guides/whole_data_set.md").read_text()
    assert streaming_model.table() in page
