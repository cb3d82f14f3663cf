"""``windowed``: batches of a loop, each with its noise, which is assigned for several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar, cast

import torch
from torch import Tensor
from typing_extensions import Unpack

from .. import validation
from ..api.options import OptionsOfAll, check_options
from ..samples import draw_noise
from .together import assign_many

Batch = TypeVar("Batch")
Place: TypeAlias = str | int | Callable[[Any], Any]

STATE_KEYS = frozenset({"start", "given", "windows", "ended", "generator", "loader"})


def windowed(
    loader: Iterable[Batch],
    steps: int,
    *,
    images: Place | None = None,
    labels: Place | None = None,
    conditions: Place | None = None,
    generator: torch.Generator | None = None,
    **options: Unpack[OptionsOfAll],
) -> AssignedLoader[Batch]:
    """The batches of a loader, each with its noise, which is assigned ``steps`` batches at a time.

    Parameters
    ----------
    loader : iterable
        A ``DataLoader``, or anything that gives batches; it is iterated anew for each epoch.
    steps : int
        Batches of a window, whose noise is assigned at once: those of gradient accumulation, or
        more. The last window of an epoch may have fewer.
    images : str, int or callable, optional
        Where a batch has its images or latents: its key, its index, or a function of the batch.
        By default the batch itself, or the first entry of a tuple or list.
    labels : str, int or callable, optional
        Where a batch has the labels within which noise has to stay.
    conditions : str, int or callable, optional
        Where a batch has the conditions of its images; see ``fast_assign``.
    generator : torch.Generator, optional
        Draws the noise, batch after batch. Without it, torch's global one does, and the place in
        the loop cannot be saved.
    **options
        Other options of ``fast_assign``.

    Returns
    -------
    AssignedLoader
        Iterable of pairs ``(batch, noise)``: the loader's own batches, in its order, each once, and
        noise of the shape, dtype and device of their images. It has the ``len`` of the loader.

    Raises
    ------
    TypeError, ValueError
        As ``fast_assign``, and where a batch has nothing at one of the places.

    Notes
    -----
    ``steps`` batches are read before the first of them is given, and no more: a loader must not
    write the next one into the memory of the last. What it raises comes after the batches before
    it, which are assigned without it.

    ``state_dict()`` after a batch and ``load_state_dict`` before the next loop go on behind that
    batch, with the same bits. A loader that has these methods itself is told to go on, too; of
    another one, which has to give the same batches in the same order, those before are read and
    dropped. ``generator`` should draw nothing for the loader. Lightning saves that state with the
    model's by itself, and so wants a ``generator`` here.

    Examples
    --------
    >>> import torch
    >>> loader = torch.rand(5, 8, 3, 4, 4)  # five batches of eight images
    >>> for x, noise in windowed(loader, 2, generator=torch.Generator().manual_seed(0)):
    ...     assert x.shape == noise.shape
    """
    check_options("windowed", options)
    places = {"images": images, "labels": labels, "conditions": conditions}
    return AssignedLoader(loader, steps, places, generator, options)


class Window(NamedTuple):
    """Batches that were read, and the noise that was drawn for them."""

    batches: list[Any]
    images: list[Tensor]
    noises: list[Tensor]
    others: dict[str, list[Any]]  # labels and conditions, where there are any

    def assign(self, options: OptionsOfAll) -> list[Tensor]:
        get = self.others.get
        assigned = assign_many(
            self.images,
            self.noises,
            labels=get("labels"),
            conditions=get("conditions"),
            **options,
        )
        pairs = zip(self.images, assigned, strict=True)
        return [noise.pin_memory() if x.is_pinned() else noise for x, noise in pairs]


class Mark(NamedTuple):
    """What it takes to read a window again."""

    size: int  # batches
    generator: Any  # its state before the noise was drawn, if there is one
    loader: Any  # its state before, if it has any


@dataclass
class Progress:
    """How far one iteration is."""

    start: int = 0  # batches of this epoch before the windows in ``marks``
    given: int = 0  # batches of these windows that were given
    ended: bool = False  # whether the loader has no more batches for this epoch
    marks: list[Mark] = field(default_factory=list)  # of windows that were read and not given whole
    known: list[dict[str, Any]] = field(
        default_factory=list
    )  # a state's, that are to be read again


class AssignedLoader(Generic[Batch]):
    """Pairs ``(batch, noise)`` of a loader; see ``windowed`` and ``prefetch``, which make it."""

    def __init__(
        self,
        loader: Iterable[Batch],
        steps: int,
        places: Mapping[str, Place | None],
        generator: torch.Generator | None,
        options: OptionsOfAll,
    ) -> None:
        if not isinstance(loader, Iterable) and not hasattr(loader, "__getitem__"):
            raise TypeError(f"loader must be iterable, got {type(loader).__name__}")
        for name, place in places.items():
            if place is not None and not (isinstance(place, (str, int)) or callable(place)):
                raise TypeError(
                    f"{name} must be a key, an index or a function, got {type(place).__name__}"
                )
        self._loader, self._steps = loader, validation.check_count("steps", steps)
        self._generator = validation.check_generator(generator)
        self._images, self._options = places["images"], options
        others = ((name, places[name]) for name in ("labels", "conditions"))
        self._others = {name: place for name, place in others if place is not None}
        inner = getattr(loader, "base_dataloader", loader)  # accelerate's has the methods always
        self._stateful = hasattr(inner, "state_dict") and hasattr(inner, "load_state_dict")
        self._progress = Progress()  # of the iteration that began last
        self._resume: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self._loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[Batch, Tensor]]:
        state = self._resume or {"start": 0, "given": 0, "windows": [], "ended": False}
        known = list(state["windows"])
        progress = Progress(state["start"], state["given"], state["ended"], known=known)
        self._progress, self._resume = progress, None
        skipped = progress.given
        for window, noises in self._assigned(self._windows(state, progress)):
            for batch, noise in islice(zip(window.batches, noises, strict=True), skipped, None):
                progress.given += 1
                if progress.given == progress.marks[0].size:
                    progress.start, progress.given = progress.start + progress.given, 0
                    del progress.marks[0]
                yield batch, noise
            skipped = 0
        progress.start, progress.ended = 0, False  # of the next epoch

    def _assigned(self, windows: Iterator[Window]) -> Iterator[tuple[Window, list[Tensor]]]:
        for window in windows:
            yield window, window.assign(self._options)

    def state_dict(self) -> dict[str, Any]:
        """Where the loop is: after the last batch that was given, or before the next epoch.

        Returns
        -------
        dict
            Of numbers and tensors, and of the state of the loader, if it has one: ``start``, the
            batches of this epoch before those windows that were read and not yet given whole,
            ``windows``, the ``size`` of each and the state of the ``generator`` before its noise
            was drawn, ``given``, how many of their batches were given, whether the epoch has
            ``ended`` with these, and the ``generator`` as it is now.

        Raises
        ------
        ValueError
            Without a ``generator`` of its own.
        """
        if self._generator is None:
            raise ValueError("generator must be given to windowed or prefetch to save their state")
        if self._resume is not None:
            return {**self._resume, "generator": self._generator.get_state()}
        progress, loader = self._progress, cast(Any, self._loader)
        marks = progress.marks
        if self._stateful:
            state = marks[0].loader if marks else loader.state_dict()
        read = [{"size": mark.size, "generator": mark.generator} for mark in marks]
        return {
            "start": progress.start,
            "given": progress.given,
            "windows": read + progress.known,
            "ended": progress.ended and not marks,
            "generator": self._generator.get_state(),
            "loader": state if self._stateful else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next loop go on behind the batch after which the state was saved.

        Parameters
        ----------
        state : dict
            What ``state_dict`` gave, of the same loader. Of a plain loader the next loop reads the
            batches again that come before.

        Raises
        ------
        TypeError, ValueError
            If this is no such state, or there is no ``generator`` to be set. The loop itself
            raises if the loader has fewer batches than the state.
        """
        validation.check_state(state, STATE_KEYS)
        if self._generator is None:
            raise ValueError("generator must be given to windowed or prefetch to load their state")
        self._generator.set_state(state["generator"])
        self._resume = dict(state)

    def _windows(self, state: dict[str, Any], progress: Progress) -> Iterator[Window]:
        """Read, and draw the noise of, one window after another; what the loader raises comes
        after what it gave."""
        batches = self._batches(state)
        if progress.ended:
            return
        while True:
            mark = self._mark(progress.known.pop(0) if progress.known else None)
            window, error = self._read(batches, mark.size)
            progress.ended = error is None and len(window.batches) < mark.size
            if window.batches:
                progress.marks.append(mark._replace(size=len(window.batches)))
                self._draw(window, mark)
                yield window
            if error is not None:
                try:
                    raise error
                finally:  # else its traceback and this frame would keep each other, and the loader
                    error = None
            if progress.ended:
                return

    def _batches(self, state: dict[str, Any]) -> Iterator[Batch]:
        if self._stateful and "loader" in state:
            loader: Any = self._loader
            loader.load_state_dict(state["loader"])  # for the next iteration
            return iter(() if state["ended"] else self._loader)
        batches, start = iter(self._loader), state["start"]
        found = sum(1 for _ in islice(batches, start))
        if found < start:
            raise ValueError(f"loader must have the {start} batches of the state, got {found}")
        return batches

    def _mark(self, known: dict[str, Any] | None) -> Mark:
        """Of a window that is about to be read, once more if it is ``known``."""
        generator = None if self._generator is None else self._generator.get_state()
        loader: Any = self._loader
        state = loader.state_dict() if self._stateful else None
        if known is None:
            return Mark(self._steps, generator, state)
        return Mark(known["size"], known["generator"], state)

    def _read(self, batches: Iterator[Batch], size: int) -> tuple[Window, Exception | None]:
        window = Window([], [], [], {name: [] for name in self._others})
        try:
            for batch in islice(batches, size):
                images = _images_of(batch, self._images)
                others = {name: _entry(name, batch, place) for name, place in self._others.items()}
                window.batches.append(batch)
                window.images.append(images)
                for name, found in others.items():
                    window.others[name].append(found)
        except Exception as error:
            return window, error
        return window, None

    def _draw(self, window: Window, mark: Mark) -> None:
        """The noise of a window, from where the generator was; if that is not where it is now, it
        is left there."""
        if self._generator is None:
            window.noises.extend(draw_noise(x, None) for x in window.images)
            return
        now = self._generator.get_state()
        again = not torch.equal(now, mark.generator)
        if again:
            self._generator.set_state(mark.generator)
        window.noises.extend(draw_noise(x, self._generator) for x in window.images)
        if again:
            self._generator.set_state(now)


def _images_of(batch: Any, place: Place | None) -> Tensor:
    if place is None:
        if not isinstance(batch, Tensor) and not (isinstance(batch, (tuple, list)) and batch):
            raise TypeError(
                "images must say where a batch has them, by a key, an index or a function: got a "
                f"batch of type {type(batch).__name__}"
            )
        found = batch if isinstance(batch, Tensor) else batch[0]
    else:
        found = _entry("images", batch, place)
    return validation.check_samples("images", found, False)


def _entry(name: str, batch: Any, place: Any) -> Any:
    if callable(place):
        return place(batch)
    try:
        return batch[place]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"{name} must be where a batch has them, and there is no {place!r} in this "
            f"{type(batch).__name__}"
        ) from error
