"""One call of ``solve_assignment``, on the GPU or for whoever looks at its launches.

python -m tests.ptx_emulator bench/one_call.py --n 4096 --json bench/results/emulated/4096.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.families import problem
from immiscible_fast import solve_assignment


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=1024)
    parser.add_argument("--family", default="photo", help="of bench/families.py")
    parser.add_argument("--method", default="exact")
    options = parser.parse_args()
    cost = torch.from_numpy(problem(options.family, options.n).centred)
    if torch.cuda.is_available():
        cost = cost.cuda()
    answer = solve_assignment(cost, method=options.method)
    print(f"cost {float(answer.cost):.6g}, gap {float(answer.gap):.3g}")


if __name__ == "__main__":
    main()
