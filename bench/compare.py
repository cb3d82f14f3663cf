"""One interleaved comparison: methods take turns on each problem; the ratio to the fastest peer.

    python -m bench.compare headline                  # see GROUPS in bench/cases.py
    python -m bench.compare shapes --families boxes --n 1000
    python -m bench.compare headline --before ../older    # and an older checkout in the same turns
    python -m bench.compare shapes --minutes 12 --add     # what today's file lacks, a piece of it
    python -m bench.compare pairs --device cuda           # copies from and to the device included

The file is written after each problem.

All get the same problem. Each method first solves it once or twice, untimed, and its answer is
judged: one that promises the optimum and misses it is no peer. Turns, in another order each time,
keep a slow moment of the machine, or a cache that another method warmed, from favouring one of
them; a call over ``SLOW`` seconds is timed once. The ratio is our median over that of the fastest
exact peer: below 1 we are faster.
"""

from __future__ import annotations

import argparse
import math
import pickle
import random
import statistics
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from immiscible_fast import solve_assignment
from tests import checks

from . import peers, record, tables
from .cases import GROUPS
from .peers import Method
from .problems import SAMPLES, Problem

FEWEST, MOST = 5, 40  # rounds
SLOW = 2.0  # seconds; a call that takes longer is timed once
LIMIT = 4.0  # seconds; what took longer is not asked at a larger n of the family
SHARE_DIGITS = 6


def timed(method: Method, problem: Problem) -> tuple[Any, float]:
    argument = problem.forms[method.takes]
    wait = torch.cuda.synchronize if problem.device == "cuda" else int
    wait()
    begin = time.perf_counter()
    answer = method.solve(argument)
    wait()
    seconds = time.perf_counter() - begin
    return answer, getattr(method.solve, "seconds", seconds)


def judged(problem: Problem, method: Method, answer: Any) -> float:
    """The share of the gain that an answer has; raises if it is wrong, or not as promised."""
    if not method.answers:
        return 1.0
    if not method.bijective:  # other noises: by inner product, which their norm does not help
        assert problem.samples is not None
        drawn = (problem.samples.x, problem.samples.noise, answer.cpu())
        x, before, after = (t.flatten(1).double() for t in drawn)
        return float(2 * (x * (after - before)).sum()) / (problem.identity - problem.best)
    index = np.asarray(torch.as_tensor(answer).cpu(), np.int64)
    costs = problem.costs
    paid = 0.0
    for cost, one in zip(costs, index.reshape(len(costs), -1), strict=True):
        checks.assert_matching(one, *cost.shape)
        paid += checks.total(cost, one)
    if method.exact:
        own = 4 * float(np.finfo(problem.cost.dtype).eps) * abs(problem.promised)  # of float32 sums
        allowed = max(own, sum(map(checks.rounding, costs)))
        if method.takes == SAMPLES:  # which rounded products of its own
            allowed += (1 - record.OPTIMAL) * abs(problem.identity - problem.promised)
        if not abs(paid - problem.promised) <= allowed:
            raise ArithmeticError(f"cost {paid:.9g}, optimal {problem.promised:.9g}")
    gain = problem.identity - problem.best
    return (problem.identity - paid) / gain if gain > 0 else 1.0


def side_by_side(
    problem: Problem,
    methods: list[Method],
    ours: str,
    *,
    seconds: float = 3.0,
    hopeless: float = math.inf,
    left_out: dict[str, str] | None = None,
) -> record.Row:
    """Medians of all methods on one problem, in turns of so many seconds together, and who was left
    out and why, besides those that are not to be asked. What is ``hopeless`` times as long as the
    fastest is timed once."""
    left_out = {} if left_out is None else dict(left_out)
    first: dict[str, float] = {}
    share = {}
    asked = [
        method
        for method in methods
        if method.name not in left_out
        and method.takes in problem.forms
        and method.only in ("", problem.device)
    ]
    for method in asked:
        try:
            answer, taken = timed(method, problem)
            if taken < SLOW or method.ours:  # the first call may have had to compile
                taken = timed(method, problem)[1]
            got = judged(problem, method, answer)
        except Exception as error:  # a peer may raise anything
            if method.name == ours:
                raise
            left_out[method.name] = f"{type(error).__name__}: {error}".splitlines()[0][:120]
            continue
        first[method.name] = taken
        if method.answers and (got < record.OPTIMAL or not method.exact):
            share[method.name] = round(got, SHARE_DIGITS)
    limit = min(SLOW, hopeless * min(first.values()))
    turns = [m for m in asked if first.get(m.name, math.inf) < limit or m.name == ours]
    all_once = sum(first[m.name] for m in turns)
    times = {name: [taken] for name, taken in first.items()}
    order = random.Random(0)
    for turn in range(int(np.clip(seconds / max(all_once, 1e-9), FEWEST, MOST))):
        order.shuffle(turns)
        for method in turns:
            if turn == 0:
                times[method.name].clear()
            times[method.name].append(timed(method, problem)[1])
    row: record.Row = {
        **problem.facts,
        "ms": {name: float(f"{1e3 * statistics.median(t):.4g}") for name, t in times.items()},
        "share": share,
        "left_out": left_out,
        "timed_once": [m.name for m in asked if m.name in first and m not in turns],
        "gap_sd": proven_gap(problem),
    }
    exact = [m.name for m in asked if m.exact and not m.ours and m.name in first]
    if peer := min(exact, key=row["ms"].__getitem__, default=""):
        row["fastest_peer"] = peer
        row["ratio"] = float(f"{row['ms'][ours] / row['ms'][peer]:.6g}")
    return row


