"""The worst that ``exact`` can look: every family of the tests, turn by turn with every exact peer.

    python -m bench.worst_case                              # about a quarter of an hour
    python -m bench.worst_case --sizes 64 256 --families line zeros

All get the same float32 matrix. A peer counts only where its answer has the optimal cost; one that
took ``HOPELESS`` times as long as the fastest peer is not asked again, nor at larger n. The ratio
is our median over that of the fastest correct peer: below 1 we are faster. The table is sorted by
it.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import checks
import families

from . import headline, peers, record

SIZES = (64, 256, 700, 2048)
ROUNDS = 8192  # over n, from 4 to 41
TARGET = 1.5  # what we want to stay below
HOPELESS = 8.0
Matrix = Any


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.worst_case", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--families", nargs="+", choices=families.FAMILIES, metavar="NAME")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--out", type=Path, default=record.RESULTS / "worst_case")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = []
    for family in options.families or families.FAMILIES:
        hopeless: set[str] = set()
        for n in sorted(options.sizes):
            rows.append(side_by_side(family, n, hopeless))
            print(line(rows[-1]), flush=True)
    device = record.device_facts("cpu", torch.get_num_threads())
    print(markdown({"target": TARGET, "rows": rows}))
    print(record.save(options.out, device, target=TARGET, rows=rows))
    return 0


def matrix(family: str, n: int) -> Matrix:
    rng = np.random.default_rng([n, 5])
    return np.ascontiguousarray(families.make(family, rng, n, n, "float32"))


def side_by_side(family: str, n: int, hopeless: set[str]) -> dict[str, Any]:
    """Median milliseconds of every solver on one matrix, and who was left out and why."""
    cost = matrix(family, n)
    best = checks.optimum(cost)
    tensor = torch.from_numpy(cost)
    seconds: dict[str, list[float]] = {}
    left_out = dict.fromkeys(sorted(hopeless), "hopeless at a smaller size")
    methods = [method for method in headline.contenders() if method.name not in hopeless]
    methods = [method for method in methods if method.takes == peers.CENTRED]
    for method in list(methods):
        wrong = fault(method, cost, best)
        if wrong:
            left_out[method.name] = wrong
            methods.remove(method)
    order = random.Random(0)
    rounds = min(41, ROUNDS // n)
    for turn in range(rounds):
        order.shuffle(methods)
        for method in methods:
            begin = time.perf_counter()
            method.solve(tensor)
            seconds.setdefault(method.name, []).append(time.perf_counter() - begin)
        if turn == 0:
            fastest = min(seconds[m.name][0] for m in methods if not m.ours)
            slow = [m for m in methods if not m.ours and seconds[m.name][0] > HOPELESS * fastest]
            hopeless.update(m.name for m in slow if n >= 256)
            methods = [m for m in methods if m not in slow]
    medians = {name: 1e3 * statistics.median(times) for name, times in seconds.items()}
    peer = min((name for name in medians if name != headline.OURS), key=medians.__getitem__)
    return {
        "family": family,
        "n": n,
        "ms": {name: float(f"{value:.4g}") for name, value in medians.items()},
        "left_out": left_out,
        "fastest_peer": peer,
        "ratio": round(medians[headline.OURS] / medians[peer], 2),
    }


def fault(method: peers.Method, cost: Matrix, best: float) -> str:
    """What is wrong with the method's answer; an empty string if nothing is."""
    try:
        index = np.asarray(method.solve(torch.from_numpy(cost)))
        checks.assert_matching(index.astype(np.int64), *cost.shape)
    except AssertionError:
        return "no permutation"
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0][:80]
    paid = checks.total(cost, index)
    own_rounding = 4 * np.finfo(np.float32).eps * abs(best)  # of those who add up in float32
    if not abs(paid - best) <= max(checks.rounding(cost), own_rounding):
        return f"cost {paid:.9g}, optimal {best:.9g}"
    return ""


def line(row: dict[str, Any]) -> str:
    peer = row["fastest_peer"]
    return (
        f"{row['family']:18} n={row['n']:5} {row['ms'][headline.OURS]:9.3f} ms, "
        f"{peer} {row['ms'][peer]:.3f} ms: {row['ratio']}"
    )


def markdown(result: dict[str, Any]) -> str:
    """Ratios by family and n, the worst family first; above the target in bold."""
    sizes = sorted({row["n"] for row in result["rows"]})
    ratios: dict[str, dict[int, dict[str, Any]]] = {}
    for row in result["rows"]:
        ratios.setdefault(row["family"], {})[row["n"]] = row
    lines = ["| family | " + " | ".join(f"n = {n}" for n in sizes) + " |"]
    lines.append("|---|" + "---|" * len(sizes))
    for family in sorted(ratios, key=lambda name: -max(r["ratio"] for r in ratios[name].values())):
        cells = []
        for n in sizes:
            row = ratios[family].get(n)
            text = f"{row['ratio']:.2f} ({row['fastest_peer']})" if row else "-"
            over = row is not None and row["ratio"] > result["target"]
            cells.append(f"**{text}**" if over else text)
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sentence(result: dict[str, Any]) -> str:
    """How many families are above the target at each n, for README."""
    parts = []
    for n in sorted({row["n"] for row in result["rows"]}):
        ratios = {row["family"]: row["ratio"] for row in result["rows"] if row["n"] == n}
        over = sum(ratio > result["target"] for ratio in ratios.values())
        worst = max(ratios, key=ratios.__getitem__)
        parts.append(f"{over} of {len(ratios)} at n = {n} (worst: {worst}, {ratios[worst]:.1f}x)")
    return f"over {result['target']} times as long as the fastest peer on {', '.join(parts)}"


if __name__ == "__main__":
    raise SystemExit(main())
