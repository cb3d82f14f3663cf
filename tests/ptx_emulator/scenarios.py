"""Calls that go through every kernel, small, for faults to show in."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from .emulator import Emulator
from .findings import Finding, FoundError
from .memory import with_gaps

METHODS = ("photos", "rectangle", "infeasible")  # those that are solved near-optimally, too
ORDERS = {"sm_90": "random", "sm_80": "descending"}


def scenarios() -> Iterator[tuple[str, Callable[[], Any]]]:
    """(name, call); public functions, where they get there, so that kernels can change."""
    from immiscible_fast.kernels.gpu import sinkhorn, workspace

    from immiscible_fast import fast_assign, pairwise_cost, solve_assignment

    rng = np.random.default_rng(5)

    def normal(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=shape)).to(dtype)

    # Over 128 columns have a program of several warps.
    photos = -torch.cumsum(normal(1, 133, 48), 2) @ normal(1, 48, 133)
    integers = torch.from_numpy(rng.integers(0, 9, (1, 61, 61))).float()
    sparse = normal(1, 40, 40)
    sparse = torch.where(normal(1, 40, 40) < 0.8, torch.inf, sparse)
    barred = normal(2, 40, 40)
    barred[1, 0] = torch.inf
    infeasible = normal(1, 30, 131).index_fill(2, torch.arange(9, 131), torch.inf)
    infeasible[:, :5] = normal(1, 5, 131)
    wide = 10 ** (5 * normal(1, 25, 25, dtype=torch.float64))
    costs = {"photos": photos, "integers": integers, "sparse": sparse, "infeasible": infeasible}
    costs |= {"rectangle": normal(2, 40, 131), "long": normal(1, 3, 2100), "wide": wide}
    costs |= {"half": normal(2, 33, 33, dtype=torch.float16), "barred": barred}
    for name, cost in costs.items():
        for method in ("exact", "sinkhorn") if name in METHODS else ("exact",):
            given = with_gaps(cost)
            yield f"{name} {method}", partial(solve_assignment, given, method=method)
    labels = torch.from_numpy(rng.integers(0, 6, 60))
    checked = partial(fast_assign, check=True)
    for metric in ("sqeuclidean", "euclidean", "manhattan", "cosine"):
        x, noise = normal(60, 37), normal(60, 37)
        of = labels if metric != "cosine" else None
        yield f"fast_assign {metric}", partial(checked, x, noise, metric=metric, labels=of)
    x, noise, method = normal(60, 37), normal(60, 37), "sinkhorn"
    yield "fast_assign sinkhorn", partial(checked, x, noise, method=method, labels=labels)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        x, y = normal(70, 100, dtype=dtype), normal(45, 100, dtype=dtype)
        yield f"pairwise_cost {dtype}", partial(pairwise_cost, x, y)
    # Where the variance is beyond float64, Sinkhorn does nothing, and forests have all the work: of
    # whole rows, and of dummy rows.
    double = torch.float64
    wide = 10 ** (5 * normal(1, 20, 131, dtype=double))
    enormous = -torch.cumsum(normal(4, 24, 12, dtype=double), 2) @ normal(4, 12, 131, dtype=double)
    enormous *= 1e200
    costs = {"wide rectangle": wide, "enormous": enormous[:2].contiguous()}
    costs |= {"enormous little to spare": enormous[:, :20, :22].contiguous()}
    for name, cost in costs.items():
        yield name, partial(solve_assignment, with_gaps(cost), method="exact")
    x = torch.cumsum(normal(135, 8, dtype=double), 1) * 1e100
    noise, labels = normal(135, 8, dtype=double) * 1e100, torch.arange(135) % 3
    yield "fast_assign enormous", partial(checked, x, noise, labels=labels)
    # The last resort in two warps: rows that nothing is left for, and prices that dwarf costs.
    for name, columns, far in (("scarce", 4, torch.inf), ("huge", 8, 1e9)):
        cost = torch.from_numpy(rng.integers(0, 9, (1, 140, 140))).float()
        cost[:, -8:, columns:] = far
        yield f"{name} integers", partial(solve_assignment, with_gaps(cost), method="exact")
    again = partial(with_constants, sinkhorn, {"WIDEST": 32}, solve_assignment)
    yield "photos read twice", partial(again, photos, method="exact")
    few = {"SPREAD_FROM": 32, "SPREAD_ROWS": 8, "MOST_PARTS": 4}
    spread = partial(with_constants, workspace, few, solve_assignment)
    yield "photos spread", partial(spread, photos, method="sinkhorn")
    yield "enormous spread", partial(spread, enormous[:2].contiguous(), method="exact")
    x, noise = normal(70, 20), normal(70, 20)
    yield "streaming", partial(streamed, x, noise, "sqeuclidean", {"SAMPLED": 2})
    few = {"SLOTS": 16, "LEAST_SLOTS": 16, "LARGE": 1, "SAMPLED": 2}
    yield "streaming crowded", partial(streamed, x.half(), noise.half(), "euclidean", few)
    price = torch.from_numpy(1 + rng.random((2, 40)))
    yield "positive prices", partial(start_at, normal(2, 20, 40), price)


def with_constants(
    module: Any, values: dict[str, int], call: Any, *args: Any, **options: Any
) -> Any:
    """A call as it is where constants of the kernels are others."""
    with mock.patch.multiple(module, **values):
        return call(*args, **options)


def streamed(x: torch.Tensor, noise: torch.Tensor, metric: str, values: dict[str, int]) -> Any:
    """Samples by the passes of streaming, after one update of prices."""
    from immiscible_fast.kernels.gpu import streaming as kernels

    from immiscible_fast.streaming import backend

    with (
        mock.patch.multiple(kernels, **values),
        mock.patch.object(backend, "UPDATES", backend.UPDATES[-1:]),
    ):
        answer = backend.solve(x, noise, metric, 0.01)
    return tuple(torch.as_tensor(z) for z in (answer.index, answer.gap, answer.prices))


def start_at(cost: torch.Tensor, price: torch.Tensor) -> Any:
    """Claims at prices that are all above zero, the least for as many columns as have no row;
    Sinkhorn's are not."""
    from immiscible_fast.kernels.gpu.problems import Problems
    from immiscible_fast.kernels.gpu.statistics import statistics
    from immiscible_fast.kernels.gpu.workspace import Workspace, start_matching

    problems, spare = Problems(cost), cost.shape[2] - cost.shape[1]
    price = torch.maximum(price, price.sort(1).values[:, spare - 1 : spare])
    units, _ = statistics(problems)
    work = Workspace.of(problems, price.reshape(-1))
    start_matching(problems, units, work, torch.ones_like(units.flags))
    return work.column, work.owner


