"""Windows over a loader that accelerate has prepared: its batches, and as many optimizer steps."""

from __future__ import annotations

import pytest
import torch
from other_projects import forget_accelerate, imports_of_others, project

from immiscible_fast import assign_noise, windowed

accelerate = project("accelerate")


@pytest.fixture(autouse=True)
def fresh():
    forget_accelerate()
    yield
    forget_accelerate()


def train(images, window, **plugin):
    """Batches, noises, and the number of optimizer steps of an epoch, accumulating four."""
    with imports_of_others("accelerate"):
        plugin = accelerate.utils.GradientAccumulationPlugin(num_steps=4, **plugin)
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_plugin=plugin)
        loader = torch.utils.data.DataLoader(images, batch_size=4)
        model = torch.nn.Linear(3, 3)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        seen, steps = [], 0
        for x, noise in windowed(loader, window, generator=torch.Generator().manual_seed(0)):
            seen.append((x, noise))
            with accelerator.accumulate(model):
                accelerator.backward((model(x + noise) - noise).square().mean())
                optimizer.step()
                optimizer.zero_grad()
                steps += accelerator.sync_gradients
    return *(torch.cat(parts) for parts in zip(*seen, strict=True)), steps


def test_windows_of_a_prepared_loader_keep_its_batches_and_its_steps(rng):
    images = torch.from_numpy(rng.normal(size=(64, 3))).float()
    x, noise, steps = train(images, 4, sync_with_dataloader=False)
    assert x.equal(images)
    assert steps == 4
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([torch.randn(4, 3, generator=generator) for _ in range(16)])
    for part in range(0, 64, 16):
        window = slice(part, part + 16)
        assert noise[window].equal(assign_noise(images[window], drawn[window]))


def test_the_end_of_a_loader_that_is_read_ahead_is_no_sign_to_step(rng):
    """Why guide and example set ``sync_with_dataloader=False``: without it accelerate steps with
    each of the last batches."""
    images = torch.from_numpy(rng.normal(size=(64, 3))).float()
    assert train(images, 4)[2] > 4
