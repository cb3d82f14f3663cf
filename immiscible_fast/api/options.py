"""The keywords of ``fast_assign`` for functions that pass them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..choices import Method
from ..metrics import Metric

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh

Labels: TypeAlias = (
    Tensor | NDArray[np.integer[Any] | np.bool_] | Sequence[int] | Sequence[Sequence[int]]
)

ConditionsLike: TypeAlias = Labels | NDArray[np.floating[Any]] | Sequence[Sequence[float]]

Group: TypeAlias = "ProcessGroup | DeviceMesh"


class OptionsOfAll(TypedDict, total=False):
    """Options of ``fast_assign`` that are the same for all batches of a training loop."""

    metric: Metric
    method: Method
    tol: float
    features: Callable[[Tensor], Tensor] | None
    mask: Tensor | None
    check: bool
    condition_weight: float | Tensor | None
    condition_share: float | None
    max_memory: float | None


class AssignOptions(OptionsOfAll, total=False):
    """Options of ``fast_assign`` but ``batched`` and ``return_stats``; take them as
    ``**options: Unpack[...]``."""

    labels: Labels | None
    conditions: ConditionsLike | None
    process_group: Group | None


NAMES = tuple(AssignOptions.__annotations__)


def check_options(caller: str, options: Mapping[str, Any]) -> None:
    """Raise the TypeError of an unknown keyword in the name of the function that was called."""
    for name in options:
        if name not in NAMES:
            near = get_close_matches(name, NAMES, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{caller}() got an unexpected keyword argument {name!r}{hint}")
