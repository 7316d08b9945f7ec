"""The content of a store as pandas DataFrames, typed by the columns that are documented here.

Text is pandas' `string` and integers are `Int64`, both with NA for missing values; numbers are float64, in which NaN
is either a missing value or NaN; times are aware, in UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

import sqlalchemy as sa

from aquasurf_ray.store.database.schema import Cost, Epoch, Evaluation, Function, Run, RunEvaluation, Task
from aquasurf_ray.store.errors import BadRecord, RecordNotFound
from aquasurf_ray.store.records.evaluations import EvaluationStatus
from aquasurf_ray.store.verbs.runs import read_run
from aquasurf_ray.store.verbs.store_core import StoreCore

if TYPE_CHECKING:
    import pandas as pd

_OF_EVALUATION = (
    *("seed", "status", "score", "val_accuracy", "val_loss", "test_score", "test_accuracy", "test_loss"),
    *("train_score", "train_accuracy", "train_loss", "stopped_early", "epochs", "seconds", "examples_per_second"),
    *(
        "recipe_change",
        "peak_memory_mb",
        "attempts",
        "reason",
        "error",
        "device",
        "n_devices",
        "precision",
        "started_at",
        "finished_at",
    ),
)
_EVALUATIONS: dict[str, Any] = {
    "run": Run.name,
    "task": Task.name,
    "function": Function.name,
    "fingerprint": Function.fingerprint,
    "n_operators": Function.n_operators,
    "position": RunEvaluation.position,
    "origin": RunEvaluation.origin,
    "reused": RunEvaluation.reused,
    "predicted_score": RunEvaluation.predicted_score,
    **{name: getattr(Evaluation, name) for name in _OF_EVALUATION},
    "time_ratio": Cost.step_seconds / Cost.relu_step_seconds,
    "memory_ratio": sa.cast(Cost.activation_bytes, sa.Double()) / sa.cast(Cost.relu_activation_bytes, sa.Double()),
    "evaluation_id": Evaluation.id,
}
_OF_EPOCH = (
    *("epoch", "train_loss", "train_score", "train_accuracy", "val_loss", "val_score", "val_accuracy"),
    *("learning_rate", "seconds"),
)
_CURVES: dict[str, Any] = {
    "run": Run.name,
    "task": Task.name,
    "function": Function.name,
    "seed": Evaluation.seed,
    "recipe_change": Evaluation.recipe_change,
    "status": Evaluation.status,
    **{name: getattr(Epoch, name) for name in _OF_EPOCH},
    "evaluation_id": Evaluation.id,
}
_DTYPES = ((sa.Boolean, "bool"), (sa.Integer, "Int64"), (sa.DateTime, "datetime64[us, UTC]"), (sa.Text, "string"))


class FrameVerbs(StoreCore):
    """Reading evaluations and learning curves as tables."""

    def evaluations(
        self, *, run: str | None = None, task: str | None = None, status: str | None = None
    ) -> pd.DataFrame:
        """Return the evaluations that runs requested, in that order; two runs that share one have a row each.

        Columns: run, task, function, fingerprint, n_operators; position (in the run, from 0), origin, reused,
        predicted_score; then the metrics as in the view `leaderboard`, with status, reason (if diverged), error (if
        failed) and attempts; time_ratio and memory_ratio; evaluation_id.

        Args:
            run: include this run only.
            task: include tasks of this name only.
            status: queued, running, done, diverged or failed.

        Raises:
            RunNotFound, RecordNotFound: the store does not have the run or the task.
            BadRecord: the status is unknown.

        Example:
            >>> import tempfile
            >>> from aquasurf_ray.store import Store
            >>> with tempfile.TemporaryDirectory() as folder, Store.open(f"sqlite:///{folder}/runs.db") as store:
            ...     frame = store.evaluations(status="done")
            >>> len(frame), str(frame["score"].dtype), str(frame["seed"].dtype)
            (0, 'float64', 'Int64')
        """
        joins = _joined(_EVALUATIONS).outerjoin(
            Cost,
            (Cost.task_id == Evaluation.task_id)
            & (Cost.function_id == Evaluation.function_id)
            & (Cost.device == Evaluation.device),
        )
        return self._frame(_EVALUATIONS, joins.order_by(Run.id, RunEvaluation.position), run, task, status)

    def curves(self, *, run: str | None = None, task: str | None = None, status: str | None = None) -> pd.DataFrame:
        """Return the learning curves of the same evaluations, one row per epoch.

        Columns: run, task, function, seed, recipe_change, status; epoch (from 1), train_loss, train_score,
        train_accuracy, val_loss, val_score, val_accuracy, learning_rate, seconds (of the epoch); evaluation_id.

        Raises:
            As `evaluations`.
        """
        query = _joined(_CURVES).join(Epoch, Epoch.evaluation_id == Evaluation.id)
        return self._frame(_CURVES, query.order_by(Run.id, RunEvaluation.position, Epoch.epoch), run, task, status)

    def _frame(
        self, columns: dict[str, Any], query: sa.Select[Any], run: str | None, task: str | None, status: str | None
    ) -> pd.DataFrame:
        import pandas as pd

        if status is not None and status not in get_args(EvaluationStatus):
            raise BadRecord(f"status must be one of {', '.join(get_args(EvaluationStatus))}, got '{status:.40}'")
        given = {Run.name: run, Task.name: task, Evaluation.status: status}
        query = query.where(*(column == value for column, value in given.items() if value is not None))

        def body(connection: sa.Connection) -> list[Any]:
            if run is not None:
                read_run(connection, run)
            if task is not None and not connection.execute(sa.select(Task.id).where(Task.name == task)).first():
                raise RecordNotFound(f"no task is named '{task:.100}' in the store; see: aquasurf status")
            return list(connection.execute(query))

        rows = self._read(body)
        cells = zip(*rows, strict=True) if rows else [()] * len(columns)
        dtypes = [_dtype(column.type) for column in columns.values()]
        # Typed column by column: pandas would guess a column of missing values, or an empty frame, as objects.
        series = (pd.Series(list(cell), dtype=dtype) for cell, dtype in zip(cells, dtypes, strict=True))
        return pd.DataFrame(dict(zip(columns, series, strict=True)))


def _joined(columns: dict[str, Any]) -> sa.Select[Any]:
    selected: Iterator[Any] = (column.label(name) for name, column in columns.items())
    return (
        sa.select(*selected)
        .select_from(RunEvaluation)
        .join(Run, Run.id == RunEvaluation.run_id)
        .join(Evaluation, Evaluation.id == RunEvaluation.evaluation_id)
        .join(Function, Function.id == Evaluation.function_id)
        .join(Task, Task.id == Evaluation.task_id)
    )


def _dtype(kind: Any) -> Any:
    """Return the pandas type of a column."""
    kind = getattr(kind, "impl", kind)
    return next((dtype for sql, dtype in _DTYPES if isinstance(kind, sql)), "float64")
