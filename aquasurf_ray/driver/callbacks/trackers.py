"""Results of a run shown in TensorBoard or MLflow while it goes: `--log-to tensorboard:FOLDER`, `--log-to mlflow:URI`.

A tracker is told of a result after the store has it. It works in a thread of its own, so that a slow server never makes
a worker wait, and its failures are noted and cost nothing but what it would have shown. The store remains what counts;
`aquasurf report` needs no tracker.
"""

from __future__ import annotations

import math
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from aquasurf_ray.store import EpochRecord, EvaluationResult

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow"}
LONGEST_WAIT = 30.0
FIGURES = ("score", "val_loss", "val_accuracy", "test_loss", "test_score", "test_accuracy", "seconds")


@dataclass(frozen=True)
class TrackedResult:
    """A result that a run has recorded.

    `number` counts the run's results from 1; `best` is the highest score so far, this one's included, if any.
    """

    number: int
    function: str
    seed: int
    best: float | None
    result: EvaluationResult


class Tracker(Protocol):
    """Somewhere that results are shown."""

    def result(self, tracked: TrackedResult) -> None:
        """Shows a result."""

    def close(self) -> None:
        """Nothing more comes."""


def check_target(target: str) -> str:
    """The target, if it is one and its package is there.

    Raises:
        ValueError: it is not.
    """
    kind, _, where = target.partition(":")
    if kind not in PACKAGES or not where:
        raise ValueError(f"tensorboard:FOLDER or mlflow:URI expected, got '{target}'")
    if find_spec(PACKAGES[kind]) is None:
        raise ValueError(f"{PACKAGES[kind]} is not installed; pip install 'aquasurf-ray[{kind}]'")
    return target


class Trackers:
    """All trackers of a run; `result` returns at once."""

    def __init__(self, targets: Sequence[str], run: str, note: Callable[[str], None]) -> None:
        self._threads = [_TrackerThread(target, run, note) for target in targets]

    def result(self, tracked: TrackedResult) -> None:
        """Hands a result on."""
        for thread in self._threads:
            thread.results.put(tracked)

    def close(self) -> None:
        """Waits for what is under way, half a minute at most."""
        for thread in self._threads:
            thread.results.put(None)
        end = time.monotonic() + LONGEST_WAIT
        for thread in self._threads:
            thread.end(max(0.0, end - time.monotonic()))


@contextmanager
def tracking(targets: Sequence[str], run: str, note: Callable[[str], None]) -> Iterator[Trackers]:
    """The trackers for the length of a run."""
    trackers = Trackers(targets, run, note)
    try:
        yield trackers
    finally:
        trackers.close()


class _TrackerThread:
    """One tracker, in its thread. What fails first is noted, and what comes after is still tried."""

    def __init__(self, target: str, run: str, note: Callable[[str], None]) -> None:
        self.results: queue.SimpleQueue[TrackedResult | None] = queue.SimpleQueue()
        self._target, self._run, self._note = target, run, note
        self._noted = False
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    def end(self, timeout: float) -> None:
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._fail(f"is still busy after {LONGEST_WAIT:.0f} s and is left alone")

    def _work(self) -> None:
        tracker: Tracker | None = None
        while (tracked := self.results.get()) is not None:
            try:
                tracker = tracker or _open(self._target, self._run)
                tracker.result(tracked)
            except Exception as error:  # somebody else's library and server: none of it may stop the run
                self._fail(" ".join(f"{type(error).__name__}: {error}".split())[:300])
        try:
            if tracker is not None:
                tracker.close()
        except Exception as error:  # see above
            self._fail(str(error))

    def _fail(self, why: str) -> None:
        if not self._noted:
            self._noted = True
            kind = self._target.partition(":")[0]
            self._note(f"{kind} does not get all results, the run goes on without it: {why}")


class TensorBoardTracker:
    """Scalars by the number of the result in FOLDER/RUN; the learning curve of each result in a folder below it."""

    def __init__(self, folder: str, run: str) -> None:
        from tensorboardX import SummaryWriter

        self._new: Callable[[str], Any] = SummaryWriter
        self._folder = Path(folder) / _file_name(run)
        self._run = self._new(str(self._folder))

    def result(self, tracked: TrackedResult) -> None:
        """See `Tracker`."""
        for name, value in _figures(tracked).items():
            self._run.add_scalar(name, value, tracked.number)
        self._run.add_text("function", f"`{tracked.function}` {tracked.result.reason or ''}", tracked.number)
        self._run.flush()
        if tracked.result.epochs:
            curve = self._new(str(self._folder / f"{tracked.number:05}-{_file_name(tracked.function)}-{tracked.seed}"))
            for epoch in tracked.result.epochs:
                for name, value in _point(epoch).items():
                    curve.add_scalar(f"epoch/{name}", value, epoch.epoch)
            curve.close()

    def close(self) -> None:
        """See `Tracker`."""
        self._run.close()


class MlflowTracker:
    """An experiment of the run's name, with a run for each result: parameters, figures, learning curve by epoch."""

    def __init__(self, uri: str, run: str) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(uri)
        known = self._client.get_experiment_by_name(run)
        self._experiment = known.experiment_id if known else self._client.create_experiment(run)

    def result(self, tracked: TrackedResult) -> None:
        """See `Tracker`."""
        from mlflow.entities import Metric, Param, RunTag

        run = self._client.create_run(self._experiment, run_name=tracked.function).info.run_id
        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, tracked.number) for name, value in _figures(tracked).items()]
        for epoch in tracked.result.epochs:
            metrics += [Metric(f"epoch_{name}", value, now, epoch.epoch) for name, value in _point(epoch).items()]
        parameters = [Param("function", tracked.function), Param("seed", str(tracked.seed))]
        tags = [RunTag("status", tracked.result.status), RunTag("reason", tracked.result.reason or "")]
        for start in range(0, max(len(metrics), 1), 1000):  # a request holds no more
            self._client.log_batch(
                run, metrics=metrics[start : start + 1000], params=parameters if not start else (), tags=tags
            )
        self._client.set_terminated(run, "FINISHED" if tracked.result.status == "done" else "FAILED")

    def close(self) -> None:
        """See `Tracker`."""


TRACKERS: dict[str, Callable[[str, str], Tracker]] = {"tensorboard": TensorBoardTracker, "mlflow": MlflowTracker}
"""By the word before the colon; a new one is one line here and one in `PACKAGES`."""


def _open(target: str, run: str) -> Tracker:
    kind, _, where = target.partition(":")
    return TRACKERS[kind](where, run)


def _figures(tracked: TrackedResult) -> dict[str, float]:
    values = {name: getattr(tracked.result, name) for name in FIGURES} | {"best_score": tracked.best}
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def _point(epoch: EpochRecord) -> dict[str, float]:
    values = {field.name: getattr(epoch, field.name) for field in fields(epoch) if field.name != "epoch"}
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.()+-]+", "_", text)[:100]
