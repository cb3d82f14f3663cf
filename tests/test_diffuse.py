"""diffuse: the equations of flow matching and DDPM, and that it returns the noise it used."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from samples import DTYPES, draw

from immiscible_fast import Diffused, assign_noise, diffuse

ALPHAS = torch.linspace(0.9999, 0.0001, 50, dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_flow_is_the_straight_line_from_image_to_assigned_noise(rng):
    x, noise, t = draw(rng, 20, 3, 4, 4), draw(rng, 20, 3, 4, 4), torch.from_numpy(rng.random(20))
    x_t, used = diffuse(x, t, "flow", noise=noise)
    assert torch.equal(used, assign_noise(x, noise))
    s = t[:, None, None, None]
    assert torch.allclose(x_t, (1 - s) * x + s * used, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("schedule", ["flow", ALPHAS])
def test_a_batch_of_problems_is_each_of_them(schedule, rng):
    x, noise = draw(rng, 3, 7, 2, 2), draw(rng, 3, 7, 2, 2)
    t = torch.from_numpy(rng.random((3, 7)) if schedule == "flow" else rng.integers(0, 50, (3, 7)))
    whole = diffuse(x, t, schedule, noise=noise, batched=True)
    for b in range(3):
        for got, want in zip(whole, diffuse(x[b], t[b], schedule, noise=noise[b]), strict=True):
            assert torch.equal(got[b], want)


def test_flow_ends_in_the_image_and_in_the_noise(rng):
    x, noise = draw(rng, 8, 5), draw(rng, 8, 5)
    assert torch.equal(diffuse(x, torch.zeros(8), "flow", noise=noise).x_t, x)
    x_t, used = diffuse(x, torch.ones(8), "flow", noise=noise)
    assert torch.equal(x_t, used)


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8])
def test_ddpm_mixes_by_the_square_roots_of_the_cumulative_alphas(kind, rng):
    x, noise = draw(rng, 20, 3, 4), draw(rng, 20, 3, 4)
    t = torch.from_numpy(rng.integers(0, 50, 20)).to(kind)
    x_t, used = diffuse(x, t, ALPHAS, noise=noise)
    assert torch.equal(used, assign_noise(x, noise))
    for i in range(20):
        alpha = float(ALPHAS[int(t[i])])
        want = np.sqrt(alpha) * x[i] + np.sqrt(1 - alpha) * used[i]
        assert torch.allclose(x_t[i], want, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
def test_images_keep_their_dtype(dtype, rng):
    x = draw(rng, 6, 4, dtype=dtype)
    given = diffuse(x, torch.rand(6, generator=seeded()), "flow", noise=draw(rng, 6, 4))
    drawn = diffuse(x, torch.zeros(6, dtype=torch.int64), ALPHAS, generator=seeded())
    for x_t, noise in (given, drawn):
        assert x_t.dtype == noise.dtype == dtype
        assert x_t.shape == noise.shape == x.shape


def test_a_generator_draws_the_noise_reproducibly(rng):
    x, t = draw(rng, 16, 3, 5), torch.from_numpy(rng.random(16))
    first, again = (diffuse(x, t, "flow", generator=seeded(5)) for _ in range(2))
    assert torch.equal(first.noise, again.noise)
    assert torch.equal(first.x_t, again.x_t)
    assert not torch.equal(first.noise, diffuse(x, t, "flow", generator=seeded(6)).noise)
    wide = diffuse(x.double(), t, "flow", generator=seeded(5)).noise
    assert not torch.equal(wide, wide.float().double())  # of the images' own precision
    generator = seeded(5)
    one, two = (diffuse(x, t, "flow", generator=generator).noise for _ in range(2))
    assert not torch.equal(one.sort(0).values, two.sort(0).values)


def test_assigned_noise_is_the_drawn_noise_in_another_order(rng):
    x, t = draw(rng, 64, 7), torch.from_numpy(rng.random(64))
    plain = diffuse(x, t, "flow", generator=seeded(1), assign=False)
    matched = diffuse(x, t, "flow", generator=seeded(1))
    assert torch.equal(plain.noise.sort(0).values, matched.noise.sort(0).values)
    assert torch.equal(matched.noise, assign_noise(x, plain.noise))
    near = (x - matched.noise).square().sum()
    assert near < (x - plain.noise).square().sum()


def test_assign_false_keeps_the_order_of_given_noise(rng):
    x, noise, t = draw(rng, 9, 4), draw(rng, 9, 4), torch.from_numpy(rng.random(9))
    x_t, used = diffuse(x, t, "flow", noise=noise, assign=False)
    assert torch.equal(used, noise)
    assert torch.allclose(x_t, (1 - t[:, None]) * x + t[:, None] * noise, rtol=1e-14, atol=1e-14)


def test_options_reach_the_assignment(rng):
    x, noise, t = draw(rng, 24, 6), draw(rng, 24, 6), torch.zeros(24)
    options = {"metric": "cosine", "labels": [0, 1, 2] * 8, "method": "scipy"}
    used = diffuse(x, t, "flow", noise=noise, **options).noise
    assert torch.equal(used, assign_noise(x, noise, **options))


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (1,), (0, 2, 2)])
def test_batches_of_nothing_or_one_image(shape):
    x = torch.ones(shape)
    t = torch.full(shape[:1], 0.5)
    answer = diffuse(x, t, "flow", noise=torch.zeros(shape))
    assert isinstance(answer, Diffused)
    assert torch.equal(answer.x_t, torch.full(shape, 0.5))
    assert diffuse(x, t, "flow", generator=seeded()).noise.shape == shape
    assert diffuse(x, t.long(), ALPHAS, noise=x).x_t.shape == shape


class Scheduler:
    """As those of diffusers: a table of sigmas, looked up by timestep, beside the DDPM's."""

    alphas_cumprod = ALPHAS
    timesteps = torch.arange(50.0).flip(0)
    sigmas = torch.linspace(20, 0, 50, dtype=torch.float64)

    def add_noise(self, original_samples, noise, timesteps):
        steps = [int((self.timesteps == t).nonzero()[0]) for t in timesteps]
        shape = (-1,) + (1,) * (original_samples.ndim - 1)
        return original_samples + self.sigmas[steps].reshape(shape) * noise


