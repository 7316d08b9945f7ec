"""Learning curves of the best functions and of the baselines."""

from __future__ import annotations

import numpy as np

from aquasurf_ray.analysis.report.charts.chart import GREY, Axis, Chart, Floats, Line, Panel
from aquasurf_ray.analysis.studies.findings import CURVES, Findings
from aquasurf_ray.store import EpochRecord


def learning(findings: Findings) -> Chart | None:
    """Draw the metric on the validation split after each epoch."""
    marks: list[Line] = []
    drawn: list[str] = []
    for row in (row for row in findings.board if row.baseline):
        epochs = findings.curves.get(row.evaluation_id, ())
        if epochs:
            # Eight baselines are one entry of the legend.
            named = not any(mark.name == "baselines" for mark in marks)
            marks.append(Line("baselines", *_curve(findings, epochs), GREY, dash="dot", width=1, shown=named))
    for number, row in enumerate(findings.best_functions[:CURVES]):
        epochs = findings.curves.get(row.evaluation_id, ())
        if epochs:
            drawn.append(row.function)
            marks.append(Line(row.function, *_curve(findings, epochs), colour=number))
    if not marks:
        return None
    words = f"{findings.metric_name} after each epoch: {', '.join((*drawn, 'baselines dotted'))}."
    panel = Panel(tuple(marks), Axis("epoch"), Axis(findings.metric_name))
    return Chart("learning", "Learning curves", words, (panel,))


def _curve(findings: Findings, epochs: tuple[EpochRecord, ...]) -> tuple[Floats, Floats]:
    # Reports through Tune may lack the metric in some epochs.
    known = [epoch for epoch in epochs if epoch.val_score is not None]
    values = np.array([findings.value(epoch.val_score) for epoch in known])
    return np.array([epoch.epoch for epoch in known], dtype=np.float64), values
