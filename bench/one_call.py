"""One call of ``solve_assignment``, on the GPU or for whoever looks at its launches.

python -m tests.ptx_emulator bench/one_call.py --n 4096 \\
    --json bench/results/emulated/sm_90-photo-4096.json
"""

from __future__ import annotations

import argparse

import torch

from bench.problems import problem
from immiscible_fast import solve_assignment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1024)
    parser.add_argument("--family", default="photo", help="of bench/problems.py")
    parser.add_argument("--method", default="exact")
    options = parser.parse_args()
    cost = torch.from_numpy(problem(options.family, options.n).cost)
    cost = cost.cuda() if torch.cuda.is_available() else cost
    answer = solve_assignment(cost, method=options.method)
    print(f"cost {float(answer.cost):.6g}, gap {float(answer.gap):.3g}")


if __name__ == "__main__":
    main()
