"""Tasks and functions, which evaluations and spectra belong to. All runs share them, and they never change, except for
the range of a task's metric."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from aquasurf_ray.store.database.engine import insert_or_skip
from aquasurf_ray.store.database.schema import Alias, Function, RunCandidate, Task
from aquasurf_ray.store.errors import RecordNotFound
from aquasurf_ray.store.records.tasks import BOUNDS, FunctionRecord, FunctionRow, TaskRecord, bounds_in
from aquasurf_ray.store.verbs.store_core import StoreCore, check_name, chunks

FUNCTION_COLUMNS = (Function.id, Function.fingerprint, Function.name, Function.n_operators)
TASK_COLUMNS = (Task.id, Task.name, Task.version, Task.digest, Task.spec, Task.created_at)


class FunctionVerbs(StoreCore):
    """Adding and finding tasks and functions."""

    def add_task(self, name: str, version: str, digest: str, spec: dict[str, object]) -> int:
        """Return the number of the task with this digest; add it if it is new.

        A known task keeps its spec, but the range of its metric, which changes no result, becomes that of `spec`.
        """
        check_name("task", name)

        def body(connection: sa.Connection) -> int:
            row = {"name": name, "version": version, "digest": digest, "spec": spec}
            connection.execute(insert_or_skip(connection, Task), row)
            known = connection.execute(sa.select(Task.id, Task.spec).where(Task.digest == digest)).one()
            bounds = bounds_in(spec)
            if bounds != bounds_in(known.spec):
                objective = known.spec.get("objective") or {}
                kept = {key: value for key, value in objective.items() if key not in BOUNDS}
                changed = {**known.spec, "objective": {**kept, **bounds}}
                connection.execute(sa.update(Task).where(Task.id == known.id).values(spec=changed))
            return int(known.id)

        return self._write(body)

    def task(self, task_id: int) -> TaskRecord:
        """Return one task.

        Raises:
            RecordNotFound: no task has this number.
        """
        return self._read(lambda connection: read_task(connection, task_id))

    def add_functions(self, rows: Sequence[FunctionRow]) -> list[int]:
        """Add functions that are new, and return the numbers of all, in the order of `rows`.

        A function whose fingerprint is known keeps its name; the new name becomes an alias. An alias that is taken
        stays with its function.
        """
        return self._write(lambda connection: insert_functions(connection, rows))

    def functions(self, function_ids: Iterable[int]) -> dict[int, FunctionRecord]:
        """Return the functions with these numbers; unknown numbers are left out."""
        wanted = sorted(set(function_ids))

        def body(connection: sa.Connection) -> dict[int, FunctionRecord]:
            found: dict[int, FunctionRecord] = {}
            for part in chunks(wanted):
                query = sa.select(*FUNCTION_COLUMNS).where(Function.id.in_(part))
                found.update((row.id, FunctionRecord(*row)) for row in connection.execute(query))
            return found

        return self._read(body)

    def find_function(self, text: str, run_id: int | None = None) -> FunctionRecord | None:
        """Return the function with this fingerprint, name or alias.

        Two functions have one name where stores were merged, or where machines round differently. So with `run_id`, the
        candidates of that run come before all others.
        """
        return self._read(lambda connection: find_function(connection, text, run_id))

    def functions_named(self, names: Iterable[str]) -> list[tuple[str, FunctionRecord]]:
        """Return the functions that have one of these names, or have it as an alias, each with that name."""
        return self._read(lambda connection: functions_named(connection, names))

    def aliases(self, function_ids: Iterable[int]) -> dict[int, tuple[str, ...]]:
        """Return the other names of these functions, in alphabetical order; functions without one are left out."""
        wanted = sorted(set(function_ids))

        def body(connection: sa.Connection) -> dict[int, tuple[str, ...]]:
            found: dict[int, tuple[str, ...]] = {}
            for part in chunks(wanted):
                query = sa.select(Alias.function_id, Alias.name).where(Alias.function_id.in_(part)).order_by(Alias.name)
                for row in connection.execute(query):
                    found[row.function_id] = (*found.get(row.function_id, ()), row.name)
            return found

        return self._read(body)


def insert_functions(connection: sa.Connection, rows: Sequence[FunctionRow]) -> list[int]:
    """Add functions as `FunctionVerbs.add_functions` does, in the caller's transaction."""
    for row in rows:
        check_name("function", row.name)
    _insert_functions(connection, rows)
    # Read after the insert: another process may have added some of them first, under other names.
    known = _by_fingerprint(connection, {row.fingerprint for row in rows})
    _insert_aliases(connection, rows, known)
    return [known[row.fingerprint].id for row in rows]


