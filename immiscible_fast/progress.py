"""Progress of a command on stderr: a bar by ``rich`` if that is installed, else one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def shown_steps(total: int, wanted: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function to call with a word on each of ``total`` steps, before it begins.

    It shows them where somebody may look, and takes no time while a step runs.
    """
    if not (wanted and sys.stderr.isatty()):
        yield lambda text: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        yield _rewrite
        _rewrite("")
        return
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=total, completed=-1)

        def step(text: str) -> None:
            bar.update(task, advance=1, description=text, refresh=True)

        yield step


def _rewrite(text: str) -> None:
    sys.stderr.write(f"\r{text:<50}\r")
    sys.stderr.flush()
