"""The demo's results as a JSON file, for those who want to plot or check them."""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path

import numpy as np
import torch

from .. import __version__
from .report import Report, in_words
from .settings import ARMS, MANY_STEPS, SAMPLING_STEPS, SMALL_BATCH

MEASURE = (
    "squared Frechet distance of Gaussians fitted to the pixels on the images' principal axes "
    "(64 at most); lower is better"
)


def write_json(report: Report, path: Path) -> None:
    """Write settings, every distance, verdicts, costs and summary to ``path``."""
    settings = report.settings
    options = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in dataclasses.asdict(settings).items()
    }
    content = {
        "settings": options,
        "data": report.data,
        "measure": MEASURE,
        "trained_steps": list(settings.checkpoints),
        "sampling_steps": list(SAMPLING_STEPS),
        "seeds": list(settings.run_seeds),
        "frechet": {  # [seed][trained steps][sampling steps]
            arm: report.frechet[:, :, i].tolist() for i, arm in enumerate(ARMS)
        },
        f"frechet_{MANY_STEPS}_sampling_steps": {  # [seed], after the last training step
            arm: report.frechet_many[:, i].tolist() for i, arm in enumerate(ARMS)
        },
        f"frechet_batches_of_{SMALL_BATCH}": {  # [seed][sampling steps], after half the steps
            arm: report.frechet_small[:, i].tolist() for i, arm in enumerate(("plain", "pool"))
        },
        "floor": report.floor,
        "verdicts": report.verdicts,
        "pair_distance": {
            "plain": report.costs.plain_distance,
            "assigned": report.costs.assigned_distance,
            "removed": report.costs.distance_removed,
        },
        "timing": {
            "first_call_s": report.costs.first_call_s,
            "assignment_ms": report.costs.assignment_ms,
            "plain_step_ms": report.costs.plain_step_ms,
            "assigned_step_ms": report.costs.assigned_step_ms,
            "share_of_step": report.costs.share_of_step,
        },
        "summary": in_words(report),
        "versions": {
            "immiscible_fast": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
