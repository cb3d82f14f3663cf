"""``pair_dataset`` and ``PairedDataset``: a whole data set is paired with noise once, before the
training, and only the pairing is kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from .. import validation
from ..api.fast_assign import fast_assign
from ..api.options import Labels
from ..choices import DEFAULT_TOL
from ..metrics import METRICS, Metric
from ..progress import shown_steps
from .items import Images, Source, item_noise
from .pair_file import FORMAT, PairFile, check_path, written_once

EXACT_UP_TO = 4096  # images in a shard that are solved exactly, with their cost matrix
PROBES = 4  # numbers of the first noise that are kept, to know it again
POLL = 0.02  # seconds between two looks at what another thread or process has done


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
    background: bool = False,
    progress: bool = False,
) -> PairedDataset:
    """Pair every image of a data set with a noise, and write who is paired with whom to a file.

    Noise is drawn from a seed for each item, and drawn again when it is wanted: the file holds one
    integer an image and epoch. A call that was interrupted goes on where it was, and ends in a file
    of the same bits. Processes that call it at once, as ranks do, leave the work to one of them.

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
    background : bool
        Return once the first epoch is assigned; a thread goes on with the others. ``set_epoch``
        waits, if it has to. What is not done as the program ends is left to an equal call. A
        Dataset is then read by two threads.
    progress : bool
        Whether to show a bar on stderr, if somebody may look; none of what a thread does.

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
    tol = validation.check_positive("tol", tol)
    size = len(source)
    if size == 0:
        raise ValueError("images must not be empty")
    largest = size if n is None else min(size, validation.check_count("n", n))
    shards = -(-size // largest)
    epochs = validation.check_count("epochs", epochs)
    validation.check_flag("background", background)
    validation.check_flag("progress", progress)
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
    target = check_path(path).absolute()  # whatever folder the program goes to meanwhile
    if not target.parent.is_dir():
        raise FileNotFoundError(f"path must be in a folder that exists, got {path}")
    shown = progress and not background
    fill = partial(_fill, source=source, labels=groups, metric=metric, tol=tol, progress=shown)
    if not background:
        written_once(target, header, fill)
        return PairedDataset(images, target, image=image)
    filling = _Filling(target, header, fill)
    filling.start()
    try:
        filling.wait(0)
    except BaseException:  # an interrupt: nobody will ask for more
        filling.stop()
        raise
    pairs = PairedDataset(images, target, image=image)
    pairs._filling = filling
    return pairs


class _Filling(Thread):
    """Writes the file of ``pair_dataset``, or waits until another process has."""

    def __init__(self, target: Path, header: dict[str, Any], fill: Callable[..., None]) -> None:
        super().__init__(name="immiscible_fast.pair_dataset", daemon=True)
        self._path, self._header, self._fill = target, header, fill
        self._error: BaseException | None = None
        self._stopped = False

    def run(self) -> None:
        try:
            written_once(self._path, self._header, partial(self._fill, stopped=self.stopped))
        except BaseException as error:
            self._error = error

    def stop(self) -> None:
        """After the shard that it is at."""
        self._stopped = True

    def stopped(self) -> bool:
        return self._stopped

    def wait(self, epoch: int) -> None:
        """Return when this epoch is assigned, or when nothing here assigns it any more; raise what
        keeps it from being so."""
        while not PairFile.has(self._path, self._header, epoch):
            if not self.is_alive():
                if self._error is not None:
                    raise self._error
                return
            self.join(POLL)


def check_seed(seed: object) -> int:
    number = validation.check_whole("seed", seed)
    if not 0 <= number < 2**64:
        raise ValueError(f"seed must be from 0 to 2^64 - 1, got {seed}")
    return number


class PairedDataset(Dataset[Any]):
    """The images of a data set, each with its noise, which is drawn when it is asked for.

    Parameters
    ----------
    images : Tensor, array or Dataset
        What ``pair_dataset`` got.
    path : str or path
        The file that it wrote, or is writing.
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
        self.path = check_path(path)
        self._filling: _Filling | None = None
        self._file: PairFile | None = PairFile(self.path)
        self._header = self._file.header
        size, shape = self._header["images"], tuple(self._header["shape"])
        if (size, shape) != (len(self._source), self._source.shape):
            raise ValueError(
                f"images must be the {size} of shape {shape} that {self.path.name} is for, got "
                f"{len(self._source)} of shape {self._source.shape}"
            )
        probe = item_noise(self._header["seed"], 0, shape).reshape(-1)[:PROBES]
        if not np.allclose(probe, self._header["probe"], rtol=1e-5, atol=1e-6):
            raise ValueError(f"path must be a file whose noise can be drawn again, got {path}")
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Go on with the noise of another epoch; after the last comes the first again. Waits for
        an epoch that ``pair_dataset(background=True)`` is still to assign, and raises what it did;
        ValueError, if nothing in this process assigns it."""
        number = validation.check_count("epoch", epoch, least=0)
        epoch = number % int(self._header["epochs"])
        if self._filling is not None and not self._opened().done(epoch):
            self._filling.wait(epoch)
        if not self._opened().done(epoch):
            raise ValueError(
                f"epoch must be one that is assigned, got {epoch}: pair_dataset was interrupted, "
                "or is at it in another process; call it here, too"
            )
        self.epoch = epoch

    @property
    def index(self) -> NDArray[np.int64]:
        """(N,) item whose noise each image has, in this epoch; not to be written to."""
        chosen: NDArray[np.int64] = self._opened().index[self.epoch]
        return chosen

    @property
    def certificate(self) -> Certificate:
        """What is proven of each shard; see ``Certificate``. NaN where none is assigned yet."""
        records = np.array(self._opened().records)
        records[records[..., 0] != 1] = np.nan
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

    def _opened(self) -> PairFile:
        if self._file is None:
            self._file = PairFile(self.path)
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        """Each process maps the file for itself, and only this one writes it."""
        return {**self.__dict__, "_file": None, "_filling": None}


def _fill(
    file: PairFile,
    source: Source,
    labels: Tensor | None,
    metric: Metric,
    tol: float,
    progress: bool,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Assign all shards that are not done; the record of a shard is written after its index, and
    that it is done after its record."""
    header, records = file.header, file.records
    size, shards, seed = header["images"], header["shards"], header["seed"]
    with shown_steps(header["epochs"] * shards, progress) as step:
        for epoch in range(header["epochs"]):
            order = np.random.Generator(np.random.Philox(seed, counter=[0, 1, epoch, 0]))
            items = order.permutation(size) if shards > 1 else np.arange(size)
            for shard in range(shards):
                step(f"epoch {epoch + 1} of {header['epochs']}, shard {shard + 1} of {shards}")
                if records[epoch, shard, 0] == 1:
                    continue
                if stopped():
                    raise InterruptedError("pair_dataset was stopped")
                some = np.sort(items[size * shard // shards : size * (shard + 1) // shards])
                chosen, *record = _pair(source, some, seed, epoch, labels, metric, tol)
                file.index[epoch, some] = some[chosen]
                file.index.flush()
                records[epoch, shard, 1:] = record
                records[epoch, shard, 0] = 1
                records.flush()


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
    validation.check_values("images", x)
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
