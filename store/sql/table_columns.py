"""The meaning of the tables' columns. Names and types come from the schema; this module adds the descriptions."""

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
    "seconds": "duration",
    "reason": "why it diverged, if it did",
    "attempts": "number of attempts",
    "epochs": "last epoch of the learning curve",
    "error": "the infrastructure failure, if it failed",
    "code_version": "version of aquasurf-ray",
    "claim_token": "token of the lease under which it was claimed",
    "started_at": "time of the start",
    "position": "place in the run's order, from 0",
}
_OF_TABLE = {
    "functions.name": "the first name under which it was added",
    "functions.n_operators": "number of operators in its name",
    "tasks.name": "name of the task",
    "tasks.version": "version of the task, raised when its results change",
    "tasks.digest": "digest of everything that decides a result",
    "tasks.spec": "network, data, recipe and objective",
    "aliases.name": "another spelling of the function",
    "embeddings.version": "digest of the embedding's inputs",
    "embeddings.config": "settings of the embedding",
    "embeddings.function_ids": "little-endian int64, one for each function",
    "embeddings.coordinates": "little-endian float32, two for each function",
    "runs.name": "name of the run, `run` in the views",
    "runs.config": "all options that the run was started with",
    "runs.config_digest": "digest of the options that decide its results",
    "runs.seed": "random seed of the search",
    "runs.status": "new, running, interrupted, finished or failed",
    "runs.storage": "folder or URI of its epoch checkpoints",
    "runs.code_version": "version of aquasurf-ray that created the run",
    "runs.lease_token": "grows with every driver that takes the run",
    "runs.lease_owner": "host and process of the driver that holds the run, if any",
    "runs.lease_seconds": "seconds without a heartbeat after which another driver may take the run",
    "runs.lease_heartbeat": "grows while the driver lives",
    "runs.lease_renewed_at": "time of the last heartbeat",
    "stop_requests.lease_token": "token of the driver that is to stop; later drivers are unaffected",
    "stop_requests.asked_by": "host and process that requested it",
    "stop_requests.asked_at": "time of the request",
    "live_runs.lease_token": "token of the driver that reported",
    "live_runs.reported_at": "time of the report",
    "live_runs.report": "workers and their jobs, evaluations per hour, seconds left, the reason why the run ends",
    "evaluations.claimed_by": "the run that trains it or has trained it, `runs.id`",
    "grown_candidates.generation": "number of the generation, from 1",
    "grown_candidates.change": "the change that made it, such as insert; proposal if a person or a command did",
    "grown_candidates.parent_id": "the function that was changed, `functions.id`",
    "grown_candidates.other_parent_id": "the second parent of a crossover, `functions.id`",
    "learned_values.position": "place in the network, from 0",
    "learned_values.layer": "name of the activation in the network",
    "learned_values.parameter": "name of the parameter in the function",
    "learned_values.initial": "its value before the training",
    "learned_values.n_channels": "number of channels with a value of their own; empty for one value for the layer",
    "learned_values.mean": "mean over the channels after the last epoch",
    "learned_values.spread": "standard deviation over the channels after the last epoch",
    "learned_values.course": "JSON: the mean after each epoch",
    "spectra.seed": "random seed of the weights, the batch and the sampled labels",
    "spectra.status": "done or diverged",
    "spectra.feature": "the compact spectrum, as `surrogate.spectra.SpectrumFeature.from_bytes` reads it",
    "attempts.number": "number of the attempt, from 1",
    "attempts.node": "the worker's machine",
    "attempts.ended_at": "time of the end",
    "attempts.outcome": "done, diverged, failed, interrupted or superseded; empty while it runs",
    "study_processes.nonce": "mark of the opening",
    "study_processes.owner": "host and process",
    "study_processes.seconds": "seconds without a sign of life after which the process counts as silent",
    "study_processes.renewed_at": "time of the last sign of life",
    "study_processes.stop_asked_by": "host and process that asked it to stop, if any",
    "trial_leases.owner": "host and process that asked for the function",
    "trial_leases.nonce": "mark of the call that asked",
    "trial_leases.seconds": "seconds without a heartbeat after which another process may be given the function",
    "trial_leases.heartbeat": "grows while the process lives",
    "trial_leases.renewed_at": "time of the last heartbeat",
    "events.seq": "place in the run's log, from 1",
    "events.at": "time of the event",
    "events.kind": "kind of event, such as claimed, started, result, spectra",
    "events.data": "details",
    "imported_entries.name": "the file's name for the function",
    "imported_entries.aliases": "names that the file declares to be equal",
    "imported_entries.other": "JSON: fields of the entry that this program does not know",
    "imported_entries.cdf_length": "number of values in `cdf`",
    "imported_entries.cdf": "zlib over little-endian float64",
    "run_evaluations.rank": "rank of the suggestion by predicted score, 1 the best",
    "run_evaluations.neighbors": "trained functions near it, with distance and score",
    "run_evaluations.embedding_version": "the embedding on which it was suggested, `embeddings.version`",
    "run_evaluations.suggested_at": "time of the run's request",
}
_ROWS = {
    "functions": "an activation function",
    "tasks": "a task: network, data and recipe; results compare only within one",
    "aliases": "another spelling of a function",
    "costs": "the cost of a function on a task and a kind of device",
    "embeddings": "an embedding of functions in two dimensions",
    "runs": "a run, with its configuration and the lease of the driver that works on it",
    "evaluations": "one training of one function on one task with one seed, and one change of the recipe or none",
    "run_candidates": "a function that a run may train",
    "grown_candidates": "the origin of a candidate that a search of an open space made",
    "spectra": "the spectrum of a function on a task, or the reason why it has none",
    "attempts": "one attempt at an evaluation on a worker",
    "trial_leases": "the right of one process to report the result of an attempt, until the attempt ends",
    "study_processes": "a process that has a study open",
    "epochs": "an epoch of an evaluation",
    "learned_values": "what one learned parameter of a function became in one layer, in one evaluation",
    "events": "a line of a run's log",
    "imported_entries": "the entry of an Act-Bench file from which an evaluation was imported",
    "run_evaluations": "an evaluation that a run requested",
    "stop_requests": "the last request to stop the run",
    "live_runs": "the last report of a run's driver on its workers",
}


def described(table: sa.Table) -> View:
    """Return a table with the meaning of its columns."""
    columns = tuple(Column(column.name, _kind(column), _meaning(column)) for column in table.columns)
    return View(table.name, _ROWS[table.name], columns)


def everything() -> tuple[View, ...]:
    """Return all views, then all tables."""
    return (*VIEWS, *map(described, Base.metadata.sorted_tables))


def reference() -> str:
    """Return the views and the table of runs, which people query most, as Markdown."""
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
