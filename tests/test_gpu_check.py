"""``make gpu-check`` without a GPU: what it counts, decides and writes, and that it runs at all."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

pytest.importorskip("triton")
pytest.importorskip("sklearn")

from bench import gpu_check
from bench.gpu import (
    clock,
    counts,
    jobs,
    report,
    targets,
    watch,
)

ROOT = Path(__file__).resolve().parent.parent


def empty():
    return report.empty({"kind": "cpu", "name": "none"}, {}, created="2026-01-31", commit="abc")


def test_work_is_counted_by_hand():
    assert counts.product_flops(2, 3, 5, batch=7) == 2 * 7 * 2 * 3 * 5
    assert counts.product_bytes(2, 3, 5, size=2, out=4) == 2 * 5 * (2 + 3) + 4 * 2 * 3
    matrix = 4 * 1024**2
    assert counts.stage_bytes("certificate", 1024, 64) == matrix + 1024 * 20
    assert counts.stage_bytes("sinkhorn", 1024, 64) == 24 * (matrix + 4 * 1024 * 4)
    assert counts.stage_bytes("sinkhorn", 1024, 64, exact=True) == 30 * (matrix + 4 * 1024 * 4)
    known = set(watch.STAGES.values()) - {"forests", "last resort", "restart"}
    assert all(counts.stage_bytes(stage, 64, 8) > 4 * 64 * 64 for stage in known)
    assert counts.stage_bytes("no such stage", 64, 8) is None
    assert counts.gigabytes_per_second(3_000_000, 1.0) == 3.0
    assert counts.teraflops(10**12, 1000.0) == 1.0
    assert counts.gigabytes_per_second(3, None) is counts.teraflops(3, None) is None
    assert counts.share(1, 4) == 0.25
    assert counts.share(None, 4) is counts.share(1, None) is None


def test_the_solver_splits_rows_as_the_counts_say():
    from immiscible_fast.kernels.gpu.problems import Problems
    from immiscible_fast.kernels.gpu.workspace import list_length

    for n in (1024, 2048, 2049, 8192, 8193):
        problems = Problems(torch.empty(1).expand(1, n, n))
        for exact in (True, False):
            assert counts.list_length(n, exact) == list_length(problems, exact)
        assert counts.rows_per_block(n) == problems.rows_per_block


def test_times_are_summed_up():
    assert clock.summary([]) == clock.UNTIMED
    assert clock.summary([4.0, 1.0, 2.0, 3.0]) == (2.5, 1.0, 1.0, 4)
    assert clock.NoClock().eager([lambda: None]).median is None


def test_the_device_clock_times_calls_and_replays(monkeypatch):
    """With stand-ins for the device, whose graphs do nothing."""

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = time.perf_counter()

        def elapsed_time(self, other):
            return 1e3 * (other.at - self.at)

    class Graph:
        def pool(self):
            return 1

        def replay(self):
            time.sleep(1e-4)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    streams = []
    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)
    capturing = []

    @contextlib.contextmanager
    def graph(_, pool):
        capturing.append(pool)
        yield
        capturing.clear()

    monkeypatch.setattr(torch.cuda, "graph", graph)
    turns = []
    both = [lambda k=k: turns.append(k) or torch.ones(3) for k in range(2)]
    found = clock.both(clock.EventClock(), both, 0.001)
    assert found["graph_same"] is True
    assert found["rounds"] >= clock.FEWEST
    assert found["graph_ms"] >= 0.1
    assert {0, 1} == set(turns)
    times, result = clock.EventClock().host(both[0], 0.0)
    assert times.rounds == 1
    assert result.shape == (3,)

    def waits():
        if capturing:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    assert streams == []
    failed = clock.both(clock.EventClock(), [waits], 0.001)
    assert failed["eager_ms"] >= 0
    assert failed["graph_ms"] is None
    assert failed["graph_error"] == (
        "RuntimeError: operation not permitted when stream is capturing"
    )
    assert streams == [None]  # the one before, not the capture's


def test_targets_are_met_missed_or_not_measured():
    plain = {"part": "calls", "case": "fast_assign", "inputs": "float32", "eager_ms": 9.0}
    rows = [
        {**plain, "n": 1024, "method": "auto", "graph_ms": 0.2, "share": 0.9995, "gap_sd": 1e-3},
        {**plain, "n": 1024, "method": "auto", "inputs": "bfloat16", "graph_ms": 0.1},
        {**plain, "n": 4096, "method": "auto", "graph_ms": 3.0, "share": 0.9, "gap_sd": 1e-3},
        {**plain, "n": 4096, "method": "exact", "graph_ms": 26.0},
        {"part": "pairwise", "case": "bf16", "n": 4096, "of_matmul": 0.95},
        {"part": "pairwise", "case": "fp16", "n": 4096, "of_matmul": 0.85},
        {"part": "batches", "case": "solve_assignment", "n": 300, "batch": 208}
        | {"method": "exact", "eager_ms": 4.0, "wrong": "not a permutation"},
        {"part": "calls", "case": "fast_assign", "n": 16384, "skipped": "no time left"}
        | {"method": "auto"},
    ]
    by_name = {row["target"]: row for row in targets.judged(rows)}
    status = {name: row["status"] for name, row in by_name.items()}
    assert status["fast_assign n=1024"] == targets.MET
    assert by_name["fast_assign n=1024"]["figure"] == 0.2
    assert status["eager n=1024"] == targets.MISSED
    assert by_name["eager n=1024"]["figure"] == 9.0
    assert status["fast_assign n=4096"] == targets.MISSED  # its share
    assert status["exact n=4096"] == targets.MISSED
    assert status["pairwise bf16 n=4096"] == targets.MET
    assert status["pairwise fp16 n=4096"] == targets.MISSED
    assert status["208 x (300 x 300) exact"] == targets.MISSED  # its answer
    assert status["exact n=1024"] == targets.UNMEASURED
    lines = "\n".join(report.target_line(row) for row in by_name.values())
    assert "fast_assign n=1024: 0.2 (eager 9 ms), wanted < 0.25 ms, share 0.9995" in lines
    assert "fast_assign n=16384: not measured no time left" in lines


def test_a_result_holds_what_a_killed_part_wrote(tmp_path):
    result = empty()
    written = [
        report.as_line({"part": "pairwise", "case": "ceilings", "copy_gb_s": None}),
        report.as_line({"part": "calls", "case": "fast_assign", "n": 8, "graph_same": False}),
        report.as_line({"part": "peers", "case": "a", "package": "a", "skipped": "missing (x)"}),
        report.as_line({"part": "pathologies", "case": "b", "wrong": "w", "cost": float("inf")}),
        '{"part": "calls", "case": "fast_ass',
    ]
    report.add_rows(result, written)
    result["jobs"] += [
        jobs.Outcome("memcheck", jobs.MISSING).row(),
        jobs.Outcome("tests a", jobs.FAILED, 1.0, 1, "== 1 failed, 2 passed in 3s ==").row(),
    ]
    result["targets"] = targets.judged(result["rows"])
    path = report.new_path(tmp_path, "2026-01-31-none")
    report.write(result, [path])
    assert report.new_path(tmp_path, "2026-01-31-none").name == "2026-01-31-none-2.json"
    again = json.loads(path.read_text())
    assert [row["case"] for row in again["rows"]] == ["fast_assign", "a", "b"]
    assert again["ceilings"] == {"copy_gb_s": None}
    assert again["peers"] == {"a": "missing (x)"}
    assert again["rows"][2]["cost"] == "inf"
    assert again["jobs"][1]["summary"] == "1 failed, 2 passed in 3s"
    found = report.failures(again)
    assert [line.partition(":")[0] for line in found] == ["tests a", "calls fast_assign 8",
                                                          "pathologies b"]  # fmt: skip
    assert "memcheck: not installed" in report.text(again)
    with pytest.raises(ValueError, match="must have part and case"):
        report.check({**again, "rows": [{"n": 3}]})
    with pytest.raises(ValueError, match="schema 1"):
        report.check({**again, "schema": 7})


def test_parts_are_chosen_by_name():
    every = gpu_check.chosen("")
    assert every[:2] == ["tests", "sanitizer"]
    assert set(every) == {*gpu_check.CHECKS, *gpu_check.MODULES} - {"tune"}
    assert gpu_check.chosen("timings") == ["pairwise", "calls", "stages", "batches"]
    assert gpu_check.chosen("peers,tests") == ["tests", "peers"]
    with pytest.raises(SystemExit, match="got 'all'"):
        gpu_check.chosen("all")
    assert {*gpu_check.WEIGHTS} == {"checks", *every} - {*gpu_check.CHECKS}
    assert sum(gpu_check.WEIGHTS.values()) <= gpu_check.SECONDS < 600


def test_the_time_that_is_left_goes_to_the_parts_that_are_left(tmp_path):
    options = gpu_check._parser().parse_args(["--dry-run", "--only", "calls,peers"])
    run = gpu_check.Run(options, tmp_path, time.monotonic())
    assert run.share("peers") == pytest.approx(gpu_check.SECONDS, abs=1)
    assert run.share("calls") == pytest.approx(gpu_check.SECONDS * 110 / 170, abs=1)
    assert run.share("checks") == pytest.approx(gpu_check.SECONDS * 170 / 340, abs=1)


def test_the_file_is_written_after_every_part(tmp_path, monkeypatch):
    """A run on a device, in which everything that would be started is a stand-in."""
    device = {"kind": "cuda", "name": "Some Device", "threads": 4}
    head = {"device": device, "versions": {}, "created": "2026-01-31T00:00:00+00:00", "commit": "c"}
    monkeypatch.setattr(gpu_check, "_head", lambda options: head)
    monkeypatch.setattr(gpu_check, "RESULTS", tmp_path / "results")
    started, rows_seen = [], []

    def run_together(these, folder, done):
        for job in these:
            started.append(job.name)
            if "--rows" in job.command and "--untimed" not in job.command:
                rows = Path(job.command[job.command.index("--rows") + 1])
                rows.write_text(report.as_line({"part": job.name, "case": "a", "n": 1}) + "\n")
            done(jobs.Outcome(job.name, jobs.FAILED if job.name == "calls" else jobs.OK, 1.0, 0))
            files = list((tmp_path / "results").glob("*.json"))
            rows_seen.append(len(json.loads(files[0].read_text())["rows"]) if files else 0)

    monkeypatch.setattr(jobs, "run_together", run_together)
    arguments = ["--no-install", "--only", "calls,peers", "--tag", "x", "--n", "1024"]
    options = gpu_check._parser().parse_args([*arguments, "--output", str(tmp_path / "copy")])
    run = gpu_check.Run(options, tmp_path, time.monotonic())
    run.all()
    assert started[:2] == ["compile calls n=1024", "compile calls n=2048"]
    assert started[-2:] == ["calls", "peers"]
    assert rows_seen[-1] >= 1
    (path,) = (tmp_path / "results").glob("*.json")
    assert path.name == "2026-01-31-some-device-x.json"
    assert path.read_text() == (tmp_path / "copy" / path.name).read_text()
    result = json.loads(path.read_text())
    assert [row["part"] for row in result["rows"]] == ["calls", "peers"]
    assert [job["job"] for job in result["jobs"]] == ["calls", "peers"]
    assert report.failures(result) == ["calls: failed (exit code 0)"]


def test_a_device_is_described(monkeypatch):
    found = types.SimpleNamespace(major=9, minor=0, multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: found)
    monkeypatch.setenv("PATH", "/nowhere")
    facts = gpu_check._gpu_facts()
    assert (facts["capability"], facts["multiprocessors"], facts["driver"]) == ("9.0", 132, "")


def test_without_a_gpu_the_command_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([]) == 2
    assert "no GPU" in capsys.readouterr().out


def test_the_sanitizer_is_found_and_told_what_to_do(tmp_path, monkeypatch):
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(jobs, "SANITIZER_FOLDERS", (str(tmp_path),))
    monkeypatch.setenv("PATH", "/nowhere")
    assert jobs.find_sanitizer() is None
    tool = tmp_path / "compute-sanitizer"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert jobs.find_sanitizer() == str(tool)
    memcheck, *others = jobs.sanitizer_jobs("python", str(tool), 100)
    assert memcheck.command[:3] == [str(tool), "--tool", "memcheck"]
    assert [job.command[2] for job in others] == ["racecheck", "synccheck", "initcheck"]
    assert "--error-exitcode" in memcheck.command
    start = memcheck.command.index("python")
    assert memcheck.command[start:] == [
        *("python", "-m", "bench.gpu_check", "--small", "--seconds", "80"),
    ]
    assert memcheck.environment["PYTORCH_NO_CUDA_MEMORY_CACHING"] == "1"


def test_every_gpu_test_file_is_a_job_but_for_those_that_need_none():
    found = [job.command[3] for job in jobs.test_jobs("python", 10)]
    assert "tests/test_gpu_pairwise.py" in found
    assert not {"tests/test_gpu_ahead_of_time.py", "tests/test_gpu_check.py"} & set(found)
    assert all("--collect-only" in job.command for job in jobs.test_jobs("p", 10, collect=True))


def test_jobs_end_well_or_ill_or_at_their_limit(tmp_path):
    def job(name, code, seconds=20.0):
        return jobs.Job(name, [sys.executable, "-S", "-c", code], seconds, {"WORD": "red"})

    found = {}
    begin = time.monotonic()
    jobs.run_together(
        [
            job("well", "import os; print(os.environ['WORD'])"),
            job("ill", "import sys; print('why'); sys.exit(3)"),
            job("late", "import time; time.sleep(60)", 0.5),
        ],
        tmp_path,
        lambda outcome: found.update({outcome.name: outcome}),
    )
    assert time.monotonic() - begin < 20
    assert {name: one.status for name, one in found.items()} == {
        "well": jobs.OK,
        "ill": jobs.FAILED,
        "late": jobs.STOPPED,
    }
    assert found["well"].tail == "red\n"
    assert (found["ill"].code, found["ill"].row()["tail"]) == (3, "why\n")
    jobs.run_together([job("never", "", 0.0)], tmp_path, lambda one: found.update(x=one))
    assert found["x"].status == jobs.STOPPED


@pytest.mark.skipif(
    importlib.util.find_spec("pip") is None or importlib.util.find_spec("setuptools") is None,
    reason="pip or setuptools is not installed",
)
def test_the_checkout_installs_without_a_network(tmp_path, monkeypatch):
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    for name in ("immiscible_fast", "kernels"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(jobs, "ROOT", checkout)
    python, environment = jobs.install(tmp_path)
    assert python == str(tmp_path / "venv" / "bin" / "python")
    assert environment == {}
    where = "import importlib.util as u; print(u.find_spec('immiscible_fast.kernels').origin)"
    asked = subprocess.run(
        [python, "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(asked.stdout.strip()) == checkout / "kernels" / "__init__.py"


def test_links_stand_for_an_installation(tmp_path):
    environment = jobs.linked(tmp_path / "linked")
    folder = Path(environment["PYTHONPATH"])
    assert (folder / "immiscible_fast" / "kernels" / "gpu" / "forest.py").is_file()
    assert (folder / "bench" / "gpu_check.py").is_file()


def test_the_command_runs_dry_and_records_nothing(capsys):
    before = sorted(gpu_check.RESULTS.glob("*")) if gpu_check.RESULTS.exists() else []
    code = gpu_check.main(["--dry-run", "--no-install", "--only", "sanitizer,pairwise"])
    shown = capsys.readouterr().out
    assert code == 0, shown
    assert "pairwise: ok" in shown
    assert "memcheck: not installed" in shown
    assert "pairwise bf16 n=4096: not measured" in shown
    assert (sorted(gpu_check.RESULTS.glob("*")) if gpu_check.RESULTS.exists() else []) == before
