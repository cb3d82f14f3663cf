"""All kernels that ship, compiled and run on a CPU: none races, reads what nobody wrote or leaves
its tensors, and planted faults are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from checks import assert_exact, gpu_kernels

pytest.importorskip("triton")

from ptx_emulator import ORDERS, Emulator, faults
from ptx_emulator.compilation import has_compiler
from ptx_emulator.scenarios import scenarios
from samples import naive

from immiscible_fast import fast_assign, solve_assignment

pytestmark = [
    pytest.mark.skipif(not has_compiler(), reason="takes gcc, or what CC names"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="the tests run on the device itself"),
]
TARGETS = ("sm_80", "sm_90")

# Which of the scenarios runs each kernel; all of them run on every target.
COVERED = {
    "norm_kernel": "pairwise_cost torch.bfloat16",
    "product_kernel": "pairwise_cost torch.float16",
    "manhattan_kernel": "fast_assign manhattan",
    "row_moments_kernel": "photos exact",
    "column_moments_kernel": "half exact",
    "problem_units_kernel": "wide exact",
    "update_kernel": "fast_assign sqeuclidean",
    "final_prices_kernel": "rectangle exact",
    "lists_kernel": "rectangle sinkhorn",
    "settle_kernel": "sparse exact",
    "bids_kernel": "integers exact",
    "forest_kernel": "photos sinkhorn",
    "forest_step_kernel": "enormous spread",
    "augment_rows_kernel": "infeasible exact",
    "forget_huge_prices_kernel": "wide exact",
    "row_terms_kernel": "rectangle exact",
    "certify_kernel": "photos exact",
    "row_sums_kernel": "streaming",
    "column_sums_kernel": "streaming",
    "minima_kernel": "streaming crowded",
    "collect_kernel": "streaming crowded",
}


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    monkeypatch.setenv("IMMISCIBLE_BACKEND", "triton")


@pytest.mark.parametrize("target", TARGETS)
def test_every_kernel_runs_clean(target, rng):
    assert gpu_kernels() == set(COVERED)
    seen = {}
    for name, call in scenarios():
        order, seed = str(rng.choice(ORDERS)), int(rng.integers(2**31))
        with Emulator(target, order, seed=seed, asked_only=True) as emulator:
            answer = call()
        emulator.assert_clean()
        seen[name] = set(emulator.work)
        if name.startswith("pairwise_cost"):  # matrix instructions of every type
            want = naive(*call.args, "sqeuclidean")
            assert (answer - want).abs().max() < 0.01 * want.std()
        elif name.endswith("exact"):
            assert_as_on_the_cpu(call, answer)
    assert {kernel for kernel, name in COVERED.items() if kernel not in seen[name]} == set()


def test_a_whole_call_at_1024(rng):
    images = torch.from_numpy(np.cumsum(rng.normal(size=(1024, 64)), 1)).float()
    noise = torch.from_numpy(rng.normal(size=(1024, 64))).float()
    with Emulator("sm_90", str(rng.choice(ORDERS)), seed=int(rng.integers(2**31))) as emulator:
        index = fast_assign(images, noise, metric="dot", method="exact")
    emulator.assert_clean()
    cost = -(images.double() @ noise.double().mT)
    best = on_the_cpu(solve_assignment, cost, method="exact").cost
    paid = cost[torch.arange(1024), index].sum()
    assert index.sort().values.equal(torch.arange(1024))
    assert abs(paid - best) <= 1e-6 * abs(best)


def on_the_cpu(call, *args, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMMISCIBLE_BACKEND", "cpu")
        return call(*args, **options)


def assert_as_on_the_cpu(call, answer):
    """Wrong arithmetic, loads or shuffles of the emulator would show, too."""
    for cost, paid, converged in zip(*call.args, answer.cost, answer.converged, strict=True):
        if not converged:
            with pytest.raises(ValueError, match="infeasible"):
                on_the_cpu(solve_assignment, cost, method="exact")
            continue
        best = on_the_cpu(solve_assignment, cost, method="exact").cost
        assert float(paid) == pytest.approx(float(best), rel=1e-6)


@pytest.mark.parametrize("shape", [(2, 20, 31), (1, 40, 40)])
def test_bits_are_those_of_the_interpreter(shape, rng):
    """Where every operation is rounded as both round it: without approximations, and with
    multiplications and additions left apart."""
    cost = torch.from_numpy(rng.integers(-99, 99, shape)).double()
    want = solve_assignment(cost, method="exact")
    for target, order in zip(TARGETS, ("descending", "preemptive"), strict=True):
        with Emulator(target, order, fusion=False) as emulator:
            answer = solve_assignment(cost, method="exact")
        emulator.assert_clean()
        assert answer.cost.equal(want.cost)
        assert answer.lower_bound.equal(want.lower_bound)
    for one, own in zip(cost, answer.index, strict=True):
        assert own.unique().numel() == shape[1]
        assert one.shape == shape[1:]
    assert_exact(cost[0].numpy(), type(answer)(*(field[0] for field in answer)))


def test_every_fault_has_a_verdict():
    """Each was found, or there is a proof that it does no harm."""
    names, rows = {fault.name for fault in faults.faults()}, faults.on_record()
    renew = "python -m tests.ptx_emulator.faults --untried --json tests/ptx_emulator/faults.json"
    assert names - rows.keys() == set(), f"not tried yet: {renew}"
    open_ones = {name for name, row in rows.items() if not faults.is_decided(row)}
    assert open_ones == set(), "neither found nor in harmless.md"
    assert rows.keys() - names == set(), f"of other kernels: {renew}"
    assert set(faults.reasons()) == {
        name for name, row in rows.items() if row["harmless"] not in ("", faults.SAME_CODE)
    }
    readme = Path(faults.RECORD).with_name("README.md").read_text()
    assert faults.table(list(rows.values())) in readme


@pytest.mark.parametrize("kind", ["barrier", "no mask"])
def test_a_fault_is_found_again(kind, rng):
    rows = faults.on_record()
    found = [
        fault for fault in faults.faults()
        if fault.kind == kind and any(" in " in what for what in rows[fault.name]["found"])
    ]  # fmt: skip
    fault = found[int(rng.integers(len(found)))]
    by = rows[fault.name]["scenario"]
    shown = faults.seen(fault, {by.split(" ", 1)[1]} if by else None)
    assert shown["found"], fault.name


def test_bits_do_not_depend_on_warps(rng, monkeypatch):
    """Where sums are exact, as those of small integers are; see docs/environment.md."""
    from immiscible_fast.kernels.gpu.problems import Problems
    from immiscible_fast.kernels.gpu.sinkhorn import sinkhorn
    from immiscible_fast.kernels.gpu.statistics import statistics
    from immiscible_fast.kernels.gpu.workspace import Workspace, start_matching

    cost = torch.from_numpy(rng.integers(-8, 9, (1, 256, 256))).float()
    problems, run, found = Problems(cost), Emulator.run, []

    def with_fewer(self, function, args, grid, options):
        return run(self, function, args, grid, options | {"num_warps": 1})

    for order in ("random", "descending"):
        with Emulator("sm_90", order, seed=int(rng.integers(2**31))) as emulator:
            units, start = statistics(problems)
            work = Workspace.of(problems, sinkhorn(problems, units, start, updates=4))
            start_matching(problems, units, work, torch.ones_like(units.flags))
        emulator.assert_clean()
        found.append((*units, work.price, work.column, work.owner, work.listed, work.bound))
        monkeypatch.setattr(Emulator, "run", with_fewer)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
