"""The parts of ``make gpu-check`` without a GPU: tiny, and with a clock that times nothing."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

pytest.importorskip("triton")
pytest.importorskip("sklearn")

from bench import gpu_check
from bench.gpu import (
    calls,
    clock,
    pathologies,
    products,
    quality,
    report,
    rivals,
    setting,
    small,
    stages,
    tune,
)


class FakeClock(clock.NoClock):
    """Says that it measured, so that what is done with figures can be tested."""

    timed = True

    def eager(self, calls, seconds=0):
        for call in calls:
            call()
        return clock.summary([2.0, 1.0, 3.0])

    def graph(self, calls, seconds=0):
        return clock.summary([1.0]), True

    def enqueue(self, calls):
        return 0.5

    def host(self, call, seconds=0):
        return clock.summary([1.0]), call()

    def peak(self, call):
        return 4 * 8 * 8

    def mark(self):
        return time.perf_counter()

    def between(self, start, stop):
        return 1e3 * (stop - start)


def tiny(device_clock, **options):
    return setting.Setting("cpu", device_clock, setting.TINY, 1000.0, **options)


def rows_of(name, tmp_path):
    """Rows of a part as the command gets them, on the CPU's own solver."""
    rows = tmp_path / "rows.jsonl"
    assert gpu_check.measure_part(name, rows, 1000.0, dry=True, untimed=False, only_n=()) == 0
    result = report.empty({"kind": "cpu", "name": "none"}, {}, created="", commit="")
    report.add_rows(result, rows.read_text().splitlines())
    report.check(result)
    return result


@pytest.mark.parametrize("name", ["calls", "batches", "pathologies", "peers", "tune"])
def test_a_part_runs_and_claims_nothing_without_a_device(name, tmp_path, monkeypatch):
    monkeypatch.delenv("IMMISCIBLE_BACKEND", raising=False)
    monkeypatch.setattr(pathologies, "UNSOLVABLE", ())  # a CPU raises what a GPU must not look for
    result = rows_of(name, tmp_path)
    assert result["rows"]
    assert not report.failures(result)
    timed = [key for row in result["rows"] for key, value in row.items()
             if key.endswith("_ms") and value is not None]  # fmt: skip
    assert not timed
    assert report.NOT_MEASURED in report.text(result) or name == "pathologies"


def test_stages_and_kernels_are_marked_where_they_are_called(monkeypatch):
    monkeypatch.setenv("IMMISCIBLE_BACKEND", "triton")
    monkeypatch.setattr(stages, "METHODS", ("auto",))
    monkeypatch.setattr(stages, "REPEATS", 1)
    by_name = {knob.name: knob for knob in tune.KNOBS}
    with (
        tune.turned(by_name["sinkhorn updates, exact"], 2),
        tune.turned(by_name["bid rounds"], 3),
    ):
        rows = list(stages.measure(tiny(FakeClock())))
    assert not [row for row in rows if "skipped" in row]
    found = {row["case"]: row for row in rows}
    stages_of_all = {"distances", "statistics", "sinkhorn", "matching", "forests", "last resort"}
    assert stages_of_all <= set(found)
    assert found["sinkhorn"]["device_ms"] > 0
    assert found["update_kernel"]["launches"] == 2
    assert found["forest_kernel"]["launches"] == 1
    assert found["forests"]["gb_s"] is None


def test_knobs_are_turned_back():
    from immiscible_fast.kernels.gpu import workspace

    from immiscible_fast.backends import triton_gpu

    assert all(tune.exists(knob) for knob in tune.KNOBS)
    before = workspace.ROUNDS, triton_gpu._precision
    precision = next(knob for knob in tune.KNOBS if knob.name == "precision")
    with pytest.raises(ZeroDivisionError), tune.turned(precision, "tf32"):
        assert triton_gpu._precision(torch.device("cpu")) == "tf32"
        raise ZeroDivisionError
    assert (workspace.ROUNDS, triton_gpu._precision) == before


def test_products_are_checked_before_they_are_timed(monkeypatch):
    rows = list(products.measure(tiny(FakeClock())))
    assert rows[0]["case"] == "ceilings"
    assert rows[0]["copy_gb_s"] > 0
    assert rows[1]["of_matmul"] == 1.0
    assert rows[1]["error"] < 1e-5
    kernel = "immiscible_fast.kernels.gpu.pairwise.pairwise"
    monkeypatch.setattr(kernel, lambda x, y, out, **options: out.fill_(1.0))
    wrong = list(products.measure(tiny(FakeClock())))[1]
    assert wrong["failed"]
    assert "relative error" in wrong["skipped"]


