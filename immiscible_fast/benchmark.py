"""``python -m immiscible_fast bench``: how fast is it here, against what I use now?"""

from __future__ import annotations

import importlib
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .api.fast_assign import fast_assign
from .api.solve_assignment import solve_assignment
from .choices import PEERS, Method
from .progress import shown_steps
from .types import Assignment

TODAY = "cdist + scipy"
CENTRED = "centred + scipy"
OWN: tuple[Method, ...] = ("exact", "auction", "sinkhorn")
METHODS = (*OWN, TODAY, CENTRED, *PEERS)
DEFAULT_METHODS = ("exact", "auction", TODAY, CENTRED)
PRODUCT = "distance product"  # timed in turn with the methods
PATIENCE = 20.0  # seconds for the repetitions of one method; it runs at least once
WARM_UP, FEW = 32, 512  # images of calls that compile, and that foretell the time of more
LONG = 5.0  # seconds of other people's methods that are worth a word beforehand
SLOW = 0.5  # seconds from which a method is named then
INPUTS = 4  # of (n, dim) floats that are held at a time: images, noise, and a copy of both
MATRICES, POT_MATRICES = 4, 14  # of (n, n) floats: SciPy copies to float64, POT lists all edges
POT_PIVOTS = 10_000_000  # POT's default of 100,000 ends too early from about 2000 images
ROUNDING = 1e-12  # of a gap, in its unit
BUSY = 1.5  # ratio of median to fastest run that says that other programs ran, too
TIE = 1.1  # ratio of two times up to which they are about the same
WORTH_IT = 1.2  # ratio from which the near-optimal method is worth mentioning


@dataclass(frozen=True)
class Row:
    """What one method took, and how good its answer is."""

    method: str
    ours: bool
    median_ms: float  # from images and noise to the index
    fastest_ms: float
    runs: int
    gap: float  # (cost - lower bound) / n, in standard deviations of the centred costs
    share: float  # of the gain of the optimal assignment over none


@dataclass(frozen=True)
class Table:
    """Answer of ``run``."""

    n: int
    dim: int
    device: str
    threads: int
    distance_ms: float  # of x @ noise.T: what any method with float32 distances has to spend
    rows: tuple[Row, ...]
    advice: str


def run(
    n: int = 1024,
    dim: int = 3072,
    device: str = "cpu",
    repeats: int = 7,
    methods: Sequence[str] | None = None,
    progress: bool = False,
) -> Table:
    """Time distances and assignment of ``n`` made-up images and noises of ``dim`` numbers.

    Parameters
    ----------
    n, dim : int
        Your batch size, and the numbers in one image or latent (3072 is 3 x 32 x 32).
    device : str
        Where images and noise are, such as "cpu" or "cuda".
    repeats : int
        Runs of each method, fewer if they take long; the median counts.
    methods : sequence of str
        Of "exact", "auction", "sinkhorn" (``fast_assign``), "cdist + scipy" (Euclidean distances,
        as most training code has it), "centred + scipy" (the best that SciPy can be given), and,
        if installed, "lapjv", "lapx" and "pot" (the same costs solved by these packages) and
        "torchcfm" (its ``OTPlanSampler``). Without it, ``default_methods(device)``.
    progress : bool
        Say on stderr what will take long and, if that is a terminal, what is being measured.

    Returns
    -------
    Table
        One row for each method, and a line of advice that is computed from the figures.

    Raises
    ------
    ValueError
        If a number is not positive or the problem does not fit into memory, or if a method or
        device is unknown or not to be had here.

    Examples
    --------
    >>> table = run(n=16, dim=8, repeats=1, methods=["exact", "cdist + scipy"])
    >>> [(row.method, row.gap < 1e-6) for row in table.rows][:1]
    [('exact', True)]
    """
    methods = default_methods(device) if methods is None else tuple(dict.fromkeys(methods))
    _check(n, dim, device, repeats, methods)
    x, noise = _images_and_noise(n, dim, torch.device(device))
    calls: dict[str, Callable[[], Tensor]] = {PRODUCT: lambda: x @ noise.T}
    calls.update({name: partial(_pair, name, x, noise) for name in methods})
    times: dict[str, list[float]] = {name: [] for name in calls}
    found: dict[str, Tensor] = {}
    calls[PRODUCT]()  # starts torch's threads
    with shown_steps(len(methods), progress) as step:
        for name in methods:
            step(f"warming up: {name}")
            _pair(name, x[:WARM_UP], noise[:WARM_UP])
    if progress:
        sys.stderr.write(_warning(methods, x, noise, repeats))
    with shown_steps(repeats * len(calls), progress) as step:
        # In turn, so that a slow moment of the machine hits all of them.
        for k, name in product(range(repeats), calls):
            step(f"round {k + 1} of {repeats}: {name}")
            if sum(times[name]) * (1 + 1 / max(len(times[name]), 1)) < PATIENCE:
                begin = time.perf_counter()
                found[name] = calls[name]()
                _wait(x.device)
                times[name].append(time.perf_counter() - begin)
    cost = _centred(found[PRODUCT].cpu())
    best = solve_assignment(cost, method="exact")
    rows = tuple(_row(name, times[name], found[name], cost, best) for name in methods)
    product_ms = 1e3 * statistics.median(times[PRODUCT])
    advice = _advice(rows, product_ms)
    return Table(n, dim, device, torch.get_num_threads(), product_ms, rows, advice)


