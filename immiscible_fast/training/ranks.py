"""Noise of each rank's own: one seed for all ranks gives every one of them the same noise."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import torch
import torch.distributed as dist

from .. import validation

RANK_VARIABLES = ("RANK", "SLURM_PROCID", "LOCAL_RANK")  # those that launchers set, best first


def rank_seed(seed: int, rank: int, *more: int) -> int:
    """A seed for this rank (and step, say), of 63 bits, unlike that of any other."""
    words = [int(number) % 2**64 for number in (seed, rank, *more)]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def rank_generator(
    seed: int, *, rank: int | None = None, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator that draws other numbers on every rank, from one seed for all.

    Parameters
    ----------
    seed : int
        The same on all ranks.
    rank : int, optional
        Of this process among all. None: that of ``torch.distributed`` if it is initialised, else
        what the launcher says (RANK, SLURM_PROCID or LOCAL_RANK in the environment), else 0.
    device : torch.device or str
        Of the generator.

    Returns
    -------
    torch.Generator

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it got and what it wants.

    Examples
    --------
    >>> first, second = rank_generator(0, rank=0), rank_generator(0, rank=1)
    >>> bool((torch.randn(4, generator=first) == torch.randn(4, generator=second)).any())
    False
    """
    seed = validation.check_whole("seed", seed)
    rank = _own_rank() if rank is None else validation.check_count("rank", rank, least=0)
    device = validation.check_device("device", device)
    return torch.Generator(device).manual_seed(rank_seed(seed, rank))


def ranks_draw_alike(generator: torch.Generator | None = None) -> bool:
    """Whether two ranks would draw the same numbers next, as after one seed for all.

    All ranks have to call it. It exchanges a few bytes and waits for them, so ask once, before the
    training.

    Parameters
    ----------
    generator : torch.Generator, optional
        The one that draws the noise. None: torch's global one, of the current GPU if one is in use.

    Returns
    -------
    bool
        False without ``torch.distributed``, or with one rank.

    Examples
    --------
    >>> ranks_draw_alike()
    False
    """
    validation.check_generator(generator)
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return False
    if generator is None:
        on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        state = torch.cuda.get_rng_state() if on_gpu else torch.get_rng_state()
    else:
        state = generator.get_state()
    states: list[bytes] = [b""] * dist.get_world_size()
    dist.all_gather_object(states, hashlib.sha256(state.cpu().numpy().tobytes()).digest())
    return len(set(states)) < len(states)


def _own_rank() -> int:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    return next((int(os.environ[name]) for name in RANK_VARIABLES if name in os.environ), 0)
