"""What Prometheus can be told of a run, through Ray's own metrics.

Ray's agent on the driver's node exports them with its own, where Ray was installed with `ray[default]`, under names
that begin with `ray_aquasurf_`; in the instance that a search starts for itself it listens on the loopback address.
Without an agent nothing listens and nothing is exported. The tag `run` has the run's name; Ray takes tags in ASCII, so
of other letters it has their numbers. Ray keeps of a histogram how many values fell between two boundaries, so its sum
is that of the middles.
"""

from __future__ import annotations

from collections import Counter as Counts
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from aquasurf_ray.driver.callbacks.progress import RunView
from aquasurf_ray.driver.cluster.pool import WorkerPool

WORKER_STATES = ("starting", "idle", "busy", "retired")
SUGGESTION_SECONDS = [0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0]
TRAINING_SECONDS = [1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 43_200.0]
WRITE_SECONDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0]


class RunMetrics:
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

    def __call__(self, event: str, /, **fields: Any) -> None:
        """Counts what happened."""
        if event == "ended":
            self._evaluations.inc(1, self._tags | {"status": fields["status"]})
            if fields["seconds"]:
                self._training.observe(fields["seconds"], self._tags)
        elif event == "failed" and fields["final"]:
            self._evaluations.inc(1, self._tags | {"status": "failed"})
        elif event == "suggested":
            self._suggestion.observe(fields["seconds"], self._tags)

    def store_wrote(self, seconds: float) -> None:
        """The store has written something; in whatever thread."""
        self._write.observe(seconds, self._tags)

    def look(self, view: RunView, pool: WorkerPool, running: int, queued: int) -> None:
        """How the run stands now."""
        self._running.set(running, self._tags)
        self._queued.set(queued, self._tags)
        if view.best:
            self._best.set(view.best[1], self._tags | {"metric": _ascii(view.metric)})
        states: Counts[str] = Counts(slot.state for slot in pool.slots)
        for state in WORKER_STATES:
            self._workers.set(states[state], self._tags | {"state": state})

    def _made(self, kind: Any, name: str, description: str, *tags: str) -> Any:
        return kind(f"aquasurf_{name}", description=description, tag_keys=("run", *tags))

    def _made_histogram(self, name: str, description: str, boundaries: list[float]) -> Any:
        return Histogram(f"aquasurf_{name}", description=description, boundaries=boundaries, tag_keys=("run",))


def _ascii(text: str) -> str:
    r"""A tag as Ray takes it.

    >>> print(_ascii("digits-1"), _ascii("déjà"))
    digits-1 d\xe9j\xe0
    """
    return text.encode("ascii", "backslashreplace").decode()
