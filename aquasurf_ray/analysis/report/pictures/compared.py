"""Two runs of one task in one picture: the best score so far of each."""

from __future__ import annotations

import numpy as np

from aquasurf_ray.activations.rendering import short_name
from aquasurf_ray.analysis.report.charts.chart import GREY, Axis, Chart, Line, Mark, Panel
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.analysis.studies.run_comparison import best_so_far


def compared(first: Findings, second: Findings, words: str) -> Chart:
    """Draw the best-so-far curves after the baselines."""
    marks: list[Mark] = []
    for colour, found in enumerate((first, second)):
        best = np.array([found.value(score) for score in best_so_far(found)])
        number = np.arange(1.0, len(best) + 1)
        marks.append(Line(short_name(found.run.name), number, best, colour, "dash" if colour else "solid", step=True))
    if first.reference:
        longest = max(2, len(best_so_far(first)), len(best_so_far(second)))
        at = np.full(2, first.value(first.reference.score))
        name = short_name(first.reference.function)
        marks.append(Line(name, np.array([1.0, float(longest)]), at, GREY, dash="dot", width=1.5))
    axes = Axis("evaluations after the baselines", whole=True), Axis(f"best {first.metric_name} so far")
    return Chart("compare", f"{first.run.name} vs. {second.run.name}", words, (Panel(tuple(marks), *axes),))
