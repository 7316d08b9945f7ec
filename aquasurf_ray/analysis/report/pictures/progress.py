"""The best result so far over the evaluations, with the baselines."""

from __future__ import annotations

import numpy as np

from aquasurf_ray.activations.rendering import readable, short_name
from aquasurf_ray.analysis.report.charts.chart import GREY, Axis, Chart, Floats, Line, Mark, Panel, Points, Symbol
from aquasurf_ray.analysis.report.pictures.score_axis import lowest_shown, on_the_edge, value_range
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.store.records.evaluations import Origin
from aquasurf_ray.value_text import value_text

_ORIGINS: dict[Origin, tuple[str, int, Symbol]] = {
    "baseline": ("baselines", GREY, "square"),
    "suggestion": ("suggestions", 0, "circle"),
    "proposal": ("proposals", 2, "diamond"),
    "import": ("imported", 3, "circle"),
}


def progress(findings: Findings) -> Chart | None:
    """Draw all results in order of completion, and the best so far; scores below the axis are drawn at its edge.

    The curve is of single trainings as the search saw them, and so is its caption; a confirmed mean, or a mean over the
    seeds of the search, is named apart.
    """
    scores = np.array([_score(request.evaluation.score) for request in findings.finished])
    if np.isnan(scores).all():
        return None
    number = np.arange(1.0, len(scores) + 1)
    floor = lowest_shown(scores)
    shown = np.array([findings.value(max(score, floor)) if not np.isnan(score) else np.nan for score in scores])
    marks: list[Mark] = []
    for origin, (name, colour, symbol) in _ORIGINS.items():
        of_origin = np.array([request.origin == origin for request in findings.finished]) & ~np.isnan(scores)
        if of_origin.any():
            names = tuple(w.function for w, included in zip(findings.finished, of_origin, strict=True) if included)
            marks.append(Points(name, number[of_origin], shown[of_origin], names, colour, symbol=symbol))
    best = np.array([findings.value(score) for score in np.fmax.accumulate(scores)])
    marks.append(Line("best so far", number, best, colour=1, step=True, hover=False))
    if findings.reference:
        at = np.full(2, findings.value(findings.reference.score))
        name = short_name(findings.reference.function)
        marks.append(Line(name, np.array([number[0], number[-1]]), at, GREY, dash="dash", width=1.5))
    axes = (
        Axis("evaluation", (0.0, len(scores) + 1.0), whole=True),
        Axis(findings.metric_name, value_range(findings.task.metric, floor, np.nanmax(scores))),
    )
    panel = Panel(tuple(marks), *axes)
    return Chart("progress", "Best so far", _words(findings, scores), (panel,), metric_is_vertical=True)


def _words(findings: Findings, scores: Floats) -> str:
    reference = findings.reference
    text = f"{len(scores)} results" if len(scores) != 1 else "One result"
    n_diverged = int(np.isnan(scores).sum())
    text += f", {n_diverged} of them diverged" if n_diverged else ""
    text += on_the_edge(scores, "drawn at its edge")
    top = findings.finished[int(np.nanargmax(scores))]
    at = f", trained with {top.evaluation.recipe_change}," if top.evaluation.recipe_change else ""
    best = f"{findings.metric_name} {value_text(findings.value(np.nanmax(scores)))}"
    text += f". Best training: {readable(top.function)}{at} with {best}"
    if reference:
        text += f"; {readable(reference.function)}: {value_text(findings.value(reference.score))}"
    return f"{text}.{_best_mean(findings)}"


def _best_mean(findings: Findings) -> str:
    """Return the sentence on the best function, where that is not the one of the best training."""
    best = findings.best
    if best is None or not (best.is_confirmed or best.noise is not None):
        return ""
    what = f"Confirmed ({best.confirmed})" if best.is_confirmed else f"Best mean of {len(best.row.seeds)} seeds"
    at = f", trained with {best.recipe_change}," if best.recipe_change else ""
    return f" {what}: {readable(best.function)}{at} with {best.text}."


def _score(score: float | None) -> float:
    return np.nan if score is None else score
