"""The scores of the best functions on seeds that they were not selected on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.activations.rendering import readable, short_name
from aquasurf_ray.analysis.report.charts.chart import GREY, Axis, Chart, Floats, Intervals, Mark, Panel, Points, Symbol
from aquasurf_ray.analysis.report.pictures.score_axis import lowest_shown, value_range
from aquasurf_ray.analysis.studies.confirmation import SeedMean, other_seeds
from aquasurf_ray.analysis.studies.confirmed_run import Confirmation
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.analysis.studies.reference import marked
from aquasurf_ray.analysis.studies.verdict import verdict
from aquasurf_ray.counted import counted
from aquasurf_ray.training_metrics import on_split
from aquasurf_ray.value_text import value_text

SHOWN = 20


def confirmed(findings: Findings) -> Chart | None:
    """Draw the means with their 95% intervals, and the score that a function was selected by.

    They are those of the run's confirmation, on the split that judges; without one, of all seeds but the function's
    own, on the validation split.
    """
    if findings.confirmation is not None:
        return _of_confirmation(findings, findings.confirmation)
    found = {
        row: mean
        for row in findings.winners
        if (mean := other_seeds(findings.seed_scores.get(row.function_id, {}), row.seeds)).mean is not None
    }
    if not found:
        return None
    best, *_ = sorted(found, key=lambda row: -found[row].merit)
    seeds = sorted({mean.n for mean in found.values()})
    n = counted(seeds[-1], "additional seed")
    n = n if len(seeds) == 1 else f"{seeds[0]} to {n}"
    words = (
        f"{counted(len(found), 'function')} {'was' if len(found) == 1 else 'were'} retrained with {n}. Best mean: "
        f"{readable(best.function)} with {value_text(findings.value(found[best].mean))}, down from "
        f"{value_text(findings.value(best.score))} at selection.{_diverged_text(findings)}"
    )
    rows = [_Row(row.function, row.baseline, row.score, mean) for row, mean in found.items()]
    return _chart(findings, rows, findings.metric_name, words, "Retrained with additional seeds")


def _of_confirmation(findings: Findings, found: Confirmation) -> Chart | None:
    means = [(each, found.judged(each)) for each in found.functions if each.is_judged]
    rows = [_Row(each.function, each.baseline, each.selected, mean) for each, mean in means if mean.mean is not None]
    if not rows:
        return None
    lost = len(means) - len(rows)
    n, split = len(found.seeds), found.judge
    words = (
        f"{verdict(found)} Means over {counted(n, 'seed')} on the {split} split, with 95% intervals"
        f"{_at_selection(found)}.{f' {lost} more diverged.' if lost else ''}"
    )
    return _chart(findings, rows, on_split(found.metric.name, split), words, "Confirmed with additional seeds")


def _at_selection(found: Confirmation) -> str:
    """Return what the score at selection is, or why there is none."""
    if found.selected_by is not None and found.has_other_metric:
        return f"; the run selected by its {found.selected_by.name}, which does not compare"
    selected = "that of the search, on the validation split"
    if found.is_told:
        selected = "what the run was told, whose trainings may differ from the task's in more than the seed"
    return f"; the score at selection is {selected}"


class _Row(NamedTuple):
    function: str
    baseline: bool
    selected: float | None
    mean: SeedMean


def _chart(findings: Findings, found: list[_Row], axis: str, words: str, title: str) -> Chart:
    rows = sorted(found, key=lambda row: row.mean.merit)[-SHOWN:]  # the best on top
    lowest, highest = _ends(findings, rows)
    scores = np.array([row.mean.merit for row in rows])
    ends = np.array([_interval(findings, row.mean) for row in rows])
    ends[scores < lowest] = np.nan  # such a mean is drawn at the edge, where its interval is not
    names = tuple(
        marked(short_name(row.function), baseline=row.baseline, reference=findings.is_reference(row.function))
        for row in rows
    )
    selected = np.array([np.nan if row.selected is None else row.selected for row in rows])
    heights = np.arange(len(rows), dtype=np.float64)
    sign = 1.0 if findings.judged_metric.higher_is_better else -1.0
    means, before = (sign * np.maximum(each, lowest) for each in (scores, selected))
    shown = value_range(findings.judged_metric, lowest, highest)
    whole_names = tuple(row.function for row in rows)
    marks: list[Mark] = [Intervals("mean, 95% interval", names, whole_names, means, ends[:, 0], ends[:, 1])]
    if not np.isnan(before).all():
        marks.insert(0, Points("score at selection", before, heights, (), GREY, symbol="x"))
    marks += _arrows(ends, shown)
    off = (("", scores < lowest), (" at selection", selected < lowest))
    words += "".join(f" {below.sum()}{kind} off the axis, drawn at its edge." for kind, below in off if below.any())
    panel = Panel(tuple(marks), Axis(axis, shown), Axis())
    return Chart("confirmed", title, words, (panel,), height=120 + 34 * len(rows))


def _arrows(ends: Floats, shown: tuple[float, float]) -> list[Points]:
    """Return arrows at the edges of the axis, where intervals go on beyond them; they are one entry of the legend."""
    inside = 0.01 * (shown[1] - shown[0])  # a mark on the edge itself would be cut in half
    sides: tuple[tuple[float, Symbol, NDArray[np.bool_]], ...] = (
        (shown[0] + inside, "triangle-left", ends[:, 0] < shown[0]),
        (shown[1] - inside, "triangle-right", ends[:, 1] > shown[1]),
    )
    found: list[Points] = []
    for edge, symbol, goes_on in sides:
        rows = np.flatnonzero(goes_on).astype(np.float64)
        if len(rows):
            x = np.full(len(rows), edge)
            found.append(Points("goes on beyond the axis", x, rows, symbol=symbol, size=10, shown=not found))
    return found


def _ends(findings: Findings, rows: list[_Row]) -> tuple[float, float]:
    """Return the lowest and the highest score on the axis.

    On it are the better means, the best winner and the reference, with as much room as half of the intervals need: a
    baseline that barely trained, or one wide interval, would squeeze the differences that matter into a line. The
    highest score at selection is on it too, since how far it is above its mean is how lucky it was.
    """
    means = np.array([row.mean.merit for row in rows])
    wanted = [row.mean.merit for row in rows if findings.is_reference(row.function)]
    wanted += [row.mean.merit for row in rows[::-1] if not row.baseline][:1]
    shown = means[means >= min([lowest_shown(means), *wanted])]
    reach = [row.mean.high - row.mean.mean for row in rows if row.mean.high is not None and row.mean.mean is not None]
    room = max(float(np.median(reach)) if reach else 0.0, float(np.ptp(shown)) / 2)
    selected = [row.selected for row in rows if row.selected is not None]
    return float(shown.min()) - room, max([float(shown.max()) + room, *selected])


def _interval(findings: Findings, mean: SeedMean) -> tuple[float, float]:
    if mean.mean is None or mean.low is None or mean.high is None:
        return np.nan, np.nan
    return findings.judged_metric.interval(mean.mean, mean.low, mean.high)


def _diverged_text(findings: Findings) -> str:
    """Return the part of the caption that counts the functions without a mean, which the picture leaves out."""
    means = [other_seeds(findings.seed_scores.get(row.function_id, {}), row.seeds) for row in findings.winners]
    n = sum(mean.n_diverged > 0 for mean in means)
    return f" {n} more diverged with an additional seed and {'has' if n == 1 else 'have'} no mean." if n else ""
