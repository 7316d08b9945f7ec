"""Convert the answers of workers and of the surrogate into the store's records. Nothing is computed here."""

from __future__ import annotations

from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.suggestions.pairs import Pairs
from aquasurf_ray.measured_cost import MeasuredCost
from aquasurf_ray.store import (
    CostRecord,
    EpochRecord,
    EvaluationResult,
    Neighbor,
    SpectrumRecord,
    SuggestionRecord,
)
from aquasurf_ray.surrogate.policy import Suggestion
from aquasurf_ray.workers.messages import SpectrumReply
from aquasurf_ray.workers.result import TrainingResult


def evaluation_result(result: TrainingResult, worker: str) -> EvaluationResult:
    """Return a training's result, with metrics, measurements, learning curve and learned values, for the store."""
    # By name and all of them: a metric that the store does not know is an error here, not a silent loss.
    epochs = tuple(EpochRecord(**vars(epoch)) for epoch in result.epochs)
    return EvaluationResult(**vars(result) | {"worker": worker, "epochs": epochs})


def spectrum_record(function_id: int, reply: SpectrumReply, config: SearchConfig) -> SpectrumRecord:
    """Return a worker's spectrum for the store, or the reason why there is none."""
    return SpectrumRecord(
        function_id=function_id,
        fisher=config.fisher,
        seed=config.training_seed,
        status=reply.status,
        reason=reply.reason,
        feature=reply.feature,
        seconds=reply.seconds,
        device=reply.device,
    )


def cost_record(function_id: int, cost: MeasuredCost, worker: str) -> CostRecord:
    """Return a worker's measurement of a function's cost for the store."""
    return CostRecord(**vars(cost), function_id=function_id, worker=worker)


def suggestion_record(suggestion: Suggestion, pairs: Pairs) -> SuggestionRecord:
    """Return why a function was suggested, with the store's ids in place of indices."""
    trained = [(pairs.pair(neighbor.candidate), neighbor) for neighbor in suggestion.neighbors]
    return SuggestionRecord(
        predicted_score=suggestion.predicted_score,
        rank=suggestion.rank,
        neighbors=tuple(
            Neighbor(function_id=function.id, distance=n.distance, score=n.score, recipe_change=change)
            for (function, change), n in trained
        ),
        embedding_version=suggestion.embedding_version,
    )
