"""``python -m immiscible_fast bench``: its figures, its advice, and what it says beforehand."""

from __future__ import annotations

import sys
import types
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.utils._python_dispatch import TorchDispatchMode

from immiscible_fast import benchmark


def run(progress=False, **options):
    return benchmark.run(**{"n": 32, "dim": 48, "repeats": 2, "progress": progress, **options})


def row(method, milliseconds, share=1.0):
    ours = method in benchmark.OWN
    return benchmark.Row(method, ours, milliseconds, milliseconds, 1, 0.0, share)


def test_the_users_benchmark_compares_and_advises():
    table = run()
    by_name = {row.method: row for row in table.rows}
    assert list(by_name) == list(benchmark.DEFAULT_METHODS)
    assert by_name["exact"].share == pytest.approx(1, abs=1e-6)
    assert abs(by_name["exact"].gap) < 1e-6
    assert by_name["centred + scipy"].share == pytest.approx(1, abs=1e-5)
    assert 0 <= by_name["auction"].gap < 0.02
    assert all(row.median_ms >= row.fastest_ms > 0 and row.runs == 2 for row in table.rows)
    text = benchmark.render(table)
    assert "cdist + scipy" in text
    assert table.advice in text
    assert "n = 32, D = 48" in text


def test_the_advice_follows_the_figures():
    rows = [row("exact", 10.0), row("auction", 5.0, 0.999), row("cdist + scipy", 80.0)]
    advice = benchmark._advice(rows, 1.0)
    assert "8.0 times faster than cdist + scipy." in advice
    assert 'method="auction" takes 5.00 ms for 99.90% of the gain' in advice
    assert "distance product" not in advice
    assert "70% of the call is the distance product" in benchmark._advice(rows, 7.0)
    slow = [row("exact", 10.0), row("cdist + scipy", 4.0)]
    assert benchmark._advice(slow, 1.0).startswith("Keep cdist + scipy for this size")


def test_no_advice_follows_from_a_product_that_took_longer_than_the_call():
    rows = [row("exact", 10.0), row("cdist + scipy", 80.0)]
    assert "100% of the call" in benchmark._advice(rows, 10.0)
    advice = benchmark._advice(rows, 10.1)
    assert advice.endswith("faster than cdist + scipy.")
    assert "of the call" not in advice


def test_the_advice_names_the_fastest_of_the_others_and_of_ours():
    rows = [row("exact", 10.0), row("cdist + scipy", 80.0), row("lapx", 30.0)]
    assert "8.0 times faster than cdist + scipy and 3.0 times faster than lapx." in (
        benchmark._advice(rows, 1.0)
    )
    rows += [row("auction", 5.0), row("sinkhorn", 2.0, 0.99)]
    assert 'method="sinkhorn" takes 2.00 ms for 99.00% of' in benchmark._advice(rows, 1.0)
    rows.append(row("lapjv", 4.0))
    advice = benchmark._advice(rows, 1.0)
    assert advice.startswith("Keep lapjv")
    assert 'method="sinkhorn" takes 2.00 ms' in advice
    rows.append(row("pot", 2.1))
    assert "sinkhorn" not in benchmark._advice(rows, 1.0)


def test_the_advice_makes_no_verdict_of_a_tie():
    rows = [row("exact", 10.0), row("cdist + scipy", 80.0), row("centred + scipy", 9.2)]
    advice = benchmark._advice(rows, 1.0)
    assert "8.0 times faster than cdist + scipy and about as fast as centred + scipy." in advice
    rows[2] = row("centred + scipy", 10.9)
    assert "about as fast as centred + scipy." in benchmark._advice(rows, 1.0)
    rows[2] = row("centred + scipy", 11.1)
    assert "and 1.1 times faster than centred + scipy." in benchmark._advice(rows, 1.0)
    rows[2] = row("centred + scipy", 9.0)
    assert benchmark._advice(rows, 1.0).startswith("Keep centred + scipy for this size")


@pytest.mark.parametrize("methods", [["exact", "auction"], ["cdist + scipy"]])
def test_a_comparison_takes_two_sides(methods):
    assert run(methods=methods).advice.startswith("Name at least one of our methods and one of")


@pytest.mark.parametrize(
    ("methods", "baseline"),
    [
        (["exact", "centred + scipy", "cdist + scipy"], "cdist + scipy"),
        (["auction", "exact", "centred + scipy"], "centred + scipy"),
        (["auction", "exact"], "auction"),
    ],
)
def test_the_table_names_what_a_speed_up_is_over(methods, baseline):
    lines = benchmark.render(run(methods=methods)).splitlines()
    assert lines[1].endswith(f"  speed-up over {baseline}")
    (line,) = (line for line in lines[2:-2] if line.startswith(f"{baseline} "))
    assert line.endswith(" 1.00x")


