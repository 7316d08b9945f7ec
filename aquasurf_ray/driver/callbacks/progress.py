"""What a run looks like from outside while it goes: a view of it, and those who show it.

The search hands a `RunView` to a `Reporter` a few times a second; a reporter never blocks the search for long and
never writes to standard output, which belongs to results.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text


@dataclass(frozen=True)
class RunView:
    """The state of a run at one moment.

    `best` is a function's name and the value of the metric `metric`, `running` one text a busy worker. A run that does
    not mind the price wants no costs. Of the `evaluations`, `reused` cost no training here; they come in at once, and
    say nothing of the time that others take.
    """

    spectra: int
    spectra_wanted: int
    evaluations: int
    evaluations_wanted: int
    best: tuple[str, float] | None
    running: tuple[str, ...]
    failed: int
    stopped_early: int = 0
    reused: int = 0
    costs: int = 0
    costs_wanted: int = 0
    metric: str = "accuracy"

    def best_text(self) -> str:
        """The best value and its function; a metric other than accuracy is named."""
        if self.best is None:
            return ""
        function, value = self.best
        return f"{value:.4f} {function}" if self.metric == "accuracy" else f"{self.metric} {value:.4g} {function}"


class Reporter(Protocol):
    """Shows a run."""

    def note(self, text: str) -> None:
        """One line that stays."""

    def update(self, view: RunView) -> None:
        """The state now."""

    def close(self) -> None:
        """The run has ended; give the terminal back."""


class Silent:
    """Shows nothing."""

    def note(self, text: str) -> None:
        """Drops the line."""

    def update(self, view: RunView) -> None:
        """Drops the view."""

    def close(self) -> None:
        """Has nothing to give back."""


class Lines:
    """A line to standard error every few seconds, for logs and pipes."""

    def __init__(self, interval: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._last = clock()

    def note(self, text: str) -> None:
        """Prints the line."""
        print(text, file=sys.stderr, flush=True)

    def update(self, view: RunView) -> None:
        """Prints a line if the last one is `interval` seconds old."""
        if self._clock() - self._last >= self._interval:
            self._last = self._clock()
            costs = f"costs {view.costs}/{view.costs_wanted}, " if view.costs_wanted else ""
            stopped = f", {view.stopped_early} stopped early" if view.stopped_early else ""
            best = f", best {view.best_text()}" if view.best else ""
            self.note(
                f"spectra {view.spectra}/{view.spectra_wanted}, {costs}"
                f"evaluations {view.evaluations}/{view.evaluations_wanted}{stopped}{best}"
            )

    def close(self) -> None:
        """Has nothing to give back."""


class Bars:
    """Bars on standard error for spectra, costs if any are wanted, and evaluations, with rate and time left; under them
    best so far and what runs now."""

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

    def note(self, text: str) -> None:
        """Prints the line above the bars."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def update(self, view: RunView) -> None:
        """Moves the bars."""
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
            visible, text = bar != self._costs or wanted > 0, pace.text(now, done - reused, wanted - reused)
            self._bars.update(bar, completed=done, total=wanted, pace=text, visible=visible)
        self._says.plain = sentence(view)

    def close(self) -> None:
        """Leaves the bars as they stand, without what ran last; a further view begins new ones."""
        self._says.plain = self._says.plain.partition("  now: ")[0]
        self._live.stop()
        self._pace = None


class Pace:
    """Items a second, and the time left, since the first item that this process itself finished was begun."""

    def __init__(self, done_before: int) -> None:
        self._before = done_before
        self._started: float | None = None

    def text(self, now: float, done: int, wanted: int) -> str:
        """For example `3.2/s, 0:41 left`; empty until something is known.

        >>> pace = Pace(10)
        >>> pace.text(0.0, 10, 30), pace.text(10.0, 20, 30), pace.text(20.0, 30, 30)
        ('', '1.0/s, 0:10 left', '1.0/s')
        """
        if self._started is None:
            self._started = now
        elapsed, new = now - self._started, done - self._before
        if new <= 0 or elapsed <= 0:
            return ""
        rate = new / elapsed
        per = f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each"
        if done >= wanted:
            return per
        minutes, seconds = divmod(round((wanted - done) / rate), 60)
        hours, minutes = divmod(minutes, 60)
        left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        return f"{per}, {left} left"


def sentence(view: RunView) -> str:
    """Best so far, early stops, failures, and what runs now, in one line."""
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
