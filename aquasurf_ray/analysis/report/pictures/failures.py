"""Trainings without a result, by cause."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from aquasurf_ray.analysis.report.charts.chart import Axis, Bars, Chart, Panel
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.counted import counted

SHOWN = 12


def failures(findings: Findings) -> Chart | None:
    """Draw the number of diverged trainings and of failed evaluations by cause."""
    status = findings.status
    diverged = Counter(_cause(request.evaluation.reason) for request in status.divergences)
    diverged.update(map(_cause, status.reopened))
    failed = Counter(_cause(request.evaluation.error) for request in status.failures)
    if not diverged and not failed:
        return None
    counts = Counter({f"diverged: {cause}": n for cause, n in diverged.items()})
    counts.update({f"failed: {cause}": n for cause, n in failed.items()})
    rows = [(cause, n) for cause, n in counts.most_common(SHOWN)][::-1]
    bars = Bars("evaluations", tuple(cause for cause, _ in rows), np.array([n for _, n in rows], dtype=float), colour=1)
    # A run that blames its task has queued again all that diverged.
    blamed = "the function is at fault, and the surrogate learns from it"
    blamed = "the task is at fault, and they are queued again" if status.reopened else blamed
    words = (
        f"{counted(diverged.total(), 'training')} diverged: {blamed}. {failed.total()} failed because of the "
        "infrastructure, which says nothing about the function."
    )
    panel = Panel((bars,), Axis("evaluations", whole=True), Axis(), legend=False)
    return Chart("failures", "Failures by cause", words, (panel,), height=110 + 50 * len(rows))


def _cause(text: str | None) -> str:
    """Return the first words of a reason, without the numbers that differ from case to case."""
    first = (text or "unknown").split(";")[0].split(":")[0].strip()
    return re.sub(r"\d[\d.,e+-]*", "N", first)[:60] or "unknown"
