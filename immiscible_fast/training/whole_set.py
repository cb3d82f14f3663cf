"""``pair_dataset`` and ``PairedDataset``: a whole data set is paired with noise once, before the
training, and only the pairing is kept."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from .. import validation
from ..api.fast_assign import fast_assign
from ..api.options import Labels
from ..api.solve_assignment import DEFAULT_TOL
from ..choices import METRICS, Metric
from ..progress import shown_steps
from .items import Images, Source, item_noise

FORMAT = "immiscible_fast pairs 1"
HEADER = 4096  # bytes, of JSON and spaces
EXACT_UP_TO = 4096  # images in a shard that are solved exactly, with their cost matrix
PROBES = 4  # numbers of the first noise that are kept, to know it again


class Certificate(NamedTuple):
    """What is proven of each shard of each epoch; float64 arrays (epochs, shards)."""

    cost_before: NDArray[np.float64]  # summed over the pairs as they were drawn
    cost_after: NDArray[np.float64]  # and as they were assigned
    gap: NDArray[np.float64]  # the sum is at most so far from the least one


def pair_dataset(
    images: Images,
    *,
    seed: int,
    path: str | os.PathLike[str],
    n: int | None = None,
    labels: Labels | None = None,
    epochs: int = 1,
    metric: Metric = "sqeuclidean",
    tol: float = DEFAULT_TOL,
    image: str | int | None = None,
    progress: bool = False,
) -> PairedDataset:
    """Pair every image of a data set with a noise, and write who is paired with whom to a file.

    Noise is drawn from a seed for each item, and drawn again when it is wanted: the file holds one
    integer an image and epoch. A call that was interrupted goes on where it was, and ends in a file
    of the same bits.

    Parameters
    ----------
    images : Tensor or array (N, ...), or Dataset
        Floats, or unsigned integers of 8 bits, which count as x / 127.5 - 1; a ``np.memmap`` is
        read shard by shard. Of a ``torch.utils.data.Dataset`` with ``len`` items: see ``image``.
    seed : int
        From 0 to 2^64 - 1. With it the noise of an item is known: see ``item_noise``.
    path : str or path
        File to write. If it is there already, it has to be that of an equal call, and is kept.
        Until it is complete it has ``.part`` at the end of its name.
    n : int, optional
        Images that are assigned at once, at most; None: the whole set. Shards are drawn anew in
        each epoch, are of nearly equal sizes, and have to fit into memory four times, with their
        noise. Shards of up to 4096 images are solved exactly, others by
        ``fast_assign(method="streaming")``.
    labels : integers, shape (N,), optional
        No noise leaves the class of the image that it was drawn for.
    epochs : int
        How many times to draw noise and assign it.
    metric : str
        See ``fast_assign``.
    tol : float
        Tolerance of large shards; see ``fast_assign``.
    image : str or int, optional
        Where an item of a Dataset has its image; None: it is the item, or the first entry of a
        tuple.
    progress : bool
        Whether to show a bar on stderr, if somebody may look.

    Returns
    -------
    PairedDataset

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what it got and what it wants: also if the file is that of another
        call, or images are not finite.

    Examples
    --------
    >>> import tempfile, torch
    >>> images = torch.rand(100, 3, 4, 4)
    >>> folder = tempfile.TemporaryDirectory()
    >>> pairs = pair_dataset(images, seed=0, path=folder.name + "/pairs")
    >>> x, noise = pairs[7]
    >>> x.shape == noise.shape, bool(pairs.certificate.gap.sum() < 1e-9)
    (True, True)
    >>> folder.cleanup()
    """
    source = Source(images, image)
    seed = check_seed(seed)
    validation.check_choice("metric", metric, METRICS)
    tol = validation.check_tolerance(tol)
    size = len(source)
    if size == 0:
        raise ValueError("images must not be empty")
    largest = size if n is None else min(size, validation.check_count("n", n))
    shards = -(-size // largest)
    epochs = validation.check_count("epochs", epochs)
    groups = None if labels is None else validation.check_labels(labels, torch.Size([size]))
    header = {
        "format": FORMAT,
        "seed": seed,
        "images": size,
        "shape": list(source.shape),
        "shards": shards,
        "epochs": epochs,
        "metric": metric,
        "tol": tol,
        "labels": None if groups is None else hashlib.sha256(groups.numpy().tobytes()).hexdigest(),
        "probe": item_noise(seed, 0, source.shape).reshape(-1)[:PROBES].tolist(),
    }
    target = Path(path)
    part = target.with_name(target.name + ".part")
    if target.exists():
        _check_equal(target, header)
    else:
        if part.exists():
            _check_equal(part, header)
        else:
            _create(part, header)
        _fill(part, header, source, groups, metric, tol, progress)
        part.replace(target)
    return PairedDataset(images, target, image=image)


def check_seed(seed: object) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed must be a whole number, got {type(seed).__name__}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be from 0 to 2^64 - 1, got {seed}")
    return int(seed)


class PairedDataset(Dataset[Any]):
    """The images of a data set, each with its noise, which is drawn when it is asked for.

    Parameters
    ----------
    images : Tensor, array or Dataset
        What ``pair_dataset`` got.
    path : str or path
        The file that it wrote.
    epoch : int
        Whose noise to give; see ``set_epoch``.
    image : str or int, optional
        Where an item has its image; see ``pair_dataset``.

    Notes
    -----
    An item is ``(image, noise)``: the image as it comes, the noise a float32 tensor of its shape.
    Where items of a Dataset are tuples, what follows the image follows the noise; dictionaries get
    an entry ``"noise"``, and where ``image`` is a place in a tuple, the noise is appended.

    Only the file is kept, and its part of the index is mapped into memory, so that workers of a
    ``DataLoader`` cost next to nothing.
    """

    def __init__(
        self,
        images: Images,
        path: str | os.PathLike[str],
        *,
        epoch: int = 0,
        image: str | int | None = None,
    ) -> None:
        self._source = Source(images, image)
        self.path = Path(path)
        self._header = _read_header(self.path)
        size, shape = self._header["images"], tuple(self._header["shape"])
        if (size, shape) != (len(self._source), self._source.shape):
            raise ValueError(
                f"images must be the {size} of shape {shape} that {self.path.name} is for, got "
                f"{len(self._source)} of shape {self._source.shape}"
            )
        probe = item_noise(self._header["seed"], 0, shape).reshape(-1)[:PROBES]
        if not np.allclose(probe, self._header["probe"], rtol=1e-5, atol=1e-6):
            raise ValueError(f"path must be a file whose noise can be drawn again, got {path}")
        self._index: NDArray[np.int64] | None = None
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Go on with the noise of another epoch; after the last comes the first again."""
        if isinstance(epoch, bool) or not isinstance(epoch, (int, np.integer)):
            raise TypeError(f"epoch must be a whole number, got {type(epoch).__name__}")
        if epoch < 0:
            raise ValueError(f"epoch must not be negative, got {epoch}")
        self.epoch = int(epoch) % int(self._header["epochs"])

    @property
    def index(self) -> NDArray[np.int64]:
        """(N,) item whose noise each image has, in this epoch; not to be written to."""
        if self._index is None:
            self._index = _maps(self.path, self._header, "r")[0]
        chosen: NDArray[np.int64] = self._index[self.epoch]
        return chosen

    @property
    def certificate(self) -> Certificate:
        """What is proven of each shard; see ``Certificate``."""
        records = np.array(_maps(self.path, self._header, "r")[1])
        return Certificate(records[..., 1], records[..., 2], records[..., 3])

    def noise(self, item: int) -> Tensor:
        """The noise of an image, float32."""
        drawn = item_noise(
            self._header["seed"], int(self.index[item]), self._source.shape, self.epoch
        )
        return torch.from_numpy(drawn)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, item: int) -> Any:
        item = range(len(self))[item]  # negative ones count from the end; others raise
        return self._source.with_noise(item, self.noise(item))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None}  # each process maps the file for itself


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
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
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


