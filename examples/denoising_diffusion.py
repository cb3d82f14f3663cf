"""denoising-diffusion-pytorch with assigned noise, and proof that targets and x_t share it."""

import torch
from denoising_diffusion_pytorch import GaussianDiffusion, Unet
from sklearn.datasets import load_digits

from immiscible_fast.adapters.denoising_diffusion import AssignedNoise


class Diffusion(AssignedNoise, GaussianDiffusion):  # all there is to change
    pass


torch.manual_seed(0)
digits = torch.from_numpy(load_digits().images).float()[:, None] / 16
model = Unet(dim=8, dim_mults=(1, 2), channels=1, flash_attn=False)
diffusion = Diffusion(model, image_size=8, objective="pred_v")
optimizer = torch.optim.Adam(diffusion.parameters(), lr=2e-3)
for _ in range(20):
    loss = diffusion(digits[torch.randint(len(digits), (64,))])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss after 20 steps: {loss:.3f}")

seen = {}
diffusion.model.register_forward_hook(lambda model, inputs, output: seen.update(x_t=inputs[0]))
diffusion.predict_v = lambda x, t, noise: seen.update(x=x, t=t, noise=noise) or torch.zeros_like(x)
diffusion(digits[:256])
with torch.no_grad():
    in_x_t = diffusion.predict_noise_from_start(seen["x_t"], seen["t"].clamp(min=1), seen["x"])
same = (in_x_t - seen["noise"]).flatten(1).norm(dim=1) < 0.01 * seen["noise"].flatten(1).norm(dim=1)
print(f"{same.sum()} of 256 targets are the noise in x_t")
