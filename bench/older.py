"""Serve ``linear_sum_assignment`` of another checkout: costs come in, and seconds and answers go
out, pickled. A process of its own, since torch's ops can be registered only once in each.

    python bench/older.py CHECKOUT
"""

from __future__ import annotations

import pickle
import shutil
import sys
import tempfile
import time
from pathlib import Path


def main(checkout: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "immiscible_fast"
        shutil.copytree(f"{checkout}/immiscible_fast", package)
        shutil.copytree(f"{checkout}/kernels", package / "kernels")
        sys.path[0] = folder
        from immiscible_fast import linear_sum_assignment

        assert Path(folder) in Path(linear_sum_assignment.__code__.co_filename).parents
        cost = None
        while True:
            try:
                sent = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            cost = cost if sent is None else sent
            begin = time.perf_counter()
            answer = linear_sum_assignment(cost)
            pickle.dump((time.perf_counter() - begin, answer), sys.stdout.buffer)
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
