"""kohya's and OneTrainer's functions, by stand-ins of their contracts: noise paired where drawn."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from stand_ins import ALPHAS, Scheduler, kohya_arguments, modules

from immiscible_fast import assign_noise, fast_assign
from immiscible_fast.adapters import kohya, onetrainer

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
N = 32


@pytest.fixture
def latents(rng):
    return torch.from_numpy(rng.normal(size=(N, 4, 3, 3))).float()


def assert_assigned(latents, noise):
    assert fast_assign(latents, noise).equal(torch.arange(N))


def sd_step(latents, **arguments):
    """Target, x_t and timesteps of a step of Stable Diffusion, patched."""
    util = modules()["library.train_util"]
    kohya.patch(util)
    call = util.get_noise_noisy_latents_and_timesteps
    return call(kohya_arguments(**arguments), Scheduler(), latents)


def noise_in(latents, x_t, timesteps):
    kept = ALPHAS[timesteps][:, None, None, None]
    return (x_t - kept.sqrt() * latents) / (1 - kept).sqrt()


@pytest.mark.parametrize("offset", [None, 0.3])
def test_kohya_s_target_is_the_noise_in_x_t(latents, offset):
    noise, x_t, timesteps = sd_step(latents, noise_offset=offset)
    assert (noise_in(latents, x_t, timesteps) - noise).abs().max() < 1e-3
    if offset is None:
        assert_assigned(latents, noise)


def test_kohya_s_perturbation_of_the_input_is_left_alone(latents):
    torch.manual_seed(1)
    drawn = torch.randn_like(latents)
    torch.manual_seed(1)
    noise, x_t, timesteps = sd_step(latents, ip_noise_gamma=0.1)
    assert noise.equal(assign_noise(latents, drawn))
    extra = (noise_in(latents, x_t, timesteps) - noise) / 0.1
    assert 0.8 < extra.std() < 1.2
    assert (extra - assign_noise(latents, extra)).abs().max() > 1  # as it was drawn


@pytest.mark.parametrize("name", ["flux_train_utils", "sd3_train_utils", "lumina_train_util"])
@pytest.mark.parametrize("shape", [(4, 3, 3), (4, 1, 3, 3)])
def test_kohya_s_callers_make_the_target_of_the_noise_that_was_used(rng, name, shape):
    latents = torch.from_numpy(rng.normal(size=(N, *shape))).float()
    util = modules()[f"library.{name}"]
    kohya.patch(util)
    noise = torch.randn_like(latents)
    expected = assign_noise(latents, noise)
    scheduler = () if name.startswith("sd3") else (Scheduler(),)
    args = kohya_arguments(), *scheduler, latents, noise
    x_t, _, sigmas = util.get_noisy_model_input_and_timesteps(*args, "cpu", dtype=torch.float32)
    assert noise.equal(expected)
    assert torch.allclose(x_t, (1 - sigmas) * latents + sigmas * noise, atol=1e-6)


def test_kohya_is_patched_once(latents):
    calls = []
    util = modules()["library.train_util"]
    for _ in range(2):
        kohya.patch(util, pair=lambda x, noise: calls.append(x) or noise)
    util.get_noise_noisy_latents_and_timesteps(kohya_arguments(), Scheduler(), latents)
    assert len(calls) == 1
    assert calls[0] is latents


@pytest.mark.parametrize("name", ["library.train_util", "library.flux_train_utils"])
def test_what_somebody_else_wrapped_is_patched_all_the_same(latents, name):
    util, calls = modules()[name], []
    (function,) = {kohya.DRAWS, kohya.GETS} & vars(util).keys()
    setattr(util, function, torch.no_grad()(getattr(util, function)))
    for _ in range(2):
        kohya.patch(util, pair=lambda x, noise: calls.append(x) or noise)
        setattr(util, function, torch.no_grad()(getattr(util, function)))
    arguments = [latents, torch.randn_like(latents), "cpu", torch.float32]
    given = arguments if function == kohya.GETS else arguments[:1]
    getattr(util, function)(kohya_arguments(), Scheduler(), *given)
    assert len(calls) == 1


def test_several_noises_to_choose_from_are_not_mistaken(latents):
    """OneTrainer's k_noise_sampling; the first in the shape of x is a perturbation then."""
    util = types.ModuleType("train_util")

    def oversample(args, noise_scheduler, latents):
        best = torch.randn(len(latents), 4, *latents.shape[1:])[:, 0]
        return best + 0.1 * torch.randn_like(latents)

    util.get_noise_noisy_latents_and_timesteps = oversample
    kohya.patch(util)
    with pytest.raises(RuntimeError, match=r"shape \(32, 4, 4, 3, 3\) .* to choose from: switch"):
        util.get_noise_noisy_latents_and_timesteps(None, None, latents)


