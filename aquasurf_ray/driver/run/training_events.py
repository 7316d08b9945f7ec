"""The events of one training, alike whether a driver, Tune or a user's own loop trains."""

from __future__ import annotations

from aquasurf_ray.driver.events import EvaluationEnded, EvaluationFailed, EvaluationStarted
from aquasurf_ray.driver.state.evaluations import EvaluationState
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.store import EvaluationRecord, EvaluationResult


def training_started(function: str, record: EvaluationRecord, origin: str, worker: str) -> EvaluationStarted:
    """Return the event of a training that a process of the user's own begins."""
    return EvaluationStarted(record.id, function, record.seed, origin, worker, None, record.recipe_change)


def training_ended(
    history: History, evaluation: EvaluationState, result: EvaluationResult, *, recorded: bool
) -> EvaluationEnded:
    """Return the event of a result, which is in the store and in the history.

    Args:
        recorded: whether this run has recorded it; False if another run was first.
    """
    best = history.best()
    return EvaluationEnded(
        evaluation=evaluation.evaluation_id,
        function=evaluation.function,
        worker=result.worker or "",
        status=result.status,
        score=result.score,
        seconds=result.seconds,
        reason=result.reason,
        stopped_early=result.stopped_early,
        seed=evaluation.seed,
        number=history.n_finished(baselines=True) if recorded else None,
        best=best[1] if best else None,
        result=result,
        recipe_change=evaluation.recipe_change,
    )


def training_failed(evaluation: EvaluationState, error: str, worker: str) -> EvaluationFailed:
    """Return the event of a failure, which is in the store and in the history."""
    final = evaluation.status == "failed"
    number, function = evaluation.evaluation_id, evaluation.function
    return EvaluationFailed(error, evaluation.attempts, final, number, function, worker)
