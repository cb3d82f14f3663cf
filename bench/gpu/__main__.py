"""One part of ``bench.gpu_check``, in a process of its own; its rows are appended to a file.
Its exit code is 1 if one says that something is wrong.

python -m bench.gpu '{"part": "calls", "rows": "calls.jsonl", "device": "cuda", "timed": true,
    "sizes": [1024], "dim": 3072, "seconds": 60}'
"""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from .setting import Setting


def main(part: str, rows: str, few: int | None = None, **options: Any) -> int:
    setting = Setting(**options)
    cases = importlib.import_module(f"bench.gpu.{part}").cases(setting)
    wrong = 0
    with Path(rows).open("a", encoding="utf-8") as file:
        for row in setting.rows(itertools.islice(cases, few)):
            wrong += "wrong" in row
            print(json.dumps({"part": part, **row}), file=file, flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main(**json.loads(sys.argv[1])))
