"""The tables, as typed SQLAlchemy models; the migrations make the same schema and a test compares the two.

The schema itself enforces these invariants: one row per (task, function, seed, change of the recipe), so no evaluation
can run or be done twice; one spectrum per (task, function, fisher, seed); one cost per (task, function, device);
statuses from fixed sets; a running evaluation has a claimer, and a done one has a score. A result that gives way to
another one is copied into its run's log before its learning curve is deleted (`store.verbs.results.reopen`,
`store.merging.evaluations`). Nothing is pickled: cells are numbers, text, JSON, or arrays of fixed layout. Column types
are those of `store.database.columns`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, LargeBinary, MetaData, Table, UniqueConstraint

from aquasurf_ray.store.database.columns import CleanText, FaithfulFloat, Identifier, UtcDateTime, utc_now
from aquasurf_ray.store.database.models import DeclarativeBase, Mapped, mapped_column

VERSION_TABLE = "aquasurf_version"
HEAD_REVISION = "0009"
JSON_CELL = JSON(none_as_null=True)


class Base(DeclarativeBase):
    """The base of all tables: naming of constraints, and column types."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a class attribute
        int: Identifier,
        float: FaithfulFloat,
        str: CleanText,
        bytes: LargeBinary,
        datetime: UtcDateTime,
    }


def _one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def table(model: type[Base]) -> Table:
    """Return the plain table of a model: statements on it are built several times faster than on the model."""
    return cast(Table, model.__table__)


class Task(Base):
    """A task: network, data and recipe. Results compare only within one task."""

    __tablename__ = "tasks"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    version: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON_CELL)
    created_at: Mapped[datetime] = mapped_column(default=utc_now())


class Function(Base):
    """An activation function, known by the fingerprint of its outputs."""

    __tablename__ = "functions"
    id: Mapped[int] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(index=True)
    n_operators: Mapped[int]


class Alias(Base):
    """Another spelling of a function."""

    __tablename__ = "aliases"
    name: Mapped[str] = mapped_column(primary_key=True)
    function_id: Mapped[int] = mapped_column(ForeignKey(Function.id), index=True)


