"""``make gpu-check`` without a GPU: what it decides and writes, and that each part runs."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("triton")
pytest.importorskip("sklearn")

from bench import gpu_check, record
from bench.gpu import counts, jobs, model, pathologies, report, setting, small, targets, tune

PARTS = ("calls", "batches", "stages", "pathologies", "peers", "tune", "pairwise")


@pytest.fixture
def found(monkeypatch):
    monkeypatch.setattr(record, "RESULTS", Path("nowhere"))
    return {"ceilings": {}, "jobs": [], "rows": [], "targets": []}


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


def test_a_result_holds_what_a_killed_part_wrote(found):
    written = [
        report.as_line({"part": "pairwise", "case": "ceilings", "copy_gb_s": None}),
        report.as_line({"part": "calls", "case": "fast_assign", "n": 8, "graph_same": False}),
        report.as_line({"part": "pathologies", "case": "b", "wrong": "w", "cost": float("inf")}),
        '{"part": "calls", "case": "fast_ass',
    ]
    report.add_rows(found, written)
    assert found["ceilings"] == {"copy_gb_s": None}
    assert [row["case"] for row in found["rows"]] == ["fast_assign", "b"]
    assert found["rows"][1]["cost"] == "inf"
    assert [line.partition(":")[0] for line in report.failures(found)] == [
        "calls fast_assign 8",
        "pathologies b",
    ]


def test_parts_are_chosen_by_name_and_share_the_time(tmp_path):
    every = gpu_check.chosen("")
    assert set(every) == {*gpu_check.CHECKS, *gpu_check.MODULES} - {"tune"}
    assert gpu_check.chosen("timings") == ["pairwise", "calls", "stages", "batches"]
    with pytest.raises(SystemExit, match="got 'all'"):
        gpu_check.chosen("all")
    assert {*gpu_check.WEIGHTS} == {"checks", *every} - {*gpu_check.CHECKS}
    assert sum(gpu_check.WEIGHTS.values()) <= gpu_check.SECONDS < 600
    options = gpu_check.parser().parse_args(["--dry-run", "--only", "calls,peers"])
    check = gpu_check.Check(options, tmp_path)
    assert check.share("peers") == pytest.approx(gpu_check.SECONDS, abs=2)
    assert check.share("calls") == pytest.approx(gpu_check.SECONDS * 110 / 170, abs=2)


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
    found = jobs.sanitizer_jobs("python", str(tool), 100)
    assert [job.command[2] for job in found] == list(jobs.SANITIZER_TOOLS)
    small_cases = ["python", "-m", "bench.gpu_check", "--small", "--seconds", "80"]
    assert found[0].command[-6:] == small_cases and "--error-exitcode" in found[0].command


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


def test_knobs_are_constants_that_there_are():
    for knob in tune.KNOBS:
        assert not knob.module or hasattr(importlib.import_module(knob.module), knob.attribute)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_runs_and_claims_nothing_without_a_device(part, tmp_path, monkeypatch, found):
    monkeypatch.setattr(gpu_check, "INTERPRETED", {})  # the CPU's solver will do
    rows = tmp_path / "rows.jsonl"
    words = ["--dry-run", "--part", part, "--rows", str(rows), "--seconds", "60"]
    assert gpu_check.main(words) == 0
    report.add_rows(found, rows.read_text().splitlines())
    assert found["rows"] and report.failures(found) == []
    timed = [key for row in found["rows"] for key, value in row.items()
             if key.endswith("_ms") and value is not None]  # fmt: skip
    assert not timed
    found["targets"] = targets.judged(found["rows"])
    assert report.NOT_MEASURED in report.text(found)


def test_a_result_is_written_after_every_part(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "device_facts", lambda *_: {"kind": "cuda", "name": "Some Device"})
    monkeypatch.setattr(record, "RESULTS", tmp_path)

    def run(job, until):
        if "--rows" in job.command:
            rows = Path(job.command[job.command.index("--rows") + 1])
            rows.write_text(report.as_line({"part": job.name, "case": "a", "n": 1}) + "\n")
        seen.append(json.loads(path.read_text())["rows"] if path.exists() else [])
        outcome = {"status": jobs.FAILED if job.name == "calls" else jobs.OK, "seconds": 1.0}
        return {"job": job.name, "code": 0, "summary": "", **outcome}

    monkeypatch.setattr(jobs, "run", run)
    monkeypatch.setattr(jobs, "run_together", lambda these, done: None)
    words = ["--only", "calls,peers", "--tag", "x", "--n", "1024"]
    options = gpu_check.parser().parse_args([*words, "--output", str(tmp_path / "copy")])
    check = gpu_check.Check(options, tmp_path)
    path, copy = check.paths
    seen = []
    check.all()
    assert path.name.endswith("-some-device-x.json") and path.read_text() == copy.read_text()
    assert [len(rows) for rows in seen] == [0, 1]
    result = json.loads(path.read_text())
    assert [row["part"] for row in result["rows"]] == ["calls", "peers"]
    assert report.failures(result) == ["calls: failed (exit code 0)"]
    assert gpu_check.new_path(path.parent, path.stem).name.endswith("-x-2.json")


def test_a_verdict_is_right_about_a_known_problem():
    x = torch.tensor([[0.0], [5.0], [9.0]])
    noise = torch.tensor([[8.0], [1.0], [4.0]])
    judged = setting.judge(x, noise, exact=True)
    best = judged.verdict(torch.tensor([1, 2, 0]))
    assert (best["share"], best["share_of"], best["gap_sd"]) == (1.0, "optimum", 0.0)
    assert judged.verdict(torch.tensor([0, 1, 2]))["share"] == 0.0
    assert judged.verdict(torch.tensor([0, 0, 2])) == {"wrong": "not a permutation"}
    cost = np.random.default_rng(0).normal(size=(9, 9))
    centred = cost - cost.mean(0) - cost.mean(1)[:, None] + cost.mean()
    assert setting.deviation(torch.from_numpy(cost)) == pytest.approx(centred.std())
    assert pathologies.deviation(cost) == pytest.approx(centred.std())


def test_wrong_answers_to_pathologies_are_noticed():
    cost = pathologies.make("uniform", 6)
    best = pathologies.optimum("uniform", 6)
    index = np.roll(np.arange(6), 1)
    paid = float(cost[np.arange(6), index].sum(dtype=np.float64))
    given = {"converged": True, "cost": paid, "bound": best, "optimum": best}

    def verdict(name="uniform", chosen=index, **changed):
        return pathologies.verdict(name, cost, chosen, "exact", {**given, **changed})

    assert "the optimum is" in verdict()
    assert verdict(optimum=None).startswith("the gap is")
    assert verdict(optimum=paid, bound=paid) == ""
    assert "passes the optimum" in verdict(optimum=paid, bound=paid + 1)
    assert verdict(cost=paid + 1).startswith("says")
    assert verdict(converged=False) == "not converged"
    assert verdict(chosen=np.zeros(6, int)) == "not a permutation"
    assert verdict("nan") == "claims to have converged"


def test_small_cases_are_right_and_wrong_ones_are_noticed(monkeypatch, capsys):
    assert small.run("cpu", 100.0, sizes=(5, 9), batch=2) == 0
    assert capsys.readouterr().out.count(": ok") == len(list(small.cases("cpu", (5, 9), 2)))
    solve = small.solve_assignment
    monkeypatch.setattr(
        small,
        "solve_assignment",
        lambda *a, **k: (answer := solve(*a, **k))._replace(index=answer.index.roll(1, -1)),
    )
    assert small.run("cpu", 100.0, sizes=(5, 9), batch=2) == 1


def test_every_kernel_of_a_solve_has_a_stage():
    known = {*model.STAGES.values()} - {"forests", "matching", "last resort"}
    assert all(counts.stage_bytes(stage, 64, 8) > 4 * 64 * 64 for stage in known)
