"""Records of evaluations: requests, claims and results, and why a function was suggested."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from aquasurf_ray.store.records.runs import Run
from aquasurf_ray.store.records.tasks import FunctionRecord
from aquasurf_ray.training_metrics import LearnedValues as LearnedValues  # a public name of the store
from aquasurf_ray.training_metrics import TrainingMetrics

EvaluationStatus = Literal["queued", "running", "done", "diverged", "failed"]
Origin = Literal["baseline", "proposal", "suggestion", "import"]
ClaimState = Literal["claimed", "reused", "known", "taken", "failed"]


@dataclass(frozen=True)
class Neighbor:
    """A trained function near a suggested one; `score` is None when it diverged, and `recipe_change` the change of the
    recipe that it was trained with."""

    function_id: int
    distance: float
    score: float | None
    recipe_change: str = ""


@dataclass(frozen=True)
class SuggestionRecord:
    """The surrogate's reason for a suggestion. `rank` 1 is the best prediction."""

    predicted_score: float | None = None
    rank: int | None = None
    neighbors: tuple[Neighbor, ...] = ()
    embedding_version: str | None = None


@dataclass(frozen=True)
class StartRecord:
    """A worker's start of an evaluation. `stop_rule` has pairs (epoch, lowest score); `settings` apply to this training
    only."""

    evaluation_id: int
    worker: str | None = None
    node: str | None = None
    stop_rule: tuple[tuple[int, float], ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochRecord:
    """One epoch, counted from 1."""

    # Not the class `Epoch` of the workers: their training loop computes with its numbers, which are always known, while
    # a report to Tune may lack some and a column may be NULL. One class would make every number optional in the loop.

    epoch: int
    train_loss: float | None = None
    train_score: float | None = None
    train_accuracy: float | None = None
    val_loss: float | None = None
    val_score: float | None = None
    val_accuracy: float | None = None
    learning_rate: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationResult(TrainingMetrics):
    """A training's result. A `done` one needs a finite score; a `diverged` one has none.

    `examples_per_second` is per second of training time, `n_devices` the number of devices that trained together.
    """

    status: Literal["done", "diverged"] = field(kw_only=False)
    seconds: float | None = None
    examples_per_second: float | None = None
    peak_memory_mb: float | None = None
    reason: str | None = None
    device: str | None = None
    n_devices: int | None = None
    precision: str | None = None
    worker: str | None = None
    epochs: tuple[EpochRecord, ...] = ()
    learned: tuple[LearnedValues, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord(TrainingMetrics):
    """A stored evaluation; `epochs` is the last epoch of its learning curve, which `Store.curve` gives.

    `recipe_change` is the change of the task's recipe that it is trained with (`recipe_change`), "" for none.
    """

    id: int
    task_id: int
    function_id: int
    seed: int
    recipe_change: str = ""
    status: EvaluationStatus
    claimed_by: int | None
    attempts: int
    epochs: int | None
    seconds: float | None
    examples_per_second: float | None
    peak_memory_mb: float | None
    reason: str | None
    error: str | None
    device: str | None
    n_devices: int | None
    precision: str | None
    worker: str | None
    code_version: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def key(self) -> tuple[int, int, str]:
        """The evaluation within its task: function, seed and change of the recipe."""
        return self.function_id, self.seed, self.recipe_change

    @property
    def finished(self) -> bool:
        """Return whether it has a result: done or diverged."""
        return self.status in ("done", "diverged")

    def is_held_by(self, run_id: int) -> bool:
        """Return whether the run has claimed it and it is unfinished."""
        return self.status == "running" and self.claimed_by == run_id

    @property
    def complete(self) -> bool:
        """Return whether the result is of a whole training, neither stopped early nor refused by the health gate."""
        return self.finished and self.stopped_early is None

    def usable(self, accept_stopped: bool, accept_refused: bool) -> bool:
        """Return whether a run accepts the result: a whole one always, others as the arguments allow."""
        return self.complete or (self.finished and (accept_stopped if self.status == "done" else accept_refused))


@dataclass(frozen=True)
class EvaluationRequest:
    """A run's request to train a function with this seed; `suggestion` is the surrogate's reason, and `recipe_change`
    the change of the recipe, "" for none."""

    function_id: int
    seed: int
    origin: Origin
    suggestion: SuggestionRecord | None = None
    recipe_change: str = ""

    @property
    def key(self) -> tuple[int, int, str]:
        """The evaluation within its task: function, seed and change of the recipe."""
        return self.function_id, self.seed, self.recipe_change


@dataclass(frozen=True)
class Claim:
    """The answer to a request to train a function.

    `claimed`: the run has it now, and must train it. `reused`: it has a result of another run, in `record`; `known`: of
    this very run. `taken`: another run, or another process of this one, trains it; call `Store.observe` later.
    `failed`: this run gave up on it before.
    """

    evaluation_id: int
    state: ClaimState
    record: EvaluationRecord
    origin: Origin

    @property
    def function_id(self) -> int:
        """Return the function's number."""
        return self.record.function_id


@dataclass(frozen=True)
class Proposal:
    """The answer to a function that was added to a run's queue by hand; `status` is its evaluation's."""

    function_id: int
    evaluation_id: int
    status: EvaluationStatus
    added: bool


@dataclass(frozen=True)
class RequestedEvaluation:
    """An evaluation as one run requested it: its position in the run's order, the reason, and its record."""

    position: int
    origin: Origin
    reused: bool
    suggested_at: datetime
    suggestion: SuggestionRecord | None
    function: str
    evaluation: EvaluationRecord


@dataclass(frozen=True)
class Snapshot:
    """The data that a driver starts from: candidates in order, and evaluations in the order of their requests."""

    run: Run
    candidates: tuple[FunctionRecord, ...]
    evaluations: tuple[RequestedEvaluation, ...]
