"""The scores of functions against their costs, with the Pareto front."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aquasurf_ray.analysis.report.charts.chart import GREY, Axis, Chart, Line, Mark, Panel, Points
from aquasurf_ray.analysis.report.pictures.score_axis import lowest_shown, on_the_edge
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.analysis.studies.ranking import confirmed_means
from aquasurf_ray.store import LeaderboardRow
from aquasurf_ray.store.verbs.reading.leaderboard import front


def costs(findings: Findings) -> Chart | None:
    """Draw score against step time, for completed trainings of functions with a measured cost.

    After a confirmation, scores are those of the split that judged: confirmed means, of which the front is, and for all
    other functions the score of their single training.
    """
    rows = _judged(
        [row for row in findings.board if row.time_ratio is not None and row.stopped_early is None], findings
    )
    if not rows:
        return None
    confirmed = confirmed_means(findings.confirmation)
    best = front([row for row in rows if row.function in confirmed] or rows)
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
        f"{len(rows)} trainings{edge}. No {'confirmed ' if confirmed else ''}function beats the "
        f"{_functions(len(best))} on the Pareto front in both score and cost: {'; '.join(shown)}."
    )
    axes = Axis("training-step time relative to ReLU"), Axis(_axis(findings))
    return Chart("cost", "Score vs. cost", words, (Panel(tuple(marks), *axes),), metric_is_vertical=True)


def _judged(rows: list[LeaderboardRow], findings: Findings) -> list[LeaderboardRow]:
    found = findings.confirmation
    if found is None:
        return rows
    means = confirmed_means(found)
    single = {row.function: row.test_score if found.judge == "test" else row.score for row in reversed(rows)}
    scores = [(row, means.get(row.function, single[row.function])) for row in rows]
    return [replace(row, score=score) for row, score in scores if score is not None]


def _axis(findings: Findings) -> str:
    judged_on_test = findings.confirmation is not None and findings.confirmation.judge == "test"
    return f"{'test' if judged_on_test else 'val'}_{findings.task.metric.name}"


def _functions(n: int) -> str:
    return f"{n} functions" if n != 1 else "function"