def default_methods(device: str) -> tuple[str, ...]:
    """What is measured unless methods are named: on a GPU also "sinkhorn", its default."""
    return METHODS[: len(OWN) + 2] if device.startswith("cuda") else DEFAULT_METHODS


def render(table: Table) -> str:
    """The table in plain text, with the advice below it."""
    today = _baseline(table.rows)
    head = ["method", "median", "fastest", "runs", "gap a row", "share of gain"]
    lines = [[*head, f"speed-up over {today.method}"]]
    for row in table.rows:
        times = [f"{row.median_ms:,.2f} ms", f"{row.fastest_ms:,.2f} ms", str(row.runs)]
        gap = f"{row.gap:.1e} sd" if abs(row.gap) > ROUNDING else "0"
        speed_up = f"{today.median_ms / row.median_ms:.2f}x"
        lines.append([row.method, *times, gap, f"{row.share:.3%}", speed_up])
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    text = [
        f"n = {table.n}, D = {table.dim}, float32 on {table.device}, "
        f"{table.threads} threads for torch"
    ]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        text.append("  ".join(cells))
    text.append(f"(the plain product x @ noise.T alone: {table.distance_ms:,.2f} ms)")
    return "\n".join([*text, "", table.advice])


def main(**options: Any) -> int:
    """Run with the options of ``run``, and write the table to stdout; the exit code."""
    sys.stdout.write(render(run(**options, progress=True)) + "\n")
    return 0


def _check(n: int, dim: int, device: str, repeats: int, methods: Sequence[str]) -> None:
    for name, value in (("n", n), ("dim", dim), ("repeats", repeats)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not methods:
        raise ValueError("methods must name at least one method, got none")
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"methods must be of {', '.join(METHODS)}, got {method!r}")
        if method in PEERS:
            _check_installed(method)
    _check_device(device)
    matrices = POT_MATRICES if {"pot", "torchcfm"} & {*methods} else MATRICES
    _check_memory(n, dim, 4 * (INPUTS * n * dim + matrices * n * n), torch.device(device))


def _check_installed(method: str) -> None:
    try:
        _peer(method)
    except Exception as error:  # a broken package may raise anything
        package, reason = PEERS[method][0], f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(
            f"methods must be installed, got {method!r}: pip install {package} ({reason})"
        ) from error


def _check_device(device: str) -> None:
    try:
        torch.ones(1, device=device).cpu()
    except Exception as error:  # every kind of device has errors of its own
        kinds = {"cuda": torch.cuda, "mps": torch.backends.mps}
        here = ", ".join(["cpu", *(kind for kind in kinds if kinds[kind].is_available())])
        wanted = f"one that torch can use here ({here})"
        raise ValueError(f"device must be {wanted}, got {device!r}") from error


def _check_memory(n: int, dim: int, need: int, device: torch.device) -> None:
    for place in (torch.device("cpu"), device):  # answers are judged on the CPU
        free = _free_bytes(place)
        if need > free:
            raise ValueError(
                f"n and dim must fit into memory, got n = {n} and dim = {dim}, which take about "
                f"{need / 2**30:,.1f} GiB where {free / 2**30:,.1f} GiB are free ({place})"
            )


def _free_bytes(device: torch.device) -> float:
    """Bytes that can be had on the device, inf if nothing tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if device.type == "cpu" and meminfo.exists():
        words = meminfo.read_text().split()
        return 1024 * int(words[words.index("MemAvailable:") + 1])
    if device.type == "cpu" and hasattr(os, "sysconf"):  # not on Windows
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return math.inf


def _images_and_noise(n: int, dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Smooth signals, whose energy sits in few directions as that of images does, and noise."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(n, dim, generator=generator)
    walk = torch.randn(n, dim, generator=generator).cumsum_(1)
    return walk.div_(2 * dim**0.5).to(device), noise.to(device)


def _pair(method: str, x: Tensor, noise: Tensor) -> Tensor:
    """Index of the noise of each image by the named method, on the CPU or where ``x`` is."""
    if method in OWN:
        return fast_assign(x, noise, method=method)
    if method == "torchcfm":
        return torch.from_numpy(_sampled(x, noise)).to(x.device)
    index = _solve(method, _cost(method, x, noise))
    return torch.from_numpy(np.asarray(index, dtype=np.int64)).to(x.device)


def _cost(method: str, x: Tensor, noise: Tensor) -> Tensor:
    return torch.cdist(x, noise) if method == TODAY else _centred(x @ noise.T)


def _solve(method: str, cost: Tensor) -> Any:
    """Column of each row by SciPy, or by the package that is named."""
    matrix = cost.cpu().numpy()
    if method not in PEERS:
        from scipy.optimize import linear_sum_assignment

        return linear_sum_assignment(matrix)[1]
    function = _peer(method)
    if method == "lapjv":
        return function(matrix)[0]
    if method == "lapx":
        return function(matrix, return_cost=False)[1]
    weight = np.full(len(matrix), 1 / len(matrix))
    return function(weight, weight, matrix, numItermax=POT_PIVOTS).argmax(1)


def _sampled(x: Tensor, noise: Tensor) -> Any:
    """torchcfm's plan and its draw of pairs; judged by the plan, the better of the two."""
    sampler = _peer("torchcfm")(method="exact")
    plan = sampler.get_map(x, noise)
    sampler.sample_map(plan, len(plan))
    return plan.argmax(1)


