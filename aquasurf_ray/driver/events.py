"""Events: everything that a run reports, in typed records that are delivered to callbacks.

A callback is any object with a method `on_event(event)`. The progress bar, the JSON log, the Prometheus metrics, the
trackers and the live status in the store are callbacks, and so is a class of your own: `search(..., callbacks=[...])`.

The name of an event and its fields are what the JSON log writes, so they are an interface: fields may be added, and
none is renamed. Fields that hold more than plain values are for callbacks only and are not written to the log.

Events are delivered one after the other. A driver's arrive in the thread that created its `Events`: those that another
thread emits (the heartbeat of the lease, a tracker) wait until that thread emits the next one. A `Study`, whose calls
exclude each other, delivers them in the thread that calls it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.recipe_change import with_change
from aquasurf_ray.value_text import value_text

if TYPE_CHECKING:
    from aquasurf_ray.store import EvaluationResult

NOT_LOGGED = {"logged": False}
OWN_LOGGERS = ("aquasurf_ray",)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """Something that happened in a run. `name` is its name in the log; an event that is not `logged` has none there."""

    name: ClassVar[str]
    logged: ClassVar[bool] = True

    def fields(self) -> dict[str, Any]:
        """Return the fields that the log writes."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.metadata.get("logged", True)}


@dataclass(frozen=True)
class RunBegan(Event):
    """A driver has begun a session of the run; `workers` have `cpus` and `gpus` each."""

    name = "began"
    kind: str
    task: str
    version: str
    host: str
    pid: int
    workers: int
    cpus: float
    gpus: float
    budget: int
    store: str
    address: str | None


@dataclass(frozen=True)
class WorkerReady(Event):
    """A worker has loaded its data and can take work."""

    name = "worker-ready"
    worker: str
    node: str
    pid: int
    device: str


@dataclass(frozen=True)
class WorkerLost(Event):
    """A worker died, hung or raised; it is replaced."""

    name = "worker-lost"
    worker: str
    cause: str


@dataclass(frozen=True)
class WorkerGone(Event):
    """A worker is not replaced: it cannot work, or it was released for other runs."""

    name = "worker-gone"
    worker: str
    why: str


@dataclass(frozen=True)
class EvaluationStarted(Event):
    """A training was given to a worker."""

    name = "started"
    evaluation: int
    function: str
    seed: int
    origin: str
    worker: str
    node: str | None
    recipe_change: str = ""


@dataclass(frozen=True)
class EvaluationEnded(Event):
    """A training came to a result, which is in the store.

    `number` counts the results that this run has recorded, from 1; it is None where another run had recorded one
    before. `best` is the highest score of the run so far, and `result` has the learning curve.
    """

    name = "ended"
    evaluation: int
    function: str
    worker: str
    status: str
    score: float | None
    seconds: float | None
    reason: str | None
    stopped_early: str | None
    seed: int = field(metadata=NOT_LOGGED)
    number: int | None = field(metadata=NOT_LOGGED)
    best: float | None = field(metadata=NOT_LOGGED)
    result: EvaluationResult = field(metadata=NOT_LOGGED, repr=False)
    recipe_change: str = field(default="", metadata=NOT_LOGGED)


@dataclass(frozen=True)
class EvaluationFailed(Event):
    """A training failed on its worker, through no fault of the function. `final` says that it is not retried."""

    name = "failed"
    error: str
    attempts: int
    final: bool
    evaluation: int
    function: str
    worker: str


@dataclass(frozen=True)
class EvaluationDrained(Event):
    """A training was interrupted after `epochs` epochs, with a checkpoint, because the run ends."""

    name = "drained"
    epochs: int
    evaluation: int
    function: str
    worker: str


@dataclass(frozen=True)
class SpectraComputed(Event):
    """A worker has computed a batch of spectra, or lost it to a `fault`."""

    name = "spectra"
    functions: int
    seconds: float
    worker: str
    fault: str | None


@dataclass(frozen=True)
class CostsMeasured(Event):
    """A worker has measured a batch of costs, or lost it to a `fault`."""

    name = "costs"
    functions: int
    seconds: float
    worker: str
    fault: str | None


@dataclass(frozen=True)
class CandidatesGrown(Event):
    """A run of the open space added `candidates` candidates, chosen from `functions` new functions, in `seconds`."""

    name = "grown"
    generation: int
    candidates: int
    functions: int
    seconds: float


@dataclass(frozen=True)
class FunctionSuggested(Event):
    """The surrogate suggested a function, with this change of the recipe, after computing for `seconds`; or one of the
    best functions, whose mean is the predicted score, is trained with another seed."""

    name = "suggested"
    function: str
    predicted_score: float | None
    seconds: float
    recipe_change: str = ""
    seed: int = 0


@dataclass(frozen=True)
class RunEnding(Event):
    """The run ends before its budget is met: workers get no more work."""

    name = "ending"
    why: str


@dataclass(frozen=True)
class RunEnded(Event):
    """The session is over. `status` is the run's status; `message` says why the run ended before its budget was met."""

    name = "run-ended"
    status: str
    message: str | None
    seconds: float


@dataclass(frozen=True)
class Note(Event):
    """One line for people."""

    name = "note"
    text: str


