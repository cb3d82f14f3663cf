"""The pictures of the report: what they compute, and that a reader can read all of it."""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from matplotlib.text import Text

from bench import (
    drawing,
    figures,
    floors,
    memory,
    pairs,
    peers,
    quality_figure,
    schema,
    styles,
    time_figure,
)

SPEEDS = {
    "read_gb_s": 20.0,
    "read_one_thread_gb_s": 10.0,
    "read_16_mib_one_thread_gb_s": 30.0,
    "matmul_gflop_s": 100.0,
}
SIZES = {
    "quick": (64, 256, 512, 1024, 2048),
    "full": (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192),
}
LIMIT = 6000.0  # ms: what takes longer has no row
OLD_STAGE = {"checks": 0.3}  # of results from before it was dropped


def row(stage, family, n, method, k, **more):
    """Times that differ by method ``k`` and grow as powers of n; None beyond the limit."""
    time = (0.02 + 0.004 * k) * (n / 64) ** (2 if method.ours else 2.5)
    if time > LIMIT or n > method.largest:
        return None
    facts = {"n": n, "dim": 3072, "method": method.name, "ours": method.ours}
    optimal = method.exact and method.takes != "euclidean"
    share = 1.0 if optimal else 1 - 10.0 ** -(k / 5 if method.bijective else k / 40)
    return {
        **schema.DEFAULTS,
        **{"stage": stage, "family": family, **facts, "takes": method.takes},
        **{"exact": method.exact, "permutation": method.bijective, "time_ms": time},
        **{"share": share, **more},
    }


def memory_row(n, name, k):
    ours = name in ("exact", "auction 0.01")
    if n > (512 if "broadcast" in name else 2048 if "scipy" in name else 8192):
        return None
    peak = (1 + 0.2 * k) * n * n * (6144 if "broadcast" in name else 5) / 2**20
    facts = {"n": n, "dim": 3072, "method": name, "ours": ours, "peak_mib": peak}
    return {**schema.DEFAULTS, "stage": "memory", "family": "walk", **facts}


def made_up(size):
    """A result of every method on every family, as large as that of the suite or larger."""
    rows = []
    for n in SIZES[size]:
        for family in styles.FAMILIES:
            for k, method in enumerate(peers.solvers()):
                rows.append(row("solve", family, n, method, k))
        for k, method in enumerate(pairs.pair_methods(3072, sweep=n in (1024, 4096))):
            rows.append(row("pair", "photo", n, method, k))
        if n >= 128:
            rows += [memory_row(n, name, k) for k, name in enumerate(memory.METHODS)]
    stages = {stage: 1.0 + k for k, stage in enumerate(styles.STAGES)}
    profiles = [
        {"n": n, "dim": dim, "method": method, "total_ms": float(n), "stages_ms": stages}
        for n in SIZES[size]
        for dim, method in ((3072, "exact"), (16384, "auction"))
    ]
    del profiles[0]["method"]
    profiles[0]["stages_ms"] = {**stages, **OLD_STAGE}
    name = "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    return {
        "size": size,
        "device": {"kind": "cpu", "name": name, "threads": 16},
        "floors": SPEEDS if size == "quick" else {**SPEEDS, "int8_matmul_gop_s": 400.0},
        "rows": [entry for entry in rows if entry is not None],
        "profile": profiles,
    }


MAKERS = {
    "time": figures.time_figure,
    "families": figures.families_figure,
    "quality": figures.quality_figure,
    "memory": figures.memory_figure,
    "profile": figures.profile_figure,
}
EACH = [(size, name) for size in SIZES for name in MAKERS]


@pytest.fixture(scope="module")
def drawn():
    """The pictures by size and name, drawn."""
    found = {}
    for size in SIZES:
        result = made_up(size)
        for name, maker in MAKERS.items():
            found[size, name] = maker(result)
            found[size, name].canvas.draw()
    return found


def boxes(figure, texts):
    renderer = figure.canvas.get_renderer()
    return {text.get_text(): Text.get_window_extent(text, renderer) for text in texts}


