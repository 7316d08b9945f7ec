"""The records that the store's verbs take and return, as frozen dataclasses.

Times are aware UTC, `seconds` are seconds, accuracies are in [0, 1], losses may be NaN or infinite. `score` is what the
search maximises: the task's metric on the validation split, its sign changed if lower is better. A `diverged`
evaluation is the function's own fault and final; a `failed` one is an infrastructure failure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from aquasurf_ray.training_metrics import LearnedValues as LearnedValues  # a public name of the store
from aquasurf_ray.training_metrics import TrainingMetrics

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RunKind = Literal["search", "evaluate", "import", "build", "confirm"]
RunStatusName = Literal["new", "running", "interrupted", "finished", "failed"]
EvaluationStatus = Literal["queued", "running", "done", "diverged", "failed"]
Origin = Literal["baseline", "proposal", "suggestion", "import"]
Fisher = Literal["sampled", "empirical"]
ClaimState = Literal["claimed", "reused", "taken", "failed"]
LONGEST_NOTE = 2_000  # characters
LONGEST_NAME = 2_000  # characters in the name of a task, run or function: PostgreSQL cannot index much longer text


_RANGES = {"accuracy": (0.0, 1.0), "rmse": (0.0, math.inf), "perplexity": (1.0, math.inf)}


@dataclass(frozen=True)
class TaskMetric:
    """The metric of a task.

    >>> TaskMetric("rmse", higher_is_better=False).value(-0.25)
    0.25
    """

    name: str = "accuracy"
    higher_is_better: bool = True

    @classmethod
    def of_spec(cls, spec: dict[str, Any]) -> TaskMetric:
        """Return the metric in a task's spec; a spec without one is from the time when accuracy was the only one."""
        objective = spec.get("objective") or {}
        return cls(objective.get("metric", cls.name), objective.get("higher_is_better", cls.higher_is_better))

    def value(self, score: float | None) -> float | None:
        """Return the metric's value with its natural sign, from a score."""
        return score if score is None or self.higher_is_better else -score

    def interval(self, mean: float, low: float, high: float) -> tuple[float, float]:
        """Return the ends of a mean score's interval as values of the metric, the smaller one first.

        Student's t knows no bounds, so ends outside of the metric's range are moved to its bounds. A metric of the
        user's may have the name of a known one and another range, which a mean outside of the known range shows.

        >>> TaskMetric().interval(0.99, 0.97, 1.01)
        (0.97, 1.0)
        """
        ends = sorted((low, high) if self.higher_is_better else (-low, -high))
        bottom, top = _RANGES.get(self.name, (-math.inf, math.inf))
        if bottom <= (mean if self.higher_is_better else -mean) <= top:
            ends = [min(max(end, bottom), top) for end in ends]
        return ends[0], ends[1]


@dataclass(frozen=True)
class TaskRecord:
    """A task as it was first stored."""

    id: int
    name: str
    version: str
    digest: str
    spec: dict[str, Any]
    created_at: datetime

    @property
    def metric(self) -> TaskMetric:
        """Return the metric of the task."""
        return TaskMetric.of_spec(self.spec)


@dataclass(frozen=True)
class FunctionRow:
    """A function to add. `aliases` are its other spellings."""

    fingerprint: str
    name: str
    n_operators: int
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class FunctionRecord:
    """A function of the store; `name` is the first name that it was added under."""

    id: int
    fingerprint: str
    name: str
    n_operators: int


@dataclass(frozen=True)
class LeaseOwner:
    """A process that holds a run, described so that others can find out whether it lives (`store.database.liveness`).

    `started` is the process's start in clock ticks since boot; None if the system does not tell.
    """

    host: str
    boot_id: str
    pid: int
    started: int | None
    namespace: str = ""


@dataclass(frozen=True)
class Lease:
    """The right to write to a run until another driver takes the run over, with the run's constant data.

    `requeued` are the evaluations that the previous driver left running.
    """

    run_id: int
    run_name: str
    task_id: int
    code_version: str
    token: int
    requeued: tuple[int, ...] = ()


@dataclass(frozen=True)
class NewRun:
    """A run to create. `identity_keys` names the keys of `config` that `config_digest` covers; empty: all."""

    name: str
    kind: RunKind
    task_id: int
    config: dict[str, Any]
    config_digest: str
    seed: int
    budget: int | None
    storage: str | None
    code_version: str
    identity_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A run. `lease_owner` is the process that holds it, dead or alive, or None.

    `message` gives the reason for its status; a finished run has one only if it ended before its budget was met.
    """

    id: int
    name: str
    kind: RunKind
    task_id: int
    config: dict[str, Any]
    config_digest: str
    seed: int
    budget: int | None
    status: RunStatusName
    storage: str | None
    code_version: str
    created_at: datetime
    updated_at: datetime
    message: str | None
    lease_token: int
    lease_owner: LeaseOwner | None
    lease_seconds: float | None
    lease_renewed_at: datetime | None
    created: bool = False  # True if this call of create_run created it


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
    """A stored evaluation; `epochs` is the number of epochs trained, `Store.curve` gives the learning curve.

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

    `claimed`: the run has it now, and must train it. `reused`: it already has a result, in `record`. `taken`: another
    run trains it; call `Store.observe` later. `failed`: this run gave up on it before.
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


@dataclass(frozen=True)
class SpectrumRecord:
    """A compact spectrum, or the reason why the function has none."""

    function_id: int
    fisher: Fisher
    seed: int
    status: Literal["done", "diverged"]
    feature: bytes | None = None
    reason: str | None = None
    seconds: float | None = None
    device: str | None = None
    worker: str | None = None


@dataclass(frozen=True)
class CostRecord:
    """A function's cost in a task's network on one kind of device, with ReLU's cost measured in turns with it.

    A step is a forward pass, a backward pass and an optimiser step on one training batch; the bytes are what autograd
    saves for the backward pass, without the parameters.

    >>> cost = CostRecord(1, "cpu", 0.03, 0.02, 600, 400)
    >>> round(cost.time_ratio, 6), cost.memory_ratio
    (1.5, 1.5)
    """

    function_id: int
    device: str
    step_seconds: float
    relu_step_seconds: float
    activation_bytes: int
    relu_activation_bytes: int
    worker: str | None = None

    @property
    def time_ratio(self) -> float:
        """The step time relative to ReLU."""
        return self.step_seconds / self.relu_step_seconds

    @property
    def memory_ratio(self) -> float:
        """The activation memory relative to ReLU."""
        return self.activation_bytes / self.relu_activation_bytes


@dataclass(frozen=True, eq=False)
class EmbeddingRecord:
    """Coordinates float32 (n, 2) of the functions int64 (n,); rows are NaN for functions without a place."""

    version: str
    task_id: int
    config: dict[str, Any]
    function_ids: npt.NDArray[np.int64]
    coordinates: npt.NDArray[np.float32]


@dataclass(frozen=True)
class EventRecord:
    """One line of a run's log."""

    seq: int
    at: datetime
    kind: str
    evaluation_id: int | None
    function_id: int | None
    data: dict[str, Any] | None


@dataclass(frozen=True)
class NoteRecord:
    """A note of a person on a run."""

    run_id: int
    at: datetime
    text: str
