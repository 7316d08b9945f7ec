"""What happens in a run, told to those who write it down: the log (`logs`) and the metrics (`metrics`).

An occurrence has a name and fields, plain values. Whoever tells of one knows nothing of who listens.

began           kind, task, version, host, pid, workers, cpus, gpus, budget, store, address
worker-ready    worker, node, pid, device
worker-lost     worker, cause; it is replaced
worker-gone     worker, why; it is given up, or given back to other runs
started         evaluation, function, seed, origin, worker, node
ended           evaluation, function, status, score, seconds, worker, reason, stopped_early
failed          evaluation, function, error, attempts, final, worker
drained         evaluation, function, epochs, worker
spectra, costs  functions, seconds, worker, fault
suggested       function, predicted_score, seconds
ending          why
run-ended       status, message, seconds
note            text, as shown to people
warning, error  logger, text: of this program's own loggers, or with worker, of a worker's
"""

from __future__ import annotations

from typing import Protocol


class Observe(Protocol):
    """Takes note of an occurrence; must be quick, and never raises."""

    def __call__(self, event: str, /, **fields: object) -> None: ...


def ignore(event: str, /, **fields: object) -> None:
    """Takes no note."""


def to_all(*observers: Observe) -> Observe:
    """Tells several of each occurrence."""

    def tell(event: str, /, **fields: object) -> None:
        for observe in observers:
            observe(event, **fields)

    return tell
