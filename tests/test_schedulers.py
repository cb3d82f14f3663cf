"""diffuse with every scheduler of diffusers: what it returns is what the scheduler makes of the
noise that it returns, or an error says what to pass."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
import types

import pytest
import torch
from samples import draw

from immiscible_fast import assign_noise, diffuse

schedulers = pytest.importorskip("diffusers.schedulers")
pytestmark = pytest.mark.filterwarnings(r"ignore:__array_(_|wrap__):DeprecationWarning")

REFUSED = {  # tokens, a signature of its own, one timestep for all images, an error of its own
    "AmusedScheduler": (TypeError, r"takes \(sample, timesteps, generator\)"),
    "BlockRefinementScheduler": (TypeError, r"takes \(original_samples, attention_mask, "),
    "HeliosDMDScheduler": (TypeError, r"takes \(original_samples, noise, timestep, sigmas"),
    "FlowMatchHeunDiscreteScheduler": (TypeError, "pass FlowMatchEulerDiscreteScheduler"),
    "RePaintScheduler": (NotImplementedError, "DDPMScheduler"),
}
NEEDED = {
    "AmusedScheduler": {"mask_token_id": 0},
    "RFD4ProteinaScheduler": {
        "schedule_mode": "log",
        "noise_mode": "tan",
        "tsr_k": 1.0,
        "tsr_sigma": 1.0,
    },
}
UPSIDE_DOWN = {  # as they are made: their last timestep leaves the image clean
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
}
BACKWARDS = {"MiniMaxH3Scheduler", "RFD4ProteinaScheduler"}  # whose time goes to the image
INDICES = {"SASolverScheduler", "ScoreSdeVeScheduler"}  # not the values of timesteps
TIMES = {"DDPMWuerstchenScheduler", "MiniMaxH3Scheduler", "RFD4ProteinaScheduler"}  # in [0, 1)


def classes():
    """By name, those that noise samples; two want a package, but not to add noise."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("torchsde") is None:
            patch.setitem(sys.modules, "torchsde", types.ModuleType("torchsde"))
        for module in pkgutil.iter_modules(schedulers.__path__, f"{schedulers.__name__}."):
            if ".scheduling_" in module.name and not module.name.endswith("_flax"):
                found |= vars(importlib.import_module(module.name))
    is_one = re.compile(r"\w+Scheduler$").match
    return {name: kind for name, kind in found.items() if is_one(name) and noises(kind)}


def noises(kind):
    return any(inspect.getattr_static(kind, name, None) for name in ("add_noise", "scale_noise"))


CLASSES = classes()
ACCEPTED = sorted(CLASSES.keys() - REFUSED)


def made(name):
    scheduler = CLASSES[name](**NEEDED.get(name, {}))
    if name in UPSIDE_DOWN:
        scheduler.set_timesteps(scheduler.config.num_train_timesteps)
    return scheduler


def timesteps(scheduler, shape, rng):
    """Random ones of those that it trains with."""
    if type(scheduler).__name__ in TIMES:
        return torch.from_numpy(rng.random(shape)).float()
    indices = type(scheduler).__name__ in INDICES
    if not indices and getattr(scheduler, "timesteps", None) is not None:
        return scheduler.timesteps[
            torch.from_numpy(rng.integers(0, len(scheduler.timesteps), shape))
        ]
    return torch.from_numpy(rng.integers(0, scheduler.config.num_train_timesteps, shape))


def own(scheduler, x, noise, t):
    if hasattr(scheduler, "add_noise"):
        return scheduler.add_noise(x, noise, t)
    return scheduler.scale_noise(x, t, noise)


def images(name, rng, *lead):
    shape = (3, 8) if name == "RFD4ProteinaScheduler" else (3, 2, 2)
    return draw(rng, *lead, *shape), draw(rng, *lead, *shape)


def test_the_list_is_that_of_this_version():
    assert len(CLASSES) >= 35
    assert REFUSED.keys() <= CLASSES.keys()
    assert CLASSES.keys() >= TIMES


