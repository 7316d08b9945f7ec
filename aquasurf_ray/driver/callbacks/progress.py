"""The progress of a run on standard error: bars on a terminal, lines elsewhere.

Nothing is written to standard output, which belongs to results.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from aquasurf_ray.driver.callbacks.given import checked_callbacks
from aquasurf_ray.driver.events import Callback, Event, Note, RunEnded, RunProgress, RunView

# A cluster has hundreds of workers, and a line of a log must stay readable.
RUNNING_SHOWN = 4


@contextmanager
def shown_progress(progress: bool = True, callbacks: Iterable[Callback] = ()) -> Iterator[tuple[Callback, ...]]:
    """Yield the caller's callbacks and, with `progress`, the one that shows it: bars on a terminal, lines elsewhere.

    The terminal is restored in any case.

    Raises:
        BadUse: `callbacks` is not a list of objects with a method `on_event`.
    """
    given = checked_callbacks(callbacks)
    if not progress:
        yield given
        return
    shown = Bars() if sys.stderr.isatty() else Lines()
    try:
        yield (*given, shown)
    finally:
        shown.close()


class Lines:
    """Notes as they arrive, and a line of progress every few seconds, with rate and time left, for logs and pipes."""

    def __init__(self, interval: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._last = clock()
        self._pace: Pace | None = None

    def on_event(self, event: Event) -> None:
        """Print a note, or a line of progress if the last one is `interval` seconds old."""
        if isinstance(event, Note):
            print(event.text, file=sys.stderr, flush=True)
        elif isinstance(event, RunProgress):
            pace, now = self._pace_of(event.view), self._clock()
            if now - self._last >= self._interval:
                self._last = now
                print(line_of(event.view, pace), file=sys.stderr, flush=True)

    def _pace_of(self, view: RunView) -> str:
        # Reused results arrive at once, and would make the rate far too high.
        done, wanted = view.evaluations - view.reused, view.evaluations_wanted - view.reused
        if self._pace is None:
            self._pace = Pace(done)
        return self._pace.text(self._clock(), done, wanted)

    def close(self) -> None:
        """Do nothing: lines leave the terminal as it is."""


class Bars:
    """Bars for spectra, for costs if they are needed, and for evaluations, with rate and time left; below them the best
    function so far and the work under way."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            console=self._console,
        )
        self._spectra = self._bars.add_task("spectra", total=None, pace="")
        self._costs = self._bars.add_task("costs", total=None, pace="", visible=False)
        self._evaluations = self._bars.add_task("evaluations", total=None, pace="")
        self._says = Text(no_wrap=True, overflow="ellipsis")
        self._live = Live(Group(self._bars, self._says), console=self._console, refresh_per_second=4)
        self._pace: tuple[Pace, ...] | None = None

    def on_event(self, event: Event) -> None:
        """Move the bars, print a note above them, or stop them at the end of the run."""
        if isinstance(event, Note):
            self._console.print(event.text, markup=False, highlight=False, soft_wrap=True)
        elif isinstance(event, RunProgress):
            self._update(event.view)
        elif isinstance(event, RunEnded):
            self.close()

    def close(self) -> None:
        """Release the terminal. The bars stay visible, without the work under way; more progress starts new ones."""
        # The last line stays on the terminal, where finished work would look like work under way.
        self._says.plain = self._says.plain.partition("  now: ")[0]
        self._live.stop()
        self._pace = None

    def _update(self, view: RunView) -> None:
        now = self._clock()
        if self._pace is None:
            self._pace = Pace(view.spectra), Pace(view.costs), Pace(view.evaluations - view.reused)
            self._live.start()
        counts = (
            (self._spectra, view.spectra, view.spectra_wanted, 0),
            (self._costs, view.costs, view.costs_wanted, 0),
            (self._evaluations, view.evaluations, view.evaluations_wanted, view.reused),
        )
        for pace, (bar, done, wanted, reused) in zip(self._pace, counts, strict=True):
            visible, text = bar == self._evaluations or wanted > 0, pace.text(now, done - reused, wanted - reused)
            self._bars.update(bar, completed=done, total=wanted, pace=text, visible=visible)
        self._says.plain = sentence(view)


class Pace:
    """The rate of items that this process has finished itself, and the time left."""

    def __init__(self, done_before: int) -> None:
        self._before = done_before
        self._started: float | None = None

    def text(self, now: float, done: int, wanted: int) -> str:
        """Return a text such as `3.2/s, 0:41 left`; empty before anything has finished.

        >>> pace = Pace(10)
        >>> pace.text(0.0, 10, 30), pace.text(10.0, 20, 30), pace.text(20.0, 30, 30)
        ('', '1.0/s, 0:10 left', '1.0/s')
        """
        if self._started is None:
            self._started = now
        # From the first look on, not from the start of the process: connecting to Ray is not work on evaluations.
        elapsed, new = now - self._started, done - self._before
        if new <= 0 or elapsed <= 0:
            return ""
        rate = new / elapsed
        # A training of an hour is 0.0/s; slow work is given in seconds each.
        per = f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each"
        if done >= wanted:
            return per
        minutes, seconds = divmod(round((wanted - done) / rate), 60)
        hours, minutes = divmod(minutes, 60)
        left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        return f"{per}, {left} left"


def line_of(view: RunView, pace: str = "") -> str:
    """Return the progress of a run as one line of a log: counts, the `pace` of evaluations, best function, and the work
    of at most `RUNNING_SHOWN` workers.
    """
    spectra = f"spectra {view.spectra}/{view.spectra_wanted}, " if view.spectra_wanted else ""
    costs = f"costs {view.costs}/{view.costs_wanted}, " if view.costs_wanted else ""
    stopped = f", {view.stopped_early} stopped early" if view.stopped_early else ""
    best = f", best {view.best_text()}" if view.best else ""
    more = len(view.running) - RUNNING_SHOWN
    now = [*view.running[:RUNNING_SHOWN], *([f"{more} more"] if more > 0 else [])]
    return (
        f"{spectra}{costs}"
        f"evaluations {view.evaluations}/{view.evaluations_wanted}{f' ({pace})' if pace else ''}{stopped}{best}"
        f"{'; now: ' if now else ''}{' | '.join(now)}"
    )


def sentence(view: RunView) -> str:
    """Return the best function so far, early stops, failures and the work under way, in one line."""
    parts = []
    if view.best:
        parts.append(f"best so far {view.best_text()}")
    if view.stopped_early:
        parts.append(f"{view.stopped_early} stopped early")
    if view.failed:
        parts.append(f"{view.failed} failed")
    if view.running:
        parts.append("now: " + " | ".join(view.running))
    return "  ".join(parts)
