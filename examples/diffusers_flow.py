"""diffusers: flow matching as its SD3 and Flux scripts do it, with assigned noise."""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UNet2DModel
from diffusers.training_utils import compute_density_for_timestep_sampling
from sklearn.datasets import load_digits

from immiscible_fast import assign_noise

torch.manual_seed(0)
digits = torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1
blocks = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
size = {"sample_size": 8, "block_out_channels": (16, 32), "layers_per_block": 1}
model = UNet2DModel(in_channels=1, out_channels=1, norm_num_groups=8, **size, **blocks)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
scheduler = FlowMatchEulerDiscreteScheduler()
for _ in range(30):
    x = digits[torch.randint(len(digits), (64,))]
    noise = assign_noise(x, torch.randn_like(x))  # all there is to change
    u = compute_density_for_timestep_sampling("logit_normal", len(x), logit_mean=0, logit_std=1)
    index = (u * scheduler.config.num_train_timesteps).long()
    t, sigma = scheduler.timesteps[index], scheduler.sigmas[index][:, None, None, None]
    x_t = (1 - sigma) * x + sigma * noise
    velocity = noise - x
    loss = (model(x_t, t).sample - velocity).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
same = torch.isclose(x_t - sigma * velocity, x, atol=1e-5).flatten(1).all(1)
print(f"loss {loss:.3f}, {same.sum()} of 64 velocities lead from x_t back to the image")
