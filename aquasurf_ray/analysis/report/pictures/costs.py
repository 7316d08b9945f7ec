"""The scores of functions against their costs, with the Pareto front."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aquasurf_ray.analysis.report.charts.chart import GREY, Axis, Chart, Line, Mark, Panel, Points
from aquasurf_ray.analysis.report.pictures.progress import lowest_shown, on_the_edge
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.store.verbs.queries import front


def costs(findings: Findings) -> Chart | None:
    """Draw score against step time, for completed trainings of functions with a measured cost."""
    rows = [row for row in findings.board if row.time_ratio is not None and row.stopped_early is None]
    if not rows:
        return None
    best = front(rows)
    scores = np.array([row.score for row in rows])
    # One function that barely trained would squeeze all others into a line at the top.
    floor = lowest_shown(scores)
    marks: list[Mark] = []
    for baseline, name in ((False, "functions"), (True, "baselines")):
        group = [row for row in rows if row.baseline is baseline]
        if group:
            x = np.array([row.time_ratio for row in group], dtype=np.float64)
            y = np.array([findings.value(max(row.score, floor)) for row in group])
            points = Points(name, x, y, tuple(row.function for row in group))
            marks.append(replace(points, colour=GREY, symbol="square") if baseline else points)
    # By rising cost, as a step line is drawn; the front is given best first, which is most expensive first.
    ascending = [row for row in reversed(best) if row.score >= floor]
    x = np.array([row.time_ratio for row in ascending], dtype=np.float64)
    y = np.array([findings.value(row.score) for row in ascending])
    marks.append(Line("Pareto front", x, y, colour=1, step=True, hover=False))
    edge = on_the_edge(scores, "drawn at its edge")
    shown = [f"{r.function} {findings.value(r.score):.4f} at {r.time_ratio:.2f} times ReLU" for r in best[:5]]
    words = (
        f"{len(rows)} trainings{edge}. No function beats the {_functions(len(best))} on the Pareto front in both score "
        f"and cost: {'; '.join(shown)}."
    )
    axes = Axis("training-step time relative to ReLU"), Axis(findings.metric_name)
    return Chart("cost", "Score vs. cost", words, (Panel(tuple(marks), *axes),))


def _functions(n: int) -> str:
    return f"{n} functions" if n != 1 else "function"
