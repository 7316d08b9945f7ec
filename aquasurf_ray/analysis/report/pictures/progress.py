"""The best result so far over the evaluations, with the baselines."""

from __future__ import annotations

import numpy as np

from aquasurf_ray.analysis.report.charts.chart import GREY, Axis, Chart, Floats, Line, Mark, Panel, Points, Symbol
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.store.records.runs import Origin

_ORIGINS: dict[Origin, tuple[str, int, Symbol]] = {
    "baseline": ("baselines", GREY, "square"),
    "suggestion": ("suggestions", 0, "circle"),
    "proposal": ("proposals", 2, "diamond"),
    "import": ("imported", 3, "circle"),
}
WORST_SHARE = 0.35  # of the scores: so many may be drawn at the lower edge


def progress(findings: Findings) -> Chart | None:
    """Draw all results in order of completion, and the best so far; scores below the axis are drawn at its edge."""
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
        marks.append(Line("relu", np.array([number[0], number[-1]]), at, GREY, dash="dash", width=1.5))
    axes = Axis("evaluation", (0.0, len(scores) + 1.0)), Axis(findings.metric_name, _range(findings, floor, scores))
    return Chart("progress", "Best so far", _words(findings, scores), (Panel(tuple(marks), *axes),))


def lowest_shown(scores: Floats) -> float:
    """Return the lowest score that a picture shows: scores far below the better part would squeeze that into a line.

    >>> round(lowest_shown(np.array([0.1, 0.80, 0.85, 0.9])), 4)
    0.705
    """
    known = scores[~np.isnan(scores)]
    median, best = np.quantile(known, [WORST_SHARE, 1.0])
    return float(max(known.min(), best - 2 * (best - median)))


def on_the_edge(scores: Floats, drawn: str, floor: float | None = None) -> str:
    """Return the part of a caption that counts the scores below the axis; empty where there are none.

    >>> on_the_edge(np.array([0.1, 0.80, 0.85, 0.9]), "drawn at its edge")
    '; 1 below the axis, drawn at its edge'
    """
    floor = lowest_shown(scores) if floor is None and len(scores) else floor
    n = int((scores < floor).sum()) if floor is not None else 0
    return f"; {n} below the axis, {drawn}" if n else ""


def _range(findings: Findings, floor: float, scores: Floats) -> tuple[float, float]:
    margin = 0.05 * (np.nanmax(scores) - floor) or 0.01
    low, high = sorted((findings.value(floor - margin), findings.value(np.nanmax(scores) + margin)))
    return low, high


def _words(findings: Findings, scores: Floats) -> str:
    best, reference = findings.best, findings.reference
    text = f"{len(scores)} results" if len(scores) != 1 else "One result"
    n_diverged = int(np.isnan(scores).sum())
    text += f", {n_diverged} of them diverged" if n_diverged else ""
    text += on_the_edge(scores, "drawn at its edge")
    if best:
        at = f", {best.recipe_change}," if best.recipe_change else ""
        text += f". Best: {best.function}{at} with {findings.metric_name} {findings.value(best.score):.4f}"
    if reference and best:
        text += f"; ReLU: {findings.value(reference.score):.4f}"
    return text + "."


def _score(score: float | None) -> float:
    return np.nan if score is None else score
