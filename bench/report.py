"""One page and its pictures, from the newest result of each comparison.

python -m bench.report      # bench/results/ -> bench/report/report.md, *.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from . import memory, plots, tables
from .cases import GROUPS
from .quotes import TYPICAL, named
from .record import ROOT, Result, newest

HEAD = """\
# Measured: immiscible_fast against what people use today

Every ratio compares two figures of one run on one machine: methods take turns on each problem, and
times are medians. *Gap* is the cost less a lower bound that linear-programming duality proves for
the same matrix, in standard deviations (sd) of the centred costs for each row: 0 is optimal, with a
proof. *Share of the gain* is (cost without assignment - cost) / (cost without assignment - optimal
cost), in squared distance: what the assignment is done for; of best-of-k, which draws other noises,
by inner product. Bold is where an exact peer is faster. Made by `python -m bench.report`; each
table by `python -m bench.compare GROUP`, or until November 2026 by a bench of its own (pairs,
batches and labels were then in loops of one method, with warm caches).
"""
LOST = ("headline", "pairs", "batches", "shapes", "worst_case")


def section(group: str, result: Result) -> str:
    device = result["device"]
    where = f"{device['name']}, {device['threads']} threads, commit {result['commit']}"
    head = f"## {group}\n\n{GROUPS[group].title} {where}, {result['created'][:10]}.\n"
    return f"{head}\n{tables.of_group(group, result)}\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "report")
    out = parser.parse_args(argv).out
    results = {group: newest(group) for group in GROUPS}
    calls, solvers, measured = results["pairs"], results["headline"], newest("memory")["rows"]
    most = max((r for r in calls["rows"] if named(r) == TYPICAL), key=lambda r: len(r["ms"]))
    plots.write(
        out,
        time=lambda: plots.time(solvers, calls),
        families=lambda: plots.families(solvers),
        quality=lambda: plots.quality(most),
        memory=lambda: plots.memory(measured),
    )
    pictures = "\n".join(f"![{name}]({name}.png)" for name in ("time", "families", "quality"))
    lost = [f"### {group}\n\n{tables.losses(results[group])}\n" for group in LOST]
    parts = [HEAD, pictures + "\n", *(section(*item) for item in results.items())]
    parts += [f"## memory\n\n![memory](memory.png)\n\n{memory.table()}\n"]
    parts += ["## Where an exact peer is faster\n", *lost]
    (out / "report.md").write_text("\n".join(parts), encoding="utf-8")
    print(out / "report.md")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