def test_what_is_not_kohya_s_is_refused():
    with pytest.raises(ValueError, match="json has neither"):
        import json

        kohya.patch(json)
    with pytest.raises(TypeError, match="got none"):
        kohya.patch()


def test_a_version_that_draws_in_another_way_is_told(latents):
    util = types.ModuleType("train_util")
    util.get_noise_noisy_latents_and_timesteps = lambda args, noise_scheduler, latents: None
    kohya.patch(util)
    with pytest.raises(RuntimeError, match="drew no noise in the shape of its images"):
        util.get_noise_noisy_latents_and_timesteps(None, None, latents)


def one_trainer():
    mixin = modules()["modules.modelSetup.mixin.ModelSetupNoiseMixin"].ModelSetupNoiseMixin
    onetrainer.patch(mixin)
    return mixin()


def one_config(**given):
    config = {"offset_noise_weight": 0.0, "perturbation_noise_weight": 0.0}
    config |= {"generalized_offset_noise": False, "train_device": "cpu"}
    return types.SimpleNamespace(**(config | given))


def test_onetrainer_s_offset_stays_with_the_timestep_of_its_image(latents):
    config = one_config(offset_noise_weight=0.5, generalized_offset_noise=True)
    timestep = torch.arange(N).float()
    generator = torch.Generator().manual_seed(0)
    noise = one_trainer()._create_noise(latents, config, generator, timestep, betas=ALPHAS)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(latents.shape, generator=generator)
    offset = torch.randn(N, 4, 1, 1, generator=generator)
    rest = noise - 0.5 * offset * timestep[:, None, None, None]
    assert torch.allclose(rest, assign_noise(latents, drawn), atol=1e-4)


def test_onetrainer_s_perturbation_is_left_alone(latents):
    config = one_config(perturbation_noise_weight=0.1)
    noise = one_trainer()._create_noise(latents, config, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    drawn, more = (torch.randn(latents.shape, generator=generator) for _ in range(2))
    assert torch.allclose(noise, assign_noise(latents, drawn) + 0.1 * more)


def test_onetrainer_is_patched_once_and_nothing_else_is():
    setup = one_trainer()
    create = type(setup)._create_noise
    onetrainer.patch(type(setup))
    assert type(setup)._create_noise is create
    with pytest.raises(ValueError, match="has no _create_noise"):
        onetrainer.patch(dict)


SCRIPT = """
import sys
from library import train_util
from stand_ins import Scheduler, kohya_arguments
import torch
from immiscible_fast import fast_assign
latents = torch.randn(8, 4, 3, 3)
step = train_util.get_noise_noisy_latents_and_timesteps
noise, *_ = step(kohya_arguments(), Scheduler(), latents)
assert fast_assign(latents, noise).equal(torch.arange(8))
print(sys.argv)
"""


def test_the_launcher_of_kohya_s_scripts_patches_and_runs_one(tmp_path):
    """In a checkout, whose modules are found from the working directory."""
    (tmp_path / "library").mkdir()
    for name in ("train_util", "flux_train_utils"):
        line = f"from stand_ins import modules\nvars().update(vars(modules()['library.{name}']))\n"
        (tmp_path / f"library/{name}.py").write_text(line)
    (tmp_path / "train.py").write_text(SCRIPT)
    answer = subprocess.run(
        [sys.executable, EXAMPLES / "kohya.py", "train.py", "--steps", "3"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.endswith("['train.py', '--steps', '3']\n")
