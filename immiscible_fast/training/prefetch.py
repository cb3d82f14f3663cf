"""``prefetch``: noise is assigned while the model trains on the batch before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from threading import current_thread
from typing import TypeAlias

import torch
from torch import Tensor
from typing_extensions import Unpack

from ..api.options import OptionsOfAll, check_options
from .windows import AssignedLoader, Batch, Place, Window

Finish: TypeAlias = Callable[[], list[Tensor]]  # waits for the noise of a window


def prefetch(
    loader: Iterable[Batch],
    *,
    steps: int = 1,
    images: Place | None = None,
    labels: Place | None = None,
    conditions: Place | None = None,
    generator: torch.Generator | None = None,
    **options: Unpack[OptionsOfAll],
) -> AssignedLoader[Batch]:
    """The batches of a loader, each with its noise, assigned while the model trains.

    What ``windowed`` gives, to the bit, but that the next ``steps`` batches are read, and their
    noise is drawn, before the first batch of these is given. A thread assigns it meanwhile where
    the images are on a CPU; on CUDA, a stream of its own.

    Parameters
    ----------
    loader : iterable
        A ``DataLoader``, or anything that gives batches; it is iterated anew for each epoch, and
        always by the thread that asks for batches.
    steps : int
        Batches whose noise is assigned at once; see ``windowed``.
    images, labels, conditions : str, int or callable, optional
        Where a batch has them; see ``windowed``.
    generator : torch.Generator, optional
        Draws the noise; see ``windowed``. The thread does not touch it.
    **options
        Other options of ``fast_assign``. ``features`` is called in the thread.

    Returns
    -------
    AssignedLoader
        Iterable of pairs ``(batch, noise)``, with ``len``, ``state_dict`` and ``load_state_dict``
        as that of ``windowed``, the states being interchangeable.

    Raises
    ------
    TypeError, ValueError
        As ``windowed``, each error after the batches before it.

    Notes
    -----
    When a loop ends, in whichever way, so does the thread, after the assignment that it is at. On
    CUDA, noise and images are marked as used by both streams (``record_stream``), and the stream
    of the loop waits for the noise, not the host.

    Examples
    --------
    >>> import torch
    >>> loader = torch.rand(5, 8, 3, 4, 4)  # five batches of eight images
    >>> for x, noise in prefetch(loader, generator=torch.Generator().manual_seed(0)):
    ...     assert x.shape == noise.shape
    """
    check_options("prefetch", options)
    places = {"images": images, "labels": labels, "conditions": conditions}
    return PrefetchingLoader(loader, steps, places, generator, options)


class PrefetchingLoader(AssignedLoader[Batch]):
    """An ``AssignedLoader`` that assigns a window while the one before is given."""

    def _assigned(self, windows: Iterator[Window]) -> Iterator[tuple[Window, list[Tensor]]]:
        owner = current_thread()
        worker = ThreadPoolExecutor(1, "immiscible_fast.prefetch")
        streams: dict[torch.device, torch.cuda.Stream] = {}
        try:
            # Started before the loader's processes: torch raises the death of one wherever the
            # owner is, and a pool that is interrupted while it starts a thread forgets it.
            threaded = _starts(worker)
            ahead, error = _next(windows)
            begun = [self._begin(ahead, worker if threaded else None, streams)]
            while ahead is not None:
                window = ahead
                if error is None:
                    ahead, error = _next(windows)
                    begun.append(self._begin(ahead, worker if threaded else None, streams))
                else:
                    ahead = None
                yield window, begun.pop(0)()
            if error is not None:
                raise error
        finally:  # which a collection of garbage may run in the worker itself
            error = None  # whose traceback and this frame would keep each other, and the loader
            worker.shutdown(wait=current_thread() is owner, cancel_futures=True)

    def _begin(
        self,
        window: Window | None,
        worker: ThreadPoolExecutor | None,
        streams: dict[torch.device, torch.cuda.Stream],
    ) -> Finish:
        """Start to assign a window; where nothing can do that meanwhile, it is left for later."""
        later: Finish = list if window is None else partial(window.assign, self._options)
        devices = set() if window is None else {x.device for x in window.images}
        kinds = {device.type for device in devices}
        if kinds == {"cpu"} and worker is not None:
            return worker.submit(later).result
        if window is not None and kinds == {"cuda"} and len(devices) == 1:
            device = devices.pop()
            if device not in streams:
                streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            return _on_stream(window, later, streams[device])
        return later


def _starts(worker: ThreadPoolExecutor) -> bool:
    try:
        worker.submit(int).result()
    except RuntimeError:  # the system allows no more threads
        return False
    return True


def _next(windows: Iterator[Window]) -> tuple[Window | None, Exception | None]:
    try:
        return next(windows, None), None
    except Exception as error:
        return None, error


def _on_stream(window: Window, assign: Finish, stream: torch.cuda.Stream) -> Finish:
    stream.wait_stream(torch.cuda.current_stream(stream.device))  # which made images and noise
    with torch.cuda.stream(stream):
        assigned = assign()
        done = stream.record_event()
    for tensor in chain(window.images, window.noises, *window.others.values()):
        if isinstance(tensor, Tensor) and tensor.is_cuda:
            tensor.record_stream(stream)

    def finish() -> list[Tensor]:
        current = torch.cuda.current_stream(stream.device)
        current.wait_event(done)
        for noise in assigned:
            noise.record_stream(current)
        return assigned

    return finish
