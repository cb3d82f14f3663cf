"""Assignment without the cost matrix: time and memory against n, beside what people use now.

    python -m bench.streaming                              # up to n = 65,536; half an hour
    python -m bench.streaming --n 1024 4096 --families digits

D = 64: ``digits``, scikit-learn's with slight noise of their own, and ``patches``, 8 x 8 of
photographs. Every case runs in a process of its own. POT and ott-jax (``pip install -e
".[bench,bench-ott]"``) take part where they are installed. ``share`` is that of the gain which the
lower bound of the streamed answer leaves, so that no answer can be better than 100 %. Mini-batches
of b are assigned exactly, in a row, in the order in which they come. Writes a record to
bench/results/streaming/.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from immiscible_fast import fast_assign
from immiscible_fast.streaming import backend as streaming

from . import memory, peers, problems, record, tables

SIZE = 8  # a picture is 8 x 8
BATCHES = (256, 1024, 4096)
POT, OTT = "POT sinkhorn 0.1", "ott-jax sinkhorn 0.1"
NEEDS = {POT: "ot", OTT: "ott"}  # modules
LARGEST = {"exact": 16384, POT: 4096, OTT: 16384}  # n; beyond, the matrices do not fit here
OTT_ROWS, OTT_UPDATES = 1024, 300  # costs of so many rows are computed at a time
SEVERAL = 100.0  # seconds below which a case is measured three times


def digits(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Digits drawn with replacement, each with a little noise of its own."""
    every = problems.digits(rng, problems.DIGITS)[:, 0]
    chosen = every[rng.integers(len(every), size=n)]
    return chosen + np.float32(0.1) * rng.standard_normal(chosen.shape, dtype=np.float32)


