"""What functions reach against what they cost, with those that no cheaper one beats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aquasurf_ray.analysis.report.charts.chart import GREY, Axis, Chart, Line, Mark, Panel, Points
from aquasurf_ray.analysis.report.pictures.progress import lowest_shown, on_the_edge
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.store.verbs.queries import front


def costs(findings: Findings) -> Chart | None:
    """Value against step time, of whole trainings of functions whose cost was measured."""
    rows = [row for row in findings.board if row.time_ratio is not None and row.stopped_early is None]
    if not rows:
        return None
    best = front(rows)
    scores = np.array([row.score for row in rows])
    floor = lowest_shown(scores)
    marks: list[Mark] = []
    for baseline, name in ((False, "functions"), (True, "baselines")):
        own = [row for row in rows if row.baseline is baseline]
        if own:
            x = np.array([row.time_ratio for row in own], dtype=np.float64)
            y = np.array([findings.value(max(row.score, floor)) for row in own])
            points = Points(name, x, y, tuple(row.function for row in own))
            marks.append(replace(points, colour=GREY, symbol="square") if baseline else points)
    ascending = [row for row in reversed(best) if row.score >= floor]
    x = np.array([row.time_ratio for row in ascending], dtype=np.float64)
    y = np.array([findings.value(row.score) for row in ascending])
    marks.append(Line("Pareto front", x, y, colour=1, step=True, hover=False))
    edge = on_the_edge(scores, "drawn on its edge")
    words = (
        f"{len(rows)} trainings{edge}. On the Pareto front, which no other function beats in both, {_are(len(best))}: "
        + "; ".join(f"{r.function} {findings.value(r.score):.4f} at {r.time_ratio:.2f} times relu" for r in best[:5])
        + "."
    )
    axes = Axis("training step, times relu's"), Axis(findings.metric_name)
    return Chart("cost", "Result against cost", words, (Panel(tuple(marks), *axes),))


def _are(n: int) -> str:
    return f"are {n}" if n != 1 else "is one"
