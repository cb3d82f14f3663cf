"""How the benchmarks measure, judge, record and compare."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import measure, peers, record, schema
from immiscible_fast import solve_assignment

ROOT = record.ROOT


class Stopwatch:
    """Stands for pytest-benchmark's fixture; what it is told to run, it runs."""

    def __init__(self):
        self.extra_info, self.stats, self.group = {}, None, ""

    def pedantic(self, target, rounds, iterations):
        self.rounds = rounds
        for _ in range(rounds * iterations):
            result = target()
        return result


@pytest.mark.parametrize("foretold", [0.001, 10.0])
@pytest.mark.parametrize(
    ("seconds", "rounds"), [(1e-6, 200), (0.01, 20), (0.3, 3), (1.0, 2), (1.9, 2), (3.0, 1)]
)
def test_every_call_is_made_once_untimed_at_its_own_size(monkeypatch, foretold, seconds, rounds):
    def timed(call):
        call()
        calls.append("untimed")
        return seconds

    calls = []
    monkeypatch.setattr(measure, "SIZE", "quick")
    monkeypatch.setitem(measure.SECONDS, "quick", 0.2)
    monkeypatch.setattr(measure, "_timed", timed)
    case = measure.Case("solve", "photo", 256, 64, peers.Method("exact", solve_assignment))
    monkeypatch.setitem(measure._seconds, ("solve", "exact", "photo"), (256, foretold))
    watch = Stopwatch()
    measure.run(watch, case, lambda: calls.append("call"), lambda: calls.append("warm-up"))
    assert calls[:3] == ["warm-up", "call", "untimed"]
    assert watch.rounds == rounds


def test_short_calls_share_a_round(monkeypatch):
    monkeypatch.setattr(measure, "SIZE", "quick")
    assert measure.repeats(2e-6) == (200, 100)
    assert measure.repeats(measure.SHORTEST) == (200, 1)
    monkeypatch.setattr(measure, "SIZE", "tiny")
    assert measure.repeats(2e-6) == (2, 1)


def test_the_share_is_the_part_of_the_possible_gain(rng):
    cost = rng.random((9, 9)).astype(np.float32)
    cost[np.arange(9), np.arange(9)] += 1
    ref = measure.judge(cost)
    best = linear_sum_assignment(cost)[1]
    identity = np.arange(9)
    assert measure.assignment_quality(cost, identity, ref)["share"] == 0
    optimum = measure.assignment_quality(cost, best, ref)
    assert optimum["share"] == pytest.approx(1, abs=1e-5)
    assert optimum["gap"] == pytest.approx(0, abs=1e-5)
    between = np.roll(identity, 1)
    found = measure.assignment_quality(cost, between, ref)
    lowest, paid, start = (float(cost[identity, i].sum()) for i in (best, between, identity))
    assert found["share"] == pytest.approx((start - paid) / (start - lowest), abs=1e-4)
    assert found["share"] < 1
    assert found["gap"] == pytest.approx(paid - lowest, rel=1e-3)
    assert found["gap_sd"] == pytest.approx(found["gap"] / ref.unit, rel=1e-3)
    assert found["permutation"]
    assert not measure.assignment_quality(cost, np.zeros(9, int), ref)["permutation"]


def test_the_quality_of_several_problems_is_that_of_their_sums(rng):
    costs = [rng.random((n, n)).astype(np.float32) for n in (1, 5, 8)]
    refs = [measure.judge(cost) for cost in costs]
    indices = [np.roll(np.arange(len(cost)), 1) for cost in costs]
    each = [measure.assignment_quality(*one) for one in zip(costs, indices, refs, strict=True)]
    found = measure.summed_quality(costs, indices, refs)
    assert found["gap"] == pytest.approx(sum(one["gap"] for one in each), rel=1e-3)
    unit = sum(ref.unit for ref in refs)
    assert found["gap_sd"] == pytest.approx(found["gap"] / unit, rel=1e-3)
    gains = [ref.identity - ref.cost for ref in refs]
    share = sum(gain * one["share"] for gain, one in zip(gains, each, strict=True)) / sum(gains)
    assert found["share"] == pytest.approx(share, abs=1e-5)
    indices[1] = np.zeros(5, int)
    assert not measure.summed_quality(costs, indices, refs)["permutation"]


