"""Results of a run in TensorBoard, MLflow or Weights & Biases while it is running: `--log-to tensorboard:FOLDER`,
`--log-to mlflow:URI`, `--log-to wandb:PROJECT`.

A tracker gets a result after the store has it. Each tracker has its own thread, so that a slow server never makes a
worker wait; if a tracker fails, only its display is incomplete. The store remains the record; `aquasurf report` needs
no tracker. Values are the task's metric under its own name and sign, and times are those of the training, however late
a tracker is: to import one may take longer than a training.
"""

from __future__ import annotations

import math
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from aquasurf_ray.driver.events import EvaluationEnded, Event, Events
from aquasurf_ray.store import EpochRecord, TaskMetric
from aquasurf_ray.training_metrics import on_split

LONGEST_WAIT = 30.0  # seconds at the end of a run; a server that is down must not hold the run back
PLAIN, PLAIN_OF_EPOCH = ("val_loss", "test_loss", "seconds"), ("train_loss", "val_loss", "learning_rate", "seconds")


@dataclass(frozen=True)
class TrackedResult:
    """A result as trackers show it.

    Attributes:
        at: when the training ended, in seconds since 1970; the result came to the driver at that moment.
    """

    ended: EvaluationEnded
    metric: TaskMetric
    at: float

    @property
    def started(self) -> float:
        """When the training began, in seconds since 1970."""
        return self.at - (self.ended.result.seconds or 0.0)

    def metrics(self) -> dict[str, float]:
        """Return the metrics that a tracker can draw, by name."""
        result, value = self.ended.result, self.metric.value
        name, on_test = on_split(self.metric.name), on_split(self.metric.name, "test")
        own = {name: value(result.score), on_test: value(result.test_score), f"best_{name}": value(self.ended.best)}
        return _finite({plain: getattr(result, plain) for plain in PLAIN} | own)

    def curve(self) -> list[tuple[int, float, dict[str, float]]]:
        """Return the learning curve: each epoch, when it ended, and its metrics."""
        now, points = self.started, []
        for epoch in self.ended.result.epochs:
            now = min(now + (epoch.seconds or 0.0), self.at)
            points.append((epoch.epoch, now, _point(epoch, self.metric)))
        return points


class Tracker(Protocol):
    """A service that displays results."""

    def result(self, tracked: TrackedResult) -> None:
        """Show a result; the `number` of its event counts the results of the run from 1."""

    def close(self) -> None:
        """Finish: no more results follow."""


class Trackers:
    """The trackers of a run, as a context manager; its end waits for them, at most half a minute."""

    def __init__(self, targets: Sequence[str], run: str, metric: TaskMetric, events: Events) -> None:
        self._metric = metric
        self._threads = [_TrackerThread(target, run, events) for target in targets]

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for thread in self._threads:
            thread.results.put(None)
        end = time.monotonic() + LONGEST_WAIT
        for thread in self._threads:
            thread.end(max(0.0, end - time.monotonic()))

    def on_event(self, event: Event) -> None:
        """Queue a result that this run has recorded for the trackers, and return at once."""
        if isinstance(event, EvaluationEnded) and event.number is not None:
            tracked = TrackedResult(event, self._metric, time.time())
            for thread in self._threads:
                thread.results.put(tracked)


class _TrackerThread:
    """One tracker in its thread. Only the first failure is noted; later results are still sent."""

    def __init__(self, target: str, run: str, events: Events) -> None:
        self.results: queue.SimpleQueue[TrackedResult | None] = queue.SimpleQueue()
        self._target, self._run, self._events = target, run, events
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
            except Exception as error:  # third-party library and server: no failure of theirs may stop the run
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
            self._events.note(f"{kind} does not get all results, the run continues without it: {why}")


class TensorBoardTracker:
    """Scalars by the number of the result in FOLDER/RUN; the learning curve of each result in a folder below it."""

    def __init__(self, folder: str, run: str) -> None:
        from tensorboardX import SummaryWriter

        self._new: Callable[[str], Any] = SummaryWriter
        self._folder = Path(folder) / _file_name(run)
        self._run = self._new(str(self._folder))

    def result(self, tracked: TrackedResult) -> None:
        """See `Tracker`."""
        ended, at = tracked.ended, tracked.at
        for name, value in tracked.metrics().items():
            self._run.add_scalar(name, value, ended.number, walltime=at)
        self._run.add_text("function", f"`{ended.function}` {ended.result.reason or ''}", ended.number, walltime=at)
        self._run.flush()
        if ended.result.epochs:
            change = f"-{_file_name(ended.recipe_change)}" if ended.recipe_change else ""
            curve = self._new(
                str(self._folder / f"{ended.number:05}-{_file_name(ended.function)}-{ended.seed}{change}")
            )
            for epoch, at, point in tracked.curve():
                for name, value in point.items():
                    curve.add_scalar(f"epoch/{name}", value, epoch, walltime=at)
            curve.close()

    def close(self) -> None:
        """See `Tracker`."""
        self._run.close()


