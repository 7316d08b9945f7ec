"""Runs: created once under a name and a configuration, then only resumed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from aquasurf_ray.store.database.columns import utc_now
from aquasurf_ray.store.database.engine import insert_or_skip
from aquasurf_ray.store.database.schema import Event, Function, RunCandidate
from aquasurf_ray.store.database.schema import Run as RunTable
from aquasurf_ray.store.errors import BadRecord, RunExists, RunNotFound, StoreCorrupt
from aquasurf_ray.store.records.leases import Lease, LeaseOwner
from aquasurf_ray.store.records.runs import LONGEST_NOTE, EventRecord, NewRun, NoteRecord, Run
from aquasurf_ray.store.records.tasks import FunctionRecord
from aquasurf_ray.store.verbs.functions import FUNCTION_COLUMNS
from aquasurf_ray.store.verbs.store_core import StoreCore, check_name, chunks, log

NOTE = "note"  # the kind of a line that a person added
RUN_COLUMNS = tuple(getattr(RunTable, field.name) for field in fields(Run) if field.name != "created")


class RunVerbs(StoreCore):
    """Creating, finding and extending runs."""

    def create_run(self, new: NewRun, candidate_ids: Sequence[int] = ()) -> Run:
        """Return the new run, or the existing one of this name and configuration; its field `created` says which.

        Raises:
            RunExists: a run of this name has another configuration; the text names what differs.
        """
        check_name("run", new.name)
        if new.budget is not None and new.budget < 0:
            raise BadRecord(f"budget: {new.budget} is negative; give 0 or more")

        def body(connection: sa.Connection) -> Run:
            values = {field.name: getattr(new, field.name) for field in fields(NewRun)}
            # Needed for the error text only; they have no column.
            del values["identity_keys"]
            added = connection.execute(insert_or_skip(connection, RunTable), values | {"status": "new"}).rowcount
            run = read_run(connection, new.name)
            if not added:
                _require_same(run, new)
                return run
            numbers = dict.fromkeys(candidate_ids)  # each once, in this order
            rows = [{"run_id": run.id, "position": i, "function_id": number} for i, number in enumerate(numbers)]
            for part in chunks(rows):
                connection.execute(sa.insert(RunCandidate), part)
            log(connection, run.id, "created", data={"candidates": len(candidate_ids), "budget": new.budget})
            return read_run(connection, new.name, created=True)

        return self._write(body)

    def run(self, name: str) -> Run:
        """Return one run.

        Raises:
            RunNotFound: no run has this name; the text lists similar ones.
        """
        return self._read(lambda connection: read_run(connection, name))

    def runs(self) -> list[Run]:
        """Return all runs, oldest first."""

        def body(connection: sa.Connection) -> list[Run]:
            return [to_run(row) for row in connection.execute(sa.select(*RUN_COLUMNS).order_by(RunTable.id))]

        return self._read(body)

    def candidates(self, run_id: int) -> list[FunctionRecord]:
        """Return the functions that the run may train, in order."""
        return self._read(lambda connection: read_candidates(connection, run_id))

    def set_budget(self, lease: Lease, budget: int) -> None:
        """Change the number of evaluations that the run is to make."""
        if budget < 0:
            raise BadRecord(f"budget: {budget} is negative; give 0 or more")

        def body(connection: sa.Connection, run: Any) -> None:
            before = connection.execute(sa.select(RunTable.budget).where(RunTable.id == run.id)).scalar()
            # A repeated verb must not log the change twice.
            if before != budget:
                connection.execute(sa.update(RunTable).where(RunTable.id == run.id).values(budget=budget))
                log(connection, run.id, "budget", data={"before": before, "after": budget})

        self._fenced(lease, body)

    def events(self, run_id: int, after: int = 0) -> list[EventRecord]:
        """Return the run's log after line `after`, in order."""

        def body(connection: sa.Connection) -> list[EventRecord]:
            query = (
                sa.select(Event.seq, Event.at, Event.kind, Event.evaluation_id, Event.function_id, Event.data)
                .where(Event.run_id == run_id, Event.seq > after)
                .order_by(Event.seq)
            )
            return [EventRecord(*row) for row in connection.execute(query)]

        return self._read(body)

    def add_note(self, run_id: int, text: str) -> None:
        """Add a note of a person to the run's log.

        Raises:
            BadRecord: the text is empty or too long.
            RunNotFound: no run has this number.
        """
        text = text.strip()
        if not 0 < len(text) <= LONGEST_NOTE:
            raise BadRecord(f"note: give a text of 1 to {LONGEST_NOTE} characters, got {len(text)}")

        def body(connection: sa.Connection) -> None:
            # Locks the run's row, as a line of its log needs.
            connection.execute(sa.update(RunTable).where(RunTable.id == run_id).values(updated_at=utc_now()))
            read_run_by_id(connection, run_id)
            log(connection, run_id, NOTE, data={"text": text})

        self._write(body)

    def notes(self, run_id: int | None = None) -> list[NoteRecord]:
        """Return the notes on a run, or on all runs, oldest first."""

        def body(connection: sa.Connection) -> list[NoteRecord]:
            query = sa.select(Event.run_id, Event.at, Event.data).where(Event.kind == NOTE).order_by(Event.id)
            of_run = query if run_id is None else query.where(Event.run_id == run_id)
            return [NoteRecord(row.run_id, row.at, str(row.data["text"])) for row in connection.execute(of_run)]

        return self._read(body)


