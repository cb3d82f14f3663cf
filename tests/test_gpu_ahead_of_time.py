"""Launches that ship compile, and none spills or asks for too much: products for every target, the
solver for three, and what takes the compiler long by ``make aot``.

The compilations run in a process of their own: what is interpreted here is compiled there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checks import gpu_kernels

from immiscible_fast.devices import OLDEST_TRITON

pytest.importorskip("triton")

ROOT = Path(__file__).parent.parent
LONG = {"forest_step_kernel"}  # takes the compiler two minutes: left to `make aot`
TARGETS = {"sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120", "gfx942"}
WHOLE = {"sm_80", "sm_90", "gfx942"}  # all kernels; for the others, only those of products


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    answer = tmp_path_factory.mktemp("ahead") / "rows.json"
    environment = {name: os.environ[name] for name in os.environ if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.ahead_of_time", "--json", str(answer)]
    process = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    if not answer.exists():
        pytest.fail(process.stdout[-2000:] + process.stderr[-5000:])
    return json.loads(answer.read_text())["rows"]


def broken(rows, reason):
    return [f"{row['target']} {row['kernel']} {row['case']}: {row[reason]}" for row in rows]


def test_every_launch_compiles_for_its_targets(rows):
    assert broken([row for row in rows if row["error"]], "error") == []
    assert {row["target"] for row in rows} == TARGETS


def test_every_kernel_is_among_them(rows):
    for target in WHOLE:
        compiled = {row["kernel"] for row in rows if row["target"] == target}
        assert gpu_kernels() - LONG <= compiled


def test_no_register_spills_to_memory(rows):
    assert broken([row for row in rows if row["spills"]], "spills") == []


def test_shared_memory_suffices(rows):
    assert broken([row for row in rows if row["shared"] > row["limit"]], "shared") == []


def test_the_emulator_knows_every_instruction(rows):
    """Of all devices whose matrices it multiplies; other launches than those it runs, too."""
    emulated = [row for row in rows if row["target"] in ("sm_80", "sm_86", "sm_89", "sm_90")]
    assert broken([row for row in emulated if row["unknown"]], "unknown") == []


@pytest.mark.parametrize("arithmetic", ["fp16", "bf16", "tf32"])
def test_products_run_on_the_tensor_cores_of_each_generation(rows, arithmetic):
    found = {
        row["target"]: row["matrix"]
        for row in rows
        if row["kernel"] == "product_kernel" and row["case"] == f"pairwise {arithmetic} 4096"
    }
    assert found["sm_90"] == ["wgmma.mma_async", "HGMMA"]  # and the assembler serialized none
    if arithmetic != "bf16":
        assert found["sm_80"] == found["sm_86"] == found["sm_120"] == ["mma.sync"]
        assert found["sm_100"] == ["tcgen05.mma"]
        assert found["gfx942"] == ["v_mfma"]


def test_the_record_of_the_oldest_triton_has_every_kernel_and_no_error(rows):
    """``make aot-oldest`` writes it."""
    record = json.loads((ROOT / "bench/results/aot/oldest.json").read_text())
    assert record["triton"] == ".".join(map(str, OLDEST_TRITON)) + ".0"
    assert broken([row for row in record["rows"] if row["error"]], "error") == []
    for target in ("sm_80", "sm_90"):
        of_target = {row["kernel"] for row in record["rows"] if row["target"] == target}
        compiled = {row["kernel"] for row in rows if row["target"] == target}
        assert compiled == of_target - LONG