class FlowScheduler:
    def scale_noise(self, sample, timestep, noise):
        t = timestep.reshape(-1, *(1,) * (sample.ndim - 1))
        return t * noise + (1 - t) * sample


def test_a_scheduler_noises_by_its_own_method(rng):
    x, noise = draw(rng, 12, 3, 2), draw(rng, 12, 3, 2)
    t = torch.from_numpy(rng.integers(0, 50, 12))
    x_t, used = diffuse(x, t, Scheduler(), noise=noise)
    assert torch.equal(used, assign_noise(x, noise))
    assert torch.allclose(x_t, x + (20 * t / 49)[:, None, None] * used)
    t = torch.from_numpy(rng.random(12))
    x_t, used = diffuse(x, t, FlowScheduler(), noise=noise)
    assert torch.allclose(x_t, diffuse(x, t, "flow", noise=noise).x_t, rtol=1e-14, atol=1e-14)


def test_a_scheduler_sees_a_batch_of_problems_as_one_batch(rng):
    x, noise = draw(rng, 3, 4, 2, 2), draw(rng, 3, 4, 2, 2)
    t = torch.from_numpy(rng.integers(0, 50, (3, 4)))
    x_t, used = diffuse(x, t, Scheduler(), noise=noise, batched=True)
    for b in range(3):
        one = diffuse(x[b], t[b], Scheduler(), noise=noise[b])
        assert torch.equal(used[b], one.noise)
        assert torch.equal(x_t[b], one.x_t)
    nothing = diffuse(x[:, :0], t[:, :0], Scheduler(), noise=noise[:, :0], batched=True)
    assert nothing.x_t.shape == (3, 0, 2, 2)


class Tokens:
    def add_noise(self, sample, timesteps, generator=None):
        raise AssertionError("called with other arguments than it takes")


class Flattening(Scheduler):
    def add_noise(self, original_samples, noise, timesteps):
        return noise.flatten()


@pytest.mark.parametrize(
    ("schedule", "error", "words"),
    [
        (Tokens(), TypeError, r"add_noise\(x, noise, t\), got Tokens, .* takes \(sample, times"),
        (Flattening(), ValueError, r"Flattening.add_noise must return the shape of x, \(2, 3, 2\)"),
        (SimpleNamespace(alphas_cumprod=ALPHAS), TypeError, "if it is DDPM's, pass its alphas_cu"),
        (object(), TypeError, "a scheduler with add_noise or scale_noise, got object"),
    ],
)
def test_other_schedules_are_errors_that_say_what_to_pass(schedule, error, words, rng):
    with pytest.raises(error, match=words):
        x = draw(rng, 2, 3, 2)
        diffuse(x, torch.tensor([3, 4]), schedule, noise=draw(rng, 2, 3, 2))


@pytest.mark.parametrize(
    ("schedule", "t", "keep", "add"),
    [
        ("flow", 0.25, 0.75, 0.25),
        (ALPHAS, 7, float(ALPHAS[7].sqrt()), float((1 - ALPHAS[7]).sqrt())),
        (Scheduler(), 7, 1.0, 20 * 7 / 49),
    ],
)
@pytest.mark.parametrize("assign", [True, False])
def test_gradients_reach_images_and_given_noise(schedule, t, keep, add, assign, rng):
    x, noise = (draw(rng, 6, 4).requires_grad_() for _ in range(2))
    x_t, used = diffuse(x, torch.full((6,), t), schedule, noise=noise, assign=assign)
    (x_t.sum() + 3 * used.sum()).backward()
    assert torch.allclose(x.grad, torch.full_like(x, keep))
    assert torch.allclose(noise.grad, torch.full_like(noise, add + 3))
