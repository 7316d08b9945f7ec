"""The scores of the best functions on seeds that they were not selected on."""

from __future__ import annotations

import numpy as np

from aquasurf_ray.analysis.report.charts.chart import GREY, Axis, Chart, Intervals, Panel, Points
from aquasurf_ray.analysis.studies.confirmation import SeedMean, other_seeds
from aquasurf_ray.analysis.studies.findings import Findings

SHOWN = 20


def confirmed(findings: Findings) -> Chart | None:
    """Draw the means over the other seeds with their 95% intervals, and the score that a function was selected by."""
    found = {
        row: mean
        for row in findings.winners
        if (mean := other_seeds(findings.seed_scores.get(row.function_id, {}), row.seed)).mean is not None
    }
    if not found:
        return None
    rows = sorted(found, key=lambda row: _mean(found[row]))[-SHOWN:]  # the best on top
    means = np.array([findings.value(found[row].mean) for row in rows])
    ends = np.array([_interval(findings, found[row]) for row in rows])
    names = tuple(f"{row.function}{' (baseline)' if row.baseline else ''}" for row in rows)
    selected = np.array([findings.value(row.score) for row in rows])
    marks = (
        Points("score at selection", selected, np.arange(len(rows), dtype=np.float64), (), GREY, symbol="x"),
        Intervals("mean over other seeds, 95% interval", names, means, ends[:, 0], ends[:, 1]),
    )
    best = rows[-1]
    seeds = sorted({mean.n for mean in found.values()})
    words = (
        f"{len(found)} functions were retrained with {' or '.join(map(str, seeds))} additional seeds. Best mean: "
        f"{best.function} with {findings.value(found[best].mean):.4f}, down from {findings.value(best.score):.4f} at "
        f"selection.{_fickle(findings)}"
    )
    panel = Panel(marks, Axis(findings.metric_name), Axis())
    return Chart("confirmed", "Confirmed with additional seeds", words, (panel,), height=120 + 34 * len(rows))


def _interval(findings: Findings, mean: SeedMean) -> tuple[float, float]:
    if mean.mean is None or mean.low is None or mean.high is None:
        return np.nan, np.nan
    return findings.task.metric.interval(mean.mean, mean.low, mean.high)


def _fickle(findings: Findings) -> str:
    """Return the part of the caption that counts the functions without a mean, which the picture leaves out."""
    means = [other_seeds(findings.seed_scores.get(row.function_id, {}), row.seed) for row in findings.winners]
    n = sum(mean.n_diverged > 0 for mean in means)
    return f" {n} more diverged with an additional seed and {'has' if n == 1 else 'have'} no mean." if n else ""


def _mean(mean: SeedMean) -> float:
    return -np.inf if mean.mean is None else mean.mean
