"""Imports: benchmarks that were trained elsewhere, as finished runs of kind `import`.

Their evaluations belong to a separate task for each file: its name is the one that the user gave, its version is
`imported`, and its digest follows from that name and the file's. So they never mix with the evaluations of this
program's own task of that name: other code trained them by another recipe, an entry may be the median of several seeds,
and a search must not reuse it as a training of its own. The parts of an entry without a column (the file's name for the
function, the names it declares to be equal, its CDF, unknown fields) are in `imported_entries`, from which an export
writes the file again. A file in this program's own format has none of these parts, and its spectra are stored like
those that a run computes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from aquasurf_ray.store.database.engine import insert_or_skip
from aquasurf_ray.store.database.schema import Evaluation, RunEvaluation, Spectrum, Task, table
from aquasurf_ray.store.database.schema import ImportedEntry as EntryTable
from aquasurf_ray.store.database.schema import Run as RunTable
from aquasurf_ray.store.records.evaluations import EvaluationResult
from aquasurf_ray.store.records.imports import BenchmarkEntry, NewImport
from aquasurf_ray.store.records.runs import Run
from aquasurf_ray.store.records.tasks import BOUNDS
from aquasurf_ray.store.verbs.functions import insert_functions
from aquasurf_ray.store.verbs.results import check_result
from aquasurf_ray.store.verbs.runs import RUN_COLUMNS, read_run, refuse_taken, to_run
from aquasurf_ray.store.verbs.store_core import StoreCore, check_name, chunks, log

VERSION = "imported"
_EVALUATIONS = table(Evaluation)
_METRICS = tuple(f.name for f in fields(EvaluationResult) if f.name not in ("status", "epochs", "learned"))
_ENTRY_COLUMNS = (EntryTable.name, EntryTable.aliases, EntryTable.cdf, EntryTable.cdf_length, EntryTable.other)


class ImportVerbs(StoreCore):
    """Importing benchmarks and reading them back."""

    def find_import(self, task: str, file_digest: str) -> Run | None:
        """Return the run that this file was imported as for this task, or None."""
        return self._read(lambda connection: _find(connection, _task_digest(task, file_digest)))

    def import_benchmark(self, new: NewImport) -> Run:
        """Create a run with all evaluations of the file, wholly or not at all, and return it. If the file was imported
        for this task before, return that run unchanged; the field `created` is then False.

        Raises:
            BadRecord: a result is contradictory, or a name cannot be stored.
            RunExists: another run has the name.
        """
        for name in (new.name, new.task, *(item.entry.name for item in new.entries)):
            check_name("import", name)
        for item in new.entries:
            # All are checked before the transaction, which holds a lock that others wait for.
            check_result(item.entry.result)

        def body(connection: sa.Connection) -> Run:
            digest = _task_digest(new.task, new.file_digest)
            # The task comes first: its unique digest makes a second import of the file wait here, then find the run.
            connection.execute(insert_or_skip(connection, Task), _task_row(new, digest))
            known = _find(connection, digest)
            if known is not None:
                return known
            task_id = connection.execute(sa.select(Task.id).where(Task.digest == digest)).scalar_one()
            run = _insert_run(connection, new, task_id)
            function_ids = insert_functions(connection, new.functions)
            ids = dict(zip((row.fingerprint for row in new.functions), function_ids, strict=True))
            _insert_entries(connection, run, new, ids)
            _insert_spectra(connection, run, new, ids)
            log(connection, run.id, "imported", data=new.report)
            return read_run(connection, new.name, created=True)

        return self._write(body)

    def has_imported_entries(self, run_id: int) -> bool:
        """Return whether the run is an import of a file that can be exported exactly as it was."""
        query = (
            sa.select(EntryTable.evaluation_id)
            .join(RunEvaluation, RunEvaluation.evaluation_id == EntryTable.evaluation_id)
            .where(RunEvaluation.run_id == run_id)
            .limit(1)
        )
        return self._read(lambda connection: connection.execute(query).first() is not None)

    def imported_entries(self, run_id: int) -> Iterator[BenchmarkEntry]:
        """Yield the entries of an imported file in its order, with only a part in memory at a time."""
        query = sa.select(RunEvaluation.evaluation_id).where(RunEvaluation.run_id == run_id)
        numbers = self._read(
            lambda connection: connection.execute(query.order_by(RunEvaluation.position)).scalars().all()
        )
        for part in chunks(numbers):
            yield from self._read_entries(part)

    def _read_entries(self, evaluation_ids: Sequence[int]) -> list[BenchmarkEntry]:
        columns = [getattr(Evaluation, name) for name in ("status", *_METRICS)]
        query = (
            sa.select(*_ENTRY_COLUMNS, *columns)
            .join(Evaluation, Evaluation.id == EntryTable.evaluation_id)
            .join(RunEvaluation, RunEvaluation.evaluation_id == Evaluation.id)
            .where(EntryTable.evaluation_id.in_(evaluation_ids))
            .order_by(RunEvaluation.position)
        )
        return self._read(lambda connection: [_to_entry(row) for row in connection.execute(query)])


def _task_digest(task: str, file_digest: str) -> str:
    """Return a digest that no trainable task can have: theirs are 32 digits without a prefix."""
    content = json.dumps([VERSION, task, file_digest])
    return f"{VERSION}-{hashlib.sha256(content.encode()).hexdigest()[:32]}"


def _task_row(new: NewImport, digest: str) -> dict[str, Any]:
    metric = new.metric
    bounds = {key: end for key in BOUNDS if (end := getattr(metric, key)) is not None}
    objective = {"metric": metric.name, "higher_is_better": metric.higher_is_better, **bounds}
    origin = {"file": new.file, "file_digest": new.file_digest}
    spec = {"name": new.task, "version": VERSION, "imported": origin, "objective": objective}
    return {"name": new.task, "version": VERSION, "digest": digest, "spec": spec}


def _find(connection: sa.Connection, task_digest: str) -> Run | None:
    query = sa.select(*RUN_COLUMNS).join(Task, Task.id == RunTable.task_id).where(Task.digest == task_digest)
    row = connection.execute(query).one_or_none()
    return None if row is None else to_run(row)


def _insert_run(connection: sa.Connection, new: NewImport, task_id: int) -> Run:
    config = {"task": new.task, "file": new.file, "file_digest": new.file_digest, "modules": list(new.modules)}
    values = {
        "name": new.name,
        "kind": "import",
        "task_id": task_id,
        "config": config,
        # The file stands in for a configuration, of which this column usually has 32 digits.
        "config_digest": new.file_digest[:32],
        "seed": 0,
        "status": "finished",
        "code_version": new.code_version,
        "message": f"imported from {new.file}, SHA-256 {new.file_digest[:16]}...",
    }
    if connection.execute(insert_or_skip(connection, RunTable), values).rowcount == 0:
        raise refuse_taken(new.name)
    return read_run(connection, new.name)


def _insert_entries(connection: sa.Connection, run: Run, new: NewImport, ids: dict[str, int]) -> None:
    """Insert evaluations, the run's requests for them, and their entries, a few hundred at a time."""
    position, same = 0, {"task_id": run.task_id, "claimed_by": run.id}
    for part in chunks(new.entries):
        keys = [(ids[item.fingerprint], item.seed) for item in part]
        values = [_evaluation_row(item.entry.result, *key) | same for item, key in zip(part, keys, strict=True)]
        connection.execute(sa.insert(_EVALUATIONS), values)
        numbers = _evaluation_ids(connection, run.task_id, [key[0] for key in keys])
        requests = [
            {"run_id": run.id, "evaluation_id": numbers[key], "position": i, "origin": "import", "reused": False}
            for i, key in enumerate(keys, start=position)
        ]
        connection.execute(sa.insert(table(RunEvaluation)), requests)
        if new.keeps_entries:
            entries = [_entry_row(item.entry, numbers[key]) for item, key in zip(part, keys, strict=True)]
            connection.execute(sa.insert(table(EntryTable)), entries)
        position += len(part)


