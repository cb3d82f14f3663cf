"""Modules in the place of trainers that are on no package index: the names, the signatures and the
order of the draws are those of kohya-ss/sd-scripts at 48d368fa and of Nerogar/OneTrainer at
23df3832, the rest is as short as can be."""

from __future__ import annotations

import types

import torch

STEPS = 1000
ALPHAS = torch.linspace(0.999, 0.001, STEPS)


class Scheduler:
    """DDPM, as far as these trainers ask."""

    config = types.SimpleNamespace(num_train_timesteps=STEPS)

    def add_noise(self, latents, noise, timesteps):
        kept = ALPHAS[timesteps].to(latents.dtype)[:, None, None, None]
        return kept.sqrt() * latents + (1 - kept).sqrt() * noise


def kohya_arguments(**given):
    return types.SimpleNamespace(**({"noise_offset": None, "ip_noise_gamma": None} | given))


def get_noise_noisy_latents_and_timesteps(args, noise_scheduler, latents):
    noise = torch.randn_like(latents, device=latents.device)
    if args.noise_offset:
        noise = noise + args.noise_offset * torch.randn(*latents.shape[:2], 1, 1)
    timesteps = torch.randint(0, STEPS, latents.shape[:1])
    added = noise
    if args.ip_noise_gamma:
        added = noise + args.ip_noise_gamma * torch.randn_like(latents)
    return noise, noise_scheduler.add_noise(latents, added, timesteps), timesteps


def flux_input(args, noise_scheduler, latents, noise, device, dtype):
    return sd3_input(args, latents, noise, device, dtype)


def sd3_input(args, latents, noise, device, dtype):
    sigmas = torch.rand(latents.shape[0], device=device)
    broadcast = sigmas.view(-1, *[1] * (latents.ndim - 1))
    if args.ip_noise_gamma:
        noise = noise + args.ip_noise_gamma * torch.randn_like(latents)
    noisy = (1 - broadcast) * latents + broadcast * noise
    return noisy.to(dtype), sigmas * STEPS, broadcast


class ModelSetupNoiseMixin:
    def _create_noise(self, source_tensor, config, generator, timestep=None, betas=None):
        device, dtype = config.train_device, source_tensor.dtype

        def draw(shape):
            return torch.randn(shape, generator=generator, device=device, dtype=dtype)

        noise = draw(source_tensor.shape)
        if config.offset_noise_weight > 0:
            offset = config.offset_noise_weight * draw((*source_tensor.shape[:2], 1, 1))
            if config.generalized_offset_noise and timestep is not None:
                offset = offset * timestep[:, None, None, None]
            noise = noise + offset
        if config.perturbation_noise_weight > 0:
            noise = noise + config.perturbation_noise_weight * draw(source_tensor.shape)
        return noise


def modules():
    """Fresh stand-ins by the names that they are imported by."""
    found = {}

    def module(name, **contents):
        found[name] = types.ModuleType(name)
        vars(found[name]).update(contents)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(found[parent], child, found[name])

    drawing = get_noise_noisy_latents_and_timesteps
    module("library")
    module("library.train_util", get_noise_noisy_latents_and_timesteps=drawing)
    module("library.flux_train_utils", get_noisy_model_input_and_timesteps=flux_input)
    module("library.lumina_train_util", get_noisy_model_input_and_timesteps=flux_input)
    module("library.sd3_train_utils", get_noisy_model_input_and_timesteps=sd3_input)
    module("modules")
    module("modules.modelSetup")
    module("modules.modelSetup.mixin")
    fresh = type("ModelSetupNoiseMixin", (), dict(vars(ModelSetupNoiseMixin)))
    module("modules.modelSetup.mixin.ModelSetupNoiseMixin", ModelSetupNoiseMixin=fresh)
    return found
