"""One call of ``solve_assignment``, on the GPU or for whoever looks at its launches.

python -m tests.ptx_emulator bench/one_call.py --n 4096 \\
    --json bench/results/emulated/sm_90-photo-4096.json
"""

from __future__ import annotations

import torch
import tyro

from bench.problems import problem
from immiscible_fast import solve_assignment


def main(n: int = 1024, family: str = "photo", method: str = "exact") -> None:
    cost = torch.from_numpy(problem(family, n).cost)
    cost = cost.cuda() if torch.cuda.is_available() else cost
    answer = solve_assignment(cost, method=method)
    print(f"cost {float(answer.cost):.6g}, gap {float(answer.gap):.3g}")


if __name__ == "__main__":
    tyro.cli(main)
