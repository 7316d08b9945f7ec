"""The base of all verbs: the database, the fence in front of every write, and the run's log.

A driver's write begins with `fence`: an update of the run's row that only the holder of the lease can make. The row
stays locked until the commit, so the writes of one run are serialised, and a driver that lost its lease writes nothing.
Locks are always taken in the same order, the run's row and then evaluations by function, so that runs cannot deadlock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from aquasurf_ray.store.database.clock import Clock
from aquasurf_ray.store.database.columns import dump_json, load_json, utc_now
from aquasurf_ray.store.database.schema import Event, Run, table
from aquasurf_ray.store.database.transactions import Database
from aquasurf_ray.store.errors import BadRecord, LeaseLost
from aquasurf_ray.store.records.leases import Lease, LeaseOwner
from aquasurf_ray.store.records.runs import LONGEST_NAME

T = TypeVar("T")
_RUNS, _EVENTS = table(Run), table(Event)
# Statements of the hot path are built once, because building one takes several times as long as running it. Parameters
# named `at_...` select rows, the others are columns.
_TOUCH = (
    sa.update(_RUNS)
    .where(_RUNS.c.id == sa.bindparam("at_run"), _RUNS.c.lease_token == sa.bindparam("at_token"))
    .values(updated_at=utc_now())
)
_LAST_EVENTS = (
    sa.select(_EVENTS.c.seq, _EVENTS.c.kind, _EVENTS.c.evaluation_id, _EVENTS.c.function_id, _EVENTS.c.data)
    .where(_EVENTS.c.run_id == sa.bindparam("at_run"))
    .order_by(_EVENTS.c.seq.desc())
    .limit(sa.bindparam("at_most"))
)
_LOG = sa.insert(_EVENTS).inline()
CHUNK = 500  # rows or values in one statement; SQLite allows 999 values in older versions


class EventRow(NamedTuple):
    """A line of a run's log."""

    kind: str
    evaluation_id: int | None = None
    function_id: int | None = None
    data: dict[str, Any] | None = None


class FencedRun(NamedTuple):
    """The run that a driver may write to now, and the events for its log at the end of the transaction."""

    id: int
    name: str
    task_id: int
    code_version: str
    events: list[EventRow]


class StoreCore:
    """The store's database. The classes of the other modules add the verbs."""

    def __init__(self, database: Database, is_dead: Callable[[LeaseOwner], bool]) -> None:
        self._database = database
        self._is_dead = is_dead
        self._report_write: Callable[[float], None] = lambda seconds: None

    @property
    def safe_url(self) -> str:
        """The store's URL without passwords."""
        return self._database.url.safe

    @contextmanager
    def reporting_writes(self, report: Callable[[float], None]) -> Iterator[None]:
        """Call `report` after each write of the block with the seconds that it took, in the thread that wrote."""
        before, self._report_write = self._report_write, report
        try:
            yield
        finally:
            self._report_write = before

    @property
    def _clock(self) -> Clock:
        return self._database.clock

    def _write(self, body: Callable[[sa.Connection], T]) -> T:
        started = time.perf_counter()
        try:
            return self._database.write(body)
        finally:
            self._report_write(time.perf_counter() - started)

    def _read(self, body: Callable[[sa.Connection], T]) -> T:
        return self._database.read(body)

    def _fenced(self, lease: Lease, body: Callable[[sa.Connection, FencedRun], T]) -> T:
        """Run a driver's write behind the fence.

        Raises:
            LeaseLost: the run was taken over; nothing was written.
        """

        def whole(connection: sa.Connection) -> T:
            run = fence(connection, lease)
            # The events of a verb are written at its end, together: two statements, however many there are.
            found = body(connection, run)
            log_all(connection, run.id, run.events)
            return found

        return self._write(whole)


def fence(connection: sa.Connection, lease: Lease) -> FencedRun:
    """Lock the run's row for the holder of its lease."""
    touched = connection.execute(_TOUCH, {"at_run": lease.run_id, "at_token": lease.token})
    if touched.rowcount == 0:
        raise LeaseLost(_lost(connection, lease))
    return FencedRun(lease.run_id, lease.run_name, lease.task_id, lease.code_version, [])


def log(
    connection: sa.Connection,
    run_id: int,
    kind: str,
    evaluation_id: int | None = None,
    function_id: int | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Append to the run's log; the caller has locked the run's row."""
    log_all(connection, run_id, [EventRow(kind, evaluation_id, function_id, data)])


def log_all(connection: sa.Connection, run_id: int, events: Sequence[EventRow]) -> None:
    """Append events to the run's log, in two statements; the caller has locked the run's row.

    Events that equal the last ones are not written: they come from a verb that ran again because its COMMIT was not
    answered.
    """
    if not events:
        return
    found = connection.execute(_LAST_EVENTS, {"at_run": run_id, "at_most": len(events)}).all()
    if len(found) == len(events) and all(map(_same_event, events, reversed(found))):
        return
    last = found[0].seq if found else 0
    rows = [{"run_id": run_id, "seq": seq, **event._asdict()} for seq, event in enumerate(events, start=last + 1)]
    connection.execute(_LOG, rows)


def _same_event(event: EventRow, last: Any) -> bool:
    if event[:3] != (last.kind, last.evaluation_id, last.function_id):
        return False
    # JSON gives tuples back as lists, and NaN as text, so the event is compared in that form if need be.
    return event.data == last.data or (event.data is not None and load_json(dump_json(event.data)) == last.data)


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield `values` in pieces that fit one statement."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def check_name(what: str, name: str) -> None:
    """Raise BadRecord for a name that is empty or cannot be indexed."""
    if not name.strip() or len(name) > LONGEST_NAME:
        raise BadRecord(f"{what} has a name of {len(name)} characters; give 1 to {LONGEST_NAME}")


def _lost(connection: sa.Connection, lease: Lease) -> str:
    row = connection.execute(sa.select(Run.lease_owner).where(Run.id == lease.run_id)).one_or_none()
    owner = row.lease_owner if row is not None else None
    if owner is None:
        return f"run '{lease.run_name}' is no longer held by this driver; resume it"
    return f"run '{lease.run_name}' was taken over by {owner.get('host')} pid {owner.get('pid')}; this driver stops"
