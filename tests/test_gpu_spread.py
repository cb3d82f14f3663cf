"""Forests whose ticks are launches of many programs, compiled and emulated: the interpreter would
take a minute for what takes a second here."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from checks import assert_matching, optimum

pytest.importorskip("triton")

from immiscible_fast.kernels.gpu import workspace
from immiscible_fast.kernels.gpu.augment import augment_rows
from immiscible_fast.kernels.gpu.problems import Problems
from immiscible_fast.kernels.gpu.statistics import statistics
from immiscible_fast.kernels.gpu.workspace import Workspace, grow_forests, start_matching
from ptx_emulator import ORDERS, Emulator
from ptx_emulator.compilation import has_compiler
from stages import assert_forests_do_what_their_reference_does

pytestmark = pytest.mark.skipif(not has_compiler(), reason="takes gcc, or what CC names")
FAMILIES = ("images_and_noise", "small_integers", "rows_twice", "uniform")


@pytest.fixture(scope="module")
def emulator():
    """One for all: to compile takes longest."""
    rng = np.random.default_rng(int(os.environ["IMMISCIBLE_SEED"]))
    target, order = str(rng.choice(["sm_80", "sm_90"])), str(rng.choice(ORDERS))
    with Emulator(target, order, seed=int(rng.integers(2**31)), fusion=False) as emulator:
        yield emulator
    emulator.assert_clean()


@pytest.fixture(autouse=True)
def spread(monkeypatch):
    """Every problem on four programs, with short lists."""
    monkeypatch.setattr(workspace, "parts_of", lambda _: 4)
    monkeypatch.setattr(workspace, "list_length", lambda *_: 16)
    monkeypatch.setattr(workspace, "PATIENCE", 2)


def prepared(cost, monkeypatch, launches):
    """(problems, units, workspace with a matching) of (B, n, m) costs."""
    monkeypatch.setattr(workspace, "launches_of", lambda *_: launches)
    problems = Problems(torch.from_numpy(cost))
    units, start = statistics(problems)
    price = start.to(torch.float64) if cost.shape[1] == cost.shape[2] else torch.zeros_like(start)
    work = Workspace.of(problems, price.to(torch.float64))
    start_matching(problems, units, work, torch.ones_like(units.flags))
    return problems, units, work


def test_many_programs_do_what_one_does(rng, emulator, monkeypatch):
    monkeypatch.setattr(workspace, "launches_of", lambda *_: 200)
    for patience in (0, 2):
        for family in rng.choice(FAMILIES, 2, replace=False):
            assert_forests_do_what_their_reference_does(
                family, rng, int(rng.integers(33, 45)), "cpu", length=16, patience=patience
            )
    assert emulator.work["forest_step_kernel"].programs > 4 * 200


@pytest.mark.parametrize("shape", [(2, 35, 35), (1, 34, 44)])
def test_one_program_goes_on_after_too_few_launches(rng, emulator, monkeypatch, shape):
    for launches in (int(rng.integers(1, 4)), int(rng.integers(4, 40))):
        cost = rng.normal(size=shape)
        problems, units, work = prepared(cost, monkeypatch, launches)
        every = torch.ones_like(units.flags)
        assert not grow_forests(problems, units, work, every, exact=True).any()
        assert not augment_rows(problems, units, work, every).any()
        for b, one in enumerate(cost):
            index = work.column.view(shape[:2])[b].to(torch.int64)
            assert_matching(index, *one.shape)
            paid = one[np.arange(shape[1]), index.numpy()].sum()
            assert paid == pytest.approx(optimum(one), rel=1e-12, abs=1e-12)
    assert (work.report[:, 3] > 0).all()


def test_what_has_no_unit_or_is_not_wanted_is_passed_over(rng, emulator, monkeypatch):
    cost = np.stack([np.ones((36, 36)), *rng.normal(size=(2, 36, 36))])
    for exact in (True, False):
        problems, units, work = prepared(cost, monkeypatch, 60)
        before = work.column.clone()
        wanted = torch.tensor([1, 1, 0], dtype=torch.int32)
        left = grow_forests(problems, units, work, wanted, exact=exact)
        assert left.tolist() == [0 if exact else 1, 0, 0]
        assert torch.equal(work.column[72:], before[72:])
        assert_matching(work.column[36:72].to(torch.int64), 36, 36)
