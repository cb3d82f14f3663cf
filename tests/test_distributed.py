"""One assignment over the batches of all ranks, in as many processes as are named."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
import rank_cases
import torch
import torch.distributed as dist
from ranks import assert_nothing_raised, launch
from scipy.optimize import linear_sum_assignment

from immiscible_fast import assign_noise, fast_assign
from immiscible_fast.distributed import agreement, group, replicated, sharded

# Of processes with threads, by fork: nothing of what they have in hand is used in the new ones.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def compiled_before_the_fork():
    """So that no process has to load it for itself."""
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(20, 3, dtype=dtype)
        for method in ("exact", "auction", "sinkhorn", "scipy"):
            fast_assign(x, x, method=method, return_stats=method != "scipy")


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_all_cases_in_groups_of_this_size(size, rng, tmp_path):
    seed = int(rng.integers(2**31))
    assert_nothing_raised(launch(size, rank_cases.all_cases, tmp_path, seed))


def test_parts_of_the_world_and_meshes_are_groups_too(rng, tmp_path):
    seed = int(rng.integers(2**31))
    assert_nothing_raised(launch(4, rank_cases.other_groups, tmp_path, seed))


def test_wrapped_models_train_as_on_the_batch_of_all_ranks(rng, tmp_path):
    seed = int(rng.integers(2**31))
    assert_nothing_raised(launch(2, rank_cases.training_steps, tmp_path, seed))


def stays_away(where):
    """Rank 1 leaves before, or is killed in, the first exchange or the second; what the others are
    told, and after how long."""
    rank = dist.get_rank()
    if where == "stays away" and rank == 1:
        time.sleep(5)
        return "was away"
    x = torch.arange(4.0)[:, None] + rank

    def kill(*args):
        os.kill(os.getpid(), signal.SIGKILL)

    if rank == 1:
        name = {"before": "words", "between": "rows", "stays away": ""}[where]
        setattr(group.Group, name, kill)
    begin = time.monotonic()
    try:
        fast_assign(x, x, process_group=dist.group.WORLD)
    except RuntimeError as error:
        return str(error), time.monotonic() - begin
    return "nothing was raised"


@pytest.mark.parametrize("where", ["stays away", "before", "between"])
def test_a_rank_that_does_not_come_ends_in_the_time_out_and_not_in_a_hang(where, tmp_path):
    found = launch(3, stays_away, tmp_path, where, timeout=3.0)
    assert found[1] == ("was away" if where == "stays away" else None)
    for rank in (0, 2):
        text, seconds = found[rank]
        assert text.startswith("process_group: a rank died, or did not come to this call within")
        assert seconds < 30  # of a time-out of three


def test_what_is_no_group_is_refused():
    x = torch.zeros(2, 1)
    for bad in ("gloo", 3, object()):
        with pytest.raises(
            TypeError, match=r"process_group must be a torch\.distributed process gr"
        ):
            fast_assign(x, x, process_group=bad)


def test_without_a_group_a_generator_draws_the_noise_of_this_process():
    x = torch.randn(9, 2, 3)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    drawn = assign_noise(x, torch.Generator().manual_seed(1))
    assert drawn.equal(assign_noise(x, noise))
    assert assign_noise(x.double(), torch.Generator()).dtype == torch.float64


def test_all_solve_where_devices_are_alike():
    class OnGPU:
        is_cuda = True

    alike, other = (agreement.Words(*[0] * 4, machine, *[0] * 3) for machine in (1, 2))
    assert replicated.all_solve(OnGPU, [alike, alike])
    assert not replicated.all_solve(OnGPU, [alike, other])
    assert not replicated.all_solve(torch.zeros(1), [alike, alike])
    assert agreement.machine(None) == agreement.machine(None)


def test_lists_are_assigned_at_the_least_cost_with_prices_that_prove_it(rng):
    for n, room in ((1, 1), (2, 1), (7, 3), (40, 6), (40, 39)):
        cost = rng.normal(size=(n, n)) if n != 7 else rng.integers(0, 3, (n, n)).astype(float)
        chosen = np.argsort(cost, 1)[:, :room]
        column = np.concatenate([chosen, np.arange(n)[:, None]], 1).astype(np.int32)
        index, distance = sharded.cheapest(column, np.take_along_axis(cost, column, 1))
        listed = np.full((n, n), 1e6)
        np.put_along_axis(listed, column, np.take_along_axis(cost, column, 1), 1)
        rows, wanted = linear_sum_assignment(listed)
        paid = listed[rows, index].sum()
        assert paid == pytest.approx(listed[rows, wanted].sum(), abs=1e-9)
        bound = (listed - distance).min(1).sum() + distance.sum()
        assert paid == pytest.approx(bound, abs=1e-6)
        assert (distance <= 0).all()


def test_compiled_code_calls_it_uncompiled(tmp_path):
    assert_nothing_raised(launch(1, in_compiled_code, tmp_path))


def in_compiled_code():
    @torch.compile(backend="eager")
    def step(x, noise):
        return 2 * assign_noise(x + 1, noise, process_group=dist.group.WORLD)

    x, noise = torch.randn(8, 3), torch.randn(8, 3)
    assert step(x, noise).equal(2 * assign_noise(x + 1, noise))
    assert replicated.assign_over_ranks.__wrapped__ is not None
