"""The progress of commands: of those that train, and of those that count up to a known end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aquasurf_ray.cli.terminal.output import user_code

if TYPE_CHECKING:
    from aquasurf_ray.driver.events import Callback


@contextmanager
def progress(as_json: bool) -> Iterator[list[Callback]]:
    """Yield the callbacks that show progress: bars on a terminal, lines elsewhere, none where JSON is printed.

    The terminal is given back in any case.

    Meanwhile standard output is redirected to standard error, since Ray and the user's code may print.
    """
    from aquasurf_ray.driver.callbacks.progress import shown_progress

    with shown_progress(not as_json) as shown, user_code():
        yield [*shown]


@contextmanager
def bar(text: str, *, silent: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar on standard error and yield the function that updates it, or None if that is not a terminal."""
    if silent or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    # Otherwise Rich would send what is printed meanwhile to the bar's console, which is standard error.
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False) as bars:
        task = bars.add_task(text, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