MEASURED = """
import contextlib, json, pathlib
import torch
from bench import memory

torch.ones({earlier} << 20, dtype=torch.uint8)
memory.METHODS["greedy"] = lambda drawn: torch.ones(len(drawn.x) << 17, dtype=torch.uint8)
found = memory.measure("greedy", 512, 16)
torch.ones(400 << 20, dtype=torch.uint8)
high = memory._peak()
with contextlib.suppress(OSError):
    pathlib.Path("/proc/self/clear_refs").write_text("5")
found["resettable"] = high - memory._peak() > 300 << 20
print(json.dumps(found))
"""


@pytest.mark.parametrize("earlier", [0, 400])
def test_memory_is_what_the_call_needs_at_its_peak(earlier):
    program = MEASURED.format(earlier=earlier)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    if earlier and not found["resettable"]:
        pytest.skip("this system cannot set the high-water mark back")
    assert 48 < found["peak_mib"] < 80  # 64 MiB for n = 512, given back when the call ends
    assert found["matrix_mib"] == 1
    assert found["inputs_mib"] == 0.06
    assert found["of_matrix"] == pytest.approx(found["peak_mib"], abs=0.01)
    assert found["seconds"] > 0


def raw_benchmark(method, seconds, ours, stage="solve"):
    names = ("median", "iqr", "min", "mean", "max", "stddev")
    return {
        "fullname": f"bench/test_{stage}.py::test_{stage}[{method}]",
        "extra_info": {
            **{"stage": stage, "family": "photo", "n": 256, "dim": 64, "batch": 1},
            **{"method": method, "takes": "centred", "ours": ours, "exact": True},
        },
        "stats": {**dict.fromkeys(names, seconds), "rounds": 3, "iterations": 1},
    }


def raw_run(seconds=1.0, peer=1.0, process=1.0, skipped=()):
    return {
        "benchmarks": [
            raw_benchmark("exact", seconds, True),
            raw_benchmark("auction 0.01", 1.0, True),
            raw_benchmark("scipy", peer, False),
            raw_benchmark("exact", process, True, "memory"),
        ],
        "immiscible": {"skipped": list(skipped), "threads": 2, "peers": {}},
    }


@pytest.fixture
def recorded(tmp_path):
    """A file with a result of the quick suite, as of long ago: without newer keys."""
    device = record.device_facts("cpu", torch.get_num_threads())
    head = {"schema": schema.VERSION, "created": "2026-01-31", "size": "quick", "commit": "abc"}
    path = tmp_path / "recorded.json"
    schema.write({**head, "device": device, "rows": schema.compact_rows(raw_run())}, path)
    return path


@pytest.mark.parametrize(
    ("run", "allowed", "slower"),
    [
        (raw_run(), "median:1%", []),
        (raw_run(1.2), "median:30%", []),
        (raw_run(1.4), "median:30%", ["exact]: median 1400 ms, recorded 1000 ms"]),
        (raw_run(1.4), "min:0.3", ["exact]: min 1400 ms, recorded 1000 ms"]),
        (raw_run(1.0, 9.0, 9.0), "median:30%", []),  # peers and memory are not ours to hold
    ],
)
def test_only_slower_calls_of_ours_fail(recorded, run, allowed, slower, capsys):
    check = record._slowdown(allowed)
    before = schema.read(recorded)
    compared, found = schema.slowed(before, run, check)
    assert compared == 2
    assert [line.partition("[")[2] for line in found] == slower
    assert record.passes(before, run, check) is not bool(slower)
    assert f"{len(slower)} of 2 benchmarks of ours" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reason", "count"), [("too slow: about 9 s a call", 1), ("missing: x", 0)]
)
def test_a_call_of_ours_that_became_too_slow_to_run_fails(recorded, reason, count):
    run = raw_run(
        skipped=[{"group": "solve photo n=256 D=64", "method": "exact", "reason": reason}]
    )
    del run["benchmarks"][0]
    _, found = schema.slowed(schema.read(recorded), run, record._slowdown("median:30%"))
    assert len(found) == count