def patches(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Grey patches of scikit-learn's two photographs: few directions hold nearly all variance."""
    large = problems.photo(rng, -(-n // 16)).mean(1)
    some = large.reshape(-1, 4, SIZE, 4, SIZE).transpose(0, 1, 3, 2, 4)
    flat = np.ascontiguousarray(some.reshape(-1, SIZE, SIZE))
    return flat[rng.permutation(len(flat))[:n]]


FAMILIES: dict[str, Callable[[np.random.Generator, int], NDArray[np.float32]]] = {
    "digits": digits,
    "patches": patches,
}


def samples(family: str, n: int) -> tuple[Tensor, Tensor]:
    images = FAMILIES[family](np.random.default_rng([0, n]), n).reshape(n, -1)
    noise = np.random.default_rng([1, n]).standard_normal(images.shape, dtype=np.float32)
    return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(noise)


def in_batches(size: int, x: Tensor, noise: Tensor) -> Tensor:
    parts = range(0, len(x), size)
    index = [fast_assign(x[k : k + size], noise[k : k + size], method="exact") + k for k in parts]
    return torch.cat(index)


def by_pot(x: Tensor, noise: Tensor) -> Tensor:
    cost = -2 * (x - x.mean(0)) @ noise.T
    return torch.from_numpy(peers.pot_sinkhorn(0.1, 300, cost))


def by_ott(x: Tensor, noise: Tensor) -> Tensor:
    """Sinkhorn without a stored matrix; only to be rounded the plan is stored, in float32."""
    import jax
    from ott.geometry.pointcloud import PointCloud
    from ott.solvers import linear

    square = (noise * noise).sum(1) - 2 * x @ noise.T
    eps = 0.1 * float((square - square.mean(0) - square.mean(1, keepdim=True)).std())
    points = (jax.numpy.asarray(z.numpy()) for z in (x, noise))
    solver = jax.jit(partial(linear.solve, max_iterations=OTT_UPDATES))
    found = solver(PointCloud(*points, epsilon=eps, batch_size=min(OTT_ROWS, len(x))))
    potential = torch.from_numpy(np.array(found.g))
    plan = square.sub_(potential).mul_(-1 / eps).softmax(1)
    return torch.from_numpy(peers.round_plan(plan.numpy()))


def methods(n: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    every: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "exact": partial(fast_assign, method="exact"),
        POT: by_pot,
        OTT: by_ott,
        **{f"batches of {b}": partial(in_batches, b) for b in BATCHES if b < n},
    }
    missing = {name for name, module in NEEDS.items() if not importlib.util.find_spec(module)}
    return {
        name: call
        for name, call in every.items()
        if n <= LARGEST.get(name, n) and name not in missing
    }


def measure(name: str, family: str, n: int) -> dict[str, Any]:
    """One method in this process: seconds, memory and cost (of squared distances)."""
    x, noise = samples(family, n)
    torch.set_num_threads(min(2, torch.get_num_threads()))
    result: dict[str, Any] = {"family": family, "n": n, "dim": x.shape[1], "method": name}
    call = methods(n).get(name)
    small = x[:512], noise[:512]
    if call is None:
        streaming.solve(*small, "sqeuclidean", 0.01)  # compiles
    else:
        call(*small)
    before = memory.start_of_peak()
    runs = []
    while not runs or (len(runs) < 3 and runs[0][0] < SEVERAL / 10):
        begin, processor = time.perf_counter(), processor_seconds()
        if call is None:
            answer = streaming.solve(x, noise, "sqeuclidean", 0.01)
            index = torch.from_numpy(answer.index)
        else:
            index = call(x, noise)
        runs.append((time.perf_counter() - begin, processor_seconds() - processor))
    seconds, processor = min(runs)
    result["seconds"], result["processor_seconds"] = round(seconds, 3), round(processor, 3)
    result["peak_mib"] = round((memory.peak() - before) / 2**20, 1)
    result["cost"] = float((x - noise[index]).square().sum(dtype=torch.float64))
    if call is None:
        result["drawn"] = float((x - noise).square().sum(dtype=torch.float64))
        result["gap"] = answer.gap
        result["gap_in_sd_a_row"] = round(answer.gap / n / answer.deviation, 6)
        result["passes"], result["bids_a_row"] = round(answer.passes, 2), answer.bids / n
    return result


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def compare(family: str, n: int) -> list[dict[str, Any]]:
    """All methods on one problem, ours first, with their shares of the gain."""
    rows = [
        memory.in_fresh_process("bench.streaming", name, family, n)
        for name in ("streaming", *methods(n))
    ]
    ours = rows[0]
    bound = ours["cost"] - ours["gap"]
    for row in rows:
        row["share"] = round((ours["drawn"] - row["cost"]) / (ours["drawn"] - bound), 6)
        print(json.dumps(row), flush=True)
    return rows


def exponents(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Slope of log processor time of streaming over log n, for each family, by least squares."""
    result = {}
    for family in FAMILIES:
        ours = [row for row in rows if (row["family"], row["method"]) == (family, "streaming")]
        if len(ours) > 1:
            size, used = (np.log([row[key] for row in ours]) for key in ("n", "processor_seconds"))
            result[family] = round(float(np.polyfit(size, used, 1)[0]), 3)
    return result


def table(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        gap = f"{row['gap_in_sd_a_row']:.4f}" if "gap_in_sd_a_row" in row else "-"
        cells = [row["family"], f"{row['n']:,}", row["method"], f"{row['seconds']:.2f} s"]
        cells += [f"{row['processor_seconds']:.2f} s", f"{row['peak_mib']:,.0f} MiB"]
        lines.append([*cells, f"{row['share']:.2%}", gap])
    head = ["images", "n", "method", "time", "processor time", "memory", "share of gain"]
    return tables.markdown([*head, "gap, sd a row"], lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, nargs="*", default=[4096, 8192, 16384, 32768, 65536])
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--one", nargs=3, metavar=("METHOD", "FAMILY", "N"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=record.RESULTS / "streaming")
    options = parser.parse_args(argv)
    if options.one:
        name, family, n = options.one
        print(json.dumps(measure(name, family, int(n))))
        return 0
    rows = [row for family in options.families for n in options.n for row in compare(family, n)]
    device = record.device_facts("cpu", min(2, torch.get_num_threads()))
    path = record.save(options.out, device, results=rows, exponents=exponents(rows))
    path.with_suffix(".md").write_text(table(rows))
    print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