class MlflowTracker:
    """An experiment of the run's name, with a run for each result: parameters, metrics, learning curve by epoch."""

    def __init__(self, uri: str, run: str) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(uri)
        known = self._client.get_experiment_by_name(run)
        self._experiment = known.experiment_id if known else self._client.create_experiment(run)

    def result(self, tracked: TrackedResult) -> None:
        """See `Tracker`."""
        from mlflow.entities import Metric, Param, RunTag

        ended, started, end = tracked.ended, _milliseconds(tracked.started), _milliseconds(tracked.at)
        created = self._client.create_run(self._experiment, start_time=started, run_name=ended.function)
        run = created.info.run_id
        metrics = [Metric(name, value, end, ended.number or 0) for name, value in tracked.metrics().items()]
        for epoch, at, point in tracked.curve():
            metrics += [Metric(f"epoch_{name}", value, _milliseconds(at), epoch) for name, value in point.items()]
        parameters = [Param("function", ended.function), Param("seed", str(ended.seed))]
        parameters += [Param("recipe_change", ended.recipe_change)] if ended.recipe_change else []
        tags = [RunTag("status", ended.result.status), RunTag("reason", ended.result.reason or "")]
        # At least one request, so that the parameters of a training without metrics are logged too.
        for start in range(0, max(len(metrics), 1), 1000):  # MLflow's limit per request
            self._client.log_batch(
                run, metrics=metrics[start : start + 1000], params=parameters if not start else (), tags=tags
            )
        self._client.set_terminated(run, "FINISHED" if ended.result.status == "done" else "FAILED", end_time=end)

    def close(self) -> None:
        """See `Tracker`."""


class WandbTracker:
    """A run of Weights & Biases for each session, in a group of the run's name, with metrics by the number of the
    result, and a table of the learning curves at its end.

    One run a result, as in MLflow, would start a process for each. `WANDB_MODE=offline` writes to a folder only.
    """

    def __init__(self, project: str, run: str) -> None:
        import wandb

        # Silent, because the terminal has the progress bar; no code or machine data is uploaded.
        settings = wandb.Settings(
            silent=True, console="off", disable_git=True, x_disable_stats=True, x_disable_meta=True
        )
        self._table: Callable[..., Any] = wandb.Table
        self._run = wandb.init(project=project, group=run, name=run, settings=settings)
        self._run.define_metric("*", step_metric="number")
        self._curves: list[dict[str, Any]] = []

    def result(self, tracked: TrackedResult) -> None:
        """See `Tracker`."""
        ended = tracked.ended
        of_training = {"function": ended.function, "seed": ended.seed, "recipe_change": ended.recipe_change}
        outcome = {"status": ended.result.status, "reason": ended.result.reason or ""}
        self._run.log({"number": ended.number, **of_training, **outcome, **tracked.metrics()})
        for epoch, _, point in tracked.curve():
            self._curves.append({"number": ended.number, **of_training, "epoch": epoch, **point})

    def close(self) -> None:
        """See `Tracker`."""
        if self._curves:
            columns = list(dict.fromkeys(name for row in self._curves for name in row))
            data = [[row.get(name) for name in columns] for row in self._curves]
            self._run.log({"learning_curves": self._table(columns=columns, data=data)})
        self._run.finish()


TRACKERS: dict[str, Callable[[str, str], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MlflowTracker,
    "wandb": WandbTracker,
}
"""The trackers by the word before the colon; a new one needs a line here and one in each table of `tracker_targets`."""


def _open(target: str, run: str) -> Tracker:
    kind, _, where = target.partition(":")
    return TRACKERS[kind](where, run)


def _point(epoch: EpochRecord, metric: TaskMetric) -> dict[str, float]:
    on_train = f"train_{on_split(metric.name, 'test').removeprefix('test_')}"
    own = {on_train: metric.value(epoch.train_score), on_split(metric.name): metric.value(epoch.val_score)}
    return _finite({name: getattr(epoch, name) for name in PLAIN_OF_EPOCH} | own)


def _milliseconds(at: float) -> int:
    return int(1000 * at)


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return the values that a tracker can draw: a diverged training has none, NaN or infinite ones."""
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.()+-]+", "_", text)[:100]
