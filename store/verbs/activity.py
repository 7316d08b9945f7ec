"""The driver of a run: its reports on its workers, and requests that it stop.

Other processes see a driver through the store only, so it reports its workers every few seconds. A report and a request
carry the token of the lease that they belong to: reports and requests of an earlier driver are ignored, so a
request never stops the session that comes after.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from aquasurf_ray.store.database.columns import utc_now
from aquasurf_ray.store.database.engine import insert_or_skip
from aquasurf_ray.store.database.schema import Attempt, Base, Event
from aquasurf_ray.store.database.schema import LiveRun as LiveTable
from aquasurf_ray.store.database.schema import StopRequest as StopTable
from aquasurf_ray.store.errors import StoreCorrupt
from aquasurf_ray.store.records.leases import Lease, LeaseOwner
from aquasurf_ray.store.records.live import FailureCause, LiveRun, LiveWorker, RunActivity, StopRequest
from aquasurf_ray.store.verbs.attempts import open_trials
from aquasurf_ray.store.verbs.processes import ask_to_stop, live_processes
from aquasurf_ray.store.verbs.runs import read_run_by_id, to_owner
from aquasurf_ray.store.verbs.store_core import FencedRun, StoreCore

_ASKED = sa.select(StopTable.asked_by, StopTable.asked_at).where(
    StopTable.run_id == sa.bindparam("at_run"), StopTable.lease_token == sa.bindparam("at_token")
)


class ActivityVerbs(StoreCore):
    """Stop requests, and drivers' reports."""

    def request_stop(self, run_id: int, asked_by: LeaseOwner) -> bool:
        """Request that the driver of a run stop, or that the processes do that have it open as a study.

        Return False and write nothing if there is neither.

        Raises:
            RunNotFound: no run has this number.
        """

        def body(connection: sa.Connection) -> bool:
            run = read_run_by_id(connection, run_id)
            if run.lease_owner is None:
                return ask_to_stop(connection, run_id, asked_by, self._is_dead)
            # Bound to the lease of now: after a `resume`, which takes a new one, the request is void.
            row = {"lease_token": run.lease_token, "asked_by": asdict(asked_by)}
            _put(connection, StopTable, run_id, row, at="asked_at")
            return True

        return self._write(body)

    def stop_request(self, lease: Lease) -> StopRequest | None:
        """Return the request that the holder of the lease stop, if there is one."""
        return self._read(lambda connection: _stop_request(connection, lease.run_id, lease.token))

    def report(self, lease: Lease, live: LiveRun) -> None:
        """Replace the driver's report on its run.

        Raises:
            LeaseLost: another driver took the run over.
        """

        def body(connection: sa.Connection, run: FencedRun) -> None:
            row = {"lease_token": lease.token, "report": asdict(live)}
            _put(connection, LiveTable, run.id, row, at="reported_at")

        self._fenced(lease, body)

    def activity(self, run_id: int) -> RunActivity:
        """Return the driver of a run and its last report.

        Raises:
            RunNotFound: no run has this number.
        """

        def body(connection: sa.Connection) -> RunActivity:
            run = read_run_by_id(connection, run_id)
            if run.lease_owner is None:
                processes = live_processes(connection, run_id, self._is_dead)
                return RunActivity(trials=tuple(open_trials(connection, run_id)), processes=processes)
            # Ages by the database's clock: this machine's may differ from that of the driver.
            now = connection.execute(sa.select(utc_now())).scalar_one()
            taken = sa.select(Event.at).where(Event.run_id == run_id, Event.kind == "lease_taken")
            reports = sa.select(LiveTable.reported_at, LiveTable.report).where(
                LiveTable.run_id == run_id, LiveTable.lease_token == run.lease_token
            )
            reported = connection.execute(reports).one_or_none()
            beat = run.lease_renewed_at
            return RunActivity(
                owner=run.lease_owner,
                since=connection.execute(taken.order_by(Event.seq.desc()).limit(1)).scalar(),
                heartbeat_age=None if beat is None else (now - beat).total_seconds(),
                lease_seconds=run.lease_seconds,
                live=None if reported is None else _to_live(reported.report),
                live_age=None if reported is None else (now - reported.reported_at).total_seconds(),
                stop_request=_stop_request(connection, run_id, run.lease_token),
            )

        return self._read(body)

    def failure_causes(self, run_id: int) -> tuple[FailureCause, ...]:
        """Return why attempts at the run's evaluations failed on their workers, retried or not; most frequent first."""
        n = sa.func.count()
        query = sa.select(sa.func.coalesce(Attempt.error, ""), n).where(
            Attempt.run_id == run_id, Attempt.outcome == "failed"
        )
        query = query.group_by(Attempt.error).order_by(n.desc(), Attempt.error)
        return self._read(lambda connection: tuple(FailureCause(*row) for row in connection.execute(query)))


def _put(connection: sa.Connection, model: type[Base], run_id: int, row: dict[str, Any], at: str) -> None:
    """Write the run's only row of a table, with the current time in the column `at`."""
    added = connection.execute(insert_or_skip(connection, model), row | {"run_id": run_id}).rowcount
    # Insert or update in two statements, since an upsert is spelled differently by each engine.
    if not added:
        connection.execute(sa.update(model).where(model.__table__.c.run_id == run_id).values(row | {at: utc_now()}))


def _stop_request(connection: sa.Connection, run_id: int, token: int) -> StopRequest | None:
    row = connection.execute(_ASKED, {"at_run": run_id, "at_token": token}).one_or_none()
    return None if row is None else StopRequest(to_owner(row.asked_by), row.asked_at)


def _to_live(report: dict[str, Any]) -> LiveRun:
    try:
        return LiveRun(**report | {"workers": tuple(LiveWorker(**worker) for worker in report["workers"])})
    except (KeyError, TypeError):
        raise StoreCorrupt(
            f"a driver's report was expected in the store, got {report!r:.60}; restore a copy of it"
        ) from None
