"""Lightning: a seed for each rank, where ``seed_everything`` gives all of them the same noise."""

from __future__ import annotations

import logging
from typing import Any

import torch

from .. import validation
from ..training.ranks import rank_seed, ranks_draw_alike

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError:
    try:
        from pytorch_lightning import Callback
    except ModuleNotFoundError as error:
        raise ImportError(
            "immiscible_fast.adapters.lightning needs Lightning: pip install lightning"
        ) from error

logger = logging.getLogger(__name__)


class SeedRanks(Callback):  # type: ignore[misc]
    """Seeds torch on every rank by the seed, the rank and the step, when training starts.

    ``seed_everything(0)`` makes the weights equal on all ranks, as it should, and then every noise
    that they draw: a step over eight GPUs sees each noise eight times. With this callback they
    differ from the first step on, reproducibly, after a resumption, too. If they would have been
    the same, the log says so.

    Parameters
    ----------
    seed : int, optional
        None: torch's initial seed, which is the one given to ``seed_everything``.

    Examples
    --------
    ``Trainer(strategy="ddp", devices=8, callbacks=[SeedRanks()])``
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = None if seed is None else validation.check_whole("seed", seed)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if ranks_draw_alike() and trainer.is_global_zero:
            logger.info("ranks would draw the same noise; each of them has a seed of its own now")
        seed = torch.initial_seed() if self.seed is None else self.seed
        torch.manual_seed(rank_seed(seed, trainer.global_rank, trainer.global_step))