def legends(figure):
    return [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]


@pytest.mark.parametrize(("size", "name"), EACH)
def test_nothing_lies_outside_its_picture(drawn, size, name):
    figure = drawn[size, name]
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox(figure.canvas.get_renderer())  # of all that is drawn
    assert box.x0 >= 0 and box.y0 >= 0
    assert box.x1 <= width and box.y1 <= height
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    texts += [text for legend in legends(figure) for text in legend.get_texts()]
    for text, box in boxes(figure, texts).items():
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text


@pytest.mark.parametrize(("size", "name"), EACH)
def test_no_text_lies_on_another(drawn, size, name):
    figure = drawn[size, name]
    for axes in figure.axes:
        for (one, box), (other, second) in combinations(boxes(figure, axes.texts).items(), 2):
            assert not box.overlaps(second), (one, other)
    titles = boxes(figure, figure.texts).values()
    axes_top = max(axes.get_tightbbox().y1 for axes in figure.axes)
    assert min(box.y0 for box in titles) > axes_top


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "panel", "stage"), [
    ("time", 0, "solve"), ("time", 1, "pair"), ("memory", 0, "memory"),
])  # fmt: skip
def test_each_line_is_named_beside_a_sample_of_its_style(drawn, size, name, panel, stage):
    axes = drawn[size, name].axes[panel]
    names = [text.get_text() for text in axes.texts]
    looks = [(line.get_color(), line.get_linestyle()) for line in axes.lines]
    for method, called, colour, style in styles.LINES[stage]:
        assert sum(text.startswith((f"{called} ", f"{called},")) or text == called
                   for text in names) == 1, method  # fmt: skip
        assert looks.count((colour, style)) >= 2, method  # the line and its sample
        assert (colour == styles.OURS) == called.startswith("ours")


def test_only_methods_of_the_suite_have_lines():
    named = {stage: {line[0] for line in lines} for stage, lines in styles.LINES.items()}
    assert named["solve"] <= {method.name for method in peers.solvers()}
    assert named["pair"] <= {method.name for method in pairs.pair_methods(3072, sweep=False)}
    assert named["memory"] == set(memory.METHODS)


def test_names_tell_the_growth_and_where_a_line_ends(drawn):
    names = [text.get_text() for text in drawn["full", "time"].axes[1].texts]
    assert "ours, exact  $n^{2.0}$" in names
    assert "cdist + SciPy (today)  $n^{2.5}$" in [name.partition(", to")[0] for name in names]
    assert "papers' broadcast + SciPy, to n = 512" in names  # two sizes make no fit


def test_a_line_of_known_growth_has_its_exponent():
    sizes = [32, 64, 256, 512, 1024, 4096]
    times = [7.0, 7.0, *(3e-5 * n**2.5 for n in sizes[2:])]  # the smallest are not fitted
    assert time_figure.exponent(sizes, times) == pytest.approx(2.5)
    assert time_figure.power_law(sizes, times) == pytest.approx((3e-5, 2.5))
    assert time_figure.exponent(sizes[:4], times[:4]) is None


def test_floors_follow_from_the_measured_speeds():
    result = {"floors": {**SPEEDS, "int8_matmul_gop_s": 400.0}}
    ((name, _, read),) = time_figure.floors(result, "solve", [1024, 2048, 4096], 3072)
    assert read == pytest.approx([0.139810, 0.559241, 6.710886], rel=1e-5)
    assert "30, then 10 GB/s" in name
    plain, rounded = time_figure.floors(result, "pair", [1024, 2048], 3072)
    assert "float32" in plain[0] and "eight-bit" in rounded[0]
    assert plain[2] == pytest.approx([64.424509, 257.698038], rel=1e-6)
    assert rounded[2] == pytest.approx([16.106127, 64.424509], rel=1e-6)
    assert len(time_figure.floors({"floors": SPEEDS}, "pair", [1024], 3072)) == 1


