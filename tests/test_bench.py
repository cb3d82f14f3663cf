"""The benchmarks: what could mislead a reader, a smoke run of each command, and work counts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from bench import cases, compare, peers, problems, record, tables
from bench.peers import Method
from tests import work_counts


@pytest.mark.parametrize("family", [*problems.SAMPLE_FAMILIES, *problems.COST_FAMILIES])
def test_a_family_follows_from_its_seed(family):
    n = 2 if "latents" in family else 12
    first, again = (problems.problem.__wrapped__(family, n, 3).cost for _ in range(2))
    assert first.shape == (n, n) and first.dtype == np.float32
    assert np.isfinite(first).all() and np.array_equal(first, again)


@pytest.mark.parametrize("method", peers.SOLVERS, ids=lambda method: method.name)
def test_a_solver_returns_a_matching_and_the_optimum_if_it_promises_it(method):
    for n, m in ((24, 24), (10, 24), (24, 10)) if method.rectangles else ((24, 24),):
        cost = np.random.default_rng(0).random((n, m), dtype=np.float32)
        try:
            index = np.asarray(method.solve(torch.from_numpy(cost)))
        except ImportError as error:
            pytest.skip(str(error))
        rows = np.flatnonzero(index >= 0)
        assert len(set(index[rows].tolist())) == min(n, m)
        if method.exact:
            best = cost[linear_sum_assignment(cost)].sum(dtype=np.float64)
            assert cost[rows, index[rows]].sum(dtype=np.float64) == pytest.approx(best, abs=1e-5)


def test_peers_that_are_missing_or_wrong_are_left_out_and_ratios_are_right():
    given = problems.problem("photo", 32)

    def late(cost):
        time.sleep(0.02)
        return peers.scipy_solve(cost)

    slow = Method("slow", late, "scipy")
    wrong = Method("wrong", lambda cost: np.arange(len(cost)), "numpy")
    absent = Method("absent", peers.peer("no_such_package:solve", 0), "no-such-package")
    methods = [peers.named(peers.SOLVERS, "exact")[0], slow, wrong, absent]
    row = compare.side_by_side(given, methods, "exact", seconds=0.05)
    assert row["fastest_peer"] == "slow"
    assert row["ratio"] < 1
    assert row["ratio"] == pytest.approx(row["ms"]["exact"] / row["ms"]["slow"], rel=1e-4)
    assert row["left_out"]["wrong"].startswith("ArithmeticError: cost")
    assert "no_such_package" in row["left_out"]["absent"]
    assert row["gap_sd"] < 1e-6
    assert peers.inventory(methods)["no-such-package"] == "unknown"


def test_an_answer_of_ours_that_is_wrong_stops_the_comparison():
    with pytest.raises(ArithmeticError, match="optimal"):
        wrong = Method("exact", lambda cost: np.arange(len(cost)))
        compare.side_by_side(problems.hard("uniform", 9, 9), [wrong], "exact", seconds=0.05)
    with pytest.raises(AssertionError):
        nothing = Method("exact", lambda cost: np.zeros(len(cost), int))
        compare.side_by_side(problems.hard("uniform", 9, 9), [nothing], "exact", seconds=0.05)


def test_the_share_is_the_part_of_the_possible_gain(rng):
    given = problems.problem("digits", 20)
    near = Method("near", None, exact=False)
    cost, best = given.cost, linear_sum_assignment(given.cost)[1]
    assert compare.judged(given, near, np.arange(20)) == 0
    assert compare.judged(given, near, best) == pytest.approx(1)
    between = rng.permutation(20)
    paid, least, start = (
        cost[np.arange(20), index].sum(dtype=np.float64) for index in (between, best, np.arange(20))
    )
    share = compare.judged(given, near, between)
    assert share == pytest.approx((start - paid) / (start - least))
    # Other noises are judged by inner product, which their norm does not help.
    other = Method("best of k", None, exact=False, bijective=False)
    chosen = given.samples.noise[torch.from_numpy(between)]
    assert compare.judged(given, other, chosen) == pytest.approx(share, abs=1e-5)
    assert compare.judged(given, other, 0 * chosen) < 1


def test_labels_are_held_to_the_optimum_within_them():
    given = problems.in_classes("photo", 24, 3)
    assert given.best < given.promised < given.identity
    found = {m.name: compare.judged(given, m, m.solve(given.samples)) for m in peers.LABELLED[:1]}
    assert found["exact, labels"] < 1
    free = Method("free", None, takes=peers.SAMPLES)
    with pytest.raises(ArithmeticError):
        compare.judged(given, free, linear_sum_assignment(given.cost)[1])


@pytest.mark.parametrize("words", [
    "headline --families uniform --n 16", "worst_case --families line --n 64",
    "shapes --families boxes --n 50", "batches --families photo --n 16",
    "pairs --families digits --n 64", "stages --n 64", "labels --n 256", "pool",
])  # fmt: skip
def test_each_group_is_compared_and_its_file_is_read_again(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compare, "FEWEST", 1)
    monkeypatch.setattr(record, "pin", lambda threads: None)
    group, *options = words.split()
    out = tmp_path / group
    arguments = [group, *options, "--seconds", "0.001", "--out", str(out)]
    assert compare.main(arguments) == 0
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    result = record.newest(group)
    ours = cases.GROUPS[group].ours
    assert result["rows"] and all(row["ms"][ours] > 0 for row in result["rows"])
    assert tables.of_group(group, result) in capsys.readouterr().out
    assert compare.main([*arguments, "--add"]) == 0
    assert record.newest(group)["rows"] == result["rows"]  # nothing was missing


def test_an_older_checkout_takes_its_turns(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "pin", lambda threads: None)
    checkout = Path(compare.__file__).parents[1]
    words = ["--families", "uniform", "--n", "64", "--seconds", "0.01", "--out", str(tmp_path)]
    assert compare.main(["headline", *words, "--before", str(checkout)]) == 0
    (row,) = json.loads(next(tmp_path.glob("*.json")).read_text())["rows"]
    assert row["ms"]["before"] > 0


def test_committed_results_have_the_form_of_today():
    for group in cases.GROUPS:
        result = record.newest(group)
        for row in result["rows"]:
            assert {"family", "n", "m", "ms"} <= row.keys()
            if "fastest_peer" in row:
                names = (result.get("ours"), "exact", "ours", "exact, labels")
                ours = next(name for name in names if name in row["ms"])
                ratio = row["ms"][ours] / row["ms"][row["fastest_peer"]]
                assert row["ratio"] == pytest.approx(ratio, rel=0.02, abs=0.01)


def test_the_worst_families_stand_first_and_bold():
    rows = [
        {"family": family, "n": n, "ratio": ratio, "fastest_peer": "lapx"}
        for family, n, ratio in (("easy", 64, 0.5), ("hard", 64, 3.0), ("hard", 256, 1.0))
    ]
    lines = tables.worst_families({"rows": rows}).splitlines()
    assert lines[2] == "| hard | **3.00 (lapx)** | 1.00 (lapx) |"
    assert lines[3] == "| easy | 0.50 (lapx) | - |"
    assert tables.worst_sentence({"rows": rows}) == (
        "over 1.5 times as long as the fastest peer on 1 of 2 at n = 64 (worst: hard, 3.0x), "
        "0 of 1 at n = 256 (worst: hard, 1.0x)"
    )


GREEDY = """
import torch
from bench import memory, peers

