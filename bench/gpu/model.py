"""The time that counted work would take on an H100: docs/gpu_model.md.

    python -m bench.gpu.model            # print the page
    python -m bench.gpu.model --write    # and write it

Work is counted by the emulator (bench/results/emulated) from the compiled code as it ships; this
adds a device of stated rates. Nothing here is measured on a GPU.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from immiscible_fast.kernels.gpu.schedule import SPREAD_FROM

from . import counts

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "gpu_model.md"
EMULATED = ROOT / "bench" / "results" / "emulated"
WORK = ROOT / "bench" / "gpu_work_counts.json"
DIM = 3072

# An H100 SXM: from its data sheet, and where that is silent, assumed.
PROCESSORS, GIGAHERTZ = 132, 1.755
MEMORY_GB_S, CACHE_GB_S = 3350, 5500
TF32_TFLOPS, BF16_TFLOPS = 495, 989  # dense
REACHED = 0.6  # of that by a product
IPC, LONE_IPC = 2.0, 1.0  # instructions of warps a cycle: full processors, one program by itself
LAUNCH_US = 1.2  # between the launches of a graph

STAGES = {
    "row_moments_kernel": "statistics",
    "column_moments_kernel": "statistics",
    "problem_units_kernel": "statistics",
    "update_kernel": "sinkhorn",
    "final_prices_kernel": "sinkhorn",
    "lists_kernel": "lists",
    "settle_kernel": "matching",
    "bids_kernel": "matching",
    "forest_step_kernel": "forests",
    "forest_kernel": "forests",
    "row_terms_kernel": "certificate",
    "certify_kernel": "certificate",
    "augment_rows_kernel": "last resort",
    "forget_huge_prices_kernel": "last resort",
}
METHODS = {"sinkhorn": "-sinkhorn", "exact": ""}
PRODUCT_LAUNCHES = {"sinkhorn": 5, "exact": 3}
HEAD = f"""
Written by `python -m bench.gpu.model --write`. **Nothing on this page was measured on a GPU.**

- *Counted*: what the emulator ran of the code compiled for sm_90 (photo patches, one problem, costs
  given; `bench/results/emulated`): launches, instructions of warps, bytes that programs ask for.
- *Computed*: follows from sizes alone (`bench/gpu/counts.py`).
- *Modelled*: every time. The device is an H100 SXM: {PROCESSORS} multiprocessors at
  {GIGAHERTZ} GHz, {MEMORY_GB_S} GB/s of memory, {TF32_TFLOPS} TFLOP/s in TF32, {BF16_TFLOPS}
  in bfloat16 (its data sheet). Assumed: products reach {REACHED} of that; {CACHE_GB_S} GB/s of L2
  cache; {IPC:g} instructions of warps a cycle and processor, {LONE_IPC:g} where a program works
  alone; {LAUNCH_US} us between the launches of a graph.

