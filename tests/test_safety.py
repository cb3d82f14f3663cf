"""Thousands of calls, matrices beyond 2^31 entries, and whatever layout an input has."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from immiscible_fast import batch_linear_assignment, linear_sum_assignment, solve_assignment

HUGE = "IMMISCIBLE_HUGE"
GIB = 1 << 30


def resident():
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def many_calls(count):
    small, wide = torch.rand(12, 12), np.random.default_rng(0).random((9, 30))
    batch, bad = torch.rand(3, 8, 6), torch.full((5, 5), torch.inf)
    for k in range(count):
        solve_assignment(small, method=("exact", "auction")[k % 2])
        linear_sum_assignment(wide, cost_limit=0.1)
        batch_linear_assignment(batch)
        with pytest.raises(ValueError, match="infeasible"):
            solve_assignment(bad)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_ten_thousand_calls_leave_nothing_behind():
    """8 MiB are less than a kilobyte a call, and more than an allocator keeps for itself."""
    many_calls(500)
    gc.collect()
    threads, before = threading.active_count(), resident()
    many_calls(2500)  # of four calls each
    gc.collect()
    assert resident() - before < 8 << 20
    assert threading.active_count() == threads


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_solves_on_a_watched_thread_leave_nothing_behind():
    cost = torch.rand(1100, 1100)  # 4.6 MiB, and candidate lists besides
    for _ in range(5):
        solve_assignment(cost)
    gc.collect()
    threads, before = threading.active_count(), resident()
    for _ in range(60):
        solve_assignment(cost)
    gc.collect()
    assert resident() - before < 32 << 20
    assert threading.active_count() == threads


def layouts(cost):
    """The same (n, m) numbers in every way that numpy and torch can hold them."""
    n, m = cost.shape
    padded = np.full((n + 3, m + 5), np.nan, cost.dtype)
    padded[2 : 2 + n, 4 : 4 + m] = cost
    sparse = np.full((2 * n, 3 * m), np.nan, cost.dtype)
    sparse[::2, ::3] = cost
    yield cost
    yield np.asfortranarray(cost)
    yield padded[2 : 2 + n, 4 : 4 + m]
    yield sparse[::2, ::3]
    yield cost[::-1, ::-1].copy()[::-1, ::-1]
    yield cost.astype(cost.dtype.newbyteorder())
    locked = cost.copy()
    locked.flags.writeable = False
    yield locked


@pytest.mark.parametrize("limit", [None, 0.4])
@pytest.mark.parametrize("shape", [(20, 20), (9, 40), (40, 9)])
def test_numpy_arrays_of_any_layout_give_the_same_pairs(shape, limit, rng):
    cost = rng.random(shape)
    wanted = linear_sum_assignment(cost, cost_limit=limit)
    for view in layouts(cost):
        kept = view.copy()
        rows, columns = linear_sum_assignment(view, cost_limit=limit)
        assert np.array_equal(rows, wanted[0])
        assert np.array_equal(columns, wanted[1])
        assert np.array_equal(view, kept)


@pytest.mark.parametrize("limit", [None, 0.4])
def test_tensors_of_any_layout_give_the_same_columns(limit, rng):
    cost = torch.from_numpy(rng.random((4, 20, 30)))
    wanted = batch_linear_assignment(cost, cost_limit=limit)
    views = [
        cost.mT.contiguous().mT,
        cost.permute(1, 2, 0).contiguous().permute(2, 0, 1),
        torch.nn.functional.pad(cost, (3, 1, 2, 2), value=torch.nan)[:, 2:-2, 3:-1],
        cost.flip(1).flip(1),
        cost.clone().requires_grad_(),
        -torch._neg_view(cost),
    ]
    for view in views:
        assert torch.equal(batch_linear_assignment(view, cost_limit=limit), wanted)
    expanded = cost[:1].expand(5, 20, 30)
    assert torch.equal(
        batch_linear_assignment(expanded, cost_limit=limit), wanted[:1].expand(5, 20)
    )


def memory():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


@pytest.mark.skipif(not os.environ.get(HUGE), reason=f"takes 12 GiB and a minute; set {HUGE}")
@pytest.mark.parametrize("shape", [(46_400, 46_400), (64, 34_000_000)])
def test_offsets_do_not_overflow_beyond_two_to_the_31(shape):
    """A permutation of zeros is hidden in ones, with its last column beyond the 2^31st entry."""
    n, m = shape
    assert n * m > 2**31
    if memory() < 4 * n * m + (64 * m + 2 * GIB):
        pytest.skip("not enough memory")
    rng = np.random.default_rng(0)
    hidden = rng.permutation(m)[:n] if n == m else m - 1 - np.arange(n)
    cost = np.ones(shape, np.float32)
    cost[np.arange(n), hidden] = 0
    answer = solve_assignment(torch.from_numpy(cost))
    assert float(answer.cost) == 0
    assert float(answer.gap) == 0
    assert np.array_equal(answer.index.numpy(), hidden)
