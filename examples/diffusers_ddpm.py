"""diffusers: a DDPM of digits that learns the noise, or v, with assigned noise."""

import torch
from diffusers import DDPMScheduler, UNet2DModel
from sklearn.datasets import load_digits

from immiscible_fast import assign_noise

torch.manual_seed(0)
digits = torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1
blocks = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
size = {"sample_size": 8, "block_out_channels": (16, 32), "layers_per_block": 1}
for prediction in ("epsilon", "v_prediction"):
    scheduler = DDPMScheduler(prediction_type=prediction)
    model = UNet2DModel(in_channels=1, out_channels=1, norm_num_groups=8, **size, **blocks)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(15):
        x = digits[torch.randint(len(digits), (64,))]
        t = torch.randint(scheduler.config.num_train_timesteps, (len(x),))
        noise = assign_noise(x, torch.randn_like(x))  # all there is to change
        x_t = scheduler.add_noise(x, noise, t)
        v = scheduler.get_velocity(x, noise, t)
        target = noise if prediction == "epsilon" else v
        loss = (model(x_t, t).sample - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    kept = scheduler.alphas_cumprod[t][:, None, None, None]
    inverted = (x_t - kept.sqrt() * x) / (1 - kept).sqrt()
    same = torch.isclose(inverted, noise, rtol=0.01, atol=0.01).flatten(1).all(1)
    print(f"{prediction}: loss {loss:.3f}, {same.sum()} of 64 targets are the noise in x_t")