def test_nothing_in_common_is_no_success(recorded, capsys):
    run = raw_run()
    run["benchmarks"] = run["benchmarks"][2:]  # scipy, and memory
    assert not record.passes(schema.read(recorded), run, record._slowdown("median:30%"))
    assert "no benchmark of ours is in both" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fail", "median:30%"], "argument --fail: needs --compare FILE"),
        (["--fail", "30"], "argument --fail: must be a time and .* got '30'"),
        (["--compare", "absent.json"], "argument --compare: must be a result .* got absent.json"),
        (["--compare", "README.md"], "argument --compare: must be a result .* got README.md"),
        (["--compare", "BESIDE"], "argument --compare: must be a result .* no benchmarks"),
        (["--tiny", "--compare", "RECORDED"], "benchmarks of --tiny, got .* one of --quick"),
    ],
)
def test_arguments_that_would_compare_nothing_are_refused(
    recorded, tmp_path, monkeypatch, capsys, arguments, words
):
    monkeypatch.chdir(ROOT)
    device = {"kind": "cpu", "name": "Some CPU", "threads": 2}
    beside = record.save(tmp_path, device, rows=[{"family": "onef"}])
    places = {"RECORDED": str(recorded), "BESIDE": str(beside)}
    with pytest.raises(SystemExit) as stop:
        record.parsed([places.get(argument, argument) for argument in arguments])
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(words, last), last


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        ([], record.RESULTS),
        (["--full"], record.RESULTS),
        (["--tiny"], record.SCRATCH),
        (["--only", "photo"], record.SCRATCH),
        (["--tiny", "--out", "here"], Path("here")),
    ],
)
def test_a_part_of_the_suite_does_not_stand_among_the_results(arguments, folder):
    options, before = record.parsed(arguments)
    assert options.out == folder
    assert before is None


def test_a_result_of_another_device_or_thread_count_draws_a_warning(recorded):
    options, before = record.parsed(["--compare", str(recorded)])
    assert record.other_device(before, options) == ""
    before["device"]["threads"] += 1
    assert "the times do not compare" in record.other_device(before, options)
    before["device"] = {"kind": "cuda", "name": "NVIDIA H100"}
    assert "is of nvidia-h100, this is " in record.other_device(before, options)


@pytest.mark.parametrize(
    ("commit", "folder", "warned"),
    [
        ("abc1234+", "results/headline", True),
        ("abc1234", "results/headline", False),
        ("", "results", False),
        ("abc1234+", "elsewhere", False),
    ],
)
def test_a_result_of_what_no_commit_holds_draws_a_warning(
    monkeypatch, tmp_path, capsys, commit, folder, warned
):
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(record, "commit", lambda: commit)
    device = {"kind": "cpu", "name": "Some CPU", "threads": 2}
    path = record.save(tmp_path / folder, device, rows=[])
    assert schema.read(path)["commit"] == commit
    assert ("differs from commit abc1234:" in capsys.readouterr().err) is warned


def test_record_writes_a_result_and_compares_with_it(monkeypatch, tmp_path, capfd):
    """Two runs of the real command; in the file between them, all recorded times shrink."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # under which nothing is timed
    monkeypatch.setattr(record, "measured_floors", lambda device: {})
    part = ["--tiny", "--only", "solve and uniform and (exact or scipy)"]
    assert record.main([*part, "--out", str(tmp_path / "before")]) == 0
    (path,) = (tmp_path / "before").glob("*-tiny.json")
    result = schema.read(path)
    assert {row["method"] for row in result["rows"]} == {"exact", "scipy"}
    assert all(row["share"] == pytest.approx(1, abs=1e-5) for row in result["rows"])
    assert all(row["rounds"] == 2 and row["gap_sd"] < 1e-5 for row in result["rows"])
    assert 0 < result["seconds"] < 120
    assert result["only"] == part[2]
    capfd.readouterr()

    for row in result["rows"]:
        row.update({f"{key}_ms": row[f"{key}_ms"] / 1000 for key in schema.TIMES})
    result["device"]["threads"] = 64
    schema.write(result, path)
    arguments = [*part, "--compare", str(path), "--fail", "median:30%", "--tag", "after"]
    assert record.main([*arguments, "--out", str(tmp_path / "after")]) == 1
    assert len(list((tmp_path / "after").glob("*-tiny-after.json"))) == 1
    printed, warned = capfd.readouterr()
    assert "(NOW)" in printed  # --benchmark-compare's own table
    assert "1 of 1 benchmarks of ours got slower" in printed
    assert "uniform-n=32-exact]: median" in printed
    assert "INTERNAL" not in printed + warned
    assert warned.count("the times do not compare") == 2


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("bench", "python -m bench.record --quick --tag before"),
        ("bench-full", "python -m bench.record --full --tag before"),
        ("headline", "python -m bench.headline --tag before"),
        ("product", "python -m bench.product --tag before"),
        ("worst-case", "python -m bench.worst_case --tag before"),
    ],
)
def test_make_runs_a_bench_in_an_environment_that_it_sets_up(tmp_path, target, command):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("setup.py", "constraints.txt"):
        (tmp_path / name).touch()
    planned = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", target, "ARGS=--tag before"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert ".[bench]" in planned
    assert planned.splitlines()[-1].endswith(command)