class Run(Base):
    """One search or evaluation job, and the lease of the driver that works on it."""

    __tablename__ = "runs"
    __table_args__ = (
        _one_of("kind", "search", "evaluate", "import", "build", "confirm"),
        _one_of("status", "new", "running", "interrupted", "finished", "failed"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    task_id: Mapped[int] = mapped_column(ForeignKey(Task.id), index=True)
    config: Mapped[dict[str, Any]] = mapped_column(JSON_CELL)
    config_digest: Mapped[str]
    seed: Mapped[int]
    budget: Mapped[int | None]
    status: Mapped[str]
    storage: Mapped[str | None]
    code_version: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utc_now())
    updated_at: Mapped[datetime] = mapped_column(default=utc_now())
    message: Mapped[str | None]
    # Counters, not times: whoever watches the heartbeat measures on a clock of its own (`store.verbs.leases`).
    lease_token: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[dict[str, Any] | None] = mapped_column(JSON_CELL)
    lease_seconds: Mapped[float | None]
    lease_heartbeat: Mapped[int] = mapped_column(default=0)
    lease_renewed_at: Mapped[datetime | None]


class RunCandidate(Base):
    """A function that a run may train, in the run's order."""

    __tablename__ = "run_candidates"
    __table_args__ = (UniqueConstraint("run_id", "function_id"),)
    run_id: Mapped[int] = mapped_column(ForeignKey(Run.id), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    function_id: Mapped[int] = mapped_column(ForeignKey(Function.id), index=True)


class GrownCandidate(Base):
    """The origin of a candidate that a run made while it searched: its generation, the change, and its parents."""

    __tablename__ = "grown_candidates"
    run_id: Mapped[int] = mapped_column(ForeignKey(Run.id), primary_key=True)
    function_id: Mapped[int] = mapped_column(ForeignKey(Function.id), primary_key=True, index=True)
    generation: Mapped[int]
    change: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey(Function.id), index=True)
    other_parent_id: Mapped[int | None] = mapped_column(ForeignKey(Function.id), index=True)


class Spectrum(Base):
    """The compact FIM spectrum of one function on one task, or the reason why it has none."""

    __tablename__ = "spectra"
    __table_args__ = (
        UniqueConstraint("task_id", "function_id", "fisher", "seed"),
        _one_of("fisher", "sampled", "empirical"),
        _one_of("status", "done", "diverged"),
        CheckConstraint("status <> 'done' OR feature IS NOT NULL", name="done_has_feature"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey(Task.id))
    function_id: Mapped[int] = mapped_column(ForeignKey(Function.id), index=True)
    fisher: Mapped[str]
    seed: Mapped[int]
    status: Mapped[str]
    reason: Mapped[str | None]
    seconds: Mapped[float | None]
    device: Mapped[str | None]
    worker: Mapped[str | None]
    run_id: Mapped[int | None] = mapped_column(ForeignKey(Run.id), index=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now())
    feature: Mapped[bytes | None]  # the last column, so that SQLite reads the others without its overflow pages


class Cost(Base):
    """Step time and activation memory of one function, and of ReLU, on one task and kind of device."""

    __tablename__ = "costs"
    __table_args__ = (
        CheckConstraint("step_seconds > 0 AND relu_step_seconds > 0", name="seconds"),
        CheckConstraint("activation_bytes >= 0 AND relu_activation_bytes > 0", name="bytes"),
    )
    task_id: Mapped[int] = mapped_column(ForeignKey(Task.id), primary_key=True)
    function_id: Mapped[int] = mapped_column(ForeignKey(Function.id), primary_key=True, index=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    step_seconds: Mapped[float]
    relu_step_seconds: Mapped[float]
    activation_bytes: Mapped[int]
    relu_activation_bytes: Mapped[int]
    worker: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now())


class Evaluation(Base):
    """One training of one function on one task with one seed, and with one change of the task's recipe or none."""

    __tablename__ = "evaluations"
    __table_args__ = (
        UniqueConstraint("task_id", "function_id", "seed", "recipe_change"),
        _one_of("status", "queued", "running", "done", "diverged", "failed"),
        CheckConstraint("status <> 'running' OR claimed_by IS NOT NULL", name="running_has_claimer"),
        CheckConstraint("status <> 'done' OR score IS NOT NULL", name="done_has_score"),
        Index(None, "task_id", "status"),  # for the epoch scores of a task's finished trainings
        Index(None, "claimed_by", "status"),  # for the running evaluations of a run that are queued again
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey(Task.id))
    function_id: Mapped[int] = mapped_column(ForeignKey(Function.id), index=True)
    seed: Mapped[int]
    status: Mapped[str]
    claimed_by: Mapped[int | None] = mapped_column(ForeignKey(Run.id))
    claim_token: Mapped[int | None]
    attempts: Mapped[int] = mapped_column(default=0)
    score: Mapped[float | None]
    train_loss: Mapped[float | None]
    train_score: Mapped[float | None]
    train_accuracy: Mapped[float | None]
    val_loss: Mapped[float | None]
    val_accuracy: Mapped[float | None]
    test_loss: Mapped[float | None]
    test_score: Mapped[float | None]
    test_accuracy: Mapped[float | None]
    stopped_early: Mapped[str | None]
    epochs: Mapped[int | None]
    seconds: Mapped[float | None]
    examples_per_second: Mapped[float | None]
    peak_memory_mb: Mapped[float | None]
    reason: Mapped[str | None]
    error: Mapped[str | None]
    device: Mapped[str | None]
    n_devices: Mapped[int | None]
    precision: Mapped[str | None]
    worker: Mapped[str | None]
    code_version: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    recipe_change: Mapped[str] = mapped_column(default="", server_default="")


class Epoch(Base):
    """One epoch of an evaluation's learning curve."""

    __tablename__ = "epochs"
    evaluation_id: Mapped[int] = mapped_column(ForeignKey(Evaluation.id), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    train_loss: Mapped[float | None]
    train_score: Mapped[float | None]
    train_accuracy: Mapped[float | None]
    val_loss: Mapped[float | None]
    val_score: Mapped[float | None]
    val_accuracy: Mapped[float | None]
    learning_rate: Mapped[float | None]
    seconds: Mapped[float | None]


class LearnedValue(Base):
    """One learned parameter in one layer after the training: mean and spread over channels, and its course."""

    __tablename__ = "learned_values"
    evaluation_id: Mapped[int] = mapped_column(ForeignKey(Evaluation.id), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    layer: Mapped[str]
    parameter: Mapped[str]
    initial: Mapped[float]
    n_channels: Mapped[int | None]
    mean: Mapped[float | None]
    spread: Mapped[float | None]
    course: Mapped[list[Any]] = mapped_column(JSON_CELL)


class ImportedEntry(Base):
    """An imported evaluation's entry in its benchmark file: the parts that the evaluation's metrics do not contain.

    The file is named in the config of the run that claimed the evaluation. `cdf` is packed by `store.records.packed`,
    `other` is the text of a JSON object, which may contain NaN and Infinity.
    """

    __tablename__ = "imported_entries"
    evaluation_id: Mapped[int] = mapped_column(ForeignKey(Evaluation.id), primary_key=True)
    name: Mapped[str]
    aliases: Mapped[list[Any]] = mapped_column(JSON_CELL)
    other: Mapped[str]
    cdf_length: Mapped[int]
    cdf: Mapped[bytes]


class RunEvaluation(Base):
    """A run's request for an evaluation: its place in the order, and the reason."""

    __tablename__ = "run_evaluations"
    __table_args__ = (
        UniqueConstraint("run_id", "evaluation_id"),
        UniqueConstraint("run_id", "position"),
        _one_of("origin", "baseline", "proposal", "suggestion", "import"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey(Run.id))
    evaluation_id: Mapped[int] = mapped_column(ForeignKey(Evaluation.id), index=True)
    position: Mapped[int]
    origin: Mapped[str]
    reused: Mapped[bool]
    predicted_score: Mapped[float | None]
    rank: Mapped[int | None]
    neighbors: Mapped[list[Any] | None] = mapped_column(JSON_CELL)
    embedding_version: Mapped[str | None]
    suggested_at: Mapped[datetime] = mapped_column(default=utc_now())


class Embedding(Base):
    """An embedding: two coordinates for each function, by content digest; int64 and float32 little-endian arrays."""

    __tablename__ = "embeddings"
    version: Mapped[str] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey(Task.id), index=True)
    config: Mapped[dict[str, Any]] = mapped_column(JSON_CELL)
    created_at: Mapped[datetime] = mapped_column(default=utc_now())
    function_ids: Mapped[bytes]
    coordinates: Mapped[bytes]


class Attempt(Base):
    """One attempt at an evaluation on one worker."""

    __tablename__ = "attempts"
    __table_args__ = (
        UniqueConstraint("evaluation_id", "number"),
        CheckConstraint(
            "outcome IN ('done', 'diverged', 'failed', 'interrupted', 'superseded')", name="outcome"
        ),  # NULL while the attempt runs
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey(Evaluation.id))
    run_id: Mapped[int] = mapped_column(ForeignKey(Run.id), index=True)
    number: Mapped[int]
    worker: Mapped[str | None]
    node: Mapped[str | None]
    started_at: Mapped[datetime] = mapped_column(default=utc_now())
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    error: Mapped[str | None]


class TrialLease(Base):
    """The right of one process to tell the result of an attempt that it has asked for (`store.verbs.trials`).

    It ends with the attempt. `nonce` marks the call that asked.
    """

    __tablename__ = "trial_leases"
    attempt_id: Mapped[int] = mapped_column(ForeignKey(Attempt.id), primary_key=True)
    owner: Mapped[dict[str, Any]] = mapped_column(JSON_CELL)
    nonce: Mapped[str]
    seconds: Mapped[float]
    heartbeat: Mapped[int] = mapped_column(default=0)
    renewed_at: Mapped[datetime] = mapped_column(default=utc_now())


class StudyProcess(Base):
    """A process that has a study open, and the time of its last sign of life (`store.verbs.processes`).

    It ends with the process's `close`. `nonce` marks the opening.
    """

    __tablename__ = "study_processes"
    nonce: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey(Run.id), index=True)
    owner: Mapped[dict[str, Any]] = mapped_column(JSON_CELL)
    seconds: Mapped[float]
    renewed_at: Mapped[datetime] = mapped_column(default=utc_now())
    stop_asked_by: Mapped[dict[str, Any] | None] = mapped_column(JSON_CELL)


class Event(Base):
    """A line of a run's log. The log is complete enough to recompute every suggestion."""

    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("run_id", "seq"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey(Run.id))
    seq: Mapped[int]
    at: Mapped[datetime] = mapped_column(default=utc_now())
    kind: Mapped[str]
    evaluation_id: Mapped[int | None] = mapped_column(ForeignKey(Evaluation.id))
    function_id: Mapped[int | None] = mapped_column(ForeignKey(Function.id))
    data: Mapped[dict[str, Any] | None] = mapped_column(JSON_CELL)


class StopRequest(Base):
    """A request that the driver with this lease stop; only the last one is stored."""

    __tablename__ = "stop_requests"
    run_id: Mapped[int] = mapped_column(ForeignKey(Run.id), primary_key=True)
    lease_token: Mapped[int]
    asked_by: Mapped[dict[str, Any]] = mapped_column(JSON_CELL)
    asked_at: Mapped[datetime] = mapped_column(default=utc_now())


class LiveRun(Base):
    """The last report of the driver with this lease on its workers, and its time."""

    __tablename__ = "live_runs"
    run_id: Mapped[int] = mapped_column(ForeignKey(Run.id), primary_key=True)
    lease_token: Mapped[int]
    reported_at: Mapped[datetime] = mapped_column(default=utc_now())
    report: Mapped[dict[str, Any]] = mapped_column(JSON_CELL)