@pytest.mark.parametrize(("size", "count"), [("quick", 1), ("full", 2)])
def test_floors_are_drawn_where_they_were_measured(drawn, size, count):
    axes = drawn[size, "time"].axes[1]
    grey = [line for line in axes.lines if line.get_color() == styles.FLOOR]
    lines = [line.get_ydata() for line in grey if line.get_transform() == axes.transData]
    assert len(lines) == count
    at = SIZES[size].index(1024)
    assert sorted(line[at] for line in lines) == pytest.approx([16.106127, 64.424509][-count:])


@pytest.mark.parametrize("fails", ["no", "missing", "refused"])
def test_floors_are_measured_with_or_without_a_product_in_eight_bits(monkeypatch, fails):
    def refuse(left, right):
        raise RuntimeError("not for this device")

    monkeypatch.setattr(floors, "READ_BYTES", 1 << 16)
    monkeypatch.setattr(floors, "SMALL_READ_BYTES", 1 << 12)
    monkeypatch.setattr(floors, "SIDE", 64)
    if fails == "missing":
        monkeypatch.delattr(torch, "_int_mm", raising=False)
    else:
        multiply = refuse if fails == "refused" else lambda left, right: left.int() @ right.int()
        monkeypatch.setattr(torch, "_int_mm", multiply, raising=False)
    found = floors.measured_floors()
    assert set(found) - {"int8_matmul_gop_s"} == set(SPEEDS)
    assert ("int8_matmul_gop_s" in found) == (fails == "no")
    assert all(speed > 0 for speed in found.values())


def test_a_product_in_eight_bits_is_counted_whole(monkeypatch):
    monkeypatch.setattr(floors, "SIDE", 64)
    monkeypatch.setattr(floors, "_best", lambda call, device: 1e-3)
    operands = []
    monkeypatch.setattr(torch, "_int_mm", lambda *two: operands.append(two), raising=False)
    found = floors.measured_floors()
    (rows, inner), (_, columns) = (operand.shape for operand in operands[0])
    assert found["int8_matmul_gop_s"] == round(2 * rows * inner * columns / 1e6, 1)
    assert found["matmul_gflop_s"] == round(2 * 64**3 / 1e6, 1)


@pytest.mark.parametrize("size", SIZES)
def test_no_line_strikes_through_a_name_of_the_quality_picture(drawn, size):
    axes = drawn[size, "quality"].axes[0]
    drawn_at = np.concatenate([quality_figure.along(line) for line in axes.lines])
    for name, box in boxes(axes.figure, axes.texts).items():
        inside = (drawn_at > (box.x0, box.y0)) & (drawn_at < (box.x1, box.y1))
        assert not inside.all(1).any(), name


def test_what_is_exact_for_another_cost_is_not_among_the_exact_solvers():
    kinds = {kind.name: kind for kind in quality_figure.KINDS}
    today = {"method": "cdist + scipy", "ours": False, "permutation": True, "takes": "euclidean"}
    first = next(kind for kind in kinds.values() if kind.belongs(today))
    assert first.name == "exact only for unsquared distances"


@pytest.mark.parametrize("size", SIZES)
def test_bars_of_a_profile_are_whole(drawn, size):
    axes = drawn[size, "profile"].axes[0]
    ends = [patch.get_x() + patch.get_width() for patch in axes.patches]
    assert sum(end == pytest.approx(1) for end in ends) == len(axes.get_yticks())


@pytest.mark.parametrize("wanted", [[0.5] * 4, [0.0, 0.0, 0.9, 1.0, 1.0], [0.2, 0.5, 0.51]])
def test_names_are_moved_apart_and_no_further(wanted):
    places = drawing.spread(np.array(wanted), 0.1)
    assert (np.diff(places) > 0.1 - 1e-9).all()
    assert places[0] >= 0 and places[-1] <= 1 + 1e-9
    assert np.abs(places - wanted).max() <= 0.1 * (len(wanted) - 1)
    assert drawing.spread(np.array([0.2, 0.6]), 0.1) == pytest.approx([0.2, 0.6])
