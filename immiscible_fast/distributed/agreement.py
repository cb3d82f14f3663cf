"""Ranks say what they are about to do before they do it, so that no rank waits for another in vain.

1. Each rank sends a few words: whether its arguments are usable, its number of rows, whether they
   are finite, and hashes of the terms on which all have to agree.
2. All ranks see the same words and come to the same conclusion. Only if it is an error they send
   what the hashes stand for, once more from all to all, and every rank raises.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import __version__
from .group import Group

SEED_HINT = "ranks with one seed for all draw equal noise: see rank_generator"


class Words(NamedTuple):
    """What one rank says."""

    failed: int  # whether it raised before it came here
    terms: int  # hash
    rows: int
    noise_state: int  # hash of the state of its generator, 0 without one
    machine: int  # hash of what decides about roundings
    x_finite: int
    noise_finite: int
    noise_sum: int  # the bits of a float64; 0 without noise


def hashed(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little", signed=True)


def hashed_state(generator: torch.Generator) -> int:
    return hashed(generator.get_state().numpy().tobytes())


def sums(x: Tensor) -> tuple[Tensor, Tensor]:
    """Whether all of x is finite, and the bits of its sum in float64, without a wait for a GPU."""
    wide = x.to(torch.float32) if x.element_size() == 1 else x
    total = wide.sum(dtype=torch.float64)
    finite = total.isfinite()
    if wide.dtype == torch.float64:  # their sum may overflow
        finite = wide.isfinite().all()
    return finite, total.view(torch.int64)


def agree(
    group: Group,
    prepare: Callable[[], tuple[Mapping[str, str], Sequence[Tensor | int]]],
    device: torch.device | None,
) -> list[Words]:
    """The words of all ranks; ``prepare`` gives this rank's terms and words from ``rows`` on but
    for the machine's, and may raise.

    Raises
    ------
    ValueError, or what ``prepare`` raised
        On every rank, if ranks do not agree, or one has raised or holds what is not finite.
    """
    terms: Mapping[str, str] = {}
    rest: Sequence[Tensor | int] = [0] * 5
    error: Exception | None = None
    try:
        terms, rest = prepare()
    except Exception as raised:
        error = raised
    rows, state, *looks = rest
    said = [error is not None, hashed(repr(terms).encode()), rows, state, hashed(machine(device))]
    own = torch.stack(
        [torch.as_tensor(look, dtype=torch.int64, device=device) for look in looks]
    ).cpu()
    own = torch.cat([torch.tensor(said, dtype=torch.int64), own])
    words = [Words(*row) for row in group.words(own)]
    if any(one.failed for one in words) or len({one.terms for one in words}) > 1:
        text = f"{type(error).__name__}: {error}" if error is not None else ""
        said_by_all = group.objects((text, dict(terms))) if group.size > 1 else []
        if error is not None:
            raise error
        _raise(said_by_all)
    for name in ("x", "noise"):
        bad = [rank for rank, one in enumerate(words) if not getattr(one, f"{name}_finite")]
        if bad:
            where = f" on {ranks(bad)}" if group.size > 1 else ""
            raise ValueError(f"{name} must be finite, got NaN or infinite entries{where}")
    return words


def warn_if_drawn_alike(words: Sequence[Words]) -> None:
    """Say so, if two ranks hold the same noise."""
    seen: dict[tuple[int, int], int] = {}
    for rank, one in enumerate(words):
        if one.rows and one.noise_sum:
            other = seen.setdefault((one.rows, one.noise_sum), rank)
            if other != rank:
                warnings.warn(
                    f"the noise of ranks {other} and {rank} is equal; {SEED_HINT}", stacklevel=5
                )
                return


def machine(device: torch.device | None) -> bytes:
    """What decides how sums are rounded: ranks that differ in it may break near-ties
    differently."""
    facts: list[Any] = [torch.__version__, __version__, os.environ.get("IMMISCIBLE_BACKEND")]
    facts += [_processor(), torch.get_num_threads()]
    if device is not None and device.type == "cuda":
        facts += [torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)]
    return repr(facts).encode()


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = {line for line in lines if line.startswith(("model name", "flags"))}
    return "\n".join(sorted(found)) or platform.processor()


def ranks(numbers: Sequence[int]) -> str:
    """ "rank 3", "ranks 0, 1 and 5"."""
    if len(numbers) == 1:
        return f"rank {numbers[0]}"
    return f"ranks {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _raise(said: Sequence[tuple[str, dict[str, str]]]) -> None:
    for rank, (error, _) in enumerate(said):
        if error:
            raise RuntimeError(f"process_group: rank {rank} raised {error}")
    for name in dict.fromkeys(name for _, terms in said for name in terms):
        places: dict[str, list[int]] = {}
        for rank, (_, terms) in enumerate(said):
            places.setdefault(terms.get(name, "nothing"), []).append(rank)
        if len(places) > 1:
            got = " and ".join(f"{value} on {ranks(at)}" for value, at in places.items())
            raise ValueError(f"{name} must be the same on all ranks of process_group, got {got}")
    raise AssertionError("hashes differ, and what they stand for does not")
