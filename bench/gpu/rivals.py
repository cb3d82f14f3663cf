"""Peers in the same run: what else pairs images on a GPU with noise there, copies included."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from bench import peers, record
from bench.peers import Method
from bench.problems import Samples
from immiscible_fast import fast_assign

from .calls import Forecast, batch_of_costs
from .setting import Judge, Row, Setting, inputs, judge

NAMES = ("product + scipy", "cdist + scipy", "product + torch-linear-assignment",
         "flash-sinkhorn 0.1 + rounding", "product + POT emd")  # fmt: skip
BATCHES = ("exact", "scipy, one by one", "torch-linear-assignment")


def own_cpu(drawn: Samples) -> torch.Tensor:
    """Our own CPU solver, images and noise copied to it."""
    index = fast_assign(drawn.x.cpu(), drawn.noise.cpu(), method="exact")
    return index.to(drawn.x.device)


RIVALS = [
    Method("auto", partial(peers.own_pair, "auto", 0.01)),
    Method("exact", partial(peers.own_pair, "exact", 0.01)),
    Method("our CPU solver", own_cpu),
    *(method for method in peers.PAIRS if method.name in NAMES),
]


def measure(setting: Setting) -> Iterator[Row]:
    """Rows of the part "peers"."""
    forecasts = {rival.name: Forecast() for rival in RIVALS}
    for n in setting.chosen(setting.sizes.peers):
        x, noise = inputs(n, setting.sizes.dim, setting.device)[0]
        judged = judge(x, noise, exact=True)
        for rival in RIVALS:
            forecast = forecasts[rival.name]
            row = {"case": rival.name, "n": n, "dim": setting.sizes.dim, "package": rival.package}
            reason = peers.why_not(rival, setting.device)
            if not reason and 1.5 * forecast.of(n) > 0.5 * setting.left:
                reason = f"about {forecast.of(n):.0f} s a call, by a smaller n"
            if reason:
                yield row | {"skipped": reason}
                continue
            drawn = Samples(x, noise)
            for found in setting.attempt(row, partial(_pair, setting, rival, drawn, judged)):
                forecast.add(n, found.get("host_ms"))
                yield found if rival.ours else {k: v for k, v in found.items() if k != "failed"}
    for batch, n in setting.sizes.batches:
        for method in (method for method in peers.BATCHES if method.name in BATCHES):
            row = {"case": method.name, "batch": batch, "n": n, "package": method.package}
            if reason := peers.why_not(method, setting.device):
                yield row | {"skipped": reason}
            else:
                yield from setting.attempt(row, partial(_batch, setting, method, batch, n))


def _pair(setting: Setting, rival: Method, drawn: Samples, judged: Judge) -> Row:
    if setting.timed and len(drawn.x) <= min(setting.sizes.peers):
        rival.solve(drawn)  # compiles, loads
    median, index = setting.host(partial(rival.solve, drawn))
    found: dict[str, Any] = judged.verdict(as_index(index))
    if not rival.ours and "wrong" in found:
        found = {"peer_wrong": found["wrong"]}
    return {
        "version": record.version(rival.package),
        "ours": rival.ours,
        "host_ms": median,
        **found,
    }


def as_index(index: Any) -> torch.Tensor:
    return torch.as_tensor(np.asarray(torch.as_tensor(index).cpu())).long()


def _batch(setting: Setting, method: Method, batch: int, n: int) -> Row:
    costs = batch_of_costs(setting, batch, n)[0]
    return {"host_ms": setting.host(partial(method.solve, costs))[0]}
