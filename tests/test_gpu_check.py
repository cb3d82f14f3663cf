"""``make gpu-check`` without a GPU: what it decides and writes, and that each part runs."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("triton")
pytest.importorskip("sklearn")

import checks

from bench import gpu_check, record
from bench.gpu import __main__ as part_main
from bench.gpu import counts, jobs, model, pathologies, report, setting, small, stages, targets
from immiscible_fast import solve_assignment

PARTS = (*(name for name, part in gpu_check.PARTS.items() if not part.compares), "small")


def test_work_is_counted_by_hand():
    from immiscible_fast.kernels.gpu.problems import Problems

    matrix = 4 * 1024**2
    assert counts.product_bytes(2, 3, 5, size=2, out=4) == 2 * 5 * (2 + 3) + 4 * 2 * 3
    assert counts.stage_bytes("certificate", 1024, 64) == matrix + 1024 * 20
    assert counts.stage_bytes("sinkhorn", 1024, 64) == 24 * (matrix + 4 * 1024 * 4)
    assert counts.gigabytes_per_second(3_000_000, 1.0) == 3.0
    assert counts.teraflops(10**12, 1000.0) == 1.0
    assert counts.gigabytes_per_second(3, None) is counts.share(None, 4) is None
    for n in (1024, 2048, 2049, 8192, 8193):  # as the solver splits rows
        problems = Problems(torch.empty(1).expand(1, n, n))
        assert counts.rows_per_block(n) == problems.rows_per_block


def test_targets_are_met_missed_or_not_measured():
    plain = {"part": "calls", "case": "fast_assign", "inputs": "float32", "eager_ms": 9.0}
    rows = [
        {**plain, "n": 1024, "method": "auto", "graph_ms": 0.2, "share": 0.9995},
        {**plain, "n": 1024, "method": "auto", "inputs": "bfloat16", "graph_ms": 0.1},
        {**plain, "n": 4096, "method": "auto", "graph_ms": 0.3, "share": 0.9},
        {**plain, "n": 4096, "method": "exact", "graph_ms": None, "eager_ms": 4.0},
        {"part": "pairwise", "case": "bf16", "n": 4096, "of_matmul": 0.95},
        {"part": "pairwise", "case": "fp16", "n": 4096, "of_matmul": 0.85},
        {"part": "batches", "case": "solve_assignment", "n": 300, "batch": 208}
        | {"method": "exact", "eager_ms": 0.1, "wrong": "not a permutation"},
        {**plain, "n": 16384, "method": "auto", "eager_ms": None, "skipped": "no time left"},
    ]
    by_name = {row["target"]: row for row in targets.judged(rows)}
    status = {name: row["status"] for name, row in by_name.items()}
    assert by_name["fast_assign n=1024"]["figure"] == 0.2
    assert by_name["eager n=1024"]["figure"] == 9.0
    assert by_name["exact n=4096"]["figure"] == 4.0
    for name in ("fast_assign n=1024", "exact n=4096", "pairwise bf16 n=4096"):
        assert status[name] == targets.MET
    for name in (
        "eager n=1024",
        "fast_assign n=4096",  # its share
        "pairwise fp16 n=4096",
        "208 x (300 x 300) exact",  # its answer
    ):
        assert status[name] == targets.MISSED
    assert status["exact n=1024"] == status["fast_assign n=16384"] == targets.UNMEASURED
    assert "no time left" in report.target_line(by_name["fast_assign n=16384"])


def test_a_result_holds_what_a_killed_part_wrote():
    written = [json.dumps({"part": "pathologies", "case": "b", "wrong": "w"}), '{"part": "calls"']
    found = {"jobs": [], "rows": list(report.rows_of(written))}
    assert report.failures(found) == ["pathologies b: w"]


def test_parts_are_chosen_by_name_and_share_the_time(tmp_path):
    every = gpu_check.chosen(None)
    assert set(every) == {*gpu_check.CHECKS, *gpu_check.PARTS}
    assert gpu_check.chosen(["timings"]) == list(gpu_check.TIMINGS)
    weights = [part.seconds for name, part in gpu_check.PARTS.items() if name in every]
    assert gpu_check.CHECKING + sum(weights) <= gpu_check.SECONDS < 600
    options = gpu_check.parser().parse_args(["--dry-run", "--only", "calls", "peers"])
    check = gpu_check.Check(options, tmp_path)
    assert check.share("peers") == pytest.approx(gpu_check.SECONDS, abs=2)
    assert check.share("calls") == pytest.approx(gpu_check.SECONDS * 110 / 155, abs=2)


def test_without_a_gpu_the_command_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([]) == 2
    assert "no GPU" in capsys.readouterr().out


def test_the_sanitizer_is_found_and_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "SANITIZER_FOLDERS", (str(tmp_path),))
    monkeypatch.setenv("PATH", "/nowhere")
    assert jobs.find_sanitizer() is None
    tool = tmp_path / "compute-sanitizer"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert jobs.find_sanitizer() == str(tool)
    found = jobs.sanitizer_jobs(str(tool), ["python", "-m", "bench.gpu"], 100)
    assert [job.command[2] for job in found] == list(jobs.SANITIZER_TOOLS)
    assert found[0].command[-3:] == ["python", "-m", "bench.gpu"]
    assert "--error-exitcode" in found[0].command


def test_every_gpu_test_file_is_a_job_but_for_those_that_need_none():
    found = [job.command[3] for job in jobs.test_jobs("python", 10)]
    assert "tests/test_gpu_pairwise.py" in found
    assert not {"tests/test_gpu_ahead_of_time.py", "tests/test_gpu_check.py"} & set(found)


def test_jobs_end_well_or_ill_or_at_their_limit():
    def job(name, code, seconds=20.0):
        return jobs.Job(name, [sys.executable, "-S", "-c", code], seconds, {"WORD": "red"})

    found = {}
    begin = time.monotonic()
    jobs.run_together(
        [
            job("well", "import os; print(os.environ['WORD'], '== 2 passed in 1s')"),
            job("ill", "import sys; print('why'); sys.exit(3)"),
            job("late", "import time; time.sleep(60)", 0.5),
        ],
        lambda row: found.update({row["job"]: row}),
    )
    assert time.monotonic() - begin < 20
    status = {name: row["status"] for name, row in found.items()}
    assert status == {"well": jobs.OK, "ill": jobs.FAILED, "late": jobs.STOPPED}
    assert found["well"]["summary"] == "red == 2 passed in 1s"
    assert (found["ill"]["code"], found["ill"]["tail"]) == (3, "why\n")
    assert jobs.run(job("never", ""), 0.0)["status"] == jobs.STOPPED


@pytest.mark.parametrize("part", PARTS)
def test_a_part_runs_and_claims_nothing_without_a_device(part, tmp_path):
    rows = tmp_path / "rows.jsonl"
    sizes = gpu_check.PARTS[part].tiny if part in gpu_check.PARTS else (5, 9)
    told = {**gpu_check.TINY, "sizes": sizes, "seconds": 60.0}  # the CPU's solver will do
    assert part_main.main(part, str(rows), **told) == 0
    found = {"jobs": [], "rows": list(report.rows_of(rows.read_text().splitlines()))}
    assert found["rows"] and report.failures(found) == []
    timed = [key for row in found["rows"] for key, value in row.items()
             if key.endswith("_ms") and value is not None]  # fmt: skip
    assert not timed
    found["targets"] = targets.judged(found["rows"])
    assert report.NOT_MEASURED in report.text(found)


class Stopwatch:
    """What times are taken with on a GPU: events, graphs that do not run, and the profiler."""

    key, count, device_time_total = "update_kernel", 10, 5e3

    def __init__(self, **options):
        pass

    def record(self):
        self.time = time.perf_counter()

    def elapsed_time(self, other):
        return 1e3 * (other.time - self.time)

    def replay(self):
        pass

    def key_averages(self):
        return [self]


@pytest.mark.parametrize("part", ["calls", "batches", "pathologies", "stages"])
def test_a_part_is_timed(part, monkeypatch):
    changed = {"Event": Stopwatch, "CUDAGraph": Stopwatch, "graph": contextlib.nullcontext}
    changed |= dict.fromkeys(("max_memory_allocated", "memory_allocated"), lambda: 0)
    changed |= dict.fromkeys(("synchronize", "reset_peak_memory_stats", "current_stream"), int)
    for name, stand_in in changed.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(stages, "profile", lambda **_: contextlib.nullcontext(Stopwatch()))
    given = setting.Setting("cpu", True, gpu_check.PARTS[part].tiny, 4, 60.0)
    cases = importlib.import_module(f"bench.gpu.{part}").cases(given)
    for row in given.rows(itertools.islice(cases, 4)):
        assert "wrong" not in row and "skipped" not in row
        assert row["device_ms"] == 1 if part == "stages" else row["eager_ms"] > 0


def test_cases_that_fail_or_would_take_too_long_are_noted():
    given = setting.Setting("cpu", True, (), 4, 100.0)
    slow = [(10, 20), (20, 20), (20, 0)]  # n, calls
    cases = [setting.Case({"n": n}, lambda: {"eager_ms": 1e3}, calls) for n, calls in slow]
    rows = list(given.rows(cases))
    assert [row.get("skipped") for row in rows] == [
        None,
        "about 8.0 s a call, by a smaller n",
        None,
    ]
    (row,) = given.rows([setting.Case({"n": 9}, lambda: 1 / 0)])
    assert row == {"n": 9, "wrong": "ZeroDivisionError: division by zero"}
    (row,) = setting.Setting("cpu", True, (), 4, 1.0).rows(cases[:1])
    assert row["skipped"] == "no time left"


def test_a_result_is_written_after_every_part(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "device_facts", lambda *_: {"kind": "cuda", "name": "Some Device"})
    monkeypatch.setattr(record, "RESULTS", tmp_path)

    def run(job, until):
        if job.name == "calls":
            rows = Path(json.loads(job.command[-1])["rows"])
            rows.write_text(json.dumps({"part": job.name, "case": "a", "n": 1}) + "\n")
        else:
            folder = Path(job.command[job.command.index("--out") + 1])
            record.write({"rows": [{"family": "a", "n": 1, "m": 1, "ms": {}}]}, folder / "a.json")
        path = next((tmp_path / "gpu").glob("*"), None)
        seen.append(len(json.loads(path.read_text())["rows"]) if path else 0)
        outcome = {"status": jobs.FAILED if job.name == "calls" else jobs.OK, "seconds": 1.0}
        return {"job": job.name, "code": 0, "summary": "", **outcome}

    monkeypatch.setattr(jobs, "run", run)
    monkeypatch.setattr(jobs, "run_together", lambda these, done: None)
    words = ["--only", "calls", "peers", "--commit", "abc1234", "--n", "1024"]
    options = gpu_check.parser().parse_args([*words, "--output", str(tmp_path / "copy")])
    check = gpu_check.Check(options, tmp_path)
    seen = []
    check.all()
    path, copy = check.paths
    assert "-some-device-" in path.name and path.read_text() == copy.read_text()
    assert seen == [0, 1]
    result = json.loads(path.read_text())
    assert [row["part"] for row in result["rows"]] == ["calls", "peers"]
    assert result["commit"] == "abc1234"
    assert report.failures(result) == ["calls: failed (exit code 0)"]


def test_a_verdict_is_right_about_a_known_problem():
    x = torch.tensor([[0.0], [5.0], [9.0]])
    noise = torch.tensor([[8.0], [1.0], [4.0]])
    judge = setting.Judge(x, noise)
    best = judge.verdict(torch.tensor([1, 2, 0]))
    assert (best["share"], best["gap_sd"]) == (1.0, 0.0)
    assert judge.verdict(torch.tensor([0, 1, 2]))["share"] == 0.0
    assert judge.verdict(torch.tensor([0, 0, 2])) == {"wrong": "not a permutation"}
    cost = np.random.default_rng(0).normal(size=(9, 9))
    assert setting.deviation(torch.from_numpy(cost)) == pytest.approx(checks.spread(cost))


def test_wrong_answers_to_pathologies_are_noticed():
    def verdict(name="uniform", method="exact", **changed):
        answer = solve_assignment(cost, method="exact")._replace(**changed)
        return pathologies.verdict(name, cost, answer, method)

    cost = torch.from_numpy(pathologies.make("uniform", 6))
    right, wrong = solve_assignment(cost, method="exact"), torch.arange(6)
    paid = checks.total(cost, wrong)
    assert verdict() == verdict(method="auto") == ""
    for method in setting.METHODS:
        assert verdict(method=method, index=wrong)
        assert verdict(method=method, index=wrong, cost=torch.tensor(paid))
        assert verdict(method=method, cost=right.cost + 1)
        assert verdict(method=method, lower_bound=right.cost + 1)
        assert verdict(method=method, converged=torch.tensor(False))
        assert verdict(method=method, index=0 * wrong)
    assert verdict("nan") == "claims to have converged"
    cost = torch.from_numpy(pathologies.make("wide_range", 5))  # a rounding of the largest is more
    second = sorted(itertools.permutations(range(5)), key=lambda p: checks.total(cost, p))[1]
    paid = torch.tensor(checks.total(cost, second) * (1 + 1e-15))
    assert verdict("wide_range", index=torch.tensor(second), cost=paid).startswith("pays")


def test_small_cases_that_are_wrong_are_noticed(monkeypatch, tmp_path):
    monkeypatch.setattr(
        small,
        "solve_assignment",
        lambda *a, **k: (answer := solve_assignment(*a, **k))._replace(
            index=answer.index.roll(1, -1)
        ),
    )
    told = {**gpu_check.TINY, "sizes": (5, 9), "seconds": 60.0}
    assert part_main.main("small", str(tmp_path / "rows"), **told) == 1


def test_every_kernel_of_a_solve_has_a_stage():
    known = {*model.STAGES.values()} - {"forests", "matching", "last resort"}
    assert all(counts.stage_bytes(stage, 64, 8) > 4 * 64 * 64 for stage in known)