def test_the_product_takes_turns_with_the_methods(monkeypatch):
    shown = []
    monkeypatch.setattr(benchmark, "shown_steps", lambda *_: nullcontext(shown.append))
    run(methods=["exact", "cdist + scipy"])
    turns = [text for text in shown if text.startswith("round")]
    names = ("distance product", "exact", "cdist + scipy")
    assert turns == [f"round {k} of 2: {name}" for k in (1, 2) for name in names]


class Copies(TorchDispatchMode):
    """Operations whose results are as large as the inputs, and no views of them."""

    def __init__(self, *inputs):
        super().__init__()
        self.size = inputs[0].numel()
        self.inputs = {tensor.untyped_storage().data_ptr() for tensor in inputs}
        self.names, self.count = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.count += 1
        large = isinstance(out, torch.Tensor) and out.numel() >= self.size
        if large and out.untyped_storage().data_ptr() not in self.inputs:
            self.names.append(str(func))
        return out


def test_neither_the_product_nor_scipy_is_held_up_by_copies_of_wide_samples(monkeypatch):
    drawn = benchmark._images_and_noise(8, 4096, torch.device("cpu"))
    monkeypatch.setattr(benchmark, "_images_and_noise", lambda *_: drawn)
    with Copies(*drawn) as seen:
        run(n=8, dim=4096, methods=["centred + scipy"])
    assert seen.count > 10
    assert seen.names == []


def test_centring_the_product_changes_no_assignment():
    x, noise = benchmark._images_and_noise(40, 64, torch.device("cpu"))
    x += 3
    cost = benchmark._centred(x @ noise.T)
    assert cost.mean(0).abs().max() < 1e-4
    assert cost.mean(1).abs().max() < 1e-4
    squared = torch.cdist(x.double(), noise.double()).square()
    assert np.array_equal(linear_sum_assignment(cost)[1], linear_sum_assignment(squared)[1])


def test_sinkhorn_is_measured_by_default_where_it_is_the_default():
    assert "sinkhorn" not in benchmark.default_methods("cpu")
    for device in ("cuda", "cuda:1"):
        assert {*benchmark.default_methods(device)} == {
            *benchmark.DEFAULT_METHODS,
            "sinkhorn",
        }


def test_a_method_named_twice_is_measured_once():
    assert [row.method for row in run(methods=["exact", "exact"]).rows] == ["exact"]


@pytest.mark.parametrize("method", benchmark.PEERS)
@pytest.mark.filterwarnings("ignore")
def test_other_packages_solve_the_same_problem(method):
    pytest.importorskip(benchmark.PEERS[method][1])
    (found,) = run(n=40, methods=[method]).rows
    assert not found.ours
    assert abs(found.gap) < 1e-6
    assert found.share == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"dim": -1}, "dim must be at least 1, got -1"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"methods": []}, "at least one method"),
        ({"methods": ["best"]}, "got 'best'"),
        ({"device": "gpu"}, r"device must be one that torch can use here \(cpu.*\), got 'gpu'"),
        ({"device": "meta"}, "got 'meta'"),
        ({"device": "cuda:99"}, "got 'cuda:99'"),
        ({"n": 10**8}, r"fit into memory, got n = 100000000 and dim = 3072, which take about 14"),
        ({"dim": 10**12}, r"n and dim must fit into memory, got n = 1024 and dim = 1000000000000"),
    ],
)
def test_the_users_benchmark_names_what_cannot_work(options, words):
    with pytest.raises(ValueError, match=words):
        benchmark.run(**options)


@pytest.mark.parametrize(
    ("module", "reason"),
    [(None, "ModuleNotFoundError"), (types.ModuleType("lap"), "AttributeError")],
    ids=["missing", "another"],
)
def test_a_package_that_is_missing_is_named(module, reason, monkeypatch):
    monkeypatch.setitem(sys.modules, "lap", module)
    words = rf"methods must be installed, got 'lapx': pip install lapx \({reason}"
    with pytest.raises(ValueError, match=words):
        run(methods=["exact", "lapx"])


