"""The trainings of each worker over time, and the memory that they took."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from aquasurf_ray.analysis.report.charts.chart import Axis, Chart, Panel, Points, Spans
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.counted import counted
from aquasurf_ray.duration_text import duration_text
from aquasurf_ray.store import RequestedEvaluation


def usage(findings: Findings) -> Chart | None:
    """Draw the trainings of this run by worker over time, and their peak memory where the device reports it."""
    # Reused results took the time of another run's workers.
    trained = [request for request in findings.finished if not request.reused and _times(request) is not None]
    if not trained:
        return None
    begin = min(_span(request)[0] for request in trained)
    unit, seconds = _unit((max(_span(request)[1] for request in trained) - begin).total_seconds())
    start, end = (np.array([(_span(w)[i] - begin).total_seconds() / seconds for w in trained]) for i in (0, 1))
    workers = tuple(request.evaluation.worker or "worker" for request in trained)
    texts = tuple(
        f"{request.function}, {request.evaluation.seconds or 0:.1f} s, {request.evaluation.status}"
        for request in trained
    )
    colours = tuple(1 if request.evaluation.status == "diverged" else 0 for request in trained)
    time = Axis(f"{unit} since the first training")
    panels = [Panel((Spans("trainings", workers, start, end, texts, colours),), time, legend=False)]
    memory = np.array([np.nan if (m := request.evaluation.peak_memory_mb) is None else m for request in trained])
    if np.isfinite(memory).any():
        names = tuple(request.function for request in trained)
        points = Points("peak memory", end, memory, names, colour=0)
        panels.append(Panel((points,), time, Axis("peak memory (MB)"), legend=False))
    return Chart("usage", "Time and hardware", _words(trained, workers, start, end, seconds), tuple(panels))


def _words(
    own: list[RequestedEvaluation], workers: tuple[str, ...], start: np.ndarray, end: np.ndarray, unit: float
) -> str:
    trained = sum(request.evaluation.seconds or 0.0 for request in own)
    n, wall = at_hand(workers, start, end)
    devices = sorted({f"{w.evaluation.n_devices or 1} x {w.evaluation.device}" for w in own if w.evaluation.device})
    busy = ""
    if wall > 0:
        were = f"{counted(n, 'worker')} {'was' if n == 1 else 'were'}"
        busy = f"; {were} busy {trained / (wall * unit):.0%} of the time"
    coloured = " Orange ones diverged." if any(w.evaluation.status == "diverged" for w in own) else ""
    where = ", ".join(devices) or "unknown devices"
    n_own = counted(len(own), "training")
    return f"{n_own} of this run took {duration_text(trained)} on {where}{busy}.{coloured}"


def at_hand(workers: tuple[str, ...], start: np.ndarray, end: np.ndarray) -> tuple[int, float]:
    """Return the most workers that there were at a time, and the time of all of them together.

    A worker's time is from its first training to its last end, because one that was killed is replaced by another one.
    A pause between two sessions counts as idle for the workers that have the same name in both.
    """
    of = {name: np.array([each == name for each in workers]) for name in workers}
    spans = [(float(start[mine].min()), float(end[mine].max())) for mine in of.values()]
    most = max(sum(begin <= at < over for begin, over in spans) for at, _ in spans)
    return max(most, 1), sum(over - begin for begin, over in spans)


def _times(request: RequestedEvaluation) -> tuple[datetime, datetime] | None:
    start, end = request.evaluation.started_at, request.evaluation.finished_at
    return None if start is None or end is None else (start, end)


def _span(request: RequestedEvaluation) -> tuple[datetime, datetime]:
    times = _times(request)
    assert times is not None  # noqa: S101 - asked only of those that have both
    return times


def _unit(seconds: float) -> tuple[str, float]:
    if seconds < 600:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)
