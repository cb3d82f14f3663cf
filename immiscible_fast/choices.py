"""What arguments may be, for type checkers and at run time, without torch; metrics are in
``metrics``."""

from __future__ import annotations

from typing import Literal, get_args

Method = Literal["auto", "exact", "auction", "sinkhorn", "scipy", "streaming"]
Schedule = Literal["flow"]
Score = Literal["dot", "euclidean"]

METHODS: tuple[Method, ...] = get_args(Method)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
SCORES: tuple[Score, ...] = get_args(Score)

# Other packages that users may compare with: what to install, the module, what is called there.
PEERS = {
    "lapjv": ("lapjv", "lapjv", "lapjv"),
    "lapx": ("lapx", "lap", "lapjvr"),
    "pot": ("POT", "ot", "emd"),
    "torchcfm": ("torchcfm", "torchcfm.optimal_transport", "OTPlanSampler"),
}

DEFAULT_TOL = 0.01  # standard deviations of the doubly centred costs
