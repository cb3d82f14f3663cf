"""Rectangles and batches of them, beside every exact peer that takes them; the next bad family.

    python -m bench.shapes                      # families by shape, both orientations and types
    python -m bench.shapes --before ../older    # and an older checkout of ours, in the same turns
    python -m bench.shapes --climb 10           # minutes of search for what we are worst at

All get the same matrix, by ``linear_sum_assignment`` of an array, in turns of random order; one
that takes over ``SLOW`` seconds is timed once. A peer counts only where its answer has the optimal
cost. The ratio is our median over that of the fastest correct peer: below 1 we are faster.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import checks
import families

from . import record, tables

NAMES = ("uniform", "boxes", "sparse_gates", "images_and_noise", "one_over_f", "exponential_rows",
         "sparse_hub", "two_valued", "small_integers")  # fmt: skip
SIZES = (50, 200, 1000, 4000, 10_000)  # n + m
SHARES = (0.01, 0.1, 1 / 3, 2 / 3, 0.9, 0.99)  # n / m
DTYPES = ("float32", "float64")
BATCHES = ((64, 100, 5), (64, 100, 10), (64, 100, 20), (64, 100, 40), (64, 300, 20))
ROUNDS, SLOW, SECONDS = 15, 0.5, 2.0  # of one solver on one matrix, at most
TARGET = 1.1
Solver = Callable[[Any], Any]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.shapes", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--families", nargs="+", default=list(NAMES), metavar="NAME")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="n + m")
    parser.add_argument("--before", type=Path, help="an older checkout, timed in the same turns")
    parser.add_argument("--climb", type=float, default=0, metavar="MINUTES")
    parser.add_argument("--seed", type=int, default=0, help="of the climb")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "shapes")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    solvers = contenders()
    if options.climb:
        rows = climb(solvers, options.seed, options.climb)
    else:
        if options.before:
            solvers["before"] = Older(options.before)
        rows = []
        for case in cases(options.families, options.sizes):
            rows.append(side_by_side(solvers, *case))
            print(line(rows[-1]), flush=True)
    print(summary(rows))
    if not options.climb:
        print(markdown({"rows": rows}))
        print(sentence({"rows": rows}))
    kind = {"climb": options.climb} if options.climb else {}
    print(record.save(options.out, record.device_facts("cpu", 1), target=TARGET, rows=rows, **kind))
    return 0


def one_over_f(rng: np.random.Generator, n: int, m: int) -> Any:
    """Images whose spectrum falls as that of photographs, against noise."""
    frequency = np.fft.fftfreq(16)
    falls = 1 / np.maximum(np.hypot(frequency[:, None], frequency), 1 / 16)
    images = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, 16, 16))) * falls).real
    return -images.reshape(n, -1) @ rng.normal(size=(256, m))


def make(family: str, seed: int, n: int, m: int, dtype: str) -> Any:
    maker = families.FAMILIES | {"one_over_f": one_over_f}
    return np.ascontiguousarray(maker[family](np.random.default_rng(seed), n, m), dtype)


def cases(names: list[str], sizes: list[int]) -> Any:
    for family in names:
        for size in sizes:
            for share in SHARES:
                short = max(1, round(size * share / (1 + share)))
                m = size - short
                for dtype in DTYPES:
                    yield family, make(family, size, short, m, dtype)
                    yield family, make(family, size, m, short, dtype)
        if family in ("boxes", "uniform"):
            for batch, n, m in BATCHES:
                costs = [make(family, k, n, m, "float32") for k in range(batch)]
                yield family, np.stack(costs)


def contenders() -> dict[str, Solver]:
    """(rows, columns) of one matrix."""
    from scipy.optimize import linear_sum_assignment as scipy

    from immiscible_fast import linear_sum_assignment

    found: dict[str, Solver] = {"ours": linear_sum_assignment, "scipy": scipy}
    try:
        import lap

        for name in ("lapjvr", "lapjvs", "lapjvh"):
            call = getattr(lap, name)
            found[f"lapx {name}"] = partial(call, extend_cost=True, return_cost=False)
        found["lapx lapjv"] = lambda cost: lap.lapjv(cost, extend_cost=True, return_cost=False)[0]
    except ImportError:
        pass
    try:
        import lapcpp

        found["lapcpp"] = lambda cost: lapcpp.lapjv(cost, return_cost=False)
    except ImportError:
        pass
    return found


def batched(cost: Any) -> dict[str, Solver]:
    """Of a batch: one call of ours, and a loop over SciPy."""
    import torch
    from scipy.optimize import linear_sum_assignment as scipy

    from immiscible_fast import batch_linear_assignment

    return {
        "ours": lambda costs: batch_linear_assignment(torch.from_numpy(costs)).numpy(),
        "scipy": lambda costs: [scipy(one) for one in costs],
    }


def column_of(answer: Any, n: int) -> Any:
    """The column of each row, -1 for none."""
    if isinstance(answer, np.ndarray) and answer.ndim == 1:
        return answer.astype(np.int64)
    index = np.full(n, -1, np.int64)
    index[np.asarray(answer[0])] = answer[1]
    return index


def is_right(cost: Any, answer: Any, best: float) -> bool:
    try:
        index = column_of(answer, len(cost))
        checks.assert_matching(index, *cost.shape)
    except (AssertionError, IndexError, ValueError, TypeError):
        return False
    own = 4 * float(np.finfo(cost.dtype).eps) * abs(best)  # of those who add up in this type
    return abs(checks.total(cost, index) - best) <= max(checks.rounding(cost), own)


def side_by_side(
    solvers: dict[str, Solver], family: str, cost: Any, budget: float = SECONDS
) -> dict[str, Any]:
    """Median milliseconds of every correct solver on one matrix, or one batch, in turns."""
    if cost.ndim == 3:
        solvers, wrong = batched(cost), []
    else:
        solvers, wrong = dict(solvers), []
        best = checks.optimum(cost)
    seconds: dict[str, list[float]] = {}
    for name, solve in list(solvers.items()):
        begin = time.perf_counter()
        try:
            answer = solve(cost)
        except Exception:
            answer = None
        taken = time.perf_counter() - begin
        if name in ("ours", "before"):  # which may have had to be compiled
            begin = time.perf_counter()
            solve(cost)
            taken = time.perf_counter() - begin
        if cost.ndim == 2 and not is_right(cost, answer, best):
            wrong.append(name)
            del solvers[name]
            continue
        seconds[name] = [taken]
    quick = min(times[0] for times in seconds.values())
    limit = min(SLOW, 30 * quick)
    turns = [name for name, times in seconds.items() if times[0] < limit]
    turns += ["ours"] * ("ours" not in turns and seconds.get("ours", [SLOW])[0] < SLOW)
    rounds = max(3, min(ROUNDS, int(budget / max(quick, 1e-6)) // 4))
    order = random.Random(0)
    for turn in range(rounds):
        order.shuffle(turns)
        for name in turns:
            begin = time.perf_counter()
            solvers[name](cost)
            if turn == 0:  # the first call of all may have had to wait for something
                seconds[name].clear()
            taken = time.perf_counter() - begin
            seconds[name].append(getattr(solvers[name], "seconds", taken))
    ms = {name: float(f"{1e3 * statistics.median(t):.4g}") for name, t in seconds.items()}
    peer = min((name for name in ms if name not in ("ours", "before")), key=ms.__getitem__)
    row = {"family": family, "shape": list(cost.shape), "dtype": str(cost.dtype), "ms": ms}
    row |= {"fastest_peer": peer, "wrong": wrong}
    return row | {"ratio": float(f"{ms['ours'] / ms[peer]:.3g}") if "ours" in ms else math.inf}


def line(row: dict[str, Any]) -> str:
    shape, ms, peer = "x".join(map(str, row["shape"])), row["ms"], row["fastest_peer"]
    own = f"ours {ms.get('ours', math.nan):g} ms"
    own += f" (before {ms['before']:g})" if "before" in ms else ""
    case = f"{row['family']:18} {shape:12} {row['dtype']:8}"
    return f"{case} {own}, {peer} {ms[peer]:g}: {row['ratio']:g}"


def summary(rows: list[dict[str, Any]]) -> str:
    """The ratios of all, and the worst ten."""
    ratios = sorted(row["ratio"] for row in rows)
    over = sum(ratio > TARGET for ratio in ratios)
    worst = sorted(rows, key=lambda row: -row["ratio"])[:10]
    head = (
        f"{len(rows)} cases: median {statistics.median(ratios):.2f}, over {TARGET}: {over}; worst:"
    )
    return "\n".join([head, *map(line, worst)])


def markdown(result: dict[str, Any]) -> str:
    """Median and worst ratio by family and n + m, and batches, below 1 we are faster."""
    cells: dict[tuple[str, Any], list[float]] = {}
    for row in result["rows"]:
        size = sum(row["shape"]) if len(row["shape"]) == 2 else "batches"
        cells.setdefault((row["family"], size), []).append(row["ratio"])
    sizes = sorted({size for _, size in cells if size != "batches"})
    columns = [*sizes, "batches"]
    head = ["costs", *(f"n + m = {size:,}" for size in sizes), "64 small ones at once"]
    lines = []
    for family in dict.fromkeys(family for family, _ in cells):
        texts = []
        for size in columns:
            ratios = cells.get((family, size), [])
            text = f"{statistics.median(ratios):.2f} ({max(ratios):.2f})" if ratios else "-"
            texts.append(f"**{text}**" if ratios and statistics.median(ratios) > TARGET else text)
        lines.append([family.replace("_", " "), *texts])
    return tables.markdown(head, lines)


def sentence(result: dict[str, Any]) -> str:
    """How often a peer is faster, for README."""
    parts = []
    single = [row for row in result["rows"] if len(row["shape"]) == 2]
    for least, most in ((0, 100), (101, 500), (501, math.inf)):
        ratios = [row["ratio"] for row in single if least <= sum(row["shape"]) <= most]
        if ratios:
            over = sum(ratio > TARGET for ratio in ratios)
            size = f"n + m up to {most}" if most < math.inf else f"n + m from {least}"
            parts.append(f"{over} of {len(ratios)} with {size} (worst: {max(ratios):.1f}x)")
    return f"over {TARGET} times as long as the fastest peer in {', '.join(parts)}"


# What is older, in a process of its own.


class Older:
    """``linear_sum_assignment`` of another checkout, in a process of its own, which times it."""

    def __init__(self, checkout: Path):
        context = multiprocessing.get_context("spawn")
        self.pipe, child = context.Pipe()
        context.Process(target=_serve, args=(str(checkout.resolve()), child), daemon=True).start()
        self.cost: Any = None
        self.seconds = 0.0  # of the last call

    def __call__(self, cost: Any) -> Any:
        self.pipe.send(None if cost is self.cost else cost)
        self.cost = cost
        self.seconds, answer = self.pipe.recv()
        return answer


def _serve(checkout: str, pipe: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "immiscible_fast"
        shutil.copytree(f"{checkout}/immiscible_fast", package)
        shutil.copytree(f"{checkout}/kernels", package / "kernels")
        sys.path.insert(0, folder)
        for name in [name for name in sys.modules if name.startswith("immiscible_fast")]:
            del sys.modules[name]  # of this checkout, through the families
        from immiscible_fast import linear_sum_assignment

        assert Path(folder) in Path(linear_sum_assignment.__code__.co_filename).parents
        cost = None
        while True:
            sent = pipe.recv()
            cost = cost if sent is None else sent
            begin = time.perf_counter()
            answer = linear_sum_assignment(cost)
            pipe.send((time.perf_counter() - begin, answer))


# The search for what we are worst at.

SHAPERS: dict[str, Callable[[Any, np.random.Generator], Any]] = {
    "scale rows": lambda c, rng: c * np.exp(rng.uniform(0, 8) * rng.random((len(c), 1))),
    "scale columns": lambda c, rng: c * np.exp(rng.uniform(0, 8) * rng.random(c.shape[1])),
    "add to columns": lambda c, rng: c + rng.uniform(0, 10) * c.std() * rng.random(c.shape[1]),
    "add to rows": lambda c, rng: c + rng.uniform(0, 10) * c.std() * rng.random((len(c), 1)),
    "round": lambda c, rng: np.round(c / c.std() * rng.uniform(1, 30)),
    "power": lambda c, rng: (c - c.min()) ** rng.uniform(0.2, 4),
    "repeat rows": lambda c, rng: c[rng.integers(0, max(1, len(c) // 4), len(c))],
    "repeat columns": lambda c, rng: c[:, rng.integers(0, max(1, c.shape[1] // 3), c.shape[1])],
    "hub": lambda c, rng: np.where(np.arange(c.shape[1]) < 1 + c.shape[1] // 50, c.min(), c),
    "sort columns": lambda c, rng: np.sort(c, 1),
    "add i j": lambda c, rng: c + c.std() * np.outer(
        np.linspace(0, 3, len(c)), np.linspace(0, 3, c.shape[1])) ** rng.uniform(0.5, 3),
}  # fmt: skip
CLIMBED = (
    "uniform",
    "boxes",
    "images_and_noise",
    "line",
    "plane",
    "hubs",
    "low_rank",
    "sparse_hub",
)
Genome = dict[str, Any]


def grown(genome: Genome) -> Any:
    """The matrix that a genome describes; forbidden pairs stay forbidden."""
    cost = make(genome["family"], genome["seed"], genome["n"], genome["m"], "float64")
    forbidden = np.isinf(cost)
    cost[forbidden] = 0
    for k, name in enumerate(genome["shapers"]):
        cost = SHAPERS[name](cost, np.random.default_rng([genome["seed"], k]))
    return np.ascontiguousarray(np.where(forbidden, np.inf, cost), genome["dtype"])


def changed(genome: Genome, rng: np.random.Generator) -> Genome:
    """A neighbour: another shape, family, type or seed, or one shaper more or less."""
    new = genome | {"shapers": list(genome["shapers"]), "seed": int(rng.integers(2**31))}
    what = rng.integers(6)
    if what == 0:
        new["family"] = str(rng.choice(CLIMBED))
    elif what == 1:
        new["dtype"] = str(rng.choice(DTYPES))
    elif what == 2:
        size, share = int(np.exp(rng.uniform(np.log(600), np.log(2600)))), rng.uniform(0.02, 1)
        new["n"], new["m"] = max(2, int(size * share)), size
        if rng.random() < 0.5:
            new["n"], new["m"] = new["m"], new["n"]
    elif what == 3 and new["shapers"]:
        del new["shapers"][rng.integers(len(new["shapers"]))]
    else:
        new["shapers"].insert(rng.integers(len(new["shapers"]) + 1), str(rng.choice(list(SHAPERS))))
    return new


def climb(solvers: dict[str, Solver], seed: int, minutes: float) -> list[dict[str, Any]]:
    """Hill-climbing with restarts on our ratio to the fastest peer; the summits."""
    rng = np.random.default_rng(seed)
    end = time.monotonic() + 60 * minutes
    summits: list[dict[str, Any]] = []
    while time.monotonic() < end:
        genome: Genome = {"family": str(rng.choice(CLIMBED)), "n": 500, "m": 1000, "seed": 0,
                          "dtype": "float64", "shapers": []}  # fmt: skip
        best: dict[str, Any] = {"ratio": 0.0}
        stale = 0
        while stale < 12 and time.monotonic() < end:
            tried = changed(genome, rng)
            cost = grown(tried)
            try:
                checks.optimum(cost)
            except ValueError:
                continue
            name = " + ".join([tried["family"], *tried["shapers"]])
            row = side_by_side(solvers, name, cost, 0.1) | {"genome": tried}
            stale += 1
            if row["ratio"] > best["ratio"]:
                genome, best, stale = tried, row, 0
                print(line(row), flush=True)
        if "genome" in best:
            summits.append(best)
    return sorted(summits, key=lambda row: -row["ratio"])[:20]


if __name__ == "__main__":
    raise SystemExit(main())
