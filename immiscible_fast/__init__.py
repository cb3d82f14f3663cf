"""Noise matched to the nearest images of its batch, and the solvers that make it cheap.

Names are imported when they are first used, so that the command line can print its help without
torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.assign_noise import assign_noise, assign_noise_
    from .api.diffuse import Diffused, diffuse
    from .api.fast_assign import fast_assign
    from .api.pairwise_cost import pairwise_cost
    from .api.sinkhorn import Coupling, sinkhorn
    from .api.solve_assignment import solve_assignment
    from .api.warmup import warmup
    from .compat import assignment_to_indices, batch_linear_assignment, linear_sum_assignment
    from .statistics import AssignmentStats
    from .training.best_of_k import select_noise
    from .training.pool import NoisePool
    from .training.prefetch import prefetch
    from .training.ranks import rank_generator, ranks_draw_alike
    from .training.together import assign_many
    from .training.whole_set import PairedDataset, pair_dataset
    from .training.windows import windowed
    from .types import Assignment

__version__ = "0.1.0"

__all__ = [
    "Assignment",
    "AssignmentStats",
    "Coupling",
    "Diffused",
    "NoisePool",
    "PairedDataset",
    "assign_many",
    "assign_noise",
    "assign_noise_",
    "assignment_to_indices",
    "batch_linear_assignment",
    "diffuse",
    "fast_assign",
    "linear_sum_assignment",
    "pair_dataset",
    "pairwise_cost",
    "prefetch",
    "rank_generator",
    "ranks_draw_alike",
    "select_noise",
    "sinkhorn",
    "solve_assignment",
    "warmup",
    "windowed",
]

_MODULES = {
    "Assignment": "types",
    "AssignmentStats": "statistics",
    "Coupling": "api.sinkhorn",
    "Diffused": "api.diffuse",
    "NoisePool": "training.pool",
    "PairedDataset": "training.whole_set",
    "assign_many": "training.together",
    "assign_noise": "api.assign_noise",
    "assign_noise_": "api.assign_noise",
    "assignment_to_indices": "compat",
    "batch_linear_assignment": "compat",
    "diffuse": "api.diffuse",
    "fast_assign": "api.fast_assign",
    "linear_sum_assignment": "compat",
    "pair_dataset": "training.whole_set",
    "pairwise_cost": "api.pairwise_cost",
    "prefetch": "training.prefetch",
    "rank_generator": "training.ranks",
    "ranks_draw_alike": "training.ranks",
    "select_noise": "training.best_of_k",
    "sinkhorn": "api.sinkhorn",
    "solve_assignment": "api.solve_assignment",
    "warmup": "api.warmup",
    "windowed": "training.windows",
}


def _find_kernels() -> None:
    """In a checkout ``kernels`` stands beside the package, and not in it."""
    name, package = f"{__name__}.kernels", Path(__file__).parent
    beside = package.parent / "kernels" / "__init__.py"
    if not (package / "kernels").exists() and (spec := spec_from_file_location(name, beside)):
        sys.modules[name] = globals()["kernels"] = module_from_spec(spec)


_find_kernels()


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f".{module}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({name for name in globals() if name.startswith("__")} | {*__all__})
