"""Answers to questions about runs and functions, as the verbs of `queries` return them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from aquasurf_ray.store.records.evaluations import EvaluationStatus, Origin, RequestedEvaluation
from aquasurf_ray.store.records.features import CostRecord, Fisher
from aquasurf_ray.store.records.runs import N_BASELINES, Run, evaluations_wanted
from aquasurf_ray.store.records.tasks import FunctionRecord, TaskMetric, TaskRecord
from aquasurf_ray.training_metrics import TrainingMetrics


@dataclass(frozen=True, kw_only=True)
class LeaderboardRow(TrainingMetrics):
    """A finished evaluation in the order of its score; `rank` 1 is the best.

    In a search with `leader_seeds` > 1, a row is of one function with one change of the recipe: its
    metrics are means over `seeds`, which the run trained it with, and its other values those of the first of these.
    `noise` is the standard error of the score, from the deviation between seeds, pooled over the run's functions; None
    where no function has two seeds.

    The ratios are the function's cost on the evaluation's device; None if it was not measured there.
    """

    rank: int
    function_id: int
    function: str
    baseline: bool
    score: float  # a leaderboard has no evaluation without one
    seed: int
    seeds: tuple[int, ...] = ()
    noise: float | None = None
    recipe_change: str = ""
    seconds: float | None
    device: str | None
    precision: str | None
    time_ratio: float | None
    memory_ratio: float | None
    reused: bool
    evaluation_id: int


@dataclass(frozen=True)
class RunStatus:
    """The counts of a run for display: evaluations by status and by (origin, status), spectra of its candidates.

    `stopped_early` counts the done evaluations that a rule ended before their last epoch; `failures` and `divergences`
    are the evaluations that have failed or diverged. `reopened` has the reasons of those that diverged in a run that
    failed for it, which blamed its task and queued them again.
    """

    run: Run
    task: TaskRecord
    by_status: dict[EvaluationStatus, int]
    by_origin: dict[tuple[Origin, EvaluationStatus], int]
    reused: int
    stopped_early: int
    n_candidates: int
    spectra_done: int
    spectra_diverged: int
    best: LeaderboardRow | None
    failures: tuple[RequestedEvaluation, ...]
    divergences: tuple[RequestedEvaluation, ...]
    reopened: tuple[str, ...] = ()

    @property
    def diverged(self) -> int:
        """Return the number of evaluations that diverged, those that are queued again among them."""
        return self.by_status.get("diverged", 0) + len(self.reopened)

    @property
    def finished(self) -> int:
        """Return the number of evaluations with a result."""
        return self.by_status.get("done", 0) + self.by_status.get("diverged", 0)

    @property
    def finished_baselines(self) -> int:
        """Return the number of baselines with a result, which the budget does not count."""
        return sum(self.by_origin.get(("baseline", status), 0) for status in ("done", "diverged"))

    @property
    def wanted(self) -> int | None:
        """Return the number of evaluations that the run makes in total, baselines included; None without a budget."""
        if self.run.budget is None:
            return None
        begun = sum(n for (origin, _), n in self.by_origin.items() if origin == "baseline")
        # A finished run begins no more of them: it ended at a target, or somebody requested one as an evaluation.
        n = 0 if self.run.status == "finished" else int(self.run.config.get(N_BASELINES, 0))
        return evaluations_wanted(self.run.budget, begun=begun, to_begin=max(0, n - begun))

    @property
    def exhausted(self) -> bool:
        """Return whether a search ended because its candidates were used up before its budget was met.

        A search that ended early because of `--until` says so in its message instead.
        """
        ended = self.run.status == "finished" and self.run.message is None
        if self.run.kind != "search" or not ended or self.run.budget is None:
            return False
        return self.finished - self.finished_baselines < self.run.budget


@dataclass(frozen=True)
class SpectrumSummary:
    """A task's spectrum of a function, without the feature."""

    task: str
    fisher: Fisher
    seed: int
    status: Literal["done", "diverged"]
    reason: str | None
    seconds: float | None
    n_bytes: int


@dataclass(frozen=True)
class TaskCost:
    """A function's cost on a task, named by its name."""

    task: str
    cost: CostRecord


@dataclass(frozen=True)
class HistoryEntry:
    """An evaluation of a function with the run that requested it; `metric` is the task's."""

    run: str
    task: str
    metric: TaskMetric
    request: RequestedEvaluation


@dataclass(frozen=True)
class FunctionHistory:
    """Everything the store knows about a function, over all tasks and runs."""

    function: FunctionRecord
    aliases: tuple[str, ...]
    spectra: tuple[SpectrumSummary, ...]
    costs: tuple[TaskCost, ...]
    evaluations: tuple[HistoryEntry, ...]
    candidate_of: tuple[str, ...]


@dataclass(frozen=True)
class QueryResult:
    """The answer to a read-only query."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
