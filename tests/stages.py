"""Stages of the GPU solver, with what tests of them share."""

from __future__ import annotations

import numpy as np
import torch
from families import make
from immiscible_fast.kernels.gpu import workspace
from immiscible_fast.kernels.gpu.problems import Problems
from immiscible_fast.kernels.gpu.schedule import EXACT_ROUNDS
from immiscible_fast.kernels.gpu.statistics import statistics
from immiscible_fast.kernels.gpu.workspace import Workspace, grow_forests, start_matching

from tests import forests


def assert_forests_do_what_their_reference_does(family, rng, n, device, *, length, patience):
    """The same matching, prices and work, bit for bit; lists have ``length`` entries."""
    cost = make(family, rng, n, n, "float32")
    problems = Problems(torch.from_numpy(cost[None]).to(device))
    units, start = statistics(problems)
    price, wanted = start.to(torch.float64), torch.ones_like(units.flags)
    state, counts = forests.solve(
        cost.astype(np.float64) * float(units.scale[0]), price.cpu().numpy(),
        length=length, rounds=EXACT_ROUNDS, patience=patience,
    )  # fmt: skip
    work = Workspace.of(problems, price)
    start_matching(problems, units, work, wanted)
    left = grow_forests(problems, units, work, wanted, exact=patience == 0)
    assert left.tolist() == [int((state.column < 0).any())]
    for name in ("column", "owner", "price", "listed", "bound"):
        want = torch.as_tensor(getattr(state, name).reshape(-1)).to(getattr(work, name))
        assert torch.equal(getattr(work, name)[: want.numel()], want), (family, name)
    found = dict(zip(workspace.REPORT, work.report[0].tolist(), strict=True))
    assert found == {**counts, "scans": 0}, family
