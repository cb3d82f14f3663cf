"""Peers in the same run: what else pairs images on a GPU with noise there, copies included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench import pairs, peers
from bench.families import Samples
from immiscible_fast import fast_assign, solve_assignment

from .batches import batch_of_costs
from .calls import Forecast
from .quality import Judge, judge
from .setting import Row, Setting, inputs, release, short

SECONDS = 0.5
CUDA_ONLY = "runs on cuda only"


class Rival(NamedTuple):
    """Another way from images and noise on the device to an index on the device."""

    name: str
    call: Callable[[Samples], Any]
    package: str = "scipy"
    module: str = "scipy.optimize"
    cuda: bool = False  # whether it runs nowhere else
    ours: bool = False


def raw_then_scipy(drawn: Samples) -> Any:
    """Squared distances as they are."""
    square = torch.cdist(drawn.x.flatten(1), drawn.noise.flatten(1)).square_()
    return peers.scipy_solve(square)


def own_cpu(drawn: Samples) -> Tensor:
    """Our own CPU solver, images and noise copied to it."""
    index = fast_assign(drawn.x.cpu(), drawn.noise.cpu(), method="exact")
    return index.to(drawn.x.device)


OURS = partial(Rival, package=peers.OWN, module=peers.OWN, ours=True)
RIVALS = (
    OURS("fast_assign auto", partial(pairs.own_pair, "auto", 0.01)),
    OURS("fast_assign exact", partial(pairs.own_pair, "exact", 0.01)),
    OURS("our CPU solver", own_cpu, module="numba"),
    Rival("product + scipy, centred", partial(pairs.product_then, peers.scipy_solve)),
    Rival("cdist + scipy (papers' form)", pairs.cdist_then_scipy),
    Rival("squared cdist + scipy, raw", raw_then_scipy),
    Rival(
        "product + torch-linear-assignment",
        partial(pairs.product_then, peers.torch_linear_assignment),
        "torch-linear-assignment",
        "torch_linear_assignment",
    ),
    Rival(
        "flash-sinkhorn 0.1 + rounding",
        partial(pairs.flash_sinkhorn_then_round, 0.1, 100),
        "flash-sinkhorn",
        "flash_sinkhorn",
        cuda=True,
    ),
    Rival("product + POT emd", partial(pairs.product_then, peers.pot_emd), "POT", "ot"),
)


def missing(rival: Rival, device: str) -> str:
    """Why it cannot run here; an empty string if it can."""
    reason = peers.why_missing(rival.module)
    if reason:
        return f"missing ({reason})"
    return CUDA_ONLY if rival.cuda and device == "cpu" else ""


def measure(setting: Setting) -> Iterator[Row]:
    """Rows of the part "peers"."""
    forecasts = {rival.name: Forecast() for rival in RIVALS}
    for n in setting.chosen(setting.sizes.peers):
        x, noise = inputs(n, setting.sizes.dim, setting.device)[0]
        judged = None
        for rival in RIVALS:
            row = {"case": rival.name, "n": n, "dim": setting.sizes.dim, "package": rival.package}
            foretold = forecasts[rival.name].of(n)
            reason = missing(rival, setting.device)
            if not reason and 1.5 * foretold > 0.5 * setting.left:
                reason = f"about {foretold:.0f} s a call, by a smaller n"
            if reason:
                yield {**row, "skipped": reason}
                continue
            try:
                judged = judged or judge(x, noise, exact=True)
                yield row | _measured(setting, rival, Samples(x, noise), judged, forecasts)
            except Exception as error:
                yield {**row, "skipped": short(error), "failed": rival.ours}
            release(setting.device)
    for batch, n in setting.sizes.batches:
        yield from _batches(setting, batch, n)


def _measured(
    setting: Setting, rival: Rival, drawn: Samples, judged: Judge, forecasts: dict[str, Forecast]
) -> Row:
    if setting.clock.timed and len(drawn.x) <= min(setting.sizes.peers):
        rival.call(drawn)  # compiles, loads
    times, index = setting.clock.host(partial(rival.call, drawn), SECONDS)
    forecasts[rival.name].add(len(drawn.x), times.least)
    found = judged.verdict(torch.as_tensor(np.asarray(torch.as_tensor(index).cpu())).long())
    if not rival.ours and "wrong" in found:
        found = {"peer_wrong": found["wrong"]}
    return {
        "version": peers.version(rival.package),
        "ours": rival.ours,
        "host_ms": times.median,
        "host_least_ms": times.least,
        "rounds": times.rounds,
        **found,
    }


def _batches(setting: Setting, batch: int, n: int) -> Iterator[Row]:
    """Many problems of which the costs are on the device."""
    costs = batch_of_costs(setting, batch, n)[0]
    for name, package, module, solve in (
        ("solve_assignment exact", peers.OWN, peers.OWN, own_exact),
        ("scipy, one by one", "scipy", "scipy.optimize", peers.scipy_loop),
        (
            "torch-linear-assignment",
            "torch-linear-assignment",
            "torch_linear_assignment",
            peers.torch_linear_assignment,
        ),
    ):
        row = {"case": name, "batch": batch, "n": n, "package": package}
        reason = peers.why_missing(module)
        if reason or setting.left < 4:
            yield {**row, "skipped": f"missing ({reason})" if reason else "no time left"}
            continue
        times, _ = setting.clock.host(partial(solve, costs), SECONDS)
        yield {**row, "host_ms": times.median, "host_least_ms": times.least}


def own_exact(costs: Tensor) -> Tensor:
    return solve_assignment(costs, method="exact").index
