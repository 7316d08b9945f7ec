"""Convert a trial's last report into a result for the store. Nothing is computed here.

All metrics that `train_activation` reports are stored. If a trainable reports no `status`, it is unknown whether Tune's
scheduler stopped it, so its last report counts as the result of a whole training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from aquasurf_ray.store import EpochRecord, EvaluationResult, LearnedValues

METRICS = tuple(
    field.name
    for field in fields(EvaluationResult)
    if field.name not in ("status", "score", "reason", "stopped_early", "worker", "epochs", "learned")
)


def evaluation_result(
    report: Mapping[str, Any],
    score: float,
    curve: tuple[EpochRecord, ...],
    worker: str,
    *,
    stopped_early: str | None = None,
) -> EvaluationResult:
    """Return the result of a trial that ended without an error; a score that is not finite means that it diverged."""
    diverged = report.get("status") == "diverged" or not math.isfinite(score)
    metrics: dict[str, Any] = {name: report.get(name) for name in METRICS}
    learned = tuple(LearnedValues(**{**each, "course": tuple(each["course"])}) for each in report.get("learned", ()))
    trained = sum(epoch.seconds or 0.0 for epoch in curve)
    metrics["seconds"] = report.get("training_seconds") or trained or report.get("time_total_s")
    if diverged:
        kept = {name: metrics[name] for name in ("seconds", "device", "n_devices", "precision", "peak_memory_mb")}
        reason = report.get("reason") or "the metric that was reported last is not finite"
        return EvaluationResult("diverged", reason=reason, worker=worker, epochs=curve, learned=learned, **kept)
    if report.get("status") == "running":
        stopped_early = f"stopped by Tune after epoch {report['epoch']} of {report['epochs']}"
    return EvaluationResult(
        "done", score=score, stopped_early=stopped_early, worker=worker, epochs=curve, learned=learned, **metrics
    )