def test_calls_are_judged_and_slow_ones_foretold(monkeypatch):
    monkeypatch.delenv("IMMISCIBLE_BACKEND", raising=False)
    rows = list(calls.measure(tiny(FakeClock())))
    assert [row["method"] for row in rows] == ["auto", "exact"]
    assert rows[0]["share"] == rows[1]["share"] == 1.0
    assert rows[0]["peak_of_matrix"] == 1.0
    forecast = calls.Forecast()
    assert forecast.of(64) == 0
    forecast.add(8, 1000.0)
    assert forecast.of(16) == 8.0
    few = list(calls.measure(tiny(FakeClock(), only_n=(3,))))
    assert few == []


def test_a_verdict_is_right_about_a_known_problem():
    x = torch.tensor([[0.0], [5.0], [9.0]])
    noise = torch.tensor([[8.0], [1.0], [4.0]])
    judged = quality.judge(x, noise, exact=True)
    best = judged.verdict(torch.tensor([1, 2, 0]))
    assert (best["share"], best["share_of"], best["gap_sd"]) == (1.0, "optimum", 0.0)
    worse = judged.verdict(torch.tensor([0, 1, 2]))
    assert worse["share"] == 0.0
    assert worse["gap_sd"] > 0.1
    assert judged.verdict(torch.tensor([0, 0, 2])) == {"wrong": "not a permutation"}
    cost = np.random.default_rng(0).normal(size=(9, 9))
    centred = cost - cost.mean(0) - cost.mean(1)[:, None] + cost.mean()
    assert quality.deviation(torch.from_numpy(cost)) == pytest.approx(centred.std())
    assert pathologies.deviation(cost) == pytest.approx(centred.std())


def test_wrong_answers_to_pathologies_are_noticed():
    cost = pathologies.make("uniform", 6)
    best = pathologies.optimum("uniform", 6)
    index = np.roll(np.arange(6), 1)
    paid = float(cost[np.arange(6), index].sum(dtype=np.float64))
    found = {"converged": True, "cost": paid, "bound": best, "optimum": best}

    def verdict(name="uniform", chosen=index, **changed):
        return pathologies.verdict(name, cost, chosen, "exact", {**found, **changed})

    assert "the optimum is" in verdict()
    assert verdict(optimum=None).startswith("the gap is")
    assert verdict(optimum=paid, bound=paid) == ""
    assert "passes the optimum" in verdict(optimum=paid, bound=paid + 1)
    assert verdict(cost=paid + 1).startswith("says")
    assert verdict(converged=False) == "not converged"
    assert verdict(chosen=np.zeros(6, int)) == "not a permutation"
    assert verdict("nan") == "claims to have converged"
    assert np.isinf(pathologies.make("row_forbidden", 6)).sum() == 6
    cases = [("uniform", 6), ("sparse", 6)]
    assert pathologies.optima(cases, 1.0)[cases[0]] == best


def test_peers_that_are_missing_are_named():
    absent = rivals.Rival("a", lambda drawn: drawn, "a", "no_such_module")
    assert rivals.missing(absent, "cuda").startswith("missing (ModuleNotFoundError")
    assert rivals.missing(rivals.RIVALS[0], "cuda") == ""


def test_small_cases_are_right(monkeypatch, capsys):
    monkeypatch.delenv("IMMISCIBLE_BACKEND", raising=False)
    for name in ("solve_assignment", "fast_assign"):  # by SciPy: nothing has to be compiled
        solve = getattr(small, name)
        monkeypatch.setattr(
            small, name, lambda *a, solve=solve, **k: solve(*a, **{**k, "method": "scipy"})
        )
    assert small.run("cpu", 100.0, sizes=(5, 9), batch=2) == 0
    assert capsys.readouterr().out.count(": ok") == len(small.cases("cpu", (5, 9), 2))
    assert small.run("cpu", -1.0, sizes=(5, 9), batch=2) == 0
    assert "stopped after 0" in capsys.readouterr().out
