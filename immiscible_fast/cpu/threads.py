"""Work that other threads share, or that this one does itself where there is none to be had."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

PATIENCE = 0.05  # seconds between looks for an interrupt, where waiting itself is deaf to it


def share(
    run: Callable[..., None],
    items: Iterable[tuple[Any, ...]],
    threads: int,
    stop: Callable[[], None] = lambda: None,
) -> None:
    """``run(*item)`` for each item, on as many other threads, so that this one can be interrupted.

    Where no thread can be started (the system allows no more, or the interpreter is about to end,
    when Python's own pools refuse work), this one does it. Whatever is raised here calls ``stop``,
    and goes on when all threads have ended.
    """
    todo: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
    for item in items:
        todo.put(item)

    def drain() -> None:
        with suppress(Empty):
            while True:
                run(*todo.get_nowait())

    def work(end: Future[None]) -> None:
        try:
            drain()
        except BaseException as error:
            end.set_exception(error)
        else:
            end.set_result(None)

    workers: dict[Future[None], Thread] = {}
    try:
        for _ in range(threads):
            end: Future[None] = Future()
            worker = Thread(target=work, args=(end,))
            try:
                worker.start()
            except RuntimeError:
                break
            workers[end] = worker
        while wait(workers, timeout=PATIENCE).not_done:  # an interrupted join may not wait again
            pass
        if not workers:
            drain()
    except BaseException:
        with suppress(Empty):
            while True:
                todo.get_nowait()
        stop()
        raise
    finally:
        for worker in workers.values():
            worker.join()
    for end in workers:
        end.result()
