"""Metrics of a run for Prometheus, through Ray's own metrics.

If Ray was installed as `ray[default]`, Ray's agent on the driver's node exports them together with its own metrics,
under names that begin with `ray_aquasurf_`; in a private instance the agent listens on the loopback address. Without an
agent nothing listens and nothing is exported. The tag `run` is the name of the run; Ray accepts only ASCII in tags, so
other letters are escaped. Ray stores only the buckets of a histogram, so its sum is computed from their midpoints.
"""

from __future__ import annotations

from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from aquasurf_ray.driver.events import (
    EvaluationEnded,
    EvaluationFailed,
    Event,
    FunctionSuggested,
    RunProgress,
    RunView,
    StoreWritten,
)

WORKER_STATES = ("starting", "idle", "busy", "retired")
# Buckets from the fastest to the slowest that occurs, about half a decade apart: enough to see where time goes.
SUGGESTION_SECONDS = [0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0]
TRAINING_SECONDS = [1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 43_200.0]
WRITE_SECONDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0]


class PrometheusMetrics:
    """The metrics of one session of a run."""

    def __init__(self, run: str) -> None:
        self._tags = {"run": _ascii(run)}
        self._evaluations = self._made(Counter, "evaluations", "Evaluations that ended, by status", "status")
        self._running = self._made(Gauge, "running", "Evaluations under way")
        self._queued = self._made(Gauge, "queued", "Evaluations that wait for a worker")
        self._best = self._made(Gauge, "best", "Best value of the task's metric so far", "metric")
        self._workers = self._made(Gauge, "workers", "Workers, by state", "state")
        self._suggestion = self._made_histogram("suggestion_seconds", "Time of a suggestion", SUGGESTION_SECONDS)
        self._training = self._made_histogram("training_seconds", "Time of a training", TRAINING_SECONDS)
        self._write = self._made_histogram("store_write_seconds", "Time of a write to the store", WRITE_SECONDS)

    def on_event(self, event: Event) -> None:
        """Count what happened, and set the gauges."""
        if isinstance(event, EvaluationEnded):
            self._evaluations.inc(1, self._tags | {"status": event.status})
            if event.seconds:
                self._training.observe(event.seconds, self._tags)
        # Not each attempt: a retry that succeeds would be counted twice.
        elif isinstance(event, EvaluationFailed) and event.final:
            self._evaluations.inc(1, self._tags | {"status": "failed"})
        elif isinstance(event, FunctionSuggested):
            self._suggestion.observe(event.seconds, self._tags)
        elif isinstance(event, StoreWritten):
            self._write.observe(event.seconds, self._tags)
        elif isinstance(event, RunProgress):
            self._set(event.view)

    def _set(self, view: RunView) -> None:
        self._running.set(view.training, self._tags)
        self._queued.set(view.queued, self._tags)
        if view.best:
            self._best.set(view.best[1], self._tags | {"metric": _ascii(view.metric)})
        # All states at each time, or a state without workers would keep its last number for ever.
        for state in WORKER_STATES:
            self._workers.set(view.workers.get(state, 0), self._tags | {"state": state})

    def _made(self, kind: Any, name: str, description: str, *tags: str) -> Any:
        return kind(f"aquasurf_{name}", description=description, tag_keys=("run", *tags))

    def _made_histogram(self, name: str, description: str, boundaries: list[float]) -> Any:
        return Histogram(f"aquasurf_{name}", description=description, boundaries=boundaries, tag_keys=("run",))


def _ascii(text: str) -> str:
    r"""Return a text as a tag that Ray accepts.

    >>> print(_ascii("digits-1"), _ascii("déjà"))
    digits-1 d\xe9j\xe0
    """
    return text.encode("ascii", "backslashreplace").decode()