greedy = peers.Method("greedy", lambda drawn: torch.ones(len(drawn.x) << 17, dtype=torch.uint8))
peers.PAIRS.append(greedy)
print(memory.measure("greedy", 512, 16)["peak_mib"])
"""


def test_memory_is_what_the_call_needs_at_its_peak():
    done = subprocess.run(
        [sys.executable, "-c", GREEDY], cwd=record.ROOT, capture_output=True, text=True, check=True
    )
    assert 48 < float(done.stdout) < 80  # 64 MiB, given back when the call ends
    assert json.dumps(record.newest("memory")["rows"])


def test_a_result_of_what_no_commit_holds_draws_a_warning(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    for commit, folder, warned in (
        ("abc1234+", tmp_path / "x", True),
        ("abc1234", tmp_path / "x", False),
        ("abc1234+", tmp_path.parent, False),
    ):
        monkeypatch.setattr(record, "commit", lambda commit=commit: commit)
        record.save(folder / "one", rows=[])
        assert ("no commit holds" in capsys.readouterr().err) is warned


@pytest.mark.parametrize("case", work_counts.CASES, ids=lambda case: work_counts.case_name(*case))
def test_a_solve_takes_no_more_work_than_recorded(case):
    name = work_counts.case_name(*case)
    found = work_counts.exceeded(work_counts.counted(*case), work_counts.recorded()[name])
    assert not found, (
        f"{name} takes more work: {'; '.join(found)}. If that is meant (say, fewer of something "
        "dearer), record it: python -m tests.work_counts --write"
    )


def test_more_work_is_noticed():
    assert set(work_counts.recorded()) == {work_counts.case_name(*c) for c in work_counts.CASES}
    assert work_counts.exceeded({"bids": 1000}, {"bids": 900}) == []
    assert work_counts.exceeded({"bids": 1300}, {"bids": 900}) == ["bids: 1300, recorded 900"]
    assert work_counts.exceeded({"new": 100}, {}) == ["new: 100, recorded 0"]
