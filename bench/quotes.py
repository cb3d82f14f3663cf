"""What README and docs/ say of results, made from the newest committed ones.

    python -m bench.quotes      # write it between the marks <!-- figures: NAME --> and <!-- end -->

``tests/test_quotes.py`` wants every text on some page, up to date, and no other measured figures.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import numpy as np

from . import distributed, memory, small_batches, tables
from .record import ROOT, Result, Row, newest

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MARKED = re.compile(r"(<!-- figures: (.+?) -->)(.*?)(<!-- end -->)", re.DOTALL)
WHOLE_CALLS = (  # family, n that are shown, besides all that we lose
    *(("photo", n) for n in (64, 100, 256, 512, 1024, 2048)),
    *(("digits", 1024), ("latents", 256), ("wide_latents", 64)),
)
SIZES = (64, 100, 256, 1024, 2048, 4096)
SHORT = (  # of README: family, n
    *(("photo", n) for n in (64, 256, 1024, 4096)),
    *((family, 1024) for family in ("onef", "digits", "uniform")),
)
TYPICAL = ("photo", 1024)


def quotes() -> dict[str, str]:
    """The texts, by what they are about."""
    solvers, calls, demo = newest("headline"), newest("pairs"), newest("demo")
    shapes, ranks = newest("shapes"), newest("distributed")
    return {
        "solvers": tables.solvers(kept(solvers, lambda row: row["n"] in SIZES)),
        "solvers, in short": tables.solvers(kept(solvers, lambda row: named(row) in SHORT)),
        "whole calls": tables.whole_calls(
            kept(calls, lambda row: named(row) in WHOLE_CALLS or row.get("ratio", 0) > 1)
        ),
        "small n": tables.small_sizes(solvers),
        "rectangles": tables.rectangles(shapes),
        "rectangles where peers are faster": tables.rectangle_sentence(shapes),
        "worst cases": tables.worst_sentence(newest("worst_case")),
        "random problems": random_problems(newest("fuzz")),
        "eight bits": eight_bits(newest("product")),
        "product": largest_share(typical(newest("stages"))),
        "memory": memory.sentence(),
        "sinkhorn": sinkhorn(typical(calls)),
        "ranks, counted": distributed.counted_table(),
        "ranks, measured": distributed.measured_table(ranks),
        "ranks, simulated": distributed.simulated_table(ranks),
        "demo": demo_table(demo),
        "small batches": small_batches.short(newest("small_batches")),
        "demo, where it does not help": demo_sentence(demo),
    }


def named(row: Row) -> tuple[str, int]:
    return row["family"], row["n"]


def kept(result: Result, wanted: Callable[[Row], bool]) -> Result:
    return {"rows": [row for row in result["rows"] if wanted(row)]}


def typical(result: Result) -> Row:
    return next(row for row in result["rows"] if named(row) == TYPICAL)


def random_problems(result: Result) -> str:
    return f"{result['problems']:,} random problems in {result['minutes']:g} minutes"


def eight_bits(result: Result) -> str:
    """A near-optimal call with its product in float32, and as shipped."""
    row, threads = typical(result), result["device"]["threads"]
    plain, shipped = "auction, float32", "auction 0.01"
    cores = "one thread" if threads == 1 else f"{threads} threads"
    return (
        f"at n = 1024, D = {row['dim']} and on {cores} a call takes {row['ms'][shipped]:.1f} ms "
        f"instead of {row['ms'][plain]:.1f}, and keeps {row['share'][shipped]:.2%} of the gain "
        f"instead of {row['share'][plain]:.2%}"
    )


def largest_share(row: Row) -> str:
    whole = row["ms"]["exact"]
    parts = {name: ms for name, ms in row["ms"].items() if name != "exact"}
    name = max(parts, key=parts.__getitem__)
    return (
        f"the {name} takes {parts[name] / whole:.0%} of an exact call at "
        f"n = {row['n']}, D = {row['dim']}"
    )


def sinkhorn(row: Row) -> str:
    ratio = row["ms"]["sinkhorn 0.01"] / row["ms"]["auction 0.01"]
    return f'{ratio:.1f} times as long as `"auction"` on a CPU at n = {row["n"]}, D = {row["dim"]}'


def demo_table(result: Result) -> str:
    """Frechet distance of plain and of assigned noise, the mean of the seeds."""
    arms = [np.mean(result["frechet"][arm], axis=0) for arm in ("plain", "assigned")]
    lines = []
    for steps, plain, assigned in zip(result["trained_steps"], *arms, strict=True):
        cells = [f"{p:.2f} / {a:.2f}" for p, a in zip(plain, assigned, strict=True)]
        lines.append([str(steps), *cells])
    first, *others = result["sampling_steps"]
    return tables.markdown(["training steps", f"{first} sampling step", *map(str, others)], lines)


def demo_sentence(result: Result) -> str:
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
