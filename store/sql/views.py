"""The views for queries by people, column by column; the tables are in `table_columns`.

This is the only description of columns: the page docs/queries.md, `aquasurf query --schema`, the README of a snapshot
and the types of its files all come from here, and a test compares it with the schema that the migrations make. The
views themselves are created by the migrations (`store.database.migrations`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from aquasurf_ray.store.database.columns import CleanText, FaithfulFloat, UtcDateTime

_SQL_TYPES: dict[str, Any] = {
    "text": CleanText(),
    "integer": sa.BigInteger(),
    "number": FaithfulFloat(),
    "boolean": sa.Boolean(),
    "time": UtcDateTime(),
    "JSON": sa.JSON(),
    "bytes": sa.LargeBinary(),
}


@dataclass(frozen=True)
class Column:
    """A column. `kind` is text, integer, number (a double), boolean, time (UTC), JSON (as text) or bytes."""

    name: str
    kind: str
    meaning: str


@dataclass(frozen=True)
class View:
    """A view or table: its name, the meaning of one row, and its columns."""

    name: str
    row: str
    columns: tuple[Column, ...]

    @cached_property
    def selectable(self) -> sa.TableClause:
        """Return the view for use in statements; values have their types on both engines."""
        return sa.table(self.name, *(sa.column(column.name, _SQL_TYPES[column.kind]) for column in self.columns))

    def markdown(self) -> str:
        """Return a heading, a sentence and a table of the columns."""
        lines = [
            f"### {self.name}",
            "",
            f"A row is {self.row}.",
            "",
            "| column | type | meaning |",
            "| --- | --- | --- |",
        ]
        lines += [f"| `{column.name}` | {column.kind} | {column.meaning} |" for column in self.columns]
        return "\n".join(lines)


# The columns that mean the same in every view and table.
COLUMNS = {
    "run": ("text", "name of the run"),
    "task": ("text", "name of the task"),
    "function": ("text", "the function's name, the first under which it was added"),
    "fingerprint": ("text", "digest of the function's outputs: equal functions share it"),
    "origin": ("text", "why the run requested it: baseline, proposal, suggestion or import"),
    "reused": ("boolean", "whether the run found the result in the store instead of training"),
    "score": ("number", "the task's metric on the validation split, sign changed if lower is better; higher is better"),
    "train_score": ("number", "score on the training split"),
    "test_score": ("number", "score on the test split"),
    "val_score": ("number", "score on the validation split"),
    "val_accuracy": (
        "number",
        "the metric if it is accuracy and this package trained; score has every run's",
    ),
    "test_accuracy": ("number", "accuracy on the test split"),
    "train_accuracy": ("number", "accuracy on the training split"),
    "val_loss": ("number", "loss on the validation split"),
    "test_loss": ("number", "loss on the test split"),
    "train_loss": ("number", "loss on the training split"),
    "recipe_change": ("text", "change of the task's recipe, such as learning_rate*2; empty for the recipe as it is"),
    "predicted_score": ("number", "score predicted by the surrogate; empty if it made no prediction"),
    "finished_at": ("time", "time at which the result was stored; empty for imports"),
    "evaluation_id": ("integer", "number of the evaluation, the same in all views"),
    "stopped_early": ("text", "the rule that ended the training before its last epoch, if one did"),
    "time_ratio": ("number", "training-step time relative to ReLU on the same device; empty if not measured"),
    "memory_ratio": ("number", "activation memory relative to ReLU; empty if not measured"),
    "examples_per_second": ("number", "training examples per second of training time"),
    "peak_memory_mb": ("number", "peak memory of the training, in MB"),
    "precision": ("text", "number format of the training, such as float32"),
    "device": ("text", "kind of device, such as cpu or the name of a GPU"),
    "n_devices": ("integer", "number of devices that shared the training"),
    "epoch": ("integer", "counted from 1"),
    "learning_rate": ("number", "learning rate of the epoch's first step"),
    "worker": ("text", "the worker's process"),
    "fisher": ("text", "kind of Fisher information: sampled or empirical"),
    "created_at": ("time", "time at which the row was stored"),
    "updated_at": ("time", "time of the last change"),
    "step_seconds": ("number", "seconds of one training step"),
    "relu_step_seconds": ("number", "seconds of one training step with ReLU, measured in turns with the function's"),
    "activation_bytes": ("integer", "bytes that autograd saves for the backward pass"),
    "relu_activation_bytes": ("integer", "the same bytes with ReLU"),
    "kind": ("text", "kind of run: search, evaluate, import, build or confirm"),
    "budget": ("integer", "number of evaluations to make, without the baselines"),
    "message": ("text", "the reason for the run's status, such as why it failed"),
}


def view_of(name: str, row: str, columns: str, /, **own: tuple[str, str]) -> View:
    """Return a view whose `columns` are names in order; those in `own` have a meaning of their own in this view."""
    return View(name, row, tuple(Column(column, *(own.get(column) or COLUMNS[column])) for column in columns.split()))


VIEWS: tuple[View, ...] = (
    view_of(
        "leaderboard",
        "an evaluation with a score that a run requested; two runs that share it have a row each",
        "run task rank function origin reused score val_accuracy val_loss test_accuracy test_loss train_accuracy"
        " train_loss epochs seconds seed predicted_score finished_at evaluation_id fingerprint test_score train_score"
        " stopped_early time_ratio memory_ratio examples_per_second peak_memory_mb precision device n_devices"
        " recipe_change",
        rank=("integer", "rank by score within the run, 1 the best; equal scores share a rank"),
        epochs=("integer", "last epoch of the learning curve; empty without one"),
        seconds=("number", "duration of the training"),
        seed=("integer", "training seed"),
    ),
    view_of(
        "learning_curves",
        "an epoch of an evaluation",
        "task function seed epoch train_loss train_accuracy val_loss val_accuracy learning_rate seconds status"
        " evaluation_id train_score val_score recipe_change",
        seed=("integer", "training seed"),
        seconds=("number", "duration of the epoch"),
        status=("text", "status of the evaluation: done or diverged"),
    ),
    view_of(
        "diverged",
        "an evaluation that a run requested and that diverged, which is the function's own fault",
        "run task function seed reason origin reused finished_at evaluation_id fingerprint recipe_change",
        seed=("integer", "training seed"),
        reason=("text", "why it diverged, such as non-finite-forward or saturated"),
    ),
    view_of(
        "spectra_summary",
        "a function's spectrum on a task, without the spectrum itself",
        "task function fisher seed status reason seconds feature_bytes device worker created_at fingerprint",
        seed=("integer", "random seed of the weights, the batch and the sampled labels"),
        status=("text", "done or diverged"),
        reason=("text", "why there is no spectrum, if it diverged"),
        seconds=("number", "duration of the computation; empty for imports"),
        feature_bytes=("integer", "size of the compact spectrum"),
    ),
    view_of(
        "costs_summary",
        "the cost of a function on a task and a kind of device",
        "task function device time_ratio memory_ratio step_seconds relu_step_seconds activation_bytes"
        " relu_activation_bytes worker created_at fingerprint",
    ),
    view_of(
        "runs_overview",
        "a run with its evaluations by status",
        "run kind task status budget seed candidates evaluations done diverged failed running queued reused best_score"
        " seconds created_at updated_at message",
        status=("text", "new, running, interrupted, finished or failed"),
        seed=("integer", "random seed of the search"),
        candidates=("integer", "number of functions that it may train"),
        evaluations=("integer", "number of evaluations that it requested, including baselines"),
        done=("integer", "number of evaluations with a score"),
        diverged=("integer", "number of evaluations that diverged"),
        failed=("integer", "number of evaluations given up after infrastructure failures"),
        running=("integer", "number of evaluations in training"),
        queued=("integer", "number of evaluations in the queue"),
        reused=("integer", "number of evaluations whose result was found in the store"),
        best_score=("number", "the best score"),
        seconds=("number", "duration of all trainings together, including reused ones"),
    ),
)  # fmt: skip
