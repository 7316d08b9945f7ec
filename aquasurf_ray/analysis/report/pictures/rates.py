"""The score of the confirmed functions over the learning rate: is a lead one of the function, or of its rate?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aquasurf_ray.activations.rendering import readable, short_name
from aquasurf_ray.analysis.report.charts.chart import Axis, Chart, Dash, Line, Mark, Panel, Points
from aquasurf_ray.analysis.report.pictures.score_axis import lowest_shown, value_range
from aquasurf_ray.analysis.studies.confirmed_run import Confirmation, ConfirmedFunction
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.analysis.studies.reference import marked
from aquasurf_ray.counted import counted
from aquasurf_ray.recipe_change import LEARNING_RATE
from aquasurf_ray.store import TaskMetric
from aquasurf_ray.training_metrics import on_split

WINNERS = 4  # more lines than that, with the reference's, cannot be told apart


def rates(findings: Findings) -> Chart | None:
    """Draw the mean over the choosing seeds against what was tuned, for the best winners and the reference."""
    found = findings.confirmation
    if found is None or not found.is_tuned:
        return None
    winners = [each for each in found.functions if not each.baseline][:WINNERS]
    shown = [each for each in (found.over, *winners) if each is not None]
    is_rate = found.tuning.field == LEARNING_RATE
    marks: list[Mark] = []
    for colour, function in enumerate(shown):
        x, y = _curve(found, function, is_rate)
        dash: Dash = "dash" if function is found.over else "solid"
        name = marked(short_name(function.function), baseline=function.baseline, reference=function is found.over)
        marks.append(Line(name, x, y, colour=colour, dash=dash, hover=False))
        marks.append(Points(name, x, y, (function.function,) * len(x), colour=colour, shown=False))
    title = "learning rate, as a factor on the recipe's" if is_rate else str(found.tuning.field)
    values = [value for change in found.tuning.changes if (value := found.tuning.value(change)) is not None]
    # Rates are drawn at even distances of their logarithms, with the factors that the caption has.
    labels = {float(np.log2(value)): f"{value:g}" for value in sorted(values)} if is_rate else {}
    n = len(found.tuning.seeds)
    best = [f"{readable(each.function)} is best at {_rate(each)}" for each in shown]
    words = (
        f"Mean over {counted(n, 'seed')} that chose each function's "
        f"{'learning rate' if is_rate else found.tuning.field} and did not judge: {'; '.join(best)}. Gaps diverged; "
        "a line that leaves the picture is poorer there."
    )
    axis = Axis(on_split(found.metric.name), _range(found.metric, shown))
    panel = Panel(tuple(marks), Axis(title, labels=labels), axis)
    return Chart("rates", f"Score over {'learning rate' if is_rate else found.tuning.field}", words, (panel,))


def _curve(found: Confirmation, function: ConfirmedFunction, is_rate: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return what was tuned, ascending, and the means; NaN where a training diverged."""
    known = [(found.tuning.value(change), found.metric.value(mean.mean)) for change, mean in function.tried.items()]
    points = sorted((value, np.nan if mean is None else mean) for value, mean in known if value is not None)
    x, y = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    return np.log2(x) if is_rate else x, y


def _range(metric: TaskMetric, functions: Sequence[ConfirmedFunction]) -> tuple[float, float] | None:
    """Return the axis for the better means and each function's best one; a rate that spoils a function lies below."""
    means = [[mean.mean for mean in each.tried.values() if mean.mean is not None] for each in functions]
    known = np.array([mean for each in means for mean in each])
    if not len(known):
        return None
    lowest = min([lowest_shown(known), *(max(each) for each in means if each)])
    return value_range(metric, float(lowest), float(known.max()))


def _rate(function: ConfirmedFunction) -> str:
    return "the recipe's own" if function.rate is None else f"{function.rate:g}"