def _check_equal(path: Path, header: dict[str, Any]) -> None:
    there = _read_header(path)
    for name, value in header.items():
        same = there.get(name) == value
        if name == "probe":
            same = np.allclose(there[name], value, rtol=1e-5, atol=1e-6)
        if not same:
            raise ValueError(
                f"path must not be that of another call: {path} has {name} {there.get(name)!r}, "
                f"and this call {value!r}"
            )


def _fill(
    part: Path,
    header: dict[str, Any],
    source: Source,
    labels: Tensor | None,
    metric: Metric,
    tol: float,
    progress: bool,
) -> None:
    """Assign all shards that are not done; the record of a shard is written after its index."""
    index, records = _maps(part, header, "r+")
    size, shards, seed = header["images"], header["shards"], header["seed"]
    with shown_steps(header["epochs"] * shards, progress) as step:
        for epoch in range(header["epochs"]):
            order = np.random.Generator(np.random.Philox(seed, counter=[0, 1, epoch, 0]))
            items = order.permutation(size) if shards > 1 else np.arange(size)
            for shard in range(shards):
                step(f"epoch {epoch + 1} of {header['epochs']}, shard {shard + 1} of {shards}")
                if records[epoch, shard, 0] == 1:
                    continue
                some = np.sort(items[size * shard // shards : size * (shard + 1) // shards])
                chosen, *record = _pair(source, some, seed, epoch, labels, metric, tol)
                index[epoch, some] = some[chosen]
                index.flush()  # type: ignore[attr-defined]
                records[epoch, shard] = 1, *record
                records.flush()  # type: ignore[attr-defined]


def _pair(
    source: Source,
    items: NDArray[np.int64],
    seed: int,
    epoch: int,
    labels: Tensor | None,
    metric: Metric,
    tol: float,
) -> tuple[NDArray[np.int64], float, float, float]:
    """(index, cost before, cost after, gap) of one shard."""
    x = source.samples(items)
    noise = torch.empty(x.shape)
    for row, item in enumerate(items):
        noise[row] = torch.from_numpy(item_noise(seed, int(item), source.shape, epoch))
    index, stats = fast_assign(
        x,
        noise,
        metric=metric,
        method="exact" if len(items) <= EXACT_UP_TO else "streaming",
        tol=tol,
        labels=None if labels is None else labels[torch.from_numpy(items)],
        return_stats=True,
    )
    before, after, gap = (float(x) for x in (stats.cost_before, stats.cost_after, stats.gap))
    return index.numpy(), before, after, gap
