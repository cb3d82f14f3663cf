"""diffusers' schedulers with assigned noise: x_t and every target hold the same noise."""

from __future__ import annotations

import pytest
import torch
from other_projects import imports_of_others, project

from immiscible_fast import assign_noise, diffuse, fast_assign

diffusers = project("diffusers")
N = 256


@pytest.fixture
def images(rng):
    return torch.from_numpy(rng.random((N, 3, 4, 4))).float() * 2 - 1


def ddpm(**options):
    with imports_of_others("diffusers"):
        return diffusers.DDPMScheduler(**options)


def assert_rows_close(first, second):
    assert torch.isclose(first, second, rtol=1e-3, atol=1e-2).flatten(1).all(1).sum() == N


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("whole", [False, True], ids=["assign_noise", "diffuse"])
def test_a_ddpm_step_learns_the_noise_that_is_in_x_t(images, prediction, schedule, whole):
    scheduler = ddpm(prediction_type=prediction, beta_schedule=schedule)
    t = torch.randint(1, 900, (N,))
    if whole:
        x_t, noise = diffuse(images, t, scheduler, noise=torch.randn_like(images))
        assert torch.allclose(x_t, scheduler.add_noise(images, noise, t), atol=1e-6)
    else:
        noise = assign_noise(images, torch.randn_like(images))
        x_t = scheduler.add_noise(images, noise, t)
    kept = scheduler.alphas_cumprod[t][:, None, None, None]
    inverted = (x_t - kept.sqrt() * images) / (1 - kept).sqrt()
    if prediction == "epsilon":
        assert_rows_close(inverted, noise)
    else:
        v = scheduler.get_velocity(images, noise, t)
        assert_rows_close(kept.sqrt() * inverted - (1 - kept).sqrt() * images, v)
    assert fast_assign(images, noise).equal(torch.arange(N))


def test_a_flow_step_learns_the_way_from_the_image_to_its_noise(images):
    with imports_of_others("diffusers"):
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    index = torch.randint(0, 900, (N,))
    noise = assign_noise(images, torch.randn_like(images))
    x_t = scheduler.scale_noise(images, scheduler.timesteps[index], noise)
    sigma = scheduler.sigmas[index][:, None, None, None]
    assert_rows_close((x_t - (1 - sigma) * images) / sigma, noise)
    assert_rows_close(x_t - sigma * (noise - images), images)


def test_a_perturbed_input_keeps_its_target(images):
    """``input_perturbation`` of diffusers' scripts: a temporary goes into x_t, the noise that was
    assigned is the target."""
    scheduler, t = ddpm(), torch.full((N,), 500)
    noise = assign_noise(images, torch.randn_like(images))
    extra = torch.randn_like(noise)
    x_t = scheduler.add_noise(images, noise + 0.1 * extra, t)
    kept = scheduler.alphas_cumprod[500]
    assert_rows_close((x_t - kept.sqrt() * images) / (1 - kept).sqrt() - 0.1 * extra, noise)