@pytest.mark.parametrize("name", ACCEPTED)
def test_it_is_the_schedulers_own_forward_process(name, rng):
    scheduler = made(name)
    x, noise = images(name, rng, 6)
    t = timesteps(scheduler, 6, rng)
    x_t, used = diffuse(x, t, scheduler, noise=noise)
    assert torch.equal(used, assign_noise(x, noise))
    assert torch.equal(x_t, own(scheduler, x, used, t))

    x, noise = images(name, rng, 2, 3)
    t = timesteps(scheduler, (2, 3), rng)
    x_t, used = diffuse(x, t, scheduler, noise=noise, batched=True)
    assert torch.equal(used, assign_noise(x, noise, batched=True))
    for b in range(2):
        assert torch.equal(x_t[b], own(scheduler, x[b], used[b], t[b]))


@pytest.mark.parametrize("name", ACCEPTED)
def test_later_timesteps_leave_less_of_the_image(name, rng):
    scheduler = made(name)
    t = timesteps(scheduler, 6, rng).sort(descending=name in BACKWARDS).values
    one = torch.ones_like(images(name, rng, 6)[0])
    both = ((one, 0 * one), (0 * one, one))
    kept, added = (diffuse(x, t, scheduler, noise=noise).x_t.flatten(1)[:, 0] for x, noise in both)
    assert ((kept / (kept + added)).diff() <= 0).all()


@pytest.mark.parametrize("name", sorted(UPSIDE_DOWN))
def test_sigmas_the_wrong_way_round_are_refused(name, rng):
    scheduler = CLASSES[name]()
    x, noise = images(name, rng, 2)
    t = torch.tensor([0, 999])
    with pytest.raises(ValueError, match=r"pass DDPMScheduler\.from_config\(schedule\.config\)"):
        diffuse(x, t, scheduler, noise=noise)
    instead = CLASSES["DDPMScheduler"].from_config(scheduler.config)
    x_t, used = diffuse(x, t, instead, noise=noise)
    assert torch.allclose(x_t[1], used[1], atol=0.1)  # all noise


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_work_says_what_to_pass(name, rng):
    error, words = REFUSED[name]
    x, noise = images(name, rng, 4)
    with pytest.raises(error, match=words):
        diffuse(x, torch.tensor([0, 1, 2, 3]), made(name), noise=noise)


@pytest.mark.parametrize(
    ("name", "t", "error", "words"),
    [
        ("EulerDiscreteScheduler", 0.5, ValueError, r"schedule\.timesteps\[i\]"),
        ("EulerDiscreteScheduler", 1000, ValueError, "got 1000"),
        ("UniPCMultistepScheduler", 1000, ValueError, "values of schedule.timesteps"),
        ("DPMSolverMultistepScheduler", 0.5, ValueError, "values of schedule.timesteps"),
        ("DPMSolverMultistepInverseScheduler", -1, ValueError, "values of schedule.timesteps"),
        ("FlowMatchEulerDiscreteScheduler", 0.5, ValueError, "values of schedule.timesteps"),
        ("EDMEulerScheduler", 3, ValueError, "values of schedule.timesteps"),
        ("DDPMScheduler", 0.5, TypeError, "integer timesteps for DDPMScheduler"),
        ("DDPMScheduler", -1, ValueError, r"\[0, 999\]"),
        ("ScoreSdeVeScheduler", 5000, ValueError, r"\[0, 1999\]"),
        ("DDPMWuerstchenScheduler", 999, TypeError, "floating-point times"),
        ("DDPMWuerstchenScheduler", 1.5, ValueError, r"\[0, 1\]"),
    ],
)
def test_timesteps_of_another_kind_are_errors_that_name_t(name, t, error, words, rng):
    x, noise = images(name, rng, 2)
    with pytest.raises(error, match=f"^t must .*{words}"):
        diffuse(x, torch.tensor([t, t]), made(name), noise=noise)


def test_a_scheduler_that_is_sampling_would_ignore_the_timesteps(rng):
    x, noise = draw(rng, 3, 3, 2, 2), draw(rng, 3, 3, 2, 2)
    for name in ("EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"):
        scheduler = made(name)
        scheduler.set_timesteps(20)
        t = scheduler.timesteps[[0, 5, 9]]
        assert torch.equal(
            diffuse(x, t, scheduler, noise=noise).x_t, own(scheduler, x, assign_noise(x, noise), t)
        )
        scheduler.set_begin_index(4)
        with pytest.raises(ValueError, match=r"must not be sampling.*begin_index = 4"):
            diffuse(x, t, scheduler, noise=noise)
