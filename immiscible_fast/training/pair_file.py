"""The file of ``pair_dataset``: who is paired with whom in each epoch, and what is proven of it.

1. A header of JSON, then the index (epochs, N) int64, then of each shard of each epoch whether it
   is done, its costs before and after, and its gap, float64; all little-endian.
2. It is ``.part`` until all is done. Whoever writes it holds a lock beside it, so that of processes
   that want the same file one writes, and the others wait; the lock of one that dies is free.
3. Windows renames nothing that is mapped, as whoever reads an epoch has it. A complete file then
   stays ``.part``, which is read as well, until an equal call finds nobody there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

FORMAT = "immiscible_fast pairs 1"
HEADER = 4096  # bytes, of JSON and spaces


class PairFile:
    """A file that is there, complete or not, mapped into memory."""

    def __init__(self, target: Path, mode: Any = "r") -> None:
        for path in (target, part_of(target), target):  # it may be renamed meanwhile
            if path.exists():
                try:
                    self.header = _read_header(path)
                    self.index, self.records = _maps(path, self.header, mode)
                    return
                except FileNotFoundError:
                    continue
        raise FileNotFoundError(
            f"path must be that of a file that pair_dataset wrote, got {target}"
        )

    @classmethod
    def has(cls, target: Path, header: dict[str, Any], epoch: int) -> bool:
        """Whether a file for an equal call is there, with this epoch."""
        try:
            file = cls(target)
        except FileNotFoundError:
            return False
        _check_equal(target, file.header, header)
        return file.done(epoch)

    def done(self, epoch: int) -> bool:
        return bool((self.records[epoch, :, 0] == 1).all())


def check_path(path: object) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a path, got {type(path).__name__}")
    return Path(path)


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def written_once(target: Path, header: dict[str, Any], fill: Callable[[PairFile], None]) -> None:
    """Return when the file is complete: another process has seen to that, or ``fill`` has."""
    part = part_of(target)
    lock = part.with_name(part.name + ".lock")
    if not target.exists():
        with FileLock(lock):
            if not target.exists():
                if not part.exists():
                    _create(part, header)
                _check_equal(part, _read_header(part), header)
                fill(PairFile(target, "r+"))
                with suppress(PermissionError):  # (3)
                    part.replace(target)
        with suppress(OSError):  # who locks a new one finds the file complete
            lock.unlink()
    _check_equal(target, PairFile(target).header, header)


def _create(part: Path, header: dict[str, Any]) -> None:
    """A file of the right size, in which nothing is done yet."""
    text = json.dumps(header).encode()
    if len(text) > HEADER:
        raise ValueError("images have a shape of too many dimensions for the file's header")
    new = part.with_name(part.name + ".new")
    cells = header["epochs"] * (header["images"] + 4 * header["shards"])
    with new.open("wb") as file:
        file.write(text.ljust(HEADER))
        file.truncate(HEADER + 8 * cells)
    new.replace(part)


def _maps(
    path: Path, header: dict[str, Any], mode: Any
) -> tuple[np.memmap[Any, np.dtype[np.int64]], np.memmap[Any, np.dtype[np.float64]]]:
    """Index (epochs, N), and records (epochs, shards, 4): done, costs before and after, gap."""
    epochs, size, shards = (header[name] for name in ("epochs", "images", "shards"))
    index = np.memmap(path, "<i8", mode, HEADER, (epochs, size))
    records = np.memmap(path, "<f8", mode, HEADER + index.nbytes, (epochs, shards, 4))
    return index, records


def _read_header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        text = file.read(HEADER)
    try:
        header: dict[str, Any] = json.loads(text)
        known = header["format"] == FORMAT
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ValueError(f"path must be a file that pair_dataset wrote, got {path}")
    return header


def _check_equal(path: Path, there: dict[str, Any], header: dict[str, Any]) -> None:
    for name, value in header.items():
        same = there.get(name) == value
        if name == "probe":
            same = np.allclose(there[name], value, rtol=1e-5, atol=1e-6)
        if not same:
            raise ValueError(
                f"path must not be that of another call: {path} has {name} {there.get(name)!r}, "
                f"and this call {value!r}"
            )
