"""torchcfm's OT flow matching, with an assignment in the place of its draws from a plan."""

import torch
from torch import nn
from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher

from immiscible_fast.adapters.torchcfm import OTPlanSampler

torch.manual_seed(0)
matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)
matcher.ot_sampler = OTPlanSampler("exact")  # all there is to change

model = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(300):
    angle = 2 * torch.pi * torch.rand(256)
    x1 = 2 * torch.stack([angle.cos(), angle.sin()], 1)  # a ring
    t, x_t, velocity = matcher.sample_location_and_conditional_flow(torch.randn_like(x1), x1)
    loss = (model(torch.cat([x_t, t[:, None]], 1)) - velocity).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

x = torch.randn(1000, 2)
with torch.no_grad():
    for step in range(4):  # straight paths need few steps
        x = x + model(torch.cat([x, torch.full((1000, 1), step / 4)], 1)) / 4
distance = (x.norm(dim=1) - 2).abs().mean()
print(f"loss {loss:.3f}; samples after 4 steps lie {distance:.3f} from the ring")
