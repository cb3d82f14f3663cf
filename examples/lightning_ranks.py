"""Lightning: noise assigned to the images of each rank, and other noise on every rank."""

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits

from immiscible_fast import diffuse
from immiscible_fast.adapters.lightning import SeedRanks


class FlowMatching(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Sequential(
            torch.nn.Linear(65, 256), torch.nn.SiLU(), torch.nn.Linear(256, 64)
        )

    def training_step(self, x, index):
        t = torch.rand(len(x), device=x.device)
        x_t, noise = diffuse(x, t, "flow", noise=torch.randn_like(x))
        velocity = self.model(torch.cat([x_t, t[:, None]], 1))
        return (velocity - (noise - x)).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(0)  # on all ranks the same weights, and the same noise but for SeedRanks
digits = torch.from_numpy(load_digits().data).float() / 8 - 1
loader = torch.utils.data.DataLoader(digits, batch_size=128, shuffle=True)
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", callbacks=[SeedRanks()], **quiet)
trainer.fit(FlowMatching(), loader)
print(f"{trainer.global_step} steps, each with noise of its own rank")
