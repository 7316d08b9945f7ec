"""A comparison of two runs of one task: the differences in their configuration, and how soon each reached a score.

Evaluations are counted after the baselines, in the order of their results. A higher score is better. Two runs with the
same training seed share the results of the functions that both trained, so a comparison of these functions means
something only where the seeds differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.analysis.studies.headline import Headline, best_of
from aquasurf_ray.analysis.studies.reference import OWN_OPERATORS
from aquasurf_ray.store.records.runs import N_BASELINES

# Settings that say where a run lives, and digests, which only repeat differences of other settings.
_NOT_COMPARED = frozenset(
    {"name", "store", "storage", "address", "task_digest", "space_digest", OWN_OPERATORS, N_BASELINES}
)


@dataclass(frozen=True)
class ComparedRun:
    """One run.

    `best` is the best training of the search, or the best mean over its seeds, and `best_change` the change of the
    recipe in it, "" for none. `reached` is the number of evaluations until the run had the goal's score; None if it
    never had. `confirmed` is the function with the best mean in the run's confirmation, if there is one.
    """

    name: str
    status: str
    evaluations: int
    diverged: int
    failed: int
    seconds: float
    best: tuple[str, float] | None
    best_change: str
    reached: int | None
    candidates: int
    confirmed: Headline | None = None


@dataclass(frozen=True)
class RunComparison:
    """Two runs.

    `differing` has the settings that differ, with both values; `shared` counts the functions that both have trained,
    and `only` those that one of the two has trained; `goal` is the lower of the two best scores.
    """

    task: str
    sides: tuple[ComparedRun, ComparedRun]
    differing: dict[str, tuple[Any, Any]]
    shared: int
    only: tuple[int, int]
    goal: float | None


def compare_runs(first: Findings, second: Findings) -> RunComparison:
    """Compare two runs.

    Raises:
        AnalysisError: both are the same run, or the tasks differ, so that the scores cannot be compared.
    """
    if first.run.id == second.run.id:
        raise AnalysisError(f"run '{first.run.name}' is compared with itself; name another run of {first.task.name}")
    if first.run.task_id != second.run.task_id:
        names = " and ".join(f"{found.task.name} (version {found.task.version})" for found in (first, second))
        raise AnalysisError(
            f"runs '{first.run.name}' and '{second.run.name}' are of different tasks: {names}; name runs of one"
        )
    bests = [best.score for found in (first, second) if (best := _best_training(found)) is not None]
    # The lower of the two, so that both have reached it, and the question is how soon.
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


def _side(found: Findings, goal: float | None) -> ComparedRun:
    results = [request for request in found.finished if request.origin != "baseline"]
    best = _best_training(found)
    return ComparedRun(
        name=found.run.name,
        status=found.run.status,
        evaluations=len(results),
        diverged=sum(request.evaluation.status == "diverged" for request in results),
        failed=len(found.status.failures),
        seconds=sum(request.evaluation.seconds or 0.0 for request in results if not request.reused),
        best=None if best is None else (best.function, best.score),
        best_change="" if best is None else best.recipe_change,
        reached=None if goal is None else _reached(found, goal),
        candidates=len(found.candidates),
        confirmed=found.best if found.best is not None and found.best.is_confirmed else None,
    )


def _best_training(found: Findings) -> Headline | None:
    return best_of(found.board, found.task.metric, None)


def _reached(found: Findings, goal: float) -> int | None:
    """Return the number of evaluations until the goal; 0 if a baseline reaches it."""
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
    """Return the best score after each evaluation but the baselines, float64 [n]; baselines count from the start."""
    scores = [
        (-np.inf if request.evaluation.score is None else request.evaluation.score, request.origin == "baseline")
        for request in found.finished
    ]
    start = max((score for score, baseline in scores if baseline), default=-np.inf)
    later = np.array([score for score, baseline in scores if not baseline], dtype=np.float64)
    return np.maximum(np.maximum.accumulate(later), start) if len(later) else later
