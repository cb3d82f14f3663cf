"""Assignment within random labels: time beside no labels and a loop of SciPy, and what is gained.

    python -m bench.labels                       # n = 256, 1024, 4096; 10, 100, 1000 classes
    python -m bench.labels --n 256 --repeats 9

Photo patches against noise, 3 x 32 x 32, one thread, in turns; the times are medians of processor
time. ``share`` is that of the gain that labels leave, of the same noise without them. Writes a
record and a table to bench/results/labels/.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from immiscible_fast import fast_assign

from . import families, record

RESULTS = record.RESULTS / "labels"


def scipy_by_class(x: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
    """What a user would write: distances and SciPy for each class."""
    index = torch.empty_like(labels)
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        cost = torch.cdist(x[rows], noise[rows]).square()
        index[rows] = rows[torch.from_numpy(linear_sum_assignment(cost.numpy())[1])]
    return index


def compare(n: int, classes: int, repeats: int) -> dict[str, Any]:
    rng = np.random.default_rng([n, classes])
    x = torch.from_numpy(families.photo(rng, n)).flatten(1)
    calls: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "labels": lambda noise, labels: fast_assign(x, noise, labels=labels),
        "without": lambda noise, labels: fast_assign(x, noise),
        "scipy": lambda noise, labels: scipy_by_class(x, noise, labels),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    shares = []
    for turn in range(repeats + 1):
        noise = torch.from_numpy(rng.normal(size=x.shape).astype(np.float32))
        labels = torch.from_numpy(rng.integers(0, classes, n))
        gains = {}
        for name, call in calls.items():
            begin = time.process_time()
            index = call(noise, labels)
            seconds[name].append(time.process_time() - begin)
            gains[name] = float((x * (noise[index] - noise)).sum(dtype=torch.float64))
        shares.append(gains["labels"] / gains["without"])
        if turn == 0:  # which may have compiled something
            seconds = {name: [] for name in calls}
        assert abs(gains["labels"] - gains["scipy"]) < 1e-5 * gains["without"]
    ms = {name: round(1e3 * median(values), 2) for name, values in seconds.items()}
    return {"n": n, "classes": classes, "ms": ms, "share": round(float(np.mean(shares)), 3)}


def table(results: list[dict[str, Any]]) -> str:
    lines = [
        "| n | classes | labels= | without labels | cdist + SciPy by class | speed-up | share |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in results:
        ms = row["ms"]
        cells = [row["n"], row["classes"], *(f"{ms[name]} ms" for name in ms)]
        cells += [f"{ms['scipy'] / ms['labels']:.1f}x", f"{row['share']:.1%}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.labels", description=__doc__)
    parser.add_argument("--n", type=int, nargs="*", default=[256, 1024, 4096])
    parser.add_argument("--classes", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    results = []
    for n in options.n:
        for classes in options.classes:
            results.append(compare(n, classes, options.repeats))
            print(results[-1], flush=True)
    device = record.device_facts("cpu", 1)
    path = record.save(options.out, device, repeats=options.repeats, results=results)
    path.with_suffix(".md").write_text(table(results))
    print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
