"""Trainings without a result, by cause."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from aquasurf_ray.analysis.report.charts.chart import Axis, Bars, Chart, Panel
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.counted import counted
from aquasurf_ray.store import RunStatus
from aquasurf_ray.training_metrics import is_metric_reason

SHOWN = 12


def failures(findings: Findings) -> Chart | None:
    """Draw the number of diverged trainings and of failed evaluations by cause."""
    status = findings.status
    diverged = Counter(map(_cause, _reasons(status)))
    failed = Counter(_cause(request.evaluation.error) for request in status.failures)
    if not diverged and not failed:
        return None
    counts = Counter({f"diverged: {cause}": n for cause, n in diverged.items()})
    counts.update({f"failed: {cause}": n for cause, n in failed.items()})
    rows = [(cause, n) for cause, n in counts.most_common(SHOWN)][::-1]
    bars = Bars("evaluations", tuple(cause for cause, _ in rows), np.array([n for _, n in rows], dtype=float), colour=1)
    panel = Panel((bars,), Axis("evaluations", whole=True), Axis(), legend=False)
    return Chart("failures", "Failures by cause", _words(status, failed.total()), (panel,), height=110 + 50 * len(rows))


def _words(status: RunStatus, n_failed: int) -> str:
    reasons = _reasons(status)
    # A run that blames its task has queued again all that diverged.
    blamed = "the function is at fault, and the surrogate learns from it"
    blamed = "the task is at fault, and they are queued again" if status.reopened else blamed
    n_of_metric = sum(map(is_metric_reason, reasons))
    of_metric = f" In {n_of_metric}, only the metric was not finite: look at that first." if n_of_metric else ""
    return (
        f"{counted(len(reasons), 'training')} diverged: {blamed}.{of_metric} {n_failed} failed because of the "
        "infrastructure, which says nothing about the function."
    )


def _reasons(status: RunStatus) -> list[str | None]:
    """Return why trainings diverged, those included that are queued again."""
    return [*(request.evaluation.reason for request in status.divergences), *status.reopened]


def _cause(text: str | None) -> str:
    """Return the first words of a reason, without the numbers that differ from case to case."""
    first = (text or "unknown").split(";")[0].split(":")[0].strip()
    return re.sub(r"\d[\d.,e+-]*", "N", first)[:60] or "unknown"
