"""The scores that the surrogate predicted against those that were measured."""

from __future__ import annotations

import numpy as np

from aquasurf_ray.analysis.report.charts.chart import GREY, Axis, Chart, Line, Panel, Points
from aquasurf_ray.analysis.report.pictures.score_axis import lowest_shown, on_the_edge
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.counted import counted


def predictions(findings: Findings) -> Chart | None:
    """Draw the suggestions with a score; on the line, both scores are the same."""
    known = [
        (w.function, w.suggestion.predicted_score, w.evaluation.score)
        for w in findings.finished
        if w.suggestion and w.suggestion.predicted_score is not None and w.evaluation.score is not None
    ]
    if len(known) < 2:
        return None
    predicted, measured = np.array([row[1] for row in known]), np.array([row[2] for row in known])
    floor = min(lowest_shown(measured), float(predicted.min()))
    x = np.array([findings.value(score) for score in predicted])
    y = np.array([findings.value(max(score, floor)) for score in measured])
    ends = np.array([min(x.min(), y.min()), max(x.max(), y.max())])
    marks = (
        Line("as predicted", ends, ends, GREY, dash="dash", width=1.5),
        Points("suggestions", x, y, tuple(row[0] for row in known)),
    )
    edge = on_the_edge(measured, "drawn at its edge", floor)
    words = f"{counted(len(known), 'suggestion')}{_correlation(predicted, measured)}{edge}."
    axes = Axis(f"predicted {findings.metric_name}"), Axis(f"measured {findings.metric_name}")
    return Chart("predictions", "Predicted vs. measured", words, (Panel(marks, *axes),))


def _correlation(predicted: np.ndarray, measured: np.ndarray) -> str:
    from scipy.stats import spearmanr

    if np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return ""
    return f"; rank correlation of prediction and result: {spearmanr(predicted, measured).statistic:.2f}"
