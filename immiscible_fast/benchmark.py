"""``python -m immiscible_fast bench``: how fast is it here, against what I use now?"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .assignment import Assignment, solve_assignment
from .pairing import fast_assign

TODAY = "cdist + scipy"
CENTRED = "centred + scipy"
OWN = ("exact", "auction", "sinkhorn")
METHODS = (*OWN, TODAY, CENTRED)
DEFAULT_METHODS = ("exact", "auction", TODAY, CENTRED)
PATIENCE = 20.0  # seconds for the repetitions of one method; it runs at least once
WARM_UP = 32  # images of the call that compiles
ROUNDING = 1e-12  # of a gap, in its unit
BUSY = 1.5  # ratio of median to fastest run that says that other programs ran, too
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
    distance_ms: float  # of the product alone: what any method has to spend
    rows: tuple[Row, ...]
    advice: str


def run(
    n: int = 1024,
    dim: int = 3072,
    device: str = "cpu",
    repeats: int = 7,
    methods: Sequence[str] = DEFAULT_METHODS,
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
        as most training code has it) and "centred + scipy" (the best that SciPy can be given).
    progress : bool
        Show a progress bar on stderr, if ``rich`` is installed.

    Returns
    -------
    Table
        One row for each method, and a line of advice that is computed from the figures.

    Raises
    ------
    ValueError
        If a number is not positive, or a method or device is unknown.

    Examples
    --------
    >>> table = run(n=16, dim=8, repeats=1, methods=["exact", "cdist + scipy"])
    >>> [(row.method, row.gap < 1e-6) for row in table.rows][:1]
    [('exact', True)]
    """
    _check(n, dim, device, repeats, methods)
    x, noise = _images_and_noise(n, dim, torch.device(device))
    times: dict[str, list[float]] = {name: [] for name in methods}
    found: dict[str, Tensor] = {}
    with _progress(progress, 1 + repeats * len(methods)) as step:
        cost = _centred_product(x, noise).cpu()
        distances = _timed(lambda: _centred_product(x, noise), x.device, repeats)
        for name in methods:
            _pair(name, x[:WARM_UP], noise[:WARM_UP])
        step()
        for _ in range(repeats):  # in turn, so that a slow moment of the machine hits all of them
            for name in methods:
                if sum(times[name]) * (1 + 1 / max(len(times[name]), 1)) < PATIENCE:
                    begin = time.perf_counter()
                    found[name] = _pair(name, x, noise)
                    _wait(x.device)
                    times[name].append(time.perf_counter() - begin)
                step()
    best = solve_assignment(cost, method="exact")
    rows = tuple(_row(name, times[name], found[name], cost, best) for name in methods)
    distance_ms = 1e3 * statistics.median(distances)
    advice = _advice(rows, distance_ms)
    return Table(n, dim, device, torch.get_num_threads(), distance_ms, rows, advice)


def render(table: Table) -> str:
    """The table in plain text, with the advice below it."""
    head = ("method", "median", "fastest", "runs", "gap a row", "share of gain", "speed-up")
    today = next((row for row in table.rows if row.method == TODAY), table.rows[-1])
    lines = [head]
    for row in table.rows:
        lines.append(
            (
                row.method,
                f"{row.median_ms:,.2f} ms",
                f"{row.fastest_ms:,.2f} ms",
                str(row.runs),
                f"{row.gap:.1e} sd" if abs(row.gap) > ROUNDING else "0",
                f"{row.share:.3%}",
                f"{today.median_ms / row.median_ms:.2f}x",
            )
        )
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    text = [
        f"n = {table.n}, D = {table.dim}, float32 on {table.device}, "
        f"{table.threads} threads for torch"
    ]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        text.append("  ".join(cells))
    text.append(f"(the distance product alone: {table.distance_ms:,.2f} ms)")
    return "\n".join([*text, "", table.advice])


def main(
    n: int = 1024,
    dim: int = 3072,
    device: str = "cpu",
    repeats: int = 7,
    methods: Sequence[str] = DEFAULT_METHODS,
) -> int:
    """Run, and write the table to stdout; the exit code."""
    sys.stdout.write(render(run(n, dim, device, repeats, methods, progress=True)) + "\n")
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
    kind = device.partition(":")[0]
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("device must be one that torch finds here, got 'cuda', which is not")


def _images_and_noise(n: int, dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Smooth signals, whose energy sits in few directions as that of images does, and noise."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(n, dim, generator=generator)
    walk = torch.randn(n, dim, generator=generator).cumsum_(1)
    return (walk / (2 * dim**0.5)).to(device), noise.to(device)


def _pair(method: str, x: Tensor, noise: Tensor) -> Tensor:
    """Index of the noise of each image by the named method, on the CPU or where ``x`` is."""
    if method in OWN:
        return fast_assign(x, noise, method=method)
    from scipy.optimize import linear_sum_assignment

    distance = torch.cdist(x, noise) if method == TODAY else _centred_product(x, noise)
    columns = linear_sum_assignment(distance.cpu().numpy())[1]
    return torch.from_numpy(columns).to(x.device)


def _centred_product(x: Tensor, noise: Tensor) -> Tensor:
    """Squared distances less their row and column means."""
    return (x - x.mean(0)).mul_(-2) @ (noise - noise.mean(0)).T


def _timed(call: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        _wait(device)
        seconds.append(time.perf_counter() - begin)
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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


def _advice(rows: Sequence[Row], distance_ms: float) -> str:
    by_name = {row.method: row for row in rows}
    ours = [row for row in rows if row.ours]
    theirs = [row for row in rows if not row.ours]
    if not ours or not theirs:
        return "Name at least one of our methods and one of SciPy's for a comparison."
    exact = by_name.get("exact", min(ours, key=lambda row: row.median_ms))
    now = by_name.get(TODAY, theirs[0])
    best_now = min(theirs, key=lambda row: row.median_ms)
    ratio = now.median_ms / exact.median_ms
    if best_now.median_ms < exact.median_ms:
        return (
            f"Keep {best_now.method} for this size: it takes {best_now.median_ms:.2f} ms here, "
            f'method="{exact.method}" {exact.median_ms:.2f} ms.'
        )
    proof = ", proven optimal" if exact.method == "exact" else f", {exact.share:.2%} of the gain"
    text = (
        f'Use method="{exact.method}": {exact.median_ms:.2f} ms a batch{proof}, {ratio:.1f} times '
        f"faster than {now.method}."
    )
    near = by_name.get("auction")
    if near is not None and exact is not near and exact.median_ms > WORTH_IT * near.median_ms:
        text += f' method="auction" takes {near.median_ms:.2f} ms for {near.share:.2%} of the gain.'
    part = min(distance_ms / exact.median_ms, 1.0)
    if part > 0.5:
        text += f" {part:.0%} of the call is the distance product, not the assignment."
    if any(row.median_ms > BUSY * row.fastest_ms for row in rows if row.runs > 1):
        text += " The runs differ a lot, as on a busy machine: repeat this on an idle one."
    return text


@contextmanager
def _progress(wanted: bool, steps: int) -> Iterator[Callable[[], None]]:
    """A function to call after each step; it moves a bar on stderr if there can be one."""
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        wanted = False
    if not wanted:
        yield lambda: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("measuring", total=steps)
        yield lambda: bar.advance(task)
