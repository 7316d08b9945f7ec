"""Learning curves of the best functions and of the baselines."""

from __future__ import annotations

import numpy as np

from aquasurf_ray.analysis.report.chart import GREY, Axis, Chart, Floats, Line, Panel
from aquasurf_ray.analysis.report.findings import Findings
from store import EpochRecord

SHOWN = 5


def learning(findings: Findings) -> Chart | None:
    """The metric on the validation split after each epoch."""
    marks: list[Line] = []
    winners = [row for row in findings.board if not row.baseline][:SHOWN]
    for row in (row for row in findings.board if row.baseline):
        epochs = findings.curves.get(row.evaluation_id, ())
        if epochs:
            named = not any(mark.name == "baselines" for mark in marks)
            marks.append(Line("baselines", *_curve(findings, epochs), GREY, dash="dot", width=1, shown=named))
    for number, row in enumerate(winners):
        epochs = findings.curves.get(row.evaluation_id, ())
        if epochs:
            marks.append(Line(row.function, *_curve(findings, epochs), colour=number))
    if not marks:
        return None
    words = (
        f"The best {len(winners)} functions in colour, the baselines dotted: {findings.metric_name} after each epoch."
    )
    panel = Panel(tuple(marks), Axis("epoch"), Axis(findings.metric_name))
    return Chart("learning", "Learning curves", words, (panel,))


def _curve(findings: Findings, epochs: tuple[EpochRecord, ...]) -> tuple[Floats, Floats]:
    known = [epoch for epoch in epochs if epoch.val_score is not None]
    values = np.array([findings.value(epoch.val_score) for epoch in known])
    return np.array([epoch.epoch for epoch in known], dtype=np.float64), values
