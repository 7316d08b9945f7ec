"""The scores of functions against their costs, with the Pareto front."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.analysis.report.charts.chart import GREY, Axis, Chart, Line, Mark, Panel, Points, Symbol
from aquasurf_ray.analysis.report.pictures.score_axis import lowest_shown, on_the_edge
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.analysis.studies.ranking import confirmed_means
from aquasurf_ray.counted import counted
from aquasurf_ray.store import LeaderboardRow
from aquasurf_ray.store.verbs.reading.leaderboard import front
from aquasurf_ray.training_metrics import Split, on_split
from aquasurf_ray.value_text import value_text

NOT_CONFIRMED = ", not confirmed"


def costs(findings: Findings) -> Chart | None:
    """Draw the score of each function, that of its best training, against its step time, where that was measured.

    After a confirmation, scores are those of the split that judged: confirmed means, of which the front is, and for all
    other functions, which have marks of their own, the score of their single training.
    """
    rows = _judged([row for row in findings.winners if row.time_ratio is not None], findings)
    if not rows:
        return None
    means = confirmed_means(findings.confirmation)
    confirmed = [row for row in rows if row.function in means]
    best = front(confirmed or rows)
    scores = np.array([row.score for row in rows])
    # One function that barely trained would squeeze all others into a line at the top.
    floor = lowest_shown(scores)
    single = [row for row in rows if row.function not in means]
    marks = _points(findings, confirmed, floor, ", confirmed")
    marks += _points(findings, single, floor, NOT_CONFIRMED if confirmed else "")
    # By rising cost, as a step line is drawn; the front is given best first, which is most expensive first.
    ascending = [row for row in reversed(best) if row.score >= floor]
    x = np.array([row.time_ratio for row in ascending], dtype=np.float64)
    metric = findings.judged_metric
    y = np.array([metric.value(row.score) for row in ascending], dtype=np.float64)
    of = " of the confirmed" if confirmed else ""
    marks.append(Line(f"Pareto front{of}", x, y, colour=1, step=True, hover=False))
    edge = on_the_edge(scores, "drawn at its edge")
    shown = [
        f"{readable(r.function)} {value_text(metric.value(r.score))} at {r.time_ratio:.2f} times ReLU" for r in best[:5]
    ]
    words = (
        f"{counted(len(rows), 'function')}{edge}. No {'confirmed ' if confirmed else ''}function beats the "
        f"{_functions(len(best))} on the Pareto front in both score and cost: {'; '.join(shown)}."
    )
    if 0 < len(confirmed) < len(rows):
        words += (
            " Crosses are functions that were not confirmed, at the score of the search; none of them is on the front."
        )
    axes = Axis("training-step time relative to ReLU"), Axis(_axis(findings))
    return Chart("cost", "Score vs. cost", words, (Panel(tuple(marks), *axes),), metric_is_vertical=True)


def _points(findings: Findings, rows: list[LeaderboardRow], floor: float, note: str) -> list[Mark]:
    """Return the functions and the baselines among the rows; single trainings next to confirmed means are crosses,
    because how lucky they were is not known."""
    marks: list[Mark] = []
    looks: tuple[tuple[str, int, Symbol], ...] = (("functions", 0, "circle"), ("baselines", GREY, "square"))
    for is_baseline, (name, colour, symbol) in enumerate(looks):
        group = [row for row in rows if row.baseline == bool(is_baseline)]
        if group:
            x = np.array([row.time_ratio for row in group], dtype=np.float64)
            y = np.array([findings.judged_metric.value(max(row.score, floor)) for row in group], dtype=np.float64)
            names = tuple(row.function for row in group)
            shown: Symbol = "x" if note == NOT_CONFIRMED else symbol
            marks.append(Points(f"{name}{note}", x, y, names, colour, symbol=shown))
    return marks


def _judged(rows: list[LeaderboardRow], findings: Findings) -> list[LeaderboardRow]:
    found = findings.confirmation
    if found is None:
        return rows
    means = confirmed_means(found)
    single = {row.function: row.test_score if found.judge == "test" else row.score for row in rows}
    if found.has_other_metric:  # of which no single training has a value
        single = {}
    scores = [(row, means.get(row.function, single.get(row.function))) for row in rows]
    return [replace(row, score=score) for row, score in scores if score is not None]


def _axis(findings: Findings) -> str:
    split: Split = "validation" if findings.confirmation is None else findings.confirmation.judge
    return on_split(findings.judged_metric.name, split)


def _functions(n: int) -> str:
    return f"{n} functions" if n != 1 else "function"
