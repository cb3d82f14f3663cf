"""What the files of the suite share: order, warnings of peers, and what was skipped."""

from __future__ import annotations

import pytest
import torch

from . import measure, pairs, peers


def pytest_collection_modifyitems(items):
    """Peers warn about this and that: unlike in the project's tests, that is no error here."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore"))


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Say who was missing and what was skipped in the file that also has the figures."""
    methods = [*peers.solvers(), *peers.batch_solvers(), *pairs.pair_methods(3072, sweep=True)]
    output_json["immiscible"] = {
        "size": measure.SIZE,
        "device": measure.DEVICE,
        "threads": torch.get_num_threads(),
        "peers": peers.inventory(methods, measure.DEVICE),
        "skipped": measure.skipped,
    }


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter):
    methods = [*peers.solvers(), *pairs.pair_methods(3072, sweep=True)]
    for package, state in peers.inventory(methods, measure.DEVICE).items():
        if state.startswith("missing"):
            terminalreporter.write_line(f"peer {package}: {state}")
