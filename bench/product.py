"""A near-optimal call on a CPU with its product in float32 and in eight bits, stage by stage.

    python -m bench.product                  # or: python -m bench.product --n 1024 --rounds 21

The calls take turns in one process, so that a busy moment of the machine hits all of them. Beside
their medians stands the share of the gain that they keep: 1 is the optimum of the float32 costs.
Writes bench/results/product/<date>-<device>.json.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch

from immiscible_fast import fast_assign
from immiscible_fast.backends import cpu, quantised

from . import families, measure, record

CASES = (  # family, n
    *(("photo", n) for n in (256, 512, 1024, 2048)),
    ("onef", 1024),
    ("digits", 1024),
    ("latents", 256),
    ("latents", 1024),
)
RESULTS = record.RESULTS / "product"
EXACT, PLAIN, ROUNDED = "exact, float32", "auction, float32", "auction, as shipped"
METHODS = {EXACT: "exact", PLAIN: "auction", ROUNDED: "auction"}


@contextmanager
def products_in(name: str) -> Iterator[None]:
    """As shipped, or without products in eight bits."""
    shipped = quantised.pays
    if name != ROUNDED:
        quantised.pays = lambda n, dim, tol: False
    try:
        yield
    finally:
        quantised.pays = shipped


def compare(family: str, n: int, rounds: int) -> dict[str, Any]:
    """Medians of whole calls and of their products, in milliseconds, and the shares of the gain."""
    problem = families.problem(family, n)
    drawn = problem.samples
    flat_x, flat_noise = drawn.x.flatten(1)[None], drawn.noise.flatten(1)[None]
    ref = measure.reference(problem)
    taken: dict[str, dict[str, list[float]]] = {
        name: {"call": [], "product": []} for name in METHODS
    }
    shares = {}
    for turn in range(rounds + 1):
        for name, method in METHODS.items():
            with products_in(name):
                whole = _seconds(lambda m=method: fast_assign(drawn.x, drawn.noise, method=m))
                product = _seconds(
                    lambda m=method: cpu.assignment_cost(flat_x, flat_noise, "sqeuclidean", m, 0.01)
                )
                if turn == 0:  # compiles, and is judged
                    index = fast_assign(drawn.x, drawn.noise, method=method)
                    quality = measure.assignment_quality(problem.centred, index, ref)
                    shares[name] = quality["share"]
                    continue
            taken[name]["call"].append(whole)
            taken[name]["product"].append(product)
    ways = {}
    for name, times in taken.items():
        call, product = (1e3 * median(times[key]) for key in ("call", "product"))
        ways[name] = {
            "call_ms": round(call, 3),
            "fastest_ms": round(1e3 * min(times["call"]), 3),
            "product_ms": round(product, 3),
            "rest_ms": round(max(call - product, 0.0), 3),
            "share": shares[name],
        }
    pays = quantised.pays(n, flat_x.shape[2], 0.01)
    return {"family": family, "n": n, "dim": flat_x.shape[2], "eight_bits": pays, "ways": ways}


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| family | n | D | call | product | rest | whole call | share of the gain | speed-up |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        before = row["ways"][PLAIN]["call_ms"]
        for name, way in row["ways"].items():
            note = "" if name != ROUNDED else (", 8 bits" if row["eight_bits"] else ", float32")
            lines.append(
                f"| {row['family']} | {row['n']} | {row['dim']} | {name}{note} "
                f"| {way['product_ms']:.2f} ms | {way['rest_ms']:.2f} ms "
                f"| {way['call_ms']:.2f} ms | {way['share']:.4%} "
                f"| {before / way['call_ms']:.2f}x |"
            )
    return "\n".join(lines)


def sentence(result: dict[str, Any]) -> str:
    """What README says of the case that it is about."""
    row = next(row for row in result["rows"] if (row["family"], row["n"]) == ("photo", 1024))
    before, after = row["ways"][PLAIN], row["ways"][ROUNDED]
    threads = result["device"]["threads"]
    cores = "one thread" if threads == 1 else f"{threads} threads"
    return (
        f"at n = 1024, D = {row['dim']} and on {cores} a call takes "
        f"{after['call_ms']:.1f} ms instead of {before['call_ms']:.1f}, and keeps "
        f"{after['share']:.2%} of the gain instead of {before['share']:.2%}"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.product", description=__doc__)
    parser.add_argument("--n", type=int, nargs="*", help="only these sizes of the list")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    load = [round(value, 2) for value in os.getloadavg()]
    if options.threads:
        record.pin(options.threads)
    cases = [case for case in CASES if not options.n or case[1] in options.n]
    rows = [compare(family, n, options.rounds) for family, n in cases]
    print(table(rows))
    device = record.device_facts("cpu", torch.get_num_threads())
    device["load_before"] = load
    print(record.save(options.out, device, rounds=options.rounds, rows=rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
