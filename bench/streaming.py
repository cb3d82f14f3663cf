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

import importlib.util
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
from immiscible_fast.streaming import backend

from . import memory, peers, problems, record, tables

SIZE = 8  # a picture is 8 x 8
BATCHES = (256, 1024, 4096)
OURS, POT, OTT = "streaming", "POT sinkhorn 0.1", "ott-jax sinkhorn 0.1"
NEEDS = {POT: "ot", OTT: "ott"}  # modules
LARGEST = {"exact": 16384, POT: 4096, OTT: 16384}  # n; beyond, the matrices do not fit here
OTT_ROWS, OTT_UPDATES = 1024, 300  # costs of so many rows are computed at a time
SEVERAL = 10.0  # seconds below which a case is measured three times
CELLS = {  # of the table
    "images": "{family}",
    "n": "{n:,}",
    "method": "{method}",
    "time": "{seconds:.2f} s",
    "processor time": "{processor_seconds:.2f} s",
    "memory": "{peak_mib:,.0f} MiB",
    "share of gain": "{share:.2%}",
    "gap, sd a row": "{gap_in_sd_a_row:.4f}",
}


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


FAMILIES = {"digits": digits, "patches": patches}


def samples(family: str, n: int) -> tuple[Tensor, Tensor]:
    images = FAMILIES[family](np.random.default_rng([0, n]), n).reshape(n, -1)
    noise = np.random.default_rng([1, n]).standard_normal(images.shape, dtype=np.float32)
    return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(noise)


def in_batches(size: int, x: Tensor, noise: Tensor) -> Tensor:
    pairs = zip(x.split(size), noise.split(size), strict=True)
    return torch.cat(
        [fast_assign(*pair, method="exact") + k * size for k, pair in enumerate(pairs)]
    )


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


def methods(n: int) -> dict[str, Callable[[Tensor, Tensor], Any]]:
    every = {
        OURS: partial(backend.solve, metric="sqeuclidean", tol=0.01),
        "exact": partial(fast_assign, method="exact"),
        POT: by_pot,
        OTT: by_ott,
        **{f"batches of {b}": partial(in_batches, b) for b in BATCHES if b < n},
    }
    missing = {name for name, module in NEEDS.items() if not importlib.util.find_spec(module)}
    return {k: v for k, v in every.items() if n <= LARGEST.get(k, n) and k not in missing}


def measure(name: str, family: str, n: int) -> record.Row:
    """One method in this process: seconds, memory and cost (of squared distances)."""
    x, noise = samples(family, n)
    torch.set_num_threads(min(2, torch.get_num_threads()))
    call = methods(n)[name]
    call(x[:512], noise[:512])  # compiles

    def once() -> tuple[Any, float, float]:
        begin, processor = time.perf_counter(), time.process_time()
        answer = call(x, noise)
        return answer, time.perf_counter() - begin, time.process_time() - processor

    first, peak = memory.peak_of(once)
    again = [once() for _ in range(2 if first[1] < SEVERAL else 0)]
    answer, seconds, processor = min([first, *again], key=lambda run: run[1])
    result = {
        **{"family": family, "n": n, "dim": x.shape[1], "method": name},
        **{"seconds": round(seconds, 3), "processor_seconds": round(processor, 3)},
        "peak_mib": round(peak / 2**20, 1),
    }
    index = torch.as_tensor(answer.index if name == OURS else answer)
    result["cost"] = float((x - noise[index]).square().sum(dtype=torch.float64))
    if name == OURS:
        result["drawn"] = float((x - noise).square().sum(dtype=torch.float64))
        result["gap"] = answer.gap
        result["gap_in_sd_a_row"] = round(answer.gap / n / answer.deviation, 6)
        result["passes"], result["bids_a_row"] = round(answer.passes, 2), answer.bids / n
    return result


def compare(family: str, n: int) -> list[record.Row]:
    """All methods on one problem, ours first, with their shares of the gain."""
    rows = [memory.in_fresh_process(measure, name, family, n) for name in methods(n)]
    drawn, bound = rows[0]["drawn"], rows[0]["cost"] - rows[0]["gap"]
    for row in rows:
        row["share"] = round((drawn - row["cost"]) / (drawn - bound), 6)
        print(row, flush=True)
    return rows


def exponents(rows: list[record.Row]) -> dict[str, float]:
    """Slope of log processor time of streaming over log n, for each family, by least squares."""
    result = {}
    for family in FAMILIES:
        ours = [row for row in rows if (row["family"], row["method"]) == (family, OURS)]
        if len(ours) > 1:
            size, used = (np.log([row[key] for row in ours]) for key in ("n", "processor_seconds"))
            result[family] = round(float(np.polyfit(size, used, 1)[0]), 3)
    return result


def main(
    n: tuple[int, ...] = (4096, 8192, 16384, 32768, 65536),
    families: tuple[str, ...] = tuple(FAMILIES),
    out: Path = record.RESULTS / "streaming",
) -> None:
    rows = [row for family in families for size in n for row in compare(family, size)]
    device = record.device_facts("cpu", min(2, torch.get_num_threads()))
    path = record.save(out, device, results=rows, exponents=exponents(rows))
    path.with_suffix(".md").write_text(tables.formatted(rows, CELLS) + "\n")
    print(path)


if __name__ == "__main__":
    import tyro

    tyro.cli(main, description=__doc__)
