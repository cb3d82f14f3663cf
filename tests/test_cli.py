"""The command line: help, errors in one line, and a doctor that tries what it reports."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch
from fresh import run as fresh_run

from immiscible_fast import __version__, benchmark, choices, cli, doctor


def run(*arguments):
    """Exit code of the command line, however it ends."""
    try:
        return cli.main(arguments)
    except SystemExit as stop:
        return stop.code


@pytest.mark.parametrize("arguments", [(), ("demo",), ("bench",), ("doctor",)])
def test_help_has_an_example(arguments, capsys):
    assert run(*arguments, "--help") == 0
    printed = capsys.readouterr().out
    assert "example:" in printed
    assert "python -m immiscible_fast" in printed


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"immiscible_fast {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "COMMAND"),
        (("dance",), "'dance'"),
        (("demo", "--steps", "0"), "--steps must be at least 1, got 0"),
        (("demo", "--steps", "many"), "--steps"),
        (("demo", "--batch", "1"), "--batch must be at least 2, got 1"),
        (("demo", "--seeds", "0"), "--seeds must be at least 1, got 0"),
        (("demo", "--method", "magic"), "magic"),
        (("demo", "--data", "/no/such/folder"), "/no/such/folder"),
        (("demo", "--output", __file__), "--output must be a folder"),
        (("demo", "--output", f"{__file__}/below"), "--output cannot be written to"),
        (("demo", "--output", "/proc"), "--output cannot be written to"),
        (("demo", "--seed", "1" + 30 * "0"), "--seed must be at most"),
        (("doctor", "--steps", "1"), "--steps"),
        (("bench", "--n", "many"), "--n"),
        (("bench", "--n", "0"), "bench: error: n must be at least 1, got 0"),
        (("bench", "--dim", "0"), "see python -m immiscible_fast bench --help"),
        (("bench", "--n", "100000000"), "n and dim must fit into memory, got n = 100000000"),
        (("bench", "--device", "gpu"), "device must be one that torch can use here (cpu"),
        (("bench", "--device", "meta"), "got 'meta'"),
        (("bench", "--device", "hpu"), "got 'hpu'"),
        (("bench", "--methods"), "--methods"),
        (("bench", "--methods", "exact", "magic"), "got 'magic'"),
    ],
)
def test_options_that_cannot_work_get_one_line_and_code_2(arguments, words, capsys):
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_missing_packages_of_the_demo_are_named(monkeypatch, capsys):
    real = cli.importlib.util.find_spec
    monkeypatch.setattr(
        cli.importlib.util, "find_spec", lambda name: None if name == "sklearn" else real(name)
    )
    assert run("demo") == 2
    error = capsys.readouterr().err
    assert "needs scikit-learn: pip install 'immiscible-fast[demo]'" in error


def test_help_of_the_bench_lists_methods_by_whether_they_are_installed(monkeypatch, capsys):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: name in ("lap", "ot"))
    run("bench", "--help")
    printed = " ".join(capsys.readouterr().out.split())
    assert "lapx, pot other packages, installed here" in printed
    assert "lapjv, torchcfm other packages, not installed" in printed
    for name in benchmark.METHODS:
        assert name.replace(" ", "") in printed
        assert cli._method_name(name.replace(" ", "")) == name


def test_the_bench_measures_what_is_named(monkeypatch, capsys):
    named = ("exact", "cdist+scipy", "centred + scipy", "Auction")
    assert run("bench", "--n", "16", "--dim", "8", "--repeats", "1", "--methods", *named) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].startswith("n = 16, D = 8, float32 on cpu")
    starts = ("method", "exact", "cdist + scipy", "centred + scipy", "auction")
    assert all(
        line.startswith(f"{start}  ") for line, start in zip(lines[1:6], starts, strict=True)
    )
    assert captured.err == ""


def test_a_missing_package_of_the_bench_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lap", None)
    assert run("bench", "--methods", "exact", "lapx") == 2
    assert "got 'lapx': pip install lapx" in capsys.readouterr().err


def test_runs_as_a_module():
    command = [sys.executable, "-m", "immiscible_fast", "--version"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, f"immiscible_fast {__version__}\n")


def test_interrupt_ends_quietly(monkeypatch):
    def interrupt(warm):
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "main", interrupt)
    assert run("doctor") == 130


def test_doctor_reports_every_method_version_and_cache(capsys):
    assert run("doctor") == 0
    printed = capsys.readouterr().out
    for method in choices.METHODS:
        assert f"{method:<14} works" in printed
    for name in ("python", "torch", "numpy", "scipy", "numba", "triton", "cpu", "writable"):
        assert name in printed
    assert torch.__version__ in printed


def test_doctor_needs_no_package_of_the_demo():
    blocked = ["rich", "matplotlib", "sklearn", "PIL"]
    program = f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n"
    fresh_run(
        f"{program}from immiscible_fast.cli import main; sys.exit(main(['doctor']))", "default"
    )


def swapped(x, noise, **options):
    return torch.arange(len(x)).roll(1)


def repeated(x, noise, **options):
    return torch.zeros(len(x), dtype=torch.int64)


def broken(x, noise, **options):
    raise ImportError("no module named numba\nand more")


@pytest.mark.parametrize(
    ("solver", "reason"),
    [
        (swapped, "of the possible gain"),
        (repeated, "not a bijection"),
        (broken, "ImportError: no module named numba"),
    ],
)
def test_doctor_says_why_a_method_fails(solver, reason, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "fast_assign", solver)
    assert run("doctor") == 1
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if "FAILS" in line]
    assert len(lines) == len(choices.METHODS)
    assert all(reason in line for line in lines)


def test_doctor_passes_warnings_on(monkeypatch):
    real = doctor.fast_assign

    def warns(x, noise, **options):
        warnings.warn("solved elsewhere", stacklevel=1)
        return real(x, noise, **options)

    monkeypatch.setattr(doctor, "fast_assign", warns)
    probe = doctor.probe_method("scipy", "cpu")
    assert probe.works
    assert "note: solved elsewhere" in probe.detail


def test_doctor_says_when_the_cache_cannot_be_written(monkeypatch):
    def full(**_):
        raise OSError("No space left on device")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", full)
    assert any("NUMBA_CACHE_DIR" in line for line in doctor._cache_lines())
