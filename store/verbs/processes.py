"""The processes that have a study open: each renews a sign of life, whether or not it has a trial.

A study has no driver, so only these rows tell whether somebody works on it, for example computes spectra, while no
trial is open. They decide nothing about results: that is done by the leases of trials (`trials.py`). A process that was
killed leaves its row behind, which the next one that enters removes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict

import sqlalchemy as sa

from aquasurf_ray.store.database.columns import utc_now
from aquasurf_ray.store.database.engine import insert_or_skip
from aquasurf_ray.store.database.schema import Run, StudyProcess, TrialLease
from aquasurf_ray.store.records.leases import LeaseOwner
from aquasurf_ray.store.records.trials import OpenProcess
from aquasurf_ray.store.verbs.attempts import UNWATCHED_LEASES
from aquasurf_ray.store.verbs.runs import to_owner
from aquasurf_ray.store.verbs.store_core import StoreCore, chunks


class ProcessVerbs(StoreCore):
    """Entering and leaving a study, and the signs of life in between."""

    def enter_study(self, run_id: int, owner: LeaseOwner, *, nonce: str, lease_seconds: float) -> None:
        """Record that a process has the study open, which runs from now on unless it is finished.

        Args:
            nonce: a text that no other opening of the study has.
            lease_seconds: the time without a sign of life after which the process counts as silent.
        """

        def body(connection: sa.Connection) -> None:
            # The run's row first, as everywhere.
            at_rest = (Run.id == run_id) & Run.lease_owner.is_(None) & Run.status.in_(("new", "interrupted"))
            connection.execute(sa.update(Run).where(at_rest).values(status="running", updated_at=utc_now()))
            gone = [each.nonce for each in open_processes(connection, run_id) if _is_gone(each, self._is_dead)]
            for part in chunks(gone):
                connection.execute(sa.delete(StudyProcess).where(StudyProcess.nonce.in_(part)))
            row = {"nonce": nonce, "run_id": run_id, "owner": asdict(owner), "seconds": lease_seconds}
            connection.execute(insert_or_skip(connection, StudyProcess), row)

        self._write(body)

    def renew_process(self, nonce: str, attempt_ids: Collection[int]) -> bool:
        """Renew the sign of life of a process, and the leases of its trials.

        Return False if the process was taken for gone, because it was suspended: it has to enter again.
        """

        def body(connection: sa.Connection) -> bool:
            mine = sa.update(StudyProcess).where(StudyProcess.nonce == nonce)
            is_known = connection.execute(mine.values(renewed_at=utc_now())).rowcount > 0
            beat = {"heartbeat": TrialLease.heartbeat + 1, "renewed_at": utc_now()}
            for part in chunks(sorted(attempt_ids)):
                connection.execute(sa.update(TrialLease).where(TrialLease.attempt_id.in_(part)).values(beat))
            return is_known

        return self._write(body)

    def stop_asked_by(self, nonce: str) -> LeaseOwner | None:
        """Return the process that asked this opening of the study to stop, if one did."""
        query = sa.select(StudyProcess.stop_asked_by).where(StudyProcess.nonce == nonce)
        asked = self._read(lambda connection: connection.execute(query).scalar_one_or_none())
        return None if asked is None else to_owner(asked)

    def leave_study(self, nonce: str) -> None:
        """Record that a process has closed the study."""
        self._write(lambda connection: connection.execute(sa.delete(StudyProcess).where(StudyProcess.nonce == nonce)))


def open_processes(connection: sa.Connection, run_id: int) -> list[OpenProcess]:
    """Return the processes that have a study open, also those that have died since, in an order that stays."""
    query = sa.select(
        StudyProcess.nonce, StudyProcess.owner, StudyProcess.seconds, StudyProcess.renewed_at, utc_now().label("now")
    ).where(StudyProcess.run_id == run_id)
    # A sign of life in the future counts as equally old, as for drivers: the clock may have been set back.
    return [
        OpenProcess(row.nonce, to_owner(row.owner), row.seconds, abs((row.now - row.renewed_at).total_seconds()))
        for row in connection.execute(query.order_by(StudyProcess.nonce))
    ]


def live_processes(
    connection: sa.Connection, run_id: int, is_dead: Callable[[LeaseOwner], bool]
) -> tuple[OpenProcess, ...]:
    """Return the processes that have a study open and are not known to be gone."""
    return tuple(each for each in open_processes(connection, run_id) if not _is_gone(each, is_dead))


def ask_to_stop(
    connection: sa.Connection, run_id: int, asked_by: LeaseOwner, is_dead: Callable[[LeaseOwner], bool]
) -> bool:
    """Ask the processes that have a study open now to stop, and return whether there are any."""
    nonces = [each.nonce for each in live_processes(connection, run_id, is_dead)]
    for part in chunks(nonces):
        asked = sa.update(StudyProcess).where(StudyProcess.nonce.in_(part))
        connection.execute(asked.values(stop_asked_by=asdict(asked_by)))
    return bool(nonces)


def _is_gone(process: OpenProcess, is_dead: Callable[[LeaseOwner], bool]) -> bool:
    return is_dead(process.owner) or process.age > UNWATCHED_LEASES * process.lease_seconds