def proven_gap(problem: Problem) -> float | None:
    """What our certificate leaves open of a square problem, in standard deviations a row."""
    cost = problem.cost
    square = cost.ndim == 2 and problem.n == problem.m and problem.promised == problem.best
    if not square or not np.isfinite(cost).all():
        return None
    gap = float(solve_assignment(torch.from_numpy(cost), method="exact").gap)
    return float(f"{gap / max(problem.n * checks.spread(cost), 1e-300):.3g}")


def line(row: record.Row, ours: str) -> str:
    shape = f"{row['batch']} x " * (row["batch"] > 1) + f"{row['n']} x {row['m']}"
    text = f"{row['family']:18} {shape:14} {row['dtype']:8} {row['ms'][ours]:10.4g} ms"
    if "before" in row["ms"]:
        text += f" (before {row['ms']['before']:g})"
    peer = row.get("fastest_peer")
    return f"{text}, {peer} {row['ms'][peer]:g} ms: {row['ratio']:.3g}" if peer else text


class Older:
    """``linear_sum_assignment`` of another checkout, in a process of its own, which times it."""

    def __init__(self, checkout: Path):
        command = [sys.executable, str(Path(__file__).with_name("older.py").resolve())]
        process = subprocess.Popen(
            command, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin and process.stdout
        self.sends, self.answers = process.stdin, process.stdout
        self.cost: Any = None
        self.seconds = 0.0  # of the last call

    def __call__(self, cost: Any) -> Any:
        pickle.dump(None if cost is self.cost else cost.numpy(), self.sends)
        self.sends.flush()
        self.cost = cost
        self.seconds, answer = pickle.load(self.answers)
        return peers.columns(answer, len(cost))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--families", nargs="+", metavar="NAME", help="of the group's, these")
    parser.add_argument("--n", nargs="+", type=int, help="of the group's sizes (n + m), these")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="besides ours, these")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--seconds", type=float, default=3.0, help="for the turns of a problem")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no problem later")
    parser.add_argument("--add", action="store_true", help="to the file of today, what it lacks")
    parser.add_argument("--threads", type=int, help="for all libraries; default: the group's")
    parser.add_argument("--before", type=Path, metavar="DIR", help="an older checkout of ours")
    parser.add_argument("--out", type=Path, help="folder, default: bench/results/<group>")
    options = parser.parse_args(argv)
    group = GROUPS[options.group]
    if options.threads or group.threads:
        record.pin(options.threads or group.threads)
    warnings.simplefilter("ignore")
    wanted = options.methods or [method.name for method in group.methods]
    methods = peers.named(group.methods, group.ours, *wanted)
    if options.before:
        methods.append(Method("before", Older(options.before), "before", exact=False))
    begin = time.monotonic()
    folder = options.out or record.RESULTS / options.group
    content: dict[str, Any] = {"peers": peers.inventory(methods), "ours": group.ours}
    content["device"] = device = record.device_facts(options.device, torch.get_num_threads())
    rows: list[record.Row] = record.of_today(folder, device).get("rows", []) if options.add else []
    there = {tuple(row["case"]) for row in rows}
    missing = [
        case
        for case in dict.fromkeys(group.cases)
        if case not in there
        and case[0] in (options.families or case)
        and group.size(case) in (options.n or [group.size(case)])
    ]
    while missing and time.monotonic() - begin < 60 * options.minutes:
        case = missing.pop(0)
        slow = {
            name: f"too slow at n = {row['n']}"
            for row in rows
            for name, ms in row["ms"].items()
            if row["case"][0] == case[0] and ms > 1e3 * LIMIT and name != group.ours
        }
        problem = replace(group.problem(*case), device=options.device)
        given = {"seconds": options.seconds, "left_out": slow}
        row = side_by_side(problem, methods, group.ours, hopeless=group.hopeless, **given)
        rows.append(row | {"case": case})
        record.save(folder, **content, rows=rows)
        print(line(row, group.ours), flush=True)
    print(tables.of_group(options.group, {"rows": rows}))
    print(record.save(folder, **content, rows=rows))
    if missing:
        print(f"{len(missing)} problems are left for --add")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
