"""Two runs of one task beside each other: what differs in their configuration, and how soon each found what.

Evaluations are counted after the baselines, in the order in which they came to a result. Scores are higher where
better. Functions that both have trained share their results where the training seeds are the same, so comparing them
says something only where the seeds differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.studies.findings import Findings

_NOT_COMPARED = frozenset({"name", "store", "storage", "address", "task_digest", "space_digest"})


@dataclass(frozen=True)
class RunSide:
    """One run. `reached` is after how many evaluations it had what the worse of the two has as its best; None never."""

    name: str
    status: str
    evaluations: int
    diverged: int
    failed: int
    seconds: float
    best: tuple[str, float] | None
    reached: int | None
    candidates: int


@dataclass(frozen=True)
class RunComparison:
    """Two runs.

    `differing` are the settings of the configuration that differ, with both values; `shared` counts functions that both
    have trained, and `only` those that one of the two has; `goal` is the score that `RunSide.reached` is about.
    """

    task: str
    sides: tuple[RunSide, RunSide]
    differing: dict[str, tuple[Any, Any]]
    shared: int
    only: tuple[int, int]
    goal: float | None


def compare_runs(first: Findings, second: Findings) -> RunComparison:
    """Compares what two runs found.

    Raises:
        AnalysisError: they are one run, or of different tasks, so that their scores do not compare.
    """
    if first.run.id == second.run.id:
        raise AnalysisError(f"run '{first.run.name}' is compared with itself; name another run of {first.task.name}")
    if first.run.task_id != second.run.task_id:
        names = " and ".join(f"{found.task.name} (version {found.task.version})" for found in (first, second))
        raise AnalysisError(f"runs '{first.run.name}' and '{second.run.name}' are of different tasks: {names}")
    bests = [found.best.score for found in (first, second) if found.best]
    goal = min(bests) if len(bests) == 2 else None
    trained = [{request.function for request in found.finished} for found in (first, second)]
    return RunComparison(
        task=first.task.name,
        sides=(_side(first, goal), _side(second, goal)),
        differing=_differing(first.run.config, second.run.config),
        shared=len(trained[0] & trained[1]),
        only=(len(trained[0] - trained[1]), len(trained[1] - trained[0])),
        goal=goal,
    )


def _side(found: Findings, goal: float | None) -> RunSide:
    results = [request for request in found.finished if request.origin != "baseline"]
    best = None if found.best is None else (found.best.function, found.best.score)
    return RunSide(
        name=found.run.name,
        status=found.run.status,
        evaluations=len(results),
        diverged=sum(request.evaluation.status == "diverged" for request in results),
        failed=len(found.status.failures),
        seconds=sum(request.evaluation.seconds or 0.0 for request in results if not request.reused),
        best=best,
        reached=None if goal is None else _reached(found, goal),
        candidates=len(found.candidates),
    )


def _reached(found: Findings, goal: float) -> int | None:
    """0 where a baseline has it already."""
    n = 0
    for request in found.finished:
        n += request.origin != "baseline"
        if request.evaluation.score is not None and request.evaluation.score >= goal:
            return n
    return None


def _differing(first: dict[str, Any], second: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = [key for key in dict.fromkeys((*first, *second)) if key not in _NOT_COMPARED]
    return {key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)}


def best_so_far(found: Findings) -> np.ndarray:
    """The best score after each evaluation that is no baseline, float64 [n]; baselines count from the beginning."""
    scores = [
        (-np.inf if request.evaluation.score is None else request.evaluation.score, request.origin == "baseline")
        for request in found.finished
    ]
    start = max((score for score, baseline in scores if baseline), default=-np.inf)
    later = np.array([score for score, baseline in scores if not baseline], dtype=np.float64)
    return np.maximum(np.maximum.accumulate(later), start) if len(later) else later
