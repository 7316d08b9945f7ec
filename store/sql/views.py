"""What people query: every view, column by column; the tables are in `table_columns`.

The one place that says what a column means: the page docs/queries.md, `aquasurf query --schema`, the README of a
snapshot and the types of its files all come from here, and a test compares it with the schema that the migrations make.
The views themselves are made there (`store.migrations`).
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
    """A view, or a table, and a row of what it has."""

    name: str
    row: str
    columns: tuple[Column, ...]

    @cached_property
    def selectable(self) -> sa.TableClause:
        """For statements; values come back with their types on both engines."""
        return sa.table(self.name, *(sa.column(column.name, _SQL_TYPES[column.kind]) for column in self.columns))

    def markdown(self) -> str:
        """A heading, a sentence and a table of the columns."""
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


# Words that mean the same wherever they stand.
COLUMNS = {
    "run": ("text", "name of the run"),
    "task": ("text", "name of the task"),
    "function": ("text", "the function's name, the one under which it was added first"),
    "fingerprint": ("text", "digest of the function's outputs: equal functions share it"),
    "origin": ("text", "why the run wanted it: baseline, proposal, suggestion or import"),
    "reused": ("boolean", "whether the run found the result in the store instead of training"),
    "score": ("number", "the task's metric on the validation split, sign changed where less is better; more is better"),
    "train_score": ("number", "the same on the training split"),
    "test_score": ("number", "the same on the test split"),
    "val_score": ("number", "the same on the validation split"),
    "val_accuracy": ("number", "share of the validation split that is right; empty where nothing is classified"),
    "test_accuracy": ("number", "the same of the test split"),
    "train_accuracy": ("number", "the same of the training split"),
    "val_loss": ("number", "loss on the validation split"),
    "test_loss": ("number", "loss on the test split"),
    "train_loss": ("number", "loss on the training split"),
    "predicted_score": ("number", "what the surrogate expected; empty where it was not asked"),
    "finished_at": ("time", "when the result was stored; empty for imports"),
    "evaluation_id": ("integer", "number of the evaluation, the same in all views"),
    "stopped_early": ("text", "the rule that ended the training before its last epoch, if one did"),
    "time_ratio": ("number", "a training step, in units of relu's on the same device; empty where not measured"),
    "memory_ratio": ("number", "memory kept for the backward pass, in units of relu's"),
    "examples_per_second": ("number", "training examples a second of training time"),
    "peak_memory_mb": ("number", "most memory that the training held, in MB"),
    "precision": ("text", "number format of the training, such as float32"),
    "device": ("text", "kind of device, such as cpu or the name of a GPU"),
    "n_devices": ("integer", "how many devices shared the training"),
    "epoch": ("integer", "counted from 1"),
    "learning_rate": ("number", "at the end of the epoch"),
    "worker": ("text", "the process that did it"),
    "fisher": ("text", "kind of Fisher information: sampled or empirical"),
    "created_at": ("time", "when the row was stored"),
    "updated_at": ("time", "when it last changed"),
    "step_seconds": ("number", "seconds of one training step"),
    "relu_step_seconds": ("number", "relu's, measured in the same minutes"),
    "activation_bytes": ("integer", "bytes that autograd keeps for the backward pass"),
    "relu_activation_bytes": ("integer", "relu's"),
    "kind": ("text", "of the run: search, evaluate, import, build or confirm"),
    "budget": ("integer", "evaluations after the baselines that it is to have"),
    "message": ("text", "what is to be said of its state, such as why it failed"),
}


def view_of(name: str, row: str, columns: str, /, **own: tuple[str, str]) -> View:
    """`columns` are the names in order; those in `own` have a meaning of their own here."""
    return View(name, row, tuple(Column(column, *(own.get(column) or COLUMNS[column])) for column in columns.split()))


VIEWS: tuple[View, ...] = (
    view_of(
        "leaderboard",
        "an evaluation that a run wanted and that came to a score; two runs that share it have a row each",
        "run task rank function origin reused score val_accuracy val_loss test_accuracy test_loss train_accuracy"
        " train_loss epochs seconds seed predicted_score finished_at evaluation_id fingerprint test_score train_score"
        " stopped_early time_ratio memory_ratio examples_per_second peak_memory_mb precision device n_devices",
        rank=("integer", "place by score within the run, 1 the best; equal scores share a place"),
        epochs=("integer", "how many epochs were trained; empty for imports"),
        seconds=("number", "duration of the training"),
        seed=("integer", "training seed"),
    ),
    view_of(
        "learning_curves",
        "an epoch of an evaluation",
        "task function seed epoch train_loss train_accuracy val_loss val_accuracy learning_rate seconds status"
        " evaluation_id train_score val_score",
        seed=("integer", "training seed"),
        seconds=("number", "duration of the epoch"),
        status=("text", "of the evaluation: done or diverged"),
    ),
    view_of(
        "diverged",
        "an evaluation that a run wanted and that diverged: the function's own fault",
        "run task function seed reason origin reused finished_at evaluation_id fingerprint",
        seed=("integer", "training seed"),
        reason=("text", "what went wrong, such as non-finite-forward or saturated"),
    ),
    view_of(
        "spectra_summary",
        "a function's spectrum on a task, without the spectrum itself",
        "task function fisher seed status reason seconds feature_bytes device worker created_at fingerprint",
        seed=("integer", "of the weights, the batch and the sampled labels"),
        status=("text", "done or diverged"),
        reason=("text", "why there is none, where it diverged"),
        seconds=("number", "how long it took; empty for imports"),
        feature_bytes=("integer", "size of the compact spectrum"),
    ),
    view_of(
        "costs_summary",
        "what a function costs on a task and a kind of device",
        "task function device time_ratio memory_ratio step_seconds relu_step_seconds activation_bytes"
        " relu_activation_bytes worker created_at fingerprint",
    ),
    view_of(
        "runs_overview",
        "a run with what became of its evaluations",
        "run kind task status budget seed candidates evaluations done diverged failed running queued reused best_score"
        " seconds created_at updated_at message",
        status=("text", "new, running, interrupted, finished or failed"),
        seed=("integer", "of the search"),
        candidates=("integer", "functions that it may train"),
        evaluations=("integer", "evaluations that it wanted, baselines among them"),
        done=("integer", "of them with a score"),
        diverged=("integer", "of them that diverged"),
        failed=("integer", "of them given up because machines failed"),
        running=("integer", "of them in training"),
        queued=("integer", "of them that wait"),
        reused=("integer", "of them found in the store"),
        best_score=("number", "the best score"),
        seconds=("number", "duration of all their trainings, reused ones among them"),
    ),
)  # fmt: skip
