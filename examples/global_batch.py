"""torchrun: noise assigned over the batches of all processes.

torchrun --standalone --nproc-per-node 2 examples/global_batch.py
"""

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch.nn.parallel import DistributedDataParallel

from immiscible_fast import diffuse, rank_generator

torch.set_num_threads(1)
dist.init_process_group("gloo")
group, rank, size = dist.group.WORLD, dist.get_rank(), dist.get_world_size()

torch.manual_seed(0)  # on all ranks the same weights
layers = torch.nn.Linear(65, 256), torch.nn.SiLU(), torch.nn.Linear(256, 64)
model = DistributedDataParallel(torch.nn.Sequential(*layers))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

digits = torch.from_numpy(load_digits().data).float() / 8 - 1
shared = torch.Generator().manual_seed(1)  # in one state on all ranks: noise need not travel
own = rank_generator(2)  # in another on each, for the times
for _ in range(100):
    batch = torch.randint(len(digits), (256,), generator=shared)
    x = digits[batch[rank::size]]  # this rank's part of 256 images
    t = torch.rand(len(x), generator=own)
    x_t, noise = diffuse(x, t, "flow", generator=shared, process_group=group)
    velocity = model(torch.cat([x_t, t[:, None]], 1))
    loss = (velocity - (noise - x)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
dist.all_reduce(loss, dist.ReduceOp.SUM)
if rank == 0:
    print(f"{size} ranks, loss {float(loss) / size:.3f}")
dist.destroy_process_group()
