"""Learning curves of the best functions and of the baselines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aquasurf_ray.activations.rendering import short_name
from aquasurf_ray.analysis.report.charts.chart import GREY, Axis, Chart, Floats, Line, Panel
from aquasurf_ray.analysis.report.pictures.score_axis import lowest_shown, value_range
from aquasurf_ray.analysis.studies.findings import CURVES, Findings
from aquasurf_ray.store import EpochRecord

EPOCHS_TO_ZOOM = 6  # fewer are seen well enough


def learning(findings: Findings) -> Chart | None:
    """Draw the metric on the validation split after each epoch, and again the last third, where curves lie close."""
    marks: list[Line] = []
    drawn: list[str] = []
    for row in (row for row in findings.board if row.baseline):
        x, y = _curve(findings, findings.curves.get(row.evaluation_id, ()))
        if len(x):
            # Eight baselines are one entry of the legend.
            named = not any(mark.name == "baselines" for mark in marks)
            marks.append(Line("baselines", x, y, GREY, dash="dot", width=1, shown=named))
    for number, row in enumerate(findings.best_functions[:CURVES]):
        x, y = _curve(findings, findings.curves.get(row.evaluation_id, ()))
        if len(x):
            drawn.append(row.function)
            marks.append(Line(short_name(row.function), x, y, colour=number))
    if not marks:
        return None
    words = f"{findings.metric_name} after each epoch: {', '.join((*drawn, 'baselines dotted'))}."
    panels = [Panel(tuple(marks), Axis("epoch", whole=True), Axis(findings.metric_name))]
    end = _end(findings, marks)
    if end is not None:
        panels.append(end)
        words += " The second picture shows the last third, in the range of the better functions."
    return Chart("learning", "Learning curves", words, tuple(panels), metric_is_vertical=True)


def _end(findings: Findings, marks: list[Line]) -> Panel | None:
    """Return the last third of the epochs, on an axis for what the curves have there; None for short trainings."""
    last = max(float(mark.x[-1]) for mark in marks)
    first = last - round(last / 3)
    curves = [replace(mark, x=mark.x[inside], y=mark.y[inside]) for mark in marks if (inside := mark.x >= first).any()]
    # A value is the score or its negative, so this turns values back into scores.
    scores = np.array([findings.value(value) for curve in curves for value in curve.y])
    ends = np.array([findings.value(curve.y[-1]) for curve in curves])
    if last < EPOCHS_TO_ZOOM or np.isnan(ends).all():
        return None
    better = ends[ends >= lowest_shown(ends)]
    # As much below the better ends as these span: so far do their curves rise in their last third.
    floor = max(float(better.min() - np.ptp(better)), float(np.nanmin(scores)))
    axis = Axis(findings.metric_name, value_range(findings.task.metric, floor, float(np.nanmax(scores))))
    return Panel(tuple(curves), Axis("epoch", whole=True), axis, f"epochs {first:.0f} to {last:.0f}", legend=False)


def _curve(findings: Findings, epochs: tuple[EpochRecord, ...]) -> tuple[Floats, Floats]:
    # Reports through Tune may lack the metric in some epochs.
    known = [epoch for epoch in epochs if epoch.val_score is not None]
    values = np.array([findings.value(epoch.val_score) for epoch in known])
    return np.array([epoch.epoch for epoch in known], dtype=np.float64), values
