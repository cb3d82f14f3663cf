"""``SeedRanks`` under Lightning's own trainer, in one process and in two."""

from __future__ import annotations

import logging
import sys

import pytest
import torch
from fresh import run
from other_projects import imports_of_others, project

lightning = project("lightning.pytorch")

from immiscible_fast.adapters.lightning import SeedRanks  # noqa: E402


class Drawing(lightning.LightningModule):
    """Writes down the noise that each rank draws in each step."""

    def __init__(self, folder):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.folder, self.noise, self.start = folder, [], None

    def on_train_start(self):
        self.start = self.layer.weight.detach().clone()

    def training_step(self, batch, index):
        noise = torch.randn_like(batch)
        self.noise.append(noise)
        return (self.layer(batch) - noise).square().mean()

    def on_train_end(self):
        torch.save((self.start, torch.stack(self.noise)), f"{self.folder}/{self.global_rank}.pt")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(folder, callbacks, devices=1, **options):
    """Weights at the start and noise of each rank."""
    with imports_of_others("lightning"), torch.random.fork_rng():
        lightning.seed_everything(0)
        trainer = lightning.Trainer(
            accelerator="cpu", devices=devices, strategy="ddp_fork" if devices > 1 else "auto",
            max_steps=2, callbacks=callbacks, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
            **options,
        )  # fmt: skip
        module = Drawing(folder)
        trainer.fit(module, torch.utils.data.DataLoader(torch.zeros(16, 2), batch_size=4))
    return [torch.load(folder / f"{rank}.pt") for rank in range(devices)]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What Lightning leaves there goes."""
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_two_ranks_draw_the_same_noise_without_it(tmp_path):
    """The reproduction of what it is for."""
    (_, one), (_, other) = fit(tmp_path, [], devices=2)
    assert one.equal(other)


def test_two_ranks_draw_other_noise_with_it_from_the_same_weights(tmp_path):
    (start, one), (other_start, other) = fit(tmp_path, [SeedRanks()], devices=2)
    assert not (one == other).any()
    assert start.equal(other_start)
    (_, again), _ = fit(tmp_path, [SeedRanks()], devices=2)
    assert again.equal(one)
    (_, elsewhere), _ = fit(tmp_path, [SeedRanks(1)], devices=2)
    assert not (elsewhere == one).any()


def test_the_log_says_what_would_have_been(tmp_path, monkeypatch, caplog):
    module = sys.modules[SeedRanks.__module__]
    monkeypatch.setattr(module, "ranks_draw_alike", lambda: True)
    with caplog.at_level(logging.INFO, logger=module.__name__):
        fit(tmp_path, [SeedRanks()])
    assert "would draw the same noise" in caplog.text


def test_a_resumed_training_does_not_repeat_its_noise(tmp_path):
    class Resumed:
        global_rank, is_global_zero = 0, True

        def __init__(self, step):
            self.global_step = step

    drawn = []
    for step in (0, 10, 10):
        with torch.random.fork_rng():
            SeedRanks(0).on_train_start(Resumed(step), None)
            drawn.append(torch.randn(4))
    assert not (drawn[0] == drawn[1]).any()
    assert drawn[1].equal(drawn[2])


def test_a_seed_is_an_integer():
    with pytest.raises(TypeError, match="seed must be a whole number, got str"):
        SeedRanks("0")


def test_without_lightning_the_error_says_what_to_install():
    program = """
import sys
sys.modules["lightning"] = sys.modules["pytorch_lightning"] = None
try:
    import immiscible_fast.adapters.lightning
except ImportError as error:
    assert "pip install lightning" in str(error), error
else:
    raise AssertionError("lightning was blocked")
"""
    run(program, "default")
