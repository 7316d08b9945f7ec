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
from aquasurf_ray.driver.events import Callback, Event, Note, RunEnded, RunPace, RunProgress, RunView

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
    """Notes as they arrive, and a line of progress every few seconds, with pace and time left, for logs and pipes."""

    def __init__(self, interval: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._last = clock()

    def on_event(self, event: Event) -> None:
        """Print a note, or a line of progress if the last one is `interval` seconds old."""
        if isinstance(event, Note):
            print(event.text, file=sys.stderr, flush=True)
        elif isinstance(event, RunProgress):
            now = self._clock()
            if now - self._last >= self._interval:
                self._last = now
                print(line_of(event.view), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Do nothing: lines leave the terminal as it is."""


class Bars:
    """Bars for spectra, for costs if they are needed, and for evaluations, with pace and time left; below them the best
    function so far and the work under way."""

    def __init__(self) -> None:
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

    def _update(self, view: RunView) -> None:
        self._live.start()
        pace = view.pace
        counts = (
            (self._spectra, view.spectra, view.spectra_wanted, _each(pace.spectrum_seconds)),
            (self._costs, view.costs, view.costs_wanted, _each(pace.cost_seconds)),
            (self._evaluations, view.evaluations, view.evaluations_wanted, pace_of(pace)),
        )
        for bar, done, wanted, text in counts:
            visible = bar == self._evaluations or wanted > 0
            self._bars.update(bar, completed=done, total=wanted, pace=text, visible=visible)
        self._says.plain = sentence(view)


def pace_of(pace: RunPace) -> str:
    """Return the pace of a run as a text; empty before it is known.

    >>> pace_of(RunPace()), pace_of(RunPace(5.0, per_hour=1440.0, seconds_left=41.2))
    ('', '5.0 s each, 0:41 left')
    >>> pace_of(RunPace(0.5, per_hour=14400.0))
    '4.0/s'
    """
    if pace.training_seconds is None or pace.per_hour is None:
        return ""
    # A training of an hour is 0.0/s; slow work is given in seconds each.
    rate = pace.per_hour / 3600
    per = f"{rate:.1f}/s" if rate >= 1 else f"{pace.training_seconds:.1f} s each"
    # Less than a second is left of a run only where its last trainings take longer than the others.
    if pace.seconds_left is None or round(pace.seconds_left) == 0:
        return per
    minutes, seconds = divmod(round(pace.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{per}, {left} left"


def _each(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2g} s each" if seconds < 10 else f"{seconds:.0f} s each"


def line_of(view: RunView) -> str:
    """Return the progress of a run as one line of a log: counts, the pace, best function, and the work
    of at most `RUNNING_SHOWN` workers.
    """
    spectra = f"spectra {view.spectra}/{view.spectra_wanted}, " if view.spectra_wanted else ""
    costs = f"costs {view.costs}/{view.costs_wanted}, " if view.costs_wanted else ""
    stopped = f", {view.stopped_early} stopped early" if view.stopped_early else ""
    best = f", best {view.best_text()}" if view.best else ""
    pace, more = pace_of(view.pace), len(view.running) - RUNNING_SHOWN
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
