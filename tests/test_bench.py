"""The benchmarks' own machinery, and the deterministic work counts that they record."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import families, peers, schema, tables, work_counts

SMALL = {"wide_latents": 2, "latents": 4}
FAMILIES = [*families.SAMPLE_FAMILIES, *families.COST_FAMILIES]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_follows_from_its_seed(name):
    n = SMALL.get(name, 12)
    first, again = families.Problem(name, n, 3).centred, families.Problem(name, n, 3).centred
    assert first.shape == (n, n)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert np.array_equal(first, again)
    if name != "machol_wien":
        assert not np.array_equal(first, families.Problem(name, n, 4).centred)


@pytest.mark.parametrize("name", ["photo", "digits", "onef", "duplicates"])
def test_centred_and_raw_costs_have_the_same_optimum(name):
    problem = families.Problem(name, 24)
    raw = problem.raw.astype(np.float64)
    best = raw[linear_sum_assignment(raw)].sum()
    chosen = raw[linear_sum_assignment(problem.centred)].sum()
    assert chosen == pytest.approx(best, rel=1e-6)
    assert np.allclose(problem.euclidean**2, raw, rtol=1e-4)


def test_samples_have_the_shapes_that_their_names_promise():
    assert families.samples("latents", 2).x.shape == (2, 4, 64, 64)
    assert families.samples("wide_latents", 1).x[0].numel() == 262144
    drawn = families.samples("groups", 40)
    assert drawn.labels is not None
    assert drawn.labels.unique().numel() > 5
    assert drawn.x.shape == drawn.noise.shape == (40, 3, 32, 32)


def test_every_matrix_of_a_duplicate_family_has_equal_rows():
    cost = families.Problem("duplicates", 8).centred
    assert np.array_equal(cost[0::2], cost[1::2])


def test_a_missing_peer_is_reported_with_its_reason():
    absent = peers.Method("absent", lambda cost: cost, "no-such-package", "no_such_module")
    assert "no_such_module" in peers.why_not(absent, "cpu")
    assert peers.inventory([absent], "cpu")["no-such-package"].startswith("missing (")
    only_cuda = peers.Method("gpu", lambda cost: cost, "torch", "torch", only="cuda")
    assert peers.why_not(only_cuda, "cpu") == "runs on cuda only"


@pytest.mark.parametrize("method", peers.solvers(), ids=lambda method: method.name)
def test_a_peer_returns_a_permutation_and_the_optimum_if_it_promises_it(method):
    if peers.why_not(method, "cpu"):
        pytest.skip(peers.why_not(method, "cpu"))
    cost = np.random.default_rng(0).random((24, 24), dtype=np.float32)
    index = np.asarray(method.solve(torch.from_numpy(cost)))
    assert sorted(index.tolist()) == list(range(24))
    if method.exact:
        best = cost[linear_sum_assignment(cost)].sum(dtype=np.float64)
        assert cost[np.arange(24), index].sum(dtype=np.float64) == pytest.approx(best, abs=1e-5)


def test_a_rounded_plan_is_a_permutation():
    plan = np.random.default_rng(0).random((30, 30)) ** 8
    assert sorted(peers.round_plan(plan).tolist()) == list(range(30))
    assert peers.round_plan(np.eye(5)[[2, 0, 1, 4, 3]]).tolist() == [2, 0, 1, 4, 3]


def raw_benchmark(stage, method, n, median, **extra):
    ours = method in ("exact", "auction 0.01", "pairwise_cost")
    times = {"median": median, "iqr": median / 10, "min": 0.9 * median, "mean": median}
    return {
        "fullname": f"bench/test_{stage}.py::test_{stage}[photo-n={n}-{method}]",
        "extra_info": {
            **{"stage": stage, "family": "photo", "n": n, "dim": 3072, "batch": 1},
            **{"method": method, "takes": "centred", "ours": ours, "exact": "best" not in method},
            **{"package": "p", "version": "1", "device": "cpu", "threads": 2},
            **extra,
        },
        "stats": {**times, "max": 2 * median, "stddev": 0.0, "rounds": 5, "iterations": 1},
    }


@pytest.fixture
def result():
    good = {"gap": 0.0, "gap_sd": 0.0, "share": 1.0, "permutation": True}
    rough = {"share": 1.2, "share_dot": 0.6, "norm_sigma": -1.0, "permutation": False}
    raw = []
    for n in (256, 512, 1024):
        unit = (n / 256) ** 2 / 1e3
        for stage in ("solve", "pair"):
            raw.append(raw_benchmark(stage, "exact", n, unit, **good))
            raw.append(raw_benchmark(stage, "auction 0.01", n, 0.7 * unit, **good))
            raw.append(raw_benchmark(stage, "lapjv", n, 8 * unit if n > 256 else unit / 2, **good))
            raw.append(raw_benchmark(stage, "scipy", n, 30 * unit, **good))
        raw.append(raw_benchmark("pair", "best of 16, L2", n, 9 * unit, **rough))
        memory = {"peak_mib": n / 8, "matrix_mib": 1.0, "inputs_mib": 6.0, "of_matrix": 2.0}
        raw.append(raw_benchmark("memory", "exact", n, 3.0, **memory))
    device = {"kind": "cpu", "name": "Some(R) CPU", "cores": 2, "threads": 2, "memory_gib": 8.0}
    return {
        "schema": schema.VERSION,
        "created": "2026-01-31T12:00:00+00:00",
        "size": "quick",
        "tag": "",
        "commit": "abc1234",
        "device": {**device, "system": "Linux"},
        "versions": {"torch": "2"},
        "floors": {
            "read_gb_s": 20.0,
            "read_one_thread_gb_s": 10.0,
            "read_16_mib_one_thread_gb_s": 30.0,
            "matmul_gflop_s": 100.0,
        },
        "peers": {"lapjv": "1.0", "fastlap": "missing (ModuleNotFoundError)"},
        "rows": schema.compact_rows({"benchmarks": raw}),
        "skipped": [{"group": "solve photo n=4096", "method": "scipy", "reason": "too slow: 9 s"}],
        "profile": [
            {
                **{"family": "photo", "n": 256, "dim": 3072, "total_ms": 3.0},
                **{"stages_ms": {"distance product": 2.0, "auction": 1.0}},
                **{"largest": "distance product", "largest_share": 0.667},
            }
        ],
        "work": {"photo n=64 exact": {"bids": 3, "paths": 1}},
    }


def test_a_result_survives_its_file(result, tmp_path):
    path = tmp_path / "result.json"
    schema.write(result, path)
    text = path.read_text()
    assert text.count("\n") > len(result["rows"])
    assert '"permutation": true' not in text  # defaults are left out
    again = schema.read(path)
    assert all(row["batch"] == 1 for row in again["rows"])
    assert schema.group(again["rows"][0]) == "solve photo n=256 D=3072"
    assert again["floors"] == result["floors"]
    path.write_text(text.replace('"schema": 1', '"schema": 99'))
    with pytest.raises(ValueError, match="schema 1, got 99"):
        schema.read(path)


def test_pytest_benchmark_can_read_a_recorded_result(result, tmp_path):
    path = tmp_path / "result.json"
    schema.write(result, path)
    benchmarks = schema.expanded(schema.read(path))["benchmarks"]
    assert len(benchmarks) == len(result["rows"])
    assert benchmarks[0]["fullname"].startswith("bench/test_solve.py::test_solve[")
    for needed in ("min", "max", "mean", "stddev", "median", "iqr", "ops", "rounds", "iterations"):
        assert needed in benchmarks[0]["stats"]


@pytest.mark.parametrize("by", ["median", "min"])
def test_the_report_shows_ratios_losses_and_pictures(result, tmp_path, by):
    pytest.importorskip("matplotlib")
    from bench import report

    schema.write(result, tmp_path / "results" / "a.json")
    arguments = ["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]
    assert report.main([*arguments, "--by", by]) == 0
    page = (tmp_path / "out" / "report.md").read_text()
    assert "8.0x" in page
    assert "missing (ModuleNotFoundError)" in page
    assert "distance product" in page
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    kinds = ("families", "memory", "profile", "quality", "time")
    assert pictures == [f"some-2t-{kind}.png" for kind in kinds]
    assert all(f"]({name})" in page for name in pictures)


def test_the_report_shows_what_was_measured_beside_the_suite(result, tmp_path):
    pytest.importorskip("matplotlib")
    from bench import record, report

    results = tmp_path / "results"
    schema.write(result, results / "a.json")
    times = {"exact": 2.0, "lapjv": 3.0}
    for n, threads in ((96, 2), (128, 1)):
        row = {"family": "onef", "n": n, "ms": times, "fastest_peer": "lapjv", "ratio": 0.67}
        row.update(speed_up=1.5, gap=0.0, gap_sd=0.0)
        device = {**result["device"], "threads": threads}
        for name in ("headline", "worst_case"):
            record.save(results / name, device, target=1.5, rows=[row])
    report.main(["--results", str(results), "--out", str(tmp_path / "out")])
    page = (tmp_path / "out" / "report.md").read_text()
    assert page.count("| lapjv, 3 ms | 1.5x | - | - |") == 2
    assert "| onef | 96 |" in page
    assert "| onef | 128 |" in page
    assert page.count("0.67 (lapjv)") == 2
    report.main(["--result", str(results / "a.json"), "--out", str(tmp_path / "alone")])
    assert "0.67 (lapjv)" not in (tmp_path / "alone" / "report.md").read_text()


def test_a_full_result_is_preferred_to_a_later_quick_one(result):
    from bench import report

    full = {**result, "size": "full", "created": "2026-01-01T00:00:00+00:00"}
    pairs = [(Path("full.json"), full), (Path("quick.json"), result)]
    assert report.chosen(pairs) == pairs[:1]


def test_a_run_before_a_change_is_compared_with_the_one_after_it(result, tmp_path):
    pytest.importorskip("matplotlib")
    from bench import report

    before = {**result, "tag": "before", "created": "2026-01-30T12:00:00+00:00"}
    before["rows"] = [
        {**row, "median_ms": row["median_ms"] * (2 if row["method"] == "exact" else 1.05)}
        for row in result["rows"]
    ]
    schema.write(before, tmp_path / "results" / "before.json")
    out = ["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]
    report.main(out)
    page = tmp_path / "out" / "report.md"
    assert "Before and after" not in page.read_text()
    schema.write(result, tmp_path / "results" / "after.json")
    report.main(out)
    section = page.read_text().split("## Before and after")[1].split("\n## ")[0]
    assert section.count("2.00x |") == 6  # exact, solve and pair, three sizes
    assert "| auction" not in section
    assert "Peers, which are the same: 1.05x" in section


def test_losses_name_the_peers_that_are_faster(result):
    for row in result["rows"]:
        row.update({**schema.DEFAULTS, **row, "time_ms": row["median_ms"]})
    found = tables.losses(result)
    assert {(line[0], line[2], line[4]) for line in found} == {
        ("solve", "256", "lapjv"),
        ("pair", "256", "lapjv"),
    }
    assert all("2.0x" in line for line in found)


def test_a_peer_that_misses_the_optimum_has_beaten_nobody(result):
    for row in result["rows"]:
        row.update({**schema.DEFAULTS, **row, "time_ms": row["median_ms"]})
        if row["method"] == "lapjv":
            row["share"] = 0.9999
    assert tables.losses(result) == []
    rows = tables.groups(result, "solve")[0]
    assert tables.fastest_peer(rows)["method"] == "scipy"


def test_the_stage_with_the_largest_share_is_named_with_its_exceptions(result):
    from bench import report

    first = {**result["profile"][0], "method": "exact"}
    other = {**first, "n": 512, "largest": "auction", "largest_share": 0.5}
    assert report.largest_share({"profile": [first]}) == "distance product, 67% to 67% of a call"
    words = report.largest_share({"profile": [first, other, first]})
    assert words.endswith("(but exact, n = 512, D = 3,072: auction)")


def test_solvers_take_turns_and_are_judged(monkeypatch):
    from bench import headline

    wrong = peers.Method("wrong", lambda cost: np.arange(len(cost)), "numpy", "numpy")
    names = {"exact", "linear_sum_assignment", "scipy", "scipy, raw L2"}
    kept = [m for m in headline.contenders() if m.name in names]
    monkeypatch.setattr(headline, "contenders", lambda: [*kept, wrong])
    row = headline.side_by_side("photo", 32)
    assert row["fastest_peer"].startswith("scipy")
    assert row["not_optimal"]["wrong"] < 0.5
    assert row["rounds"] >= 5
    assert set(row["ms"]) == names | {"wrong"}
    assert row["speed_up_drop_in"] > 0
    assert abs(row["gap_sd"]) < 1e-6
    assert "photo | 32 |" in headline.whole_table({"rows": [row]})
    assert set(headline.overhead(16)["us"]) == {"linear_sum_assignment", "fast_assign"}


@pytest.mark.parametrize("case", work_counts.CASES, ids=lambda case: work_counts.case_name(*case))
def test_a_solve_takes_no_more_work_than_recorded(case):
    name = work_counts.case_name(*case)
    found = work_counts.exceeded(work_counts.counted(*case), work_counts.recorded()[name])
    assert not found, (
        f"{name} takes more work: {'; '.join(found)}. If that is meant (say, fewer of something "
        "dearer), record it: python -m bench.work_counts --write"
    )


def test_every_recorded_case_is_still_counted():
    assert set(work_counts.recorded()) == {work_counts.case_name(*c) for c in work_counts.CASES}


def test_more_work_is_noticed():
    assert work_counts.exceeded({"bids": 1000}, {"bids": 900}) == []
    assert work_counts.exceeded({"bids": 1300}, {"bids": 900}) == ["bids: 1300, recorded 900"]
    assert work_counts.exceeded({"new": 100}, {}) == ["new: 100, recorded 0"]


@pytest.mark.parametrize("method", ["exact", "auction"])
def test_a_profile_accounts_for_a_call(method):
    from bench.profile_call import profile

    found = profile(64, 64, method, repeats=2)
    assert found["total_ms"] > 0
    assert found["stages_ms"]["auction"] > 0
    assert found["stages_ms"]["certificate"] > 0
    assert found["largest"] in found["stages_ms"]
    assert found["largest"] in tables.profile_table([found])


def test_no_stage_of_a_profile_is_left_out_of_its_picture():
    from bench import profile_call, styles

    assert tuple(styles.STAGES) == profile_call.STAGES


def test_the_products_of_a_call_are_compared(monkeypatch, tmp_path, capsys):
    from bench import product

    monkeypatch.setattr(product, "CASES", (("digits", 64),))
    assert product.main(["--rounds", "2", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in product.METHODS)
    (path,) = tmp_path.glob("*.json")
    (row,) = schema.read(path)["rows"]
    shares = [way["share"] for way in row["ways"].values()]
    assert shares[0] == pytest.approx(1, abs=1e-5)
    assert min(shares) > 0.99
