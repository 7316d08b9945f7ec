"""Axes for scores: they show the part where functions differ, and captions count the scores that are poorer.

A few functions that barely trained would otherwise squeeze all others into a line.
"""

from __future__ import annotations

import numpy as np

from aquasurf_ray.analysis.report.charts.chart import Floats
from aquasurf_ray.store import TaskMetric

WORST_SHARE = 0.35  # of the scores: so many may be drawn at the lower edge


def lowest_shown(scores: Floats) -> float:
    """Return the lowest score that a picture shows: scores far below the better part would squeeze that into a line.

    >>> round(lowest_shown(np.array([0.1, 0.80, 0.85, 0.9])), 4)
    0.705
    """
    known = scores[~np.isnan(scores)]
    # Python's floats: what overflows is infinite, and is no warning of NumPy's.
    median, best = map(float, np.quantile(known, [WORST_SHARE, 1.0]))
    return max(float(known.min()), 2 * median - best)


def on_the_edge(scores: Floats, drawn: str, floor: float | None = None) -> str:
    """Return the part of a caption that counts the scores that are off the axis; empty where there are none.

    >>> on_the_edge(np.array([0.1, 0.80, 0.85, 0.9]), "drawn at its edge")
    '; 1 off the axis, drawn at its edge'
    """
    floor = lowest_shown(scores) if floor is None and len(scores) else floor
    n = int((scores < floor).sum()) if floor is not None else 0
    return f"; {n} off the axis, {drawn}" if n else ""


def value_range(metric: TaskMetric, lowest: float, highest: float) -> tuple[float, float]:
    """Return the axis for scores from the lowest to the highest, as values of the metric, with a margin."""
    margin = 0.05 * (highest - lowest) or 0.01
    low, high = sorted(score if metric.higher_is_better else -score for score in (lowest - margin, highest + margin))
    return low, high
