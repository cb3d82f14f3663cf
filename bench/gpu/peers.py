"""Peers in the same run: what else pairs images on a GPU with noise there, copies included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch

from bench import peers, record
from bench.peers import Method
from bench.problems import Samples
from immiscible_fast import fast_assign

from . import batches
from .setting import Case, Judge, Row, Setting

NAMES = ("product + scipy", "cdist + scipy", "product + torch-linear-assignment",
         "flash-sinkhorn 0.1 + rounding", "product + POT emd")  # fmt: skip
BATCHES = ("exact", "scipy, one by one", "torch-linear-assignment")


def own_cpu(drawn: Samples) -> torch.Tensor:
    """Our own CPU solver, images and noise copied to it."""
    index = fast_assign(drawn.x.cpu(), drawn.noise.cpu(), method="exact")
    return index.to(drawn.x.device)


PAIRS = [
    Method("auto", partial(peers.own_pair, "auto", 0.01)),
    Method("exact", partial(peers.own_pair, "exact", 0.01)),
    Method("our CPU solver", own_cpu),
    *(method for method in peers.PAIRS if method.name in NAMES),
]


def cases(setting: Setting) -> Iterator[Case]:
    for n in setting.sizes:
        if n in batches.COUNTS:
            costs = cache(lambda n=n: batches.costs(setting, n)[0])
            for method in (method for method in peers.BATCHES if method.name in BATCHES):
                facts = {"case": method.name, "batch": batches.COUNTS[n], "n": n}
                yield Case(facts, partial(_timed, setting, method, costs))
            continue
        judge = cache(lambda n=n: Judge(*setting.inputs(n)[0]))
        drawn = cache(lambda n=n: Samples(*setting.inputs(n)[0]))
        for method in PAIRS:
            facts = {"case": method.name, "n": n, "dim": setting.dim}
            yield Case(facts, partial(_timed, setting, method, drawn, judge), calls=3)


def _timed(
    setting: Setting,
    peer: Method,
    given: Callable[[], Any],
    judge: Callable[[], Judge] | None = None,
) -> Row:
    about: Row = {"package": peer.package, "ours": peer.ours}
    if reason := peers.why_not(peer, setting.device):
        return about | {"skipped": reason}
    index: Any = None

    def call() -> None:
        nonlocal index
        index = peer.solve(given())

    try:
        about |= {"version": record.version(peer.package), **setting.eager([call], fewest=1)}
        found = judge().verdict(index) if judge else {}
    except Exception as error:  # a peer may raise anything
        if peer.ours:
            raise
        return about | {"skipped": f"{type(error).__name__}: {error}"[:200]}
    if not peer.ours and "wrong" in found:
        found = {"peer_wrong": found["wrong"]}
    return about | found