@dataclass(frozen=True)
class WorkerWarning(Event):
    """A warning that was logged on a worker."""

    name = "warning"
    worker: str
    text: str


@dataclass(frozen=True)
class LoggedWarning(Event):
    """A warning of one of this package's own loggers, in the driver."""

    name = "warning"
    logger: str
    text: str


@dataclass(frozen=True)
class LoggedError(Event):
    """An error of one of this package's own loggers, in the driver."""

    name = "error"
    logger: str
    text: str


@dataclass(frozen=True)
class RunProgress(Event):
    """The present state of the run, up to ten times a second; not in the log."""

    name = "progress"
    logged = False
    view: RunView


@dataclass(frozen=True)
class StoreWritten(Event):
    """The store has committed a transaction; not in the log."""

    name = "store-written"
    logged = False
    seconds: float


@dataclass(frozen=True)
class RunPace:
    """How fast a run gets on: the seconds for which one training, spectrum or cost occupies a worker, the trainings per
    hour of all workers, and the seconds that the rest takes. What is not known yet is None."""

    training_seconds: float | None = None
    spectrum_seconds: float | None = None
    cost_seconds: float | None = None
    per_hour: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True)
class RunView:
    """The state of a run at one moment.

    `best` is a function's name and the value of `metric`; `best_change` is the change of the recipe that it was trained
    with. `running` has one text for each busy worker. `costs_wanted` is 0 in a run without a limit on the cost.
    `reused` counts the `evaluations` that needed no training here. `training` and `queued` count evaluations, and
    `workers` counts workers by state.
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
    training: int = 0
    queued: int = 0
    workers: Mapping[str, int] = field(default_factory=dict)
    best_change: str = ""
    pace: RunPace = RunPace()

    def best_text(self) -> str:
        """Return the best value and its function; a metric other than accuracy is named."""
        if self.best is None:
            return ""
        function, value = self.best
        trained = with_change(readable(function), self.best_change)
        named = "" if self.metric == "accuracy" else f"{self.metric} "
        return f"{named}{value_text(value)} {trained}"


class Callback(Protocol):
    """An object that receives the events of a run.

    `on_event` is called in the driver's thread, and workers get no work until it returns. A callback that waits for a
    network must wait in a thread of its own.
    """

    def on_event(self, event: Event) -> None:
        """Process an event."""


class Events:
    """The callbacks of a run, and the queue of events for them.

    Args:
        callbacks: the caller's callbacks. If one raises, a note reports it once, and the run continues.
        any_thread: deliver an event in the thread that emits it. The caller sees to it that only one emits at a time.
    """

    def __init__(self, callbacks: Iterable[Callback] = (), *, any_thread: bool = False) -> None:
        self._callbacks: list[Callback] = [_Guarded(callback, self) for callback in callbacks]
        # Appending to a deque is atomic, so other threads need no lock.
        self._waiting: deque[Event] = deque()
        self._thread = None if any_thread else threading.get_ident()
        self._delivering = False

    def emit(self, event: Event) -> None:
        """Deliver an event to every callback, after those that were emitted before it."""
        self._waiting.append(event)
        if self._thread in (None, threading.get_ident()) and not self._delivering:
            self._deliver()

    def note(self, text: str) -> None:
        """Emit one line for people."""
        self.emit(Note(text))

    @contextmanager
    def subscribed(self, callback: Callback) -> Iterator[None]:
        """Deliver events to one of the driver's own callbacks too, whose errors end the run."""
        self._callbacks.append(callback)
        try:
            yield
        finally:
            self._callbacks.remove(callback)

    @contextmanager
    def with_warnings(self) -> Iterator[None]:
        """Emit the warnings of this package's own loggers meanwhile."""
        handler = _Handler(self)
        loggers = [logging.getLogger(name) for name in OWN_LOGGERS]
        for each in loggers:
            each.addHandler(handler)
        try:
            yield
        finally:
            for each in loggers:
                each.removeHandler(handler)

    def _deliver(self) -> None:
        """Deliver the queued events. An event that a callback emits is delivered after the one that it processes."""
        self._delivering = True
        try:
            while self._waiting:
                event = self._waiting.popleft()
                # A copy, because a callback may subscribe or end the subscription of another one.
                for callback in list(self._callbacks):
                    callback.on_event(event)
        finally:
            self._delivering = False


class _Guarded:
    """A callback of the caller's. Its first exception becomes a note; it still receives all later events."""

    def __init__(self, callback: Callback, events: Events) -> None:
        self._callback, self._events, self._noted = callback, events, False

    def on_event(self, event: Event) -> None:
        try:
            self._callback.on_event(event)
        except Exception as error:  # the caller's code: no defect in it may end a run of days
            if not self._noted:
                self._noted = True
                what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                self._events.note(f"callback {type(self._callback).__name__} failed, the run continues: {what}")


class _Handler(logging.Handler):
    """Turns log records into events, and still shows them where nothing else would."""

    def __init__(self, events: Events) -> None:
        super().__init__(logging.WARNING)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        kind = LoggedError if record.levelno >= logging.ERROR else LoggedWarning
        self._events.emit(kind(record.name, record.getMessage()))
        if not logging.getLogger().handlers and logging.lastResort:
            logging.lastResort.handle(record)  # as it would be if this handler were not there
