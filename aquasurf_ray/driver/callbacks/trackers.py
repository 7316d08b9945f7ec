"""Results of a run in TensorBoard, MLflow or Weights & Biases while it is running: `--log-to tensorboard:FOLDER`,
`--log-to mlflow:URI`, `--log-to wandb:PROJECT`.

A tracker gets a result after the store has it. Each tracker has its own thread, so that a slow server never makes a
worker wait; if a tracker fails, only its display is incomplete. The store remains the record; `aquasurf report` needs
no tracker.
"""

from __future__ import annotations

import math
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from aquasurf_ray.driver.events import EvaluationEnded, Event, Events
from aquasurf_ray.store import EpochRecord

LONGEST_WAIT = 30.0  # seconds at the end of a run; a server that is down must not hold the run back
METRICS = ("score", "val_loss", "val_accuracy", "test_loss", "test_score", "test_accuracy", "seconds")
EPOCH_METRICS = tuple(field.name for field in fields(EpochRecord) if field.name != "epoch")


class Tracker(Protocol):
    """A service that displays results."""

    def result(self, ended: EvaluationEnded) -> None:
        """Show a result; its `number` counts the results of the run from 1."""

    def close(self) -> None:
        """Finish: no more results follow."""


class Trackers:
    """The trackers of a run, as a context manager; its end waits for them, at most half a minute."""

    def __init__(self, targets: Sequence[str], run: str, events: Events) -> None:
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
            for thread in self._threads:
                thread.results.put(event)


class _TrackerThread:
    """One tracker in its thread. Only the first failure is noted; later results are still sent."""

    def __init__(self, target: str, run: str, events: Events) -> None:
        self.results: queue.SimpleQueue[EvaluationEnded | None] = queue.SimpleQueue()
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
        while (ended := self.results.get()) is not None:
            try:
                tracker = tracker or _open(self._target, self._run)
                tracker.result(ended)
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

    def result(self, ended: EvaluationEnded) -> None:
        """See `Tracker`."""
        for name, value in _metrics(ended).items():
            self._run.add_scalar(name, value, ended.number)
        self._run.add_text("function", f"`{ended.function}` {ended.result.reason or ''}", ended.number)
        self._run.flush()
        if ended.result.epochs:
            change = f"-{_file_name(ended.recipe_change)}" if ended.recipe_change else ""
            curve = self._new(
                str(self._folder / f"{ended.number:05}-{_file_name(ended.function)}-{ended.seed}{change}")
            )
            for epoch in ended.result.epochs:
                for name, value in _point(epoch).items():
                    curve.add_scalar(f"epoch/{name}", value, epoch.epoch)
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

    def result(self, ended: EvaluationEnded) -> None:
        """See `Tracker`."""
        from mlflow.entities import Metric, Param, RunTag

        run = self._client.create_run(self._experiment, run_name=ended.function).info.run_id
        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, ended.number or 0) for name, value in _metrics(ended).items()]
        for epoch in ended.result.epochs:
            metrics += [Metric(f"epoch_{name}", value, now, epoch.epoch) for name, value in _point(epoch).items()]
        parameters = [Param("function", ended.function), Param("seed", str(ended.seed))]
        parameters += [Param("recipe_change", ended.recipe_change)] if ended.recipe_change else []
        tags = [RunTag("status", ended.result.status), RunTag("reason", ended.result.reason or "")]
        # At least one request, so that the parameters of a training without metrics are logged too.
        for start in range(0, max(len(metrics), 1), 1000):  # MLflow's limit per request
            self._client.log_batch(
                run, metrics=metrics[start : start + 1000], params=parameters if not start else (), tags=tags
            )
        self._client.set_terminated(run, "FINISHED" if ended.result.status == "done" else "FAILED")

    def close(self) -> None:
        """See `Tracker`."""


class WandbTracker:
    """A run of Weights & Biases for each session, in a group of the run's name, with metrics by the number of the
    result, and a table of the learning curves at its end.

    One run a result, as in MLflow, would start a process for each. `WANDB_MODE=offline` writes to a folder only.
    """

    CURVES = ("number", "function", "seed", "recipe_change", "epoch")

    def __init__(self, project: str, run: str) -> None:
        import wandb

        # Silent, because the terminal has the progress bar; no code or machine data is uploaded.
        settings = wandb.Settings(
            silent=True, console="off", disable_git=True, x_disable_stats=True, x_disable_meta=True
        )
        self._table: Callable[..., Any] = wandb.Table
        self._run = wandb.init(project=project, group=run, name=run, settings=settings)
        self._run.define_metric("*", step_metric="number")
        self._curves: list[list[Any]] = []

    def result(self, ended: EvaluationEnded) -> None:
        """See `Tracker`."""
        of_training = {"function": ended.function, "seed": ended.seed, "recipe_change": ended.recipe_change}
        outcome = {"status": ended.result.status, "reason": ended.result.reason or ""}
        self._run.log({"number": ended.number, **of_training, **outcome, **_metrics(ended)})
        for epoch in ended.result.epochs:
            point = _point(epoch)
            row = [ended.number, *of_training.values(), epoch.epoch]
            self._curves.append([*row, *(point.get(name) for name in EPOCH_METRICS)])

    def close(self) -> None:
        """See `Tracker`."""
        if self._curves:
            columns = [*self.CURVES, *EPOCH_METRICS]
            self._run.log({"learning_curves": self._table(columns=columns, data=self._curves)})
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


def _metrics(ended: EvaluationEnded) -> dict[str, float]:
    return _finite({name: getattr(ended.result, name) for name in METRICS} | {"best_score": ended.best})


def _point(epoch: EpochRecord) -> dict[str, float]:
    return _finite({name: getattr(epoch, name) for name in EPOCH_METRICS})


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return the values that a tracker can draw: a diverged training has none, NaN or infinite ones."""
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.()+-]+", "_", text)[:100]
