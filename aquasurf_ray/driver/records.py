"""Turns what the workers and the surrogate answer into the store's records. Nothing is computed here."""

from __future__ import annotations

from dataclasses import asdict

from aquasurf_ray.driver.config import SearchConfig
from store import EpochRecord, EvaluationResult, FunctionRecord, Neighbor, SpectrumRecord, SuggestionRecord
from surrogate.policy import Suggestion
from workers.actor import SpectrumReply
from workers.training import TrainingResult


def evaluation_result(result: TrainingResult, worker: str) -> EvaluationResult:
    """A training's figures with its learning curve."""
    return EvaluationResult(
        status=result.status,
        reason=result.reason,
        score=result.score,
        train_loss=result.train_loss,
        train_accuracy=result.train_accuracy,
        val_loss=result.val_loss,
        val_accuracy=result.val_accuracy,
        test_loss=result.test_loss,
        test_accuracy=result.test_accuracy,
        seconds=result.seconds,
        peak_memory_mb=result.peak_memory_mb,
        device=result.device,
        worker=worker,
        epochs=tuple(EpochRecord(**asdict(epoch)) for epoch in result.epochs),
    )


def spectrum_record(function_id: int, reply: SpectrumReply, config: SearchConfig) -> SpectrumRecord:
    """A worker's spectrum, or the reason why there is none."""
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


def suggestion_record(suggestion: Suggestion, candidates: list[FunctionRecord]) -> SuggestionRecord:
    """Why a function was suggested, with the store's numbers in the place of indices."""
    return SuggestionRecord(
        predicted_score=suggestion.predicted_score,
        rank=suggestion.rank,
        neighbors=tuple(
            Neighbor(function_id=candidates[n.candidate].id, distance=n.distance, score=n.score)
            for n in suggestion.neighbors
        ),
        embedding_version=suggestion.embedding_version,
    )