def observe(package: Path, names: set[str] | None, sound: dict[str, Any] | None) -> dict[str, Any]:
    """What was found in these scenarios, or in all; and by scenario a digest of the answers and the
    kernels that ran, and of every kernel that of its code. Ends where answers are not the sound
    ones."""
    import immiscible_fast

    assert package in Path(immiscible_fast.__file__).parents, immiscible_fast.__file__
    seen: dict[str, Any] = {"found": [], "values": {}, "kernels": {}, "code": set()}
    for target, order in ORDERS.items():
        with Emulator(target, order, limit=2 * 10**7, asked_only=True, stop=True) as emulator:
            for name, call in scenarios():
                if names is not None and name not in names:
                    continue
                before = {kernel: work.launches for kernel, work in emulator.work.items()}
                with contextlib.suppress(FoundError):
                    answer = call()
                found = [text(one) for one in emulator.findings.errors]
                if not found:
                    parts = answer if isinstance(answer, tuple) else (answer,)
                    digests = [hashlib.sha256(part.numpy().tobytes()).hexdigest() for part in parts]
                    seen["values"][f"{target} {name}"] = digests
                    if sound is not None and sound[f"{target} {name}"] != digests:
                        found = ["wrong answer"]
                if found:
                    return seen | {"found": found, "scenario": f"{target} {name}"}
                ran = {k for k, work in emulator.work.items() if work.launches > before.get(k, 0)}
                seen["kernels"][name] = ran
        for executable in emulator.executables.values():
            seen["code"].add(hashlib.sha256(executable.code.encode()).hexdigest())
    return seen


def text(finding: Finding) -> str:
    """Without the lines, which move."""
    return re.sub(r" \S+\.py:\d+", "", str(finding))
