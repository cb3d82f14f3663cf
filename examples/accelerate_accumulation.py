"""accelerate: the micro-batches of a step are assigned as one problem, and trained one by one."""

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin
from diffusers import DDPMScheduler, UNet2DModel
from sklearn.datasets import load_digits

from immiscible_fast import windowed

torch.manual_seed(0)
digits = torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1
blocks = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
size = {"sample_size": 8, "block_out_channels": (16, 32), "layers_per_block": 1}
model = UNet2DModel(in_channels=1, out_channels=1, norm_num_groups=8, **size, **blocks)
# Windows are read ahead, so the end of the loader is no sign to step.
plugin = GradientAccumulationPlugin(num_steps=8, sync_with_dataloader=False)
accelerator = Accelerator(cpu=True, gradient_accumulation_plugin=plugin)
loader = torch.utils.data.DataLoader(digits[:512], batch_size=8, shuffle=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
scheduler = DDPMScheduler()

steps, distance = 0, 0.0
for x, noise in windowed(loader, 8):  # in the place of `for x in loader` and randn_like
    with accelerator.accumulate(model):
        t = torch.randint(scheduler.config.num_train_timesteps, (len(x),), device=x.device)
        prediction = model(scheduler.add_noise(x, noise, t), t).sample
        loss = (prediction - noise).square().mean()
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        steps += accelerator.sync_gradients
        distance += float((x - noise).square().mean()) / len(loader)
random = float(digits[:512].square().mean()) + 1
print(
    f"{steps} steps, loss {loss:.3f}, squared distance a pixel {distance:.2f}, {random:.2f} without"
)