def _insert_spectra(connection: sa.Connection, run: Run, new: NewImport, ids: dict[str, int]) -> None:
    # A benchmark file does not say which seed its spectra are of; 0 is the seed that exports take first.
    same = {"task_id": run.task_id, "run_id": run.id, "seed": 0, "status": "done"}
    for part in chunks(new.spectra):
        rows = [{"function_id": ids[s.fingerprint], "fisher": s.fisher, "feature": s.feature} | same for s in part]
        connection.execute(sa.insert(table(Spectrum)), rows)


def _evaluation_ids(connection: sa.Connection, task_id: int, function_ids: Sequence[int]) -> dict[tuple[int, int], int]:
    """Return the numbers of evaluations by function and seed."""
    query = sa.select(_EVALUATIONS.c.function_id, _EVALUATIONS.c.seed, _EVALUATIONS.c.id).where(
        _EVALUATIONS.c.task_id == task_id, _EVALUATIONS.c.function_id.in_(function_ids)
    )
    return {(row.function_id, row.seed): row.id for row in connection.execute(query)}


def _evaluation_row(result: EvaluationResult, function_id: int, seed: int) -> dict[str, Any]:
    values = {name: getattr(result, name) for name in ("status", *_METRICS)}
    return values | {"function_id": function_id, "seed": seed}


def _entry_row(entry: BenchmarkEntry, evaluation_id: int) -> dict[str, Any]:
    copied = {name: getattr(entry, name) for name in ("name", "other", "cdf_length", "cdf")}
    return copied | {"aliases": list(entry.aliases), "evaluation_id": evaluation_id}


def _to_entry(row: Any) -> BenchmarkEntry:
    result = EvaluationResult(row.status, **{name: getattr(row, name) for name in _METRICS})
    return BenchmarkEntry(row.name, result, tuple(row.aliases), bytes(row.cdf), row.cdf_length, row.other)
