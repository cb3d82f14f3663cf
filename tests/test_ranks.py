"""Each rank draws its own noise: in two processes, and by what launchers say."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from ranks import launch

from immiscible_fast import rank_generator, ranks_draw_alike
from immiscible_fast.training.ranks import RANK_VARIABLES, rank_seed


def draw(generator):
    return torch.randn(8, generator=generator)


def test_ranks_and_seeds_give_other_numbers_and_the_same_ones_the_same():
    drawn = {(seed, rank): draw(rank_generator(seed, rank=rank)) for seed in (0, 1, -1, 2**63)
             for rank in (0, 1, 255)}  # fmt: skip
    assert len({tuple(numbers.tolist()) for numbers in drawn.values()}) == len(drawn)
    for (seed, rank), numbers in drawn.items():
        assert draw(rank_generator(seed, rank=rank)).equal(numbers)
    assert len({rank_seed(5, rank, step) for rank in range(30) for step in range(30)}) == 900


@pytest.mark.parametrize("name", RANK_VARIABLES)
def test_the_rank_is_what_the_launcher_says(monkeypatch, name):
    for other in RANK_VARIABLES:
        monkeypatch.delenv(other, raising=False)
    assert draw(rank_generator(4)).equal(draw(rank_generator(4, rank=0)))
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv(name, "3")
    assert draw(rank_generator(4)).equal(draw(rank_generator(4, rank=3)))


def test_the_global_generator_is_untouched():
    before = torch.get_rng_state()
    draw(rank_generator(0))
    assert torch.get_rng_state().equal(before)


def one_of_two():
    """What a process of its own finds out."""
    torch.manual_seed(0)
    found = [ranks_draw_alike(), ranks_draw_alike(torch.Generator().manual_seed(3))]
    torch.manual_seed(dist.get_rank())
    found += [ranks_draw_alike(), ranks_draw_alike(rank_generator(3))]
    return found, draw(rank_generator(3)).tolist()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of threads, and fork
def test_two_processes_see_whether_they_draw_alike(tmp_path):
    for rank, answer in enumerate(launch(2, one_of_two, tmp_path)):
        assert answer == ([True, True, False, False], draw(rank_generator(3, rank=rank)).tolist())


def test_alone_nothing_is_alike():
    assert not ranks_draw_alike()
