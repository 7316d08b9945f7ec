"""Turns what the workers and the surrogate answer into the store's records. Nothing is computed here."""

from __future__ import annotations

from dataclasses import asdict

from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.store import (
    CostRecord,
    EpochRecord,
    EvaluationResult,
    FunctionRecord,
    Neighbor,
    SpectrumRecord,
    SuggestionRecord,
)
from aquasurf_ray.surrogate.policy import Suggestion
from aquasurf_ray.workers.messages import FunctionCost, SpectrumReply
from aquasurf_ray.workers.result import TrainingResult


def evaluation_result(result: TrainingResult, worker: str) -> EvaluationResult:
    """A training's figures with its learning curve."""
    return EvaluationResult(
        status=result.status,
        reason=result.reason,
        score=result.score,
        train_loss=result.train_loss,
        train_score=result.train_score,
        train_accuracy=result.train_accuracy,
        val_loss=result.val_loss,
        val_accuracy=result.val_accuracy,
        test_loss=result.test_loss,
        test_score=result.test_score,
        test_accuracy=result.test_accuracy,
        stopped_early=result.stopped_early,
        seconds=result.seconds,
        examples_per_second=result.examples_per_second,
        peak_memory_mb=result.peak_memory_mb,
        device=result.device,
        n_devices=result.n_devices,
        precision=result.precision,
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


def cost_record(function_id: int, cost: FunctionCost, worker: str) -> CostRecord:
    """What a worker has measured of a function's cost."""
    return CostRecord(
        function_id=function_id,
        device=cost.device,
        step_seconds=cost.step_seconds,
        relu_step_seconds=cost.relu_step_seconds,
        activation_bytes=cost.activation_bytes,
        relu_activation_bytes=cost.relu_activation_bytes,
        worker=worker,
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