def _peer(method: str) -> Any:
    _, module, name = PEERS[method]
    return getattr(importlib.import_module(module), name)


def _centred(product: Tensor) -> Tensor:
    """Squared distances less constants of rows and columns, which change no assignment."""
    cost = product.mul_(-2)
    cost -= cost.mean(0)
    cost -= cost.mean(1, keepdim=True)
    return cost


def _foretold(method: str, x: Tensor, noise: Tensor) -> float:
    """Seconds of one call: the least that fewer images take, grown by n^3."""
    few, few_noise = x[:FEW], noise[:FEW]
    cost = _cost(method, few, few_noise)
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        _sampled(few, few_noise) if method == "torchcfm" else _solve(method, cost)
        seconds.append(time.perf_counter() - begin)
    return float(min(seconds) * (len(x) / FEW) ** 3)


def _warning(methods: Sequence[str], x: Tensor, noise: Tensor, repeats: int) -> str:
    """What other people's methods will take, and how to leave out the slow ones, if it is long."""
    if len(x) <= FEW:
        return ""
    one = {name: _foretold(name, x, noise) for name in methods if name not in OWN}
    total = {name: max(second, min(repeats * second, PATIENCE)) for name, second in one.items()}
    slow = {name: f"{name} {one[name]:.1f} s a run" for name in one if total[name] >= SLOW}
    if sum(total.values()) < LONG:
        return ""
    text = f"Expect to wait up to about {sum(total.values()):.0f} s: {', '.join(slow.values())}.\n"
    rest = " ".join(name.replace(" ", "") for name in methods if name not in slow)
    return text + (f"To leave that out: --methods {rest}\n" if rest else "")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _row(method: str, seconds: list[float], index: Tensor, cost: Tensor, best: Assignment) -> Row:
    """Judge an answer against the optimum, and against the bound that proves it."""
    n = len(cost)
    paid = float(cost[torch.arange(n), index.cpu()].sum(dtype=torch.float64))
    none = float(cost.diagonal().sum(dtype=torch.float64))
    gain = none - float(best.cost)
    unit = n * float(np.std(cost.numpy(), dtype=np.float64))
    return Row(
        method=method,
        ours=method in OWN,
        median_ms=1e3 * statistics.median(seconds),
        fastest_ms=1e3 * min(seconds),
        runs=len(seconds),
        gap=(paid - float(best.lower_bound)) / unit if unit > 0 else 0.0,
        share=(none - paid) / gain if gain > 0 else 1.0,
    )


def _baseline(rows: Sequence[Row]) -> Row:
    """What the others are compared with: today's way, else the first that is not ours."""
    return min(rows, key=lambda row: (row.method != TODAY, row.ours))


def _advice(rows: Sequence[Row], distance_ms: float) -> str:
    quick, best_now = (
        min((row for row in rows if row.ours is ours), key=lambda row: row.median_ms, default=None)
        for ours in (True, False)
    )
    if quick is None or best_now is None:
        return "Name at least one of our methods and one of other packages for a comparison."
    exact = next((row for row in rows if row.method == "exact"), quick)
    now = _baseline(rows)
    if TIE * best_now.median_ms < exact.median_ms:
        text = (
            f"Keep {best_now.method} for this size: it takes {best_now.median_ms:.2f} ms here, "
            f'method="{exact.method}" {exact.median_ms:.2f} ms.'
        )
    else:
        proof = "proven optimal" if exact.method == "exact" else f"{exact.share:.2%} of the gain"
        ratios = []
        for row in dict.fromkeys((now, best_now)):
            ratio = row.median_ms / exact.median_ms
            words = f"{ratio:.1f} times faster than" if ratio > TIE else "about as fast as"
            ratios.append(f"{words} {row.method}")
        text = (
            f'Use method="{exact.method}": {exact.median_ms:.2f} ms a batch, {proof}, '
            f"{' and '.join(ratios)}."
        )
    if min(exact.median_ms, best_now.median_ms) > WORTH_IT * quick.median_ms:
        text += (
            f' method="{quick.method}" takes {quick.median_ms:.2f} ms '
            f"for {quick.share:.2%} of the gain."
        )
    part = distance_ms / exact.median_ms
    if 0.5 < part <= 1:
        text += f" {part:.0%} of the call is the distance product, not the assignment."
    if any(row.median_ms > BUSY * row.fastest_ms for row in rows if row.runs > 1):
        text += " The runs differ a lot, as on a busy machine: repeat this on an idle one."
    return text