A kernel takes its launches' waits and the longer of computing and of moving what its programs ask
for, through the share of the cache that their processors have. Chains of single programs may take
longer than that, and costs that no cache holds do: see the last but one table.
"""


def recorded(n: int, method: str) -> dict[str, Any] | None:
    """What the emulator counted of one call; None if only of kernels that are no longer those."""
    path = EMULATED / f"sm_90-photo-{n}{METHODS[method]}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"kernels": {}}
    forests = "forest_step_kernel" if n >= SPREAD_FROM else "forest_kernel"
    return found if forests in found["kernels"] else None


def stages(n: int, method: str) -> dict[str, list[float]]:
    """Launches, instructions, megabytes and microseconds of each stage, costs given."""
    found: dict[str, list[float]] = {}
    for kernel, work in (recorded(n, method) or {"kernels": {}})["kernels"].items():
        spent = found.setdefault(STAGES[kernel], [0, 0, 0, 0])
        found[STAGES[kernel]] = [sum(pair) for pair in zip(spent, kernel_time(work), strict=True)]
    return found


def kernel_time(work: dict[str, int]) -> tuple[int, int, float, float]:
    """(launches, instructions, megabytes, microseconds) of all launches of a kernel."""
    moved = (work["bytes_read"] + work["bytes_written"]) / 1e6
    programs = work["programs"] / work["launches"]
    rate = LONE_IPC if programs < 2 else IPC * min(programs, PROCESSORS)
    computing = work["instructions"] / (rate * GIGAHERTZ * 1e3)
    moving = moved * 1e3 / (CACHE_GB_S * min(programs, PROCESSORS) / PROCESSORS)
    waiting = LAUNCH_US * work["launches"]
    return work["launches"], work["instructions"], moved, waiting + max(computing, moving)


def product_us(n: int, method: str) -> float:
    """Means of the samples, and three products in TF32; or one in bfloat16, of rounded copies."""
    exact = method == "exact"
    moved = (counts.stage_bytes("distances", n, DIM, exact=exact) or 0) / (MEMORY_GB_S * 1e3)
    passes = 3 / TF32_TFLOPS if exact else 1 / BF16_TFLOPS
    computing = passes * counts.product_flops(n, n, DIM) / (REACHED * 1e6)
    # Copies are made before the product, which waits for them.
    waiting = PRODUCT_LAUNCHES[method] * LAUNCH_US
    return max(computing, moved) + waiting if exact else computing + moved + waiting


def streamed_us(n: int, method: str) -> dict[str, float]:
    """Least time of the stages that read all costs, of a matrix that no cache holds."""
    exact = method == "exact"
    names = ("statistics", "sinkhorn", "lists", "certificate")
    twice = {"sinkhorn": 2} if n > 8192 else {}
    return {
        name: twice.get(name, 1)
        * (counts.stage_bytes(name, n, DIM, exact=exact) or 0)
        / (MEMORY_GB_S * 1e3)
        for name in names
    }


def page() -> str:
    parts = ["# What the GPU solver should take: a model", HEAD.strip()]
    for n in (512, 1024, 4096):
        parts += [_table(n, method) for method in METHODS if stages(n, method)]
    return "\n\n".join([*parts, _large(16384), _ticks()]) + "\n"


def _name(method: str) -> str:
    return "near-optimal" if method == "sinkhorn" else "exact"


def _table(n: int, method: str) -> str:
    found, product = stages(n, method), product_us(n, method)
    rows = [["stage", "launches", "instructions of warps", "MB asked for", "us"], ["---"] * 5]
    first = PRODUCT_LAUNCHES[method]
    rows.append([f"means and product (computed, D = {DIM})", f"{first}", "", "", f"{product:.0f}"])
    for stage, (launches, instructions, megabytes, us) in found.items():
        rows.append([stage, str(launches), f"{instructions:,}", f"{megabytes:.1f}", f"{us:.0f}"])
    launches, whole = (sum(stage[k] for stage in found.values()) for k in (0, 3))
    rows.append(["**in all** (launches, MB counted, us modelled)", str(first + launches), "", ""])
    rows[-1].append(f"**{product + whole:.0f}**")
    return f"## n = {n}, {_name(method)}\n\n" + _lines(rows)


def _lines(rows: list[list[str]]) -> str:
    """As Markdown; a dash or nothing has no spaces around it."""
    lines = ("|".join(f" {c} " if c.strip("-") else c or " " for c in row) for row in rows)
    return "\n".join(f"|{line}|" for line in lines)


def _large(n: int) -> str:
    head = ["us", "product", "statistics", "Sinkhorn", "lists", "certificate"]
    rows = [head, ["---"] * len(head)]
    for method in METHODS:
        times = [product_us(n, method), *streamed_us(n, method).values()]
        rows.append([_name(method), *(f"{time:.0f}" for time in times)])
    return f"""## n = {n}

Computed: the least time to stream the costs through memory; no run was counted. Forests
have no figure: what they read depends on the data.

{_lines(rows)}"""


def _ticks() -> str:
    work, sizes = json.loads(WORK.read_text()), (256, 1024, 4096)
    rows = [["", *(f"n = {n}" for n in sizes)], ["---"] * (1 + len(sizes))]
    for family in dict.fromkeys(name.split()[0] for name in work):
        row = [family]
        for n in sizes:
            pair = [work.get(f"{family} n={n} {method}", {}).get("ticks") for method in METHODS]
            row.append(" / ".join("-" if tick is None else f"{tick:,}" for tick in pair))
        rows.append(row)
    return f"""## Ticks of the forests

Near-optimal / exact, counted by the reference on a CPU (`bench/gpu_work_counts.json`),
with the steps of the kernels. A tick is a launch where a problem is spread over a GPU,
else a turn of one program. A dash: not counted.

{_lines(rows)}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        PAGE.write_text(page(), encoding="utf-8")
    print(page())


if __name__ == "__main__":
    main()
