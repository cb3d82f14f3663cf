"""What README and docs/ say of results, made from the newest committed ones.

    python -m bench.quotes      # write it between the marks <!-- figures: NAME --> and <!-- end -->

``tests/test_quotes.py`` wants every text on some page, up to date, and no other measured figures.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from . import (
    distributed,
    fuzz,
    headline,
    product,
    report,
    schema,
    shapes,
    small_batches,
    tables,
    worst_case,
)
from .record import RESULTS, ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MARKED = re.compile(r"(<!-- figures: (.+?) -->)(.*?)(<!-- end -->)", re.DOTALL)
PAIRS = (  # family, n of the whole calls that are shown, besides all that we lose
    *(("photo", n) for n in (64, 100, 256, 512, 1024, 2048)),
    ("digits", 1024),
    ("latents", 256),
    ("wide_latents", 64),
)
SHORT = (  # of README: family, n
    *(("photo", n) for n in (64, 256, 1024, 4096)),
    *((family, 1024) for family in ("onef", "digits", "uniform")),
)
TYPICAL = ("photo", 1024)


def quotes() -> dict[str, str]:
    """The texts, by what they are about."""
    ((_, suite),) = report.chosen(schema.read_folder(RESULTS))[:1]
    for row in suite["rows"]:
        row["time_ms"] = row["median_ms"]
    solvers, demo = newest("headline"), newest("demo")
    return {
        "solvers": headline.markdown(solvers),
        "solvers, in short": headline.markdown(
            {"rows": [r for r in solvers["rows"] if (r["family"], r["n"]) in SHORT]}
        ),
        "whole calls": whole_calls(suite),
        "small n": small(solvers),
        "rectangles": shapes.markdown(newest("shapes")),
        "rectangles where peers are faster": shapes.sentence(newest("shapes")),
        "worst cases": worst_case.sentence(newest("worst_case")),
        "random problems": fuzz.sentence(newest("fuzz")),
        "eight bits": product.sentence(newest("product")),
        "product": largest_share(suite),
        "memory": memory(suite),
        "sinkhorn": sinkhorn(suite),
        "ranks, counted": distributed.counted_table(),
        "ranks, measured": distributed.measured_table(newest("distributed")),
        "ranks, simulated": distributed.simulated_table(newest("distributed")),
        "demo": demo_table(demo),
        "small batches": small_batches.short(newest("small_batches")),
        "demo, where it does not help": demo_sentence(demo),
    }


def newest(folder: str) -> dict[str, Any]:
    """The result with the last name; of one day, the one with most threads."""
    found: dict[str, Any] = json.loads(max((RESULTS / folder).glob("*.json")).read_text())
    return found


def whole_calls(suite: schema.Result) -> str:
    rows = []
    for group in tables.groups(suite, "pair"):
        ours, peer = tables.named(group, headline.OURS), tables.fastest_peer(group)
        lost = ours is not None and peer is not None and peer["time_ms"] < ours["time_ms"]
        if lost or (group[0]["family"], group[0]["n"]) in PAIRS:
            rows += group
    return tables.speedup_table({"rows": rows}, "pair")


def small(solvers: dict[str, Any]) -> str:
    ratios = [row["speed_up"] for row in solvers["rows"] if row["n"] == 64]
    return f"At n = 64 the fastest peer takes {min(ratios):.2f} to {max(ratios):.2f} of our time"


def largest_share(suite: schema.Result) -> str:
    (call,) = [
        p
        for p in suite["profile"]
        if (p["family"], p["n"], p["method"]) == (*TYPICAL, headline.OURS)
    ]
    return (
        f"the {call['largest']} takes {call['largest_share']:.0%} of an exact call at "
        f"n = {call['n']}, D = {call['dim']}"
    )


def memory(suite: schema.Result) -> str:
    (row,) = [
        r
        for r in suite["rows"]
        if (r["stage"], r["n"], r["dim"], r["method"]) == ("memory", 1024, 3072, headline.OURS)
    ]
    return (
        f"{row['of_matrix']:.1f} n x n float32 matrices of memory beyond its inputs at "
        f"n = {row['n']}, D = {row['dim']}"
    )


def sinkhorn(suite: schema.Result) -> str:
    rows = [r for r in suite["rows"] if r["stage"] == "pair" and (r["family"], r["n"]) == TYPICAL]
    slow, fast = tables.named(rows, "sinkhorn 0.01"), tables.named(rows, "auction 0.01")
    assert slow is not None
    assert fast is not None
    return (
        f'{slow["time_ms"] / fast["time_ms"]:.1f} times as long as `"auction"` on a CPU at '
        f"n = {slow['n']}, D = {slow['dim']}"
    )


def demo_table(result: dict[str, Any]) -> str:
    """Frechet distance of plain and of assigned noise, the mean of the seeds."""
    arms = [np.mean(result["frechet"][arm], axis=0) for arm in ("plain", "assigned")]
    lines = []
    for steps, plain, assigned in zip(result["trained_steps"], *arms, strict=True):
        cells = [f"{p:.2f} / {a:.2f}" for p, a in zip(plain, assigned, strict=True)]
        lines.append([str(steps), *cells])
    first, *others = result["sampling_steps"]
    return tables.markdown(["training steps", f"{first} sampling step", *map(str, others)], lines)


def demo_sentence(result: dict[str, Any]) -> str:
    plain, assigned = (
        mean(result["frechet_128_sampling_steps"][arm]) for arm in ("plain", "assigned")
    )
    timing, batches_of_4 = result["timing"], result["frechet_batches_of_4"]
    drawn, pooled = (np.mean(batches_of_4[arm], axis=0) for arm in ("plain", "pool"))
    return (
        f"With 128 of them there is none: {plain:.3f} / {assigned:.3f} after "
        f"{result['trained_steps'][-1]} training steps. Assignment took "
        f"{timing['assignment_ms']:.2f} ms of a step of {timing['assigned_step_ms']:.2f} ms and "
        f"removed {result['pair_distance']['removed']:.1%} of the mean squared distance between "
        "image and noise. In batches of 4, noise out of a pool of 512 brought the distance after "
        f"1000 steps from {drawn[0]:.2f} to {pooled[0]:.2f} with 1 sampling step, from "
        f"{drawn[-1]:.2f} to {pooled[-1]:.2f} with 32"
    )


def quoted(page: Path, texts: dict[str, str]) -> str:
    """The page with its marked texts as they should be."""

    def filled(found: re.Match[str]) -> str:
        mark, name, here, end = found.groups()
        around = "\n" if here.startswith("\n") else ""
        return f"{mark}{around}{texts[name].strip()}{around}{end}"

    return MARKED.sub(filled, page.read_text(encoding="utf-8"))


def main() -> int:
    texts = quotes()
    for page in PAGES:
        page.write_text(quoted(page, texts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
