"""What README, docs/ and the report say of results, made from the newest committed ones.

    python -m bench.quotes      # write it between the marks <!-- figures: NAME --> and <!-- end -->

``tests/test_quotes.py`` wants every text on some page, up to date, and no other measured figures.
"""

from __future__ import annotations

import re
from pathlib import Path
from statistics import mean

import numpy as np

from . import distributed, memory, small_batches, tables
from .cases import GROUPS
from .record import ROOT, Result, Row, newest

PAGES = (ROOT / "README.md", ROOT / "bench/report/report.md", *sorted((ROOT / "docs").glob("*.md")))
LOST = ("headline", "pairs", "batches", "shapes", "worst_case")
MARKED = re.compile(r"(<!-- figures: (.+?) -->)(.*?)(<!-- end -->)", re.DOTALL)
SHORT = (  # of README: family, n
    *(("photo", n) for n in (64, 256, 1024, 4096)),
    *((family, 1024) for family in ("onef", "digits", "uniform")),
)
TYPICAL = ("photo", 1024)


def quotes() -> dict[str, str]:
    """The texts, by what they are about."""
    groups = {group: newest(group) for group in GROUPS}
    solvers, calls, shapes = (groups[name] for name in ("headline", "pairs", "shapes"))
    call, stages, both = (typical(groups[name]) for name in ("pairs", "stages", "product"))
    demo, ranks, fuzz = map(newest, ("demo", "distributed", "fuzz"))
    threads = groups["product"]["device"]["threads"]
    parts = {name: ms for name, ms in stages["ms"].items() if name != "exact"}
    largest = max(parts, key=parts.__getitem__)
    at = f"at n = {call['n']}, D = {call['dim']}"
    plain, eight = ((both["ms"][m], both["share"][m]) for m in ("auction, float32", "auction 0.01"))
    sinkhorn = call["ms"]["sinkhorn 0.01"] / call["ms"]["auction 0.01"]
    return {
        **{f"table of {group}": section(group, result) for group, result in groups.items()},
        **{f"losses of {group}": tables.losses(groups[group]) for group in LOST},
        "table of memory": memory.table(),
        "solvers": tables.of_group("headline", solvers),
        "solvers, in short": tables.of_group(
            "headline", {"rows": [row for row in solvers["rows"] if named(row) in SHORT]}
        ),
        "whole calls": tables.of_group("pairs", calls),
        "small n": tables.small_sizes(solvers),
        "rectangles": tables.rectangles(shapes),
        "rectangles where peers are faster": tables.rectangle_sentence(shapes),
        "worst cases": tables.worst_sentence(groups["worst_case"]),
        "random problems": f"{fuzz['problems']:,} random problems in {fuzz['minutes']:g} minutes",
        "eight bits": f"{at} and on {threads} threads a call takes {eight[0]:.1f} ms instead of "
        f"{plain[0]:.1f}, and keeps {eight[1]:.2%} of the gain instead of {plain[1]:.2%}",
        "product": f"the {largest} takes {parts[largest] / stages['ms']['exact']:.0%} of an exact "
        f"call {at}",
        "memory": memory.sentence(),
        "sinkhorn": f'{sinkhorn:.1f} times as long as `"auction"` on a CPU {at}',
        "ranks, counted": distributed.counted_table(),
        "ranks, measured": distributed.measured_table(ranks),
        "ranks, simulated": distributed.simulated_table(),
        "demo": demo_table(demo),
        "small batches": small_batches.short(newest("small_batches")),
        "demo, where it does not help": demo_sentence(demo),
    }


def section(group: str, result: Result) -> str:
    device = result["device"]
    where = f"{device['name']}, {device['threads']} threads, commit {result['commit']}"
    head = f"{GROUPS[group].title} {where}, {result['created'][:10]}."
    return f"{head}\n\n{tables.of_group(group, result)}"


def named(row: Row) -> tuple[str, int]:
    return row["family"], row["n"]


def typical(result: Result) -> Row:
    return next(row for row in result["rows"] if named(row) == TYPICAL)


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
