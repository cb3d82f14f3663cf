"""Passes without blocks against float64: on a GPU if there is one, else in the interpreter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

import immiscible_fast.kernels.gpu.streaming as kernels
from test_streaming import check, samples

from immiscible_fast.streaming import backend, blocks, fused
from immiscible_fast.streaming.passes import new_lists

pytestmark = pytest.mark.emulated
METRICS = ("sqeuclidean", "euclidean", "dot", "cosine")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# Ties, duplicates, rows of equal costs, lengths and offsets that cost digits.
FAMILIES = (
    "smooth",
    "integers",
    "images_eightfold",
    "noises_equal",
    "one_bit",
    "lengths",
    "offset",
)


@pytest.fixture(params=["whole", "in parts"])
def costs_of(request, monkeypatch):
    """Costs whose columns come at once, or converted in parts, with a limit from every third tile
    and rows in chunks."""
    if request.param == "in parts":
        for module, values in (
            (blocks, {"KEPT_BYTES": 0, "PART": 4000, "GPU_PART": 4000}),
            (kernels, {"LARGE": 1, "SAMPLED": 3}),
            (fused, {"ROWS": 50}),
        ):
            for name, value in values.items():
                monkeypatch.setattr(module, name, value)

    def make(family, n, metric, dtype, device):
        x, noise = (z.to(dtype).to(device) for z in samples(family, 11, n))
        return blocks.CostBlocks(x, noise, metric)

    return make


@pytest.mark.parametrize("metric", METRICS)
def test_passes_are_those_over_the_matrix(costs_of, metric, rng, gpu_device):
    family, n, dtype = str(rng.choice(FAMILIES)), int(rng.integers(65, 150)), rng.choice(DTYPES)
    costs = costs_of(family, n, metric, dtype, gpu_device)
    if not costs.multiplied:
        pytest.skip("these distances are no products")
    passes, rows = fused.FusedPasses(costs), np.sort(rng.permutation(n)[: n - n // 3])
    everyone = torch.arange(n, device=gpu_device)
    exact = costs.pairs(everyone, everyone.expand(n, n))[0].cpu()
    spread = float((exact - exact.mean(0)).std()) or 1e-6
    price = (0.3 * spread * rng.normal(size=n)).astype(np.float32)
    value = (exact + torch.from_numpy(price)).numpy()
    digits = 1e-3 if metric == "euclidean" else 2e-6  # a root multiplies errors near zero
    rounding = digits * float(exact.abs().max()) + 1e-6 * spread

    mass = passes.mass(rows, price, 0.2 * spread)
    plan = torch.softmax(torch.from_numpy(value[rows]) / (-0.2 * spread), 1).sum(0).numpy()
    assert mass.sum() == pytest.approx(len(rows), rel=1e-4)
    if family not in ("offset", "lengths"):  # which is too much for ten bits
        assert np.allclose(mass, plan, rtol=0.05, atol=0.02)

    for room, lower in ((64, False), (16, True)):
        lists = new_lists(n, room)
        passes.shorten(rows, price, lists, lower)
        others = np.setdiff1d(np.arange(n), rows)
        assert (lists.count[others] == 0).all() and np.isneginf(lists.bound[others]).all()
        for i in rows:
            listed = lists.index[i, : lists.count[i]].astype(np.int64)
            assert len(np.unique(listed)) == len(listed) >= room / 4
            beyond = np.delete(value[i], listed).min(initial=np.inf)
            if lower:
                assert lists.bound[i] <= beyond + 2**-22 * abs(beyond)
                continue
            off = lists.value[i, : len(listed)] + price[listed] - value[i, listed]
            constant = float(np.median(off))
            assert np.ptp(off) <= rounding
            assert value[i, listed].max() - rounding <= lists.bound[i] - constant
            assert lists.bound[i] - constant <= beyond + rounding


@pytest.mark.parametrize("family", ["smooth", "integers", "offset"])
def test_assignments_are_within_their_certificate(family, rng, gpu_device, monkeypatch):
    if gpu_device == "cpu":
        monkeypatch.setenv("IMMISCIBLE_BACKEND", "triton")
    monkeypatch.setattr(backend, "SAMPLED", 64)
    monkeypatch.setattr(backend, "MOST_REFILLS", 1)  # a row: the interpreter takes its time
    monkeypatch.setattr(backend, "UPDATES", backend.UPDATES[::3])
    metric, dtype = str(rng.choice(METRICS)), rng.choice(DTYPES)
    x, noise = samples(family, int(rng.integers(99)), 100, dtype)
    made = []
    passes = backend._passes
    monkeypatch.setattr(backend, "_passes", lambda *args: made.append(passes(*args)) or made[0])
    answer = backend.solve(x.to(gpu_device), noise.to(gpu_device), metric, 0.01)
    check(x, noise, metric, answer, 0.01, converges=family == "smooth")
    assert isinstance(made[0], fused.FusedPasses) == made[0].costs.multiplied


def test_lists_of_equal_rows_differ_where_columns_tie(gpu_device):
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (300, 8))).float()
    x = torch.ones(300, 8).to(gpu_device)
    x[:, 0] = 2
    lists = new_lists(300, 16)
    fused.FusedPasses(blocks.CostBlocks(x, noise.to(gpu_device), "euclidean")).shorten(
        np.arange(300), np.zeros(300, np.float32), lists
    )
    assert (lists.count == 16).all()