@pytest.mark.parametrize(
    ("methods", "matrices"), [(["exact"], 4), (["exact", "cdist + scipy"], 4), (["pot"], 14)]
)
def test_memory_is_asked_for_before_it_is_taken(methods, matrices, monkeypatch):
    if methods == ["pot"]:
        pytest.importorskip("ot")
    need = 4 * (4 * 32 * 48 + matrices * 32 * 32)
    monkeypatch.setattr(benchmark, "_free_bytes", lambda device: need)
    run(methods=methods)
    monkeypatch.setattr(benchmark, "_free_bytes", lambda device: need - 1)
    monkeypatch.delattr(benchmark, "_images_and_noise")
    with pytest.raises(ValueError, match="must fit into memory"):
        run(methods=methods)


@pytest.mark.parametrize("meminfo", [True, False])
def test_free_memory_is_some(meminfo, monkeypatch):
    if not meminfo:
        monkeypatch.setattr(benchmark.Path, "exists", lambda path: False)
    assert 2**26 < benchmark._free_bytes(torch.device("cpu")) < 2**50


def test_where_nothing_tells_memory_is_not_limited(monkeypatch):
    monkeypatch.setattr(benchmark.Path, "exists", lambda path: False)
    monkeypatch.delattr(benchmark.os, "sysconf", raising=False)
    assert benchmark._free_bytes(torch.device("cpu")) == float("inf")


def warning(monkeypatch, seconds, repeats=3, methods=benchmark.DEFAULT_METHODS, n=600):
    monkeypatch.setattr(benchmark, "_foretold", lambda name, x, noise: seconds[name])
    return benchmark._warning(methods, torch.empty(n, 1), torch.empty(n, 1), repeats)


def test_a_long_wait_is_announced_with_a_way_around_it(monkeypatch):
    both = {"cdist + scipy": 13.0, "centred + scipy": 2.0}
    assert warning(monkeypatch, both) == (
        "Expect to wait up to about 26 s: cdist + scipy 13.0 s a run, "
        "centred + scipy 2.0 s a run.\nTo leave that out: --methods exact auction\n"
    )
    one = warning(monkeypatch, {"cdist + scipy": 30.0, "centred + scipy": 0.1}, repeats=1)
    assert "about 30 s: cdist + scipy 30.0 s a run.\n" in one
    assert one.endswith("--methods exact auction centred+scipy\n")
    alone = warning(monkeypatch, both, methods=["cdist + scipy"])
    assert "about 20 s" in alone
    assert "--methods" not in alone


def test_a_short_wait_is_not_announced(monkeypatch):
    quick = {"cdist + scipy": 1.0, "centred + scipy": 0.7}
    assert "about 5 s" in warning(monkeypatch, quick)
    assert warning(monkeypatch, quick, repeats=2) == ""
    assert warning(monkeypatch, {}, methods=["exact"]) == ""
    assert warning(monkeypatch, {}, n=benchmark.FEW) == ""


@pytest.mark.parametrize("method", ["cdist + scipy", "centred + scipy", "torchcfm"])
@pytest.mark.filterwarnings("ignore")
def test_times_are_foretold_by_the_cube_of_n(method, monkeypatch):
    if method == "torchcfm":
        pytest.importorskip("torchcfm.optimal_transport")
    monkeypatch.setattr(benchmark, "FEW", 16)
    clock = iter(range(100))
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    x, noise = benchmark._images_and_noise(48, 8, torch.device("cpu"))
    assert benchmark._foretold(method, x, noise) == 27


@pytest.mark.parametrize("wanted", [True, False])
def test_the_wait_is_announced_on_stderr_if_progress_is_wanted(wanted, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "_warning", lambda *_: "a while\n")
    run(progress=wanted)
    captured = capsys.readouterr()
    assert captured == ("", "a while\n" if wanted else "")


@pytest.mark.parametrize(("wanted", "terminal"), [(True, True), (True, False), (False, True)])
def test_progress_needs_a_terminal_and_no_package(wanted, terminal, monkeypatch, capsys):
    for module in ("rich", "rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    run(progress=wanted)
    shown = [text.strip() for text in capsys.readouterr().err.split("\r") if text.strip()]
    if not (wanted and terminal):
        assert shown == []
        return
    assert shown[0] == "warming up: exact"
    assert shown[-1] == "round 2 of 2: centred + scipy"


def test_with_rich_there_is_a_bar(monkeypatch, capsys):
    pytest.importorskip("rich")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(progress=True)
    shown = capsys.readouterr().err
    assert "━" in shown
    assert "0/10" in shown
    assert "9/10" in shown
    assert "round 2 of 2: centred + scipy" in shown
