"""Names that arguments take, for type checkers and at run time. Nothing heavy is imported."""

from __future__ import annotations

from typing import Literal, get_args

Metric = Literal["sqeuclidean", "euclidean", "dot", "cosine", "manhattan"]
Method = Literal["auto", "exact", "auction", "sinkhorn", "scipy", "streaming"]
Schedule = Literal["flow"]

METRICS: tuple[Metric, ...] = get_args(Metric)
METHODS: tuple[Method, ...] = get_args(Method)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