def functions_named(connection: sa.Connection, names: Iterable[str]) -> list[tuple[str, FunctionRecord]]:
    """Find functions as `FunctionVerbs.functions_named` does, in the caller's transaction."""
    by_alias = sa.select(Alias.name, *FUNCTION_COLUMNS).join(Function, Alias.function_id == Function.id)
    found: list[tuple[str, FunctionRecord]] = []
    for part in chunks(sorted(set(names))):
        for query, column in (
            (sa.select(Function.name, *FUNCTION_COLUMNS), Function.name),
            (by_alias, Alias.name),
        ):
            rows = connection.execute(query.where(column.in_(part)))
            found += [(row[0], FunctionRecord(*row[1:])) for row in rows]
    return found


def read_task(connection: sa.Connection, task_id: int) -> TaskRecord:
    """Return one task, or raise RecordNotFound."""
    row = connection.execute(sa.select(*TASK_COLUMNS).where(Task.id == task_id)).one_or_none()
    if row is None:
        raise RecordNotFound(f"no task has the number {task_id}")
    return TaskRecord(*row)


def find_function(connection: sa.Connection, text: str, run_id: int | None = None) -> FunctionRecord | None:
    """Find a function by fingerprint, then by name, then by alias; first among the candidates of a run, if one is
    given."""
    anywhere = sa.select(*FUNCTION_COLUMNS).order_by(Function.id).limit(1)
    of_run = anywhere.join(RunCandidate, RunCandidate.function_id == Function.id).where(RunCandidate.run_id == run_id)
    for query in (anywhere,) if run_id is None else (of_run, anywhere):
        by_alias = query.join(Alias, Alias.function_id == Function.id).where(Alias.name == text)
        for attempt in (query.where(Function.fingerprint == text), query.where(Function.name == text), by_alias):
            row = connection.execute(attempt).one_or_none()
            if row is not None:
                return FunctionRecord(*row)
    return None


def _by_fingerprint(connection: sa.Connection, fingerprints: Iterable[str]) -> dict[str, FunctionRecord]:
    found: dict[str, FunctionRecord] = {}
    for part in chunks(sorted(fingerprints)):
        query = sa.select(*FUNCTION_COLUMNS).where(Function.fingerprint.in_(part))
        found.update((row.fingerprint, FunctionRecord(*row)) for row in connection.execute(query))
    return found


def _insert_functions(connection: sa.Connection, rows: Sequence[FunctionRow]) -> None:
    known = _by_fingerprint(connection, {row.fingerprint for row in rows})
    new: dict[str, FunctionRow] = {}
    for row in rows:
        if row.fingerprint not in known:
            new.setdefault(row.fingerprint, row)
    values = [  # in sorted order, so that two processes that add the same functions cannot deadlock
        {"fingerprint": row.fingerprint, "name": row.name, "n_operators": row.n_operators}
        for _, row in sorted(new.items())
    ]
    for part in chunks(values):
        connection.execute(insert_or_skip(connection, Function), part)


def _insert_aliases(connection: sa.Connection, rows: Sequence[FunctionRow], known: dict[str, FunctionRecord]) -> None:
    aliases: dict[str, int] = {}
    for row in rows:
        function = known[row.fingerprint]
        for name in (row.name, *row.aliases):
            if name != function.name:
                check_name("alias", name)
                aliases.setdefault(name, function.id)
    values = [{"name": name, "function_id": function_id} for name, function_id in sorted(aliases.items())]
    for part in chunks(values):
        connection.execute(insert_or_skip(connection, Alias), part)
