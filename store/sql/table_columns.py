"""What the columns of the tables mean. Names and types are the schema's own, only the words stand here."""

from __future__ import annotations

import sqlalchemy as sa

from aquasurf_ray.store.database.columns import UtcDateTime
from aquasurf_ray.store.database.schema import Base, Run
from aquasurf_ray.store.sql.views import COLUMNS, VIEWS, Column, View

_KINDS = (
    (sa.LargeBinary, "bytes"),
    (sa.JSON, "JSON"),
    (sa.Boolean, "boolean"),
    (sa.Integer, "integer"),
    (UtcDateTime, "time"),
)

_WORDS = {
    "id": "number of the row",
    "seed": "training seed",
    "status": "queued, running, done, diverged or failed",
    "seconds": "how long it took",
    "reason": "what went wrong with one that diverged",
    "attempts": "how often it was tried",
    "epochs": "how many epochs were trained",
    "error": "what the machine's fault was, of one that failed",
    "code_version": "version of aquasurf-ray",
    "claim_token": "of the lease under which it was claimed",
    "started_at": "when it began",
    "position": "place in the run's order, from 0",
}
_OF_TABLE = {
    "functions.name": "the first name that it was added under",
    "functions.n_operators": "operators in its name",
    "tasks.name": "its name",
    "tasks.version": "changes with what the task does",
    "tasks.digest": "of all that decides a result",
    "tasks.spec": "network, data, recipe and objective",
    "aliases.name": "another spelling of the function",
    "embeddings.version": "digest of what it was computed from",
    "embeddings.config": "how it was computed",
    "embeddings.function_ids": "little-endian int64, a function each",
    "embeddings.coordinates": "little-endian float32, two for each function",
    "runs.name": "its name, `run` in the views",
    "runs.config": "all options that it was started with",
    "runs.config_digest": "of the options that decide its results",
    "runs.seed": "of the search",
    "runs.status": "new, running, interrupted, finished or failed",
    "runs.storage": "folder or URI of its epoch checkpoints",
    "runs.code_version": "version of aquasurf-ray that began it",
    "runs.lease_token": "grows with every driver that takes the run",
    "runs.lease_owner": "host and process of the driver that holds it, if one does",
    "runs.lease_seconds": "silence after which another driver may take it",
    "runs.lease_heartbeat": "grows while the driver lives",
    "runs.lease_renewed_at": "last sign of life",
    "stop_requests.lease_token": "of the driver that is asked; a later one is not",
    "stop_requests.asked_by": "host and process that asked",
    "stop_requests.asked_at": "when",
    "live_runs.lease_token": "of the driver that reported",
    "live_runs.reported_at": "when; the report is as old as that",
    "live_runs.report": "workers and their jobs, evaluations an hour, seconds left, why the run ends",
    "evaluations.claimed_by": "the run that trains it or has trained it, `runs.id`",
    "spectra.seed": "of the weights, the batch and the sampled labels",
    "spectra.status": "done or diverged",
    "spectra.feature": "the compact spectrum, as `surrogate.spectra.SpectrumFeature.from_bytes` reads it",
    "attempts.number": "of the attempt, from 1",
    "attempts.node": "the machine",
    "attempts.ended_at": "when it ended",
    "attempts.outcome": "done, diverged, failed, interrupted or superseded; empty while it runs",
    "events.seq": "place in the run's log, from 1",
    "events.at": "when",
    "events.kind": "what happened, such as claimed, started, result, spectra",
    "events.data": "the particulars",
    "imported_entries.name": "the file's name for the function",
    "imported_entries.aliases": "names that the file holds to be equal",
    "imported_entries.other": "JSON: what this program has no place for",
    "imported_entries.cdf_length": "how many numbers `cdf` has",
    "imported_entries.cdf": "zlib over little-endian float64",
    "run_evaluations.rank": "the suggestion's place by predicted score, 1 the best",
    "run_evaluations.neighbors": "trained functions near it, with distance and score",
    "run_evaluations.embedding_version": "the map on which it was suggested, `embeddings.version`",
    "run_evaluations.suggested_at": "when the run asked for it",
}
_ROWS = {
    "functions": "an activation function",
    "tasks": "a task: network, data and recipe; results compare only within one",
    "aliases": "another spelling of a function",
    "costs": "what a function costs on a task and a kind of device",
    "embeddings": "a map of functions in two dimensions",
    "runs": "a run, with its configuration and the lease of the driver that works on it",
    "evaluations": "one training of one function on one task with one seed",
    "run_candidates": "a function that a run may train",
    "spectra": "the spectrum of a function on a task, or why there is none",
    "attempts": "one try of an evaluation on a worker",
    "epochs": "an epoch of an evaluation",
    "events": "a line of a run's log",
    "imported_entries": "the entry of an Act-Bench file from which an evaluation was imported",
    "run_evaluations": "an evaluation that a run wanted",
    "stop_requests": "the last request to stop the run",
    "live_runs": "what the driver of a run last said of its workers",
}


def described(table: sa.Table) -> View:
    """A table with the meaning of its columns."""
    columns = tuple(Column(column.name, _kind(column), _meaning(column)) for column in table.columns)
    return View(table.name, _ROWS[table.name], columns)


def everything() -> tuple[View, ...]:
    """All views, then all tables."""
    return (*VIEWS, *map(described, Base.metadata.sorted_tables))


def reference() -> str:
    """What people query most, as Markdown: the views, and the table of runs."""
    runs = described(Base.metadata.tables[Run.__tablename__])
    return "\n\n".join(view.markdown() for view in (*VIEWS, runs))


def _kind(column: sa.Column[object]) -> str:
    if isinstance(column.type, sa.types.TypeDecorator) and isinstance(column.type.impl, sa.Text):
        return "text"
    return next((kind for known, kind in _KINDS if isinstance(column.type, known)), "number")


def _meaning(column: sa.Column[object]) -> str:
    known = _OF_TABLE.get(f"{column.table.name}.{column.name}") or COLUMNS.get(column.name, ("", ""))[1]
    if known:
        return known
    for key in column.foreign_keys:
        return f"number of the {key.column.table.name.removesuffix('s')}, `{key.target_fullname}`"
    return _WORDS[column.name]
