"""The merge of another store into this one, for machines that worked apart, or a laptop's search and a team's database.

Functions are matched by fingerprint, tasks by digest (those of a user's own loop by the instant at which they were
created, because a digest says nothing about the loop), evaluations by task, function, seed and change of the
recipe, runs as described in `store.merging.runs`. Nothing that is finished is lost, and nothing is duplicated. All is
one transaction, so a merge that is killed has changed nothing, and repeating a merge changes nothing more. The other
store is only read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from aquasurf_ray.store.database.engine import insert_or_skip
from aquasurf_ray.store.database.schema import (
    Alias,
    Base,
    Cost,
    Embedding,
    Evaluation,
    Function,
    LearnedValue,
    Run,
    Spectrum,
    Task,
    table,
)
from aquasurf_ray.store.database.url import StoreUrl, parse_url
from aquasurf_ray.store.errors import BadUrl, RunHeld, StoreCorrupt
from aquasurf_ray.store.merging.evaluations import merge_evaluations
from aquasurf_ray.store.merging.numbering import Merging, ParameterNames, Row
from aquasurf_ray.store.merging.own_operators import OwnOperators
from aquasurf_ray.store.merging.runs import MergedRun, RunMerge, live_runs, write_notes
from aquasurf_ray.store.merging.source import lift_idle_limit, opened
from aquasurf_ray.store.records.leases import LeaseOwner
from aquasurf_ray.store.records.tasks import FunctionRow, is_own_loop
from aquasurf_ray.store.verbs.functions import insert_functions
from aquasurf_ray.store.verbs.runs import to_owner
from aquasurf_ray.store.verbs.store_core import StoreCore, chunks

_LOCK_KEY = 0x6171756D65726765  # "aqumerge"
_FEATURES = 50  # spectra in memory at a time; one may take a megabyte


@dataclass(frozen=True)
class MergeReport:
    """The outcome of a merge: new rows by kind, and the outcome for every run.

    `results` counts evaluations that had no result here, or one that was stopped early, and now have a whole one;
    `other_results` counts different results of evaluations that had one here, which went into the log of their run.
    """

    store: str
    runs: tuple[MergedRun, ...]
    tasks: int
    functions: int
    aliases: int
    evaluations: int
    results: int
    other_results: int
    spectra: int
    costs: int
    embeddings: int


class MergeVerbs(StoreCore):
    """Merging."""

    def merge(
        self,
        url: str,
        parameter_names: ParameterNames | None = None,
        operators: OwnOperators | None = None,
    ) -> MergeReport:
        """Merge the store at `url` into this one, wholly or not at all.

        Args:
            parameter_names: renames what was learned in the other store where this one knows the function by another
                spelling, in which its parameters have other names: `activations.learned.names_by_spelling`. Without
                it, they keep the names of the other spelling.
            operators: finds the operators that are somebody's own, and renames those of the other store. Without it,
                there are none.

        Raises:
            BadUrl: the URL is this store's own.
            NameTaken: a function with an own operator is another one here under a name of it; nothing is changed.
            StoreUnavailable, WrongDatabase: the other store cannot be read, or has another version; nothing is changed.
            RunHeld: a driver works on a run of this store.
        """
        if _same_file(self._database.url, parse_url(url)):
            raise self._merged_into_itself()
        with opened(url) as source:
            own = operators or OwnOperators()
            return self._write(lambda here: self._merged(Merging(source, here, own), parameter_names))

    def _merged(self, merging: Merging, parameter_names: ParameterNames | None) -> MergeReport:
        source, here = merging.source, merging.here
        if _postgresql_database(here) == _postgresql_database(source.connection) is not None:
            raise self._merged_into_itself()
        _lock(here)
        for run in live_runs(here, self._is_dead):
            owner = to_owner(run["lease_owner"])
            raise RunHeld(
                f"run '{run['name']}' of '{self.safe_url}' is held by {owner.host} pid {owner.pid}; "
                "stop that driver, merge, and resume it"
            )
        # Counted before and after: rows that both stores have are skipped by the database itself.
        before = {model: _n(here, model) for model in (Task, Function, Alias)}
        # In this order, because each step translates numbers of rows that the steps before it have brought here.
        _merge_tasks(merging, self._is_dead)
        _merge_functions(merging, parameter_names, self.safe_url)
        runs = RunMerge(merging, self._is_dead)
        runs.begin()
        merge_evaluations(merging)
        runs.finish()
        write_notes(merging)
        _merge_spectra(merging)
        _merge_costs(merging)
        _merge_embeddings(merging)
        added = {model: _n(here, model) - n for model, n in before.items()}
        return MergeReport(
            store=source.name,
            runs=tuple(runs.report()),
            tasks=added[Task],
            functions=added[Function],
            aliases=added[Alias],
            **{
                name: merging.counts.get(name, 0)
                for name in ("evaluations", "results", "other_results", "spectra", "costs", "embeddings")
            },
        )

    def _merged_into_itself(self) -> BadUrl:
        return BadUrl(f"store '{self.safe_url}' is the one to merge into; name another one")


def _same_file(one: StoreUrl, other: StoreUrl) -> bool:
    if one.path is None or other.path is None:
        return False
    return one.path.exists() and other.path.exists() and Path(one.path).samefile(other.path)


def _postgresql_database(connection: sa.Connection) -> tuple[Any, ...] | None:
    """Return an identity of a PostgreSQL database that no spelling of its host changes; None for SQLite."""
    if connection.dialect.name != "postgresql":
        return None
    query = "SELECT oid, pg_postmaster_start_time() FROM pg_database WHERE datname = current_database()"
    return tuple(connection.exec_driver_sql(query).one())


def _lock(here: sa.Connection) -> None:
    """Lock out other merges and drivers that would start meanwhile; in SQLite the write lock does that already."""
    if here.dialect.name == "postgresql":
        lift_idle_limit(here)
        here.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_KEY)))
        here.execute(sa.select(Run.id).order_by(Run.id).with_for_update())


def _n(here: sa.Connection, model: type[Base]) -> int:
    return int(here.execute(sa.select(sa.func.count()).select_from(table(model))).scalar_one())


def _merge_tasks(merging: Merging, is_dead: Callable[[LeaseOwner], bool]) -> None:
    left_out = {run["task_id"] for run in live_runs(merging.source.connection, is_dead)}
    for row in merging.source.rows(sa.select(table(Task)).order_by(Task.id)):
        if is_own_loop(row.spec):
            merging.tasks[row.id] = _task_of_own_loop(merging, row, row.id in left_out)
        else:
            merging.here.execute(insert_or_skip(merging.here, Task), _without_id(row))
            query = sa.select(Task.id).where(Task.digest == row.digest)
            merging.tasks[row.id] = int(merging.here.execute(query).scalar_one())


def _task_of_own_loop(merging: Merging, row: Any, left_out: bool) -> int:
    """Return the number here of a task whose digest does not tell two loops apart: the one created at that instant.

    The digest of another loop's task of that name stays with that task, and so does that of a run which is left out:
    a study that begins here under its name would be given the task of the other store's loop.
    """
    query = sa.select(Task.id, Task.spec).where(Task.name == row.name, Task.created_at == row.created_at)
    same = [task.id for task in merging.here.execute(query.order_by(Task.id)) if is_own_loop(task.spec)]
    if same:
        return int(same[0])
    taken = merging.here.execute(sa.select(Task.id).where(Task.digest == row.digest)).first() is not None
    moment = f"{row.digest} {row.created_at.isoformat()}"
    number = hashlib.sha256(moment.encode()).hexdigest()[:32] if taken or left_out else row.digest
    merging.here.execute(sa.insert(table(Task)), [_without_id(row) | {"digest": number}])
    return int(merging.here.execute(sa.select(Task.id).where(Task.digest == number)).scalar_one())


def _merge_functions(merging: Merging, parameter_names: ParameterNames | None, here: str) -> None:
    numbers = [row.id for row in merging.source.rows(sa.select(Function.id).order_by(Function.id))]
    operators = merging.operators
    if operators.renamed:
        names = (row.name for column in (Function.name, Alias.name) for row in merging.source.rows(sa.select(column)))
        operators.refuse_unknown(set().union(*map(operators.find, names)), merging.source.name)
    for part in chunks(numbers):
        there = _functions_there(merging, part)
        rows = {number: operators.row(row) for number, row in there.items()}
        merging.functions |= dict(zip(rows, insert_functions(merging.here, list(rows.values())), strict=True))
        operators.refuse_other_meaning(merging.here, list(rows.values()), merging.source.name, here)
        if parameter_names is not None:
            _name_parameters(merging, rows, parameter_names)


def _functions_there(merging: Merging, numbers: Sequence[int]) -> dict[int, FunctionRow]:
    """Return functions of the other store by their numbers there."""
    query = sa.select(Alias.function_id, Alias.name).where(Alias.function_id.in_(numbers)).order_by(Alias.name)
    aliases: dict[int, list[str]] = {}
    for row in merging.source.rows(query):
        aliases.setdefault(row.function_id, []).append(row.name)
    columns = sa.select(Function.id, Function.fingerprint, Function.name, Function.n_operators)
    found = merging.source.rows(columns.where(Function.id.in_(numbers)).order_by(Function.id))
    return {f.id: FunctionRow(f.fingerprint, f.name, f.n_operators, tuple(aliases.get(f.id, ()))) for f in found}


def _name_parameters(merging: Merging, found: Mapping[int, FunctionRow], parameter_names: ParameterNames) -> None:
    """Find the names here of the parameters that these functions of the other store learned there."""
    learned = sa.select(Evaluation.function_id).join(LearnedValue, LearnedValue.evaluation_id == Evaluation.id)
    those = learned.where(Evaluation.function_id.in_(found)).distinct()
    learning = {row.function_id for row in merging.source.rows(those)}
    name_there = {merging.functions[number]: row.name for number, row in found.items() if number in learning}
    query = sa.select(Function.id, Function.name).where(Function.id.in_(name_there))
    for number, name in merging.here.execute(query).all():
        if name != name_there[number]:
            merging.parameters[number] = parameter_names(name, name_there[number])


def _merge_spectra(merging: Merging) -> None:
    """Copy the spectra that this store lacks; the features of the others are not read."""
    columns = (Spectrum.task_id, Spectrum.function_id, Spectrum.fisher, Spectrum.seed)
    known = {tuple(row) for row in merging.here.execute(sa.select(*columns))}
    missing = [
        row.id
        for row in merging.source.rows(sa.select(Spectrum.id, *columns).order_by(Spectrum.function_id, Spectrum.id))
        if (merging.task(row.task_id), merging.function(row.function_id), row.fisher, row.seed) not in known
    ]
    for start in range(0, len(missing), _FEATURES):
        query = sa.select(table(Spectrum)).where(Spectrum.id.in_(missing[start : start + _FEATURES]))
        rows = [_moved(merging, row) for row in merging.source.rows(query.order_by(Spectrum.id))]
        for row in rows:
            row["run_id"] = merging.run(row["run_id"])
        merging.here.execute(insert_or_skip(merging.here, Spectrum), rows)
    merging.count("spectra", len(missing))


def _merge_costs(merging: Merging) -> None:
    query = sa.select(Cost.task_id, Cost.function_id, Cost.device)
    known = {tuple(row) for row in merging.here.execute(query)}
    rows = [_moved(merging, row) for row in merging.source.rows(sa.select(table(Cost)).order_by(Cost.function_id))]
    new = [row for row in rows if (row["task_id"], row["function_id"], row["device"]) not in known]
    for part in chunks(new):
        merging.here.execute(insert_or_skip(merging.here, Cost), part)
    merging.count("costs", len(new))


def _merge_embeddings(merging: Merging) -> None:
    """Copy embeddings one at a time. Their version is a digest of their inputs, so equal versions are the same."""
    known = set(merging.here.execute(sa.select(Embedding.version)).scalars())
    for version in (row.version for row in merging.source.rows(sa.select(Embedding.version))):
        if version in known:
            continue
        (row,) = merging.source.rows(sa.select(table(Embedding)).where(Embedding.version == version))
        values = dict(row._mapping) | {"task_id": merging.task(row.task_id)}
        values["function_ids"] = _renumbered(merging, row.function_ids, version)
        merging.here.execute(insert_or_skip(merging.here, Embedding), values)
        merging.count("embeddings")


def _renumbered(merging: Merging, packed: bytes, version: str) -> bytes:
    """Return the functions of an embedding by their numbers in this store, int64 little-endian."""
    import numpy as np

    if len(packed) % 8:
        text = f"embedding '{version}' of store '{merging.source.name}' is cut short; restore a copy of it"
        raise StoreCorrupt(text)
    numbers = np.frombuffer(packed, dtype="<i8").tolist()
    return np.array([merging.function(number) for number in numbers], dtype="<i8").tobytes()


def _moved(merging: Merging, row: Any) -> Row:
    numbers = {"task_id": merging.task(row.task_id), "function_id": merging.function(row.function_id)}
    return _without_id(row) | numbers


def _without_id(row: Any) -> Row:
    return {name: value for name, value in row._mapping.items() if name != "id"}