def to_run(row: Any, created: bool = False) -> Run:
    """Return a row of RUN_COLUMNS as a record."""
    values = dict(row._mapping)
    owner = values["lease_owner"]
    values["lease_owner"] = None if owner is None else to_owner(owner)
    return Run(**values, created=created)


def to_owner(value: dict[str, Any]) -> LeaseOwner:
    """Return the owner in a JSON cell."""
    try:
        return LeaseOwner(**{field.name: value[field.name] for field in fields(LeaseOwner)})
    except (KeyError, TypeError):
        raise StoreCorrupt(
            f"a lease owner was expected in the store, got {value!r:.60}; restore a copy of it"
        ) from None


def read_run(connection: sa.Connection, name: str, created: bool = False) -> Run:
    """Return a run by name, or raise RunNotFound."""
    row = connection.execute(sa.select(*RUN_COLUMNS).where(RunTable.name == name)).one_or_none()
    if row is None:
        raise RunNotFound(_not_found(connection, name))
    return to_run(row, created)


def read_run_by_id(connection: sa.Connection, run_id: int) -> Run:
    """Return a run by number, or raise RunNotFound."""
    row = connection.execute(sa.select(*RUN_COLUMNS).where(RunTable.id == run_id)).one_or_none()
    if row is None:
        raise RunNotFound(f"no run has the number {run_id}; 'aquasurf status' lists all")
    return to_run(row)


def read_candidates(connection: sa.Connection, run_id: int) -> list[FunctionRecord]:
    """Return a run's candidates, in order."""
    query = (
        sa.select(*FUNCTION_COLUMNS)
        .join(RunCandidate, RunCandidate.function_id == Function.id)
        .where(RunCandidate.run_id == run_id)
        .order_by(RunCandidate.position)
    )
    return [FunctionRecord(*row) for row in connection.execute(query)]


def _require_same(run: Run, new: NewRun) -> None:
    if run.config_digest == new.config_digest:
        return
    if run.kind != new.kind:
        raise RunExists(f"run '{run.name}' is of kind '{run.kind}', not '{new.kind}'; choose another name")
    keys = new.identity_keys or sorted({*run.config, *new.config})
    changed = [
        f"{key} {run.config.get(key)!r} -> {new.config.get(key)!r}"
        for key in keys
        if run.config.get(key) != new.config.get(key)
    ]
    # A run of an older version may lack keys that the digest now covers; then only the digests differ.
    what = ", ".join(changed) or f"digest {run.config_digest} -> {new.config_digest}"
    raise RunExists(f"run '{run.name}' exists with another configuration ({what}); choose another name")


def refuse_taken(name: str) -> RunExists:
    """Return the error for a new run whose name another run has."""
    return RunExists(f"a run named '{name:.100}' already exists; choose another name")


def _not_found(connection: sa.Connection, name: str) -> str:
    names = list(connection.execute(sa.select(RunTable.name)).scalars())
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(repr(item) for item in close)}? " if close else ""
    return f"no run is named '{name:.100}'; {hint}'aquasurf status' lists all"
