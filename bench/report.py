"""Make one page and its pictures from the recorded results.

    python -m bench.report                  # bench/results/ -> bench/report/report.md, *.png
    python -m bench.report --result FILE    # of this file of the suite alone

Of each device the newest full result of the suite is shown, else its newest quick one, and the
newest of each bench beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from . import figures, headline, product, schema, tables, worst_case
from .record import RESULTS, ROOT, slug

OUT = ROOT / "bench" / "report"
HOW = """\
Every figure was measured in the run that is named above its tables, and every ratio compares two
figures of one run on one machine. *Gap* is the cost less a lower bound that linear-programming
duality proves for the same matrix, in standard deviations (sd) of the centred costs for each row:
0 is optimal, with a proof. *Share of the gain* is (cost without assignment - cost) / (cost without
assignment - optimal cost), in squared distance: what the assignment is done for. *Exact peers* are
those that promise the optimum of the matrix that they are given; where a peer solves distances that
are not squared (as the papers' code does), its share of the gain says what that costs.
"""
BESIDE: dict[str, tuple[str, str, Callable[[schema.Result], str]]] = {  # folder: title, text
    "headline": (
        "Exact solvers, one call of each in turn",
        "Solve only, medians. Peers get centred costs, the best that they can be given.",
        headline.whole_table,
    ),
    "product": (
        "The largest share, before and after: the distance product in eight bits",
        "`auction, as shipped` against the same call with its product in float32, in turn.",
        lambda result: product.table(result["rows"]),
    ),
    "worst_case": (
        "The worst that exact can look",
        "Our median over that of the fastest correct peer, on every family of costs of the tests, "
        "most of\nthem degenerate: below 1 we are faster, bold is above the target of 1.5.",
        worst_case.markdown,
    ),
}
TIMES = {
    "median": "Times are medians over the rounds of a benchmark.\n",
    "min": "Times are those of the fastest round of a benchmark: the machine was not ours alone.\n",
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--result", type=Path, help="one result instead")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write to")
    parser.add_argument(
        "--by",
        choices=("median", "min"),
        default="median",
        help="which time of the rounds; min on a machine that others used, too",
    )
    options = parser.parse_args(argv)
    if options.result:
        found = [(options.result, schema.read(options.result))]
    else:
        found = schema.read_folder(options.results)
    if not found:
        parser.error(f"no results in {options.results}: run python -m bench.record first")
    beside = {} if options.result else {name: newest(options.results / name) for name in BESIDE}
    page = write_report(found, options.out, options.by, beside)
    print(page)
    return 0


def write_report(
    found: list[tuple[Path, schema.Result]],
    out: Path,
    by: str,
    beside: dict[str, list[tuple[Path, schema.Result]]],
) -> Path:
    """Write ``report.md`` and its pictures, with medians or the least times; its path."""
    out.mkdir(parents=True, exist_ok=True)
    parts = ["# Measured: immiscible_fast against what people use today\n", HOW, TIMES[by]]
    for path, result in chosen(found):
        result["statistic"] = by
        for row in result["rows"]:
            row["time_ms"] = row[f"{by}_ms"]
        name = slug(result["device"])
        written = figures.write_all(result, out, name)
        parts.append(section(path, result, written))
    parts += [beside_section(name, results) for name, results in beside.items() if results]
    parts += [changes(*pair) for pair in before_and_after(found)]
    parts.append(history(found))
    page = out / "report.md"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


def chosen(found: list[tuple[Path, schema.Result]]) -> list[tuple[Path, schema.Result]]:
    """For each device the newest full result, else the newest of another size."""
    best: dict[str, tuple[Path, schema.Result]] = {}
    for path, result in found:  # the oldest first
        name = slug(result["device"])
        full_before = name in best and best[name][1]["size"] == "full"
        if result["size"] == "full" or not full_before:
            best[name] = path, result
    return list(best.values())


def newest(folder: Path) -> list[tuple[Path, schema.Result]]:
    """The newest result of each device in the folder of a bench beside the suite."""
    found = {slug(result["device"]): (path, result) for path, result in schema.read_folder(folder)}
    return list(found.values())


def beside_section(name: str, results: list[tuple[Path, schema.Result]]) -> str:
    title, text, table = BESIDE[name]
    lines = [f"## {title}\n", f"{text} Made by `python -m bench.{name}`.\n"]
    for path, result in results:
        device = result["device"]
        lines.append(
            f"{device['name']}, {device['threads']} thread(s) for torch; commit "
            f"{result['commit'] or 'unknown'}, file `{name}/{path.name}`.\n"
        )
        lines.append(table(result) + "\n")
    return "\n".join(lines)


def section(path: Path, result: schema.Result, written: dict[str, str]) -> str:
    device, size = result["device"], result["size"]
    peaks = result["floors"]
    busy = device.get("load_before")
    eight_bits = peaks.get("int8_matmul_gop_s")
    took = f" in {result['seconds'] / 60:.1f} minutes" if "seconds" in result else ""
    flag = f"--{size}" + (" --device cuda" if device["kind"] == "cuda" else "")
    head = [
        f"## {device['name']}\n",
        f"{device['cores']} cores, {device['threads']} thread(s) for torch, "
        f"{device['memory_gib']} GiB, {device['system']}"
        + (f", load average before the run {device['load_before'][0]}" if busy else "")
        + "; "
        + ", ".join(f"{k} {v}" for k, v in result["versions"].items())
        + f". Commit {result['commit'] or 'unknown'}, {result['created'][:10]}, file "
        f"`{path.name}`, made by `python -m bench.record {flag}`{took}. Measured floors: "
        f"reading memory {peaks['read_gb_s']:.1f} GB/s "
        f"({peaks['read_one_thread_gb_s']:.1f} with one thread, "
        f"{peaks['read_16_mib_one_thread_gb_s']:.1f} from 16 MiB), `torch.matmul` in float32 "
        f"{peaks['matmul_gflop_s']:.0f} GFLOP/s"
        + (f", in int8 {eight_bits:.0f} GOP/s" if eight_bits else "")
        + ".\n",
    ]
    return "\n".join(
        head + _speed(result, written) + _quality(result, written) + _rest(result, written)
    )


def _speed(result: schema.Result, written: dict[str, str]) -> list[str]:
    return [
        "### From images and noise to pairs\n",
        "What a training step pays: distances and assignment. Bold where a peer is faster. Each "
        "method is\ncalled in a loop of its own, with warm caches.\n",
        tables.speedup_table(result, "pair") + "\n",
        *_picture(written, "time", "Time against n"),
        "### Solve only\n",
        "The cost matrix is given, centred for us and for the peers alike; `scipy, raw L2` gets "
        "what the papers'\ncode gives it. In loops, too; calls in turn, whose caches are cold, are "
        "in the table of `bench.headline`.\n",
        tables.speedup_table(result, "solve") + "\n",
        *_picture(written, "families", "Families of problems"),
        "### Many small problems at once, and label groups\n",
        tables.speedup_table(result, "batched") + "\n",
        tables.speedup_table(result, "groups") + "\n",
        "### Where a peer beats us\n",
        "Every problem of the suite on which a peer gives the same answer, or a heuristic the same "
        "share of the\ngain, in less time. *Beyond doubt*: its time is at least a tenth below the "
        "fastest of our calls. Bold figures\nin the tables of `bench.headline` and "
        "`bench.worst_case` below are losses, too.\n",
        tables.loss_table(result) + "\n",
    ]


def _quality(result: schema.Result, written: dict[str, str]) -> list[str]:
    lines = [
        "### How much of the gain, in what time\n",
        *_picture(written, "quality", "Share of the gain against time"),
        tables.near_optimal_table(result) + "\n",
    ]
    if tables.sweeps(result):
        lines += [
            "All settings of the picture. Best-of-k draws other noises instead of permuting these: "
            "its share by\ndistance counts that the chosen noises are shorter than noise is (their "
            "mean squared norm, in standard\ndeviations, is in the table); its share by inner "
            "product does not.\n",
            tables.pareto_table(result) + "\n",
        ]
    return lines


def _rest(result: schema.Result, written: dict[str, str]) -> list[str]:
    lines = ["### Memory\n", *_picture(written, "memory", "Peak memory")]
    lines += [tables.memory_table(result) + "\n", "### Distances\n"]
    lines += [tables.distance_table(result) + "\n"]
    if result["profile"]:
        lines += [
            "### What one call spends its time on\n",
            *_picture(written, "profile", "Shares of one call"),
            tables.profile_table(result["profile"]) + "\n",
            f"The largest share: **{largest_share(result)}**. "
            "Made by `python -m bench.profile_call`.\n",
        ]
    if result["work"]:
        lines += [
            "### Work that no machine changes\n",
            "Counted, not timed, and bounded by `tests/test_bench.py`; made by "
            "`python -m bench.work_counts`.\n",
            tables.work_table(result) + "\n",
        ]
    lines += ["### Peers\n", tables.peer_table(result) + "\n"]
    return [*lines, "Not measured:\n", tables.skip_table(result) + "\n"]


def largest_share(result: schema.Result) -> str:
    """The stage that most of the profiled calls spend most of their time on, with its range; and
    the calls for which it is another one."""
    profiles = result["profile"]
    names = [p["largest"] for p in profiles]
    name = max(names, key=names.count)
    shares = [p["largest_share"] for p in profiles if p["largest"] == name]
    others = [f"{tables.profile_name(p)}: {p['largest']}" for p in profiles if p["largest"] != name]
    return f"{name}, {min(shares):.0%} to {max(shares):.0%} of a call" + (
        f" (but {'; '.join(others)})" if others else ""
    )


def before_and_after(
    found: list[tuple[Path, schema.Result]],
) -> list[tuple[tuple[Path, schema.Result], tuple[Path, schema.Result]]]:
    """Each run with the tag "before", and the newest later one of its device and size."""
    pairs = []
    for k, (path, result) in enumerate(found):  # the oldest first
        same = [
            (later, other)
            for later, other in found[k + 1 :]
            if (slug(other["device"]), other["size"]) == (slug(result["device"]), result["size"])
        ]
        if result["tag"] == "before" and same:
            pairs.append(((path, result), same[-1]))
    return pairs


def changes(before: tuple[Path, schema.Result], after: tuple[Path, schema.Result]) -> str:
    return (
        f"## Before and after: commit {before[1]['commit']} and {after[1]['commit']}\n\n"
        "Our calls of the suite that took a tenth more or less time than before, in loops, "
        f"`{before[0].name}` and\n`{after[0].name}`. Made by `python -m bench.record "
        f"--{after[1]['size']} --compare`.\n\n" + tables.change_table(before[1], after[1]) + "\n"
    )


def history(found: list[tuple[Path, schema.Result]]) -> str:
    lines = [
        [
            f"`{p.name}`",
            r["created"][:16].replace("T", " "),
            r["device"]["name"],
            r["size"],
            r["commit"],
            str(len(r["rows"])),
        ]
        for p, r in found
    ]
    head = ["file", "measured (UTC)", "device", "size", "commit", "benchmarks"]
    return "## All recorded results\n\n" + tables.markdown(head, lines) + "\n"


def _picture(written: dict[str, str], name: str, text: str) -> list[str]:
    return [f"![{text}]({written[name]})\n"] if name in written else []


if __name__ == "__main__":
    raise SystemExit(main())
