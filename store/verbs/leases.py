"""The lease: exactly one driver works on a run, and a driver that lost the run can write nothing.

A lease is a token on the run's row. A driver takes it by a compare-and-swap on (token, heartbeat), so of two drivers
that try at the same time one wins. It takes the lease at once if the run is free or its holder is a dead process of
this host. Otherwise it watches the heartbeat counter on its own monotonic clock: if the counter grows, the run is held;
if it does not for a whole lease period, the holder is gone. Wall clocks are not used, so setting them has no effect.
Every write checks the token (`store.verbs.store_core.fence`).

Acquiring and releasing a lease put the run's running evaluations back into the queue; this is not a failed attempt.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import sqlalchemy as sa

from aquasurf_ray.store.database.clock import Clock
from aquasurf_ray.store.database.columns import utc_now
from aquasurf_ray.store.database.schema import Attempt, Evaluation, Event, Run
from aquasurf_ray.store.errors import BadRecord, LeaseLost, RunHeld, RunNotFound
from aquasurf_ray.store.records.leases import Lease, LeaseOwner
from aquasurf_ray.store.records.runs import RunStatusName
from aquasurf_ray.store.records.trials import OpenTrial
from aquasurf_ray.store.verbs.attempts import UNWATCHED_LEASES, live_trials
from aquasurf_ray.store.verbs.runs import to_owner
from aquasurf_ray.store.verbs.store_core import FencedRun, StoreCore, fence, log

logger = logging.getLogger(__name__)

POLLS_A_LEASE = 10
LONGEST_POLL = 1.0  # seconds


_SEE = sa.select(
    Run.name,
    Run.task_id,
    Run.code_version,
    Run.lease_token,
    Run.lease_heartbeat,
    Run.lease_owner,
    Run.lease_seconds,
    Run.lease_renewed_at,
).where(Run.id == sa.bindparam("at_run"))


class _Seen(NamedTuple):
    """A run's lease at one instant."""

    name: str
    task_id: int
    code_version: str
    token: int
    heartbeat: int
    owner: LeaseOwner | None
    nonce: str | None
    lease_seconds: float
    renewed_at: Any


class LeaseVerbs(StoreCore):
    """Acquiring, renewing and releasing the right to write to a run."""

    def acquire_lease(
        self,
        run_id: int,
        owner: LeaseOwner,
        *,
        lease_seconds: float = 30.0,
        clock: Clock | None = None,
        code_version: str | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> Lease:
        """Acquire the lease. Renew it at least three times in `lease_seconds`.

        Waits up to the longer of the two lease periods if the holder is silent and its process cannot be checked.

        Args:
            code_version: the version to mark results with; by default the version that the run was created with.
            versions: the package versions that results depend on, by name, for the run's log; see `versions`.

        Raises:
            RunHeld: a live driver works on the run.
            RunNotFound: no run has this number.
        """
        if not lease_seconds > 0:
            raise BadRecord(f"lease_seconds: {lease_seconds} is not positive")
        clock = clock or self._clock
        # Marks the lease as taken by this very call, so that a try after an unanswered COMMIT recognises it.
        nonce = uuid.uuid4().hex
        seen = self._seen(run_id)
        while True:
            why = "free" if seen.owner is None else "dead" if self._is_dead(seen.owner) else None
            if why is None:
                now = self._watch(run_id, seen, lease_seconds, clock)
                why = "silent" if now == seen else None
                seen = now
            if why is not None:
                noted = {"holder_was": why, "versions": dict(versions or {})}
                lease = self._take(run_id, seen, owner, nonce, lease_seconds, noted)
                if lease is not None:
                    return replace(lease, code_version=code_version or lease.code_version)
                seen = self._seen(run_id)
                if seen.owner is not None and not self._is_dead(seen.owner):
                    raise RunHeld(_held(seen))  # another driver was faster

    def versions(self, run_id: int) -> dict[str, str]:
        """Return the package versions of the run's last session; empty if its driver logged none."""
        query = sa.select(Event.data).where(Event.run_id == run_id, Event.kind == "lease_taken")
        query = query.order_by(Event.seq.desc()).limit(1)
        data = self._read(lambda connection: connection.execute(query).scalar_one_or_none())
        return dict((data or {}).get("versions", {}))

    def renew_lease(self, lease: Lease) -> None:
        """Increment the heartbeat.

        Raises:
            LeaseLost: another driver took the run over.
        """

        def body(connection: sa.Connection, run: FencedRun) -> None:
            beat = {"lease_heartbeat": Run.lease_heartbeat + 1, "lease_renewed_at": utc_now()}
            connection.execute(sa.update(Run).where(Run.id == run.id).values(beat))

        self._fenced(lease, body)

    def release_lease(self, lease: Lease, status: RunStatusName, message: str | None = None) -> None:
        """Release the run, and queue its running evaluations again.

        Raises:
            LeaseLost: another driver took the run over.
        """

        def body(connection: sa.Connection) -> None:
            if _released(connection, lease):
                return  # released by an earlier try of this call, whose COMMIT was not answered
            run = fence(connection, lease)
            requeue_running(connection, run.id)
            log(connection, run.id, status, data={"message": message})
            # The token grows here too: whatever this driver still sends afterwards is refused.
            freed = {"lease_owner": None, "lease_token": lease.token + 1, "status": status, "message": message}
            connection.execute(sa.update(Run).where(Run.id == run.id).values(freed))

        self._write(body)

    def _seen(self, run_id: int) -> _Seen:
        def body(connection: sa.Connection) -> _Seen:
            return _see(connection, run_id)

        return self._read(body)

    def _watch(self, run_id: int, first: _Seen, lease_seconds: float, clock: Clock) -> _Seen:
        """Return the lease after a whole period without a heartbeat, or as soon as it is free.

        Raises:
            RunHeld: there was a heartbeat.
        """
        # The holder renews within its own period, which may be longer than the one that is asked for now.
        period = max(lease_seconds, first.lease_seconds)
        logger.info("%s; watching its heartbeat for %.0f s", _held(first), period)
        started = clock.monotonic()
        while clock.monotonic() - started < period:
            clock.sleep(min(period / POLLS_A_LEASE, LONGEST_POLL))
            seen = self._seen(run_id)
            if seen.owner is None or self._is_dead(seen.owner):
                return seen
            if (seen.token, seen.heartbeat) != (first.token, first.heartbeat):
                raise RunHeld(_held(seen))
        return first

    def _take(
        self, run_id: int, seen: _Seen, owner: LeaseOwner, nonce: str, lease_seconds: float, noted: dict[str, Any]
    ) -> Lease | None:
        """Take the lease by compare-and-swap; return None if it has changed since it was read."""

        def body(connection: sa.Connection) -> Lease | None:
            unmoved = (Run.lease_token == seen.token) & (Run.lease_heartbeat == seen.heartbeat)
            taken = {
                "lease_token": seen.token + 1,
                "lease_heartbeat": seen.heartbeat + 1,
                "lease_owner": asdict(owner) | {"nonce": nonce},
                "lease_seconds": lease_seconds,
                "lease_renewed_at": utc_now(),
                "updated_at": utc_now(),
                "status": "running",
                "message": None,
            }
            done = connection.execute(sa.update(Run).where(Run.id == run_id, unmoved).values(taken)).rowcount
            if not done:
                return _own_lease(connection, run_id, nonce)
            # Checked behind the swap, which locks the run: from here on no process can ask for another trial.
            asked = live_trials(connection, run_id, self._is_dead)
            if asked:
                raise RunHeld(_asked(seen.name, asked))
            requeued = requeue_running(connection, run_id)
            before = None if seen.owner is None else asdict(seen.owner)
            log(connection, run_id, "lease_taken", data={**noted, "holder": before, "by": asdict(owner)})
            return _lease(run_id, seen, seen.token + 1, requeued)

        return self._write(body)


def lease_is_live(connection: sa.Connection, run_id: int, is_dead: Callable[[LeaseOwner], bool]) -> bool:
    """Return whether the driver of another run may still finish the evaluations that it claimed.

    Decided by the database's clock with a margin of ten lease periods, because nobody watches the heartbeat here; a
    wrong answer costs one training, not a result. A heartbeat in the future counts as equally old: after the clock was
    set back, a live driver renews its lease within seconds, and a dead one must not count as live until the clock
    catches up. A run that processes share has trials in place of a driver.
    """
    query = sa.select(Run.status, Run.lease_owner, Run.lease_seconds, Run.lease_renewed_at, utc_now().label("now"))
    row = connection.execute(query.where(Run.id == run_id)).one()
    if row.lease_owner is None:
        return bool(live_trials(connection, run_id, is_dead))
    if row.status != "running" or is_dead(to_owner(row.lease_owner)):
        return False
    age: float = abs((row.now - row.lease_renewed_at).total_seconds())
    patience: float = UNWATCHED_LEASES * row.lease_seconds
    return age <= patience


def requeue_running(connection: sa.Connection, run_id: int) -> tuple[int, ...]:
    """Put all evaluations that the run has claimed back into the queue; the caller has locked the run's row."""
    query = sa.select(Evaluation.id, Evaluation.function_id).where(
        Evaluation.claimed_by == run_id, Evaluation.status == "running"
    )
    rows = connection.execute(query.order_by(Evaluation.function_id, Evaluation.id).with_for_update()).all()
    for row in rows:
        ended = {"ended_at": utc_now(), "outcome": "interrupted"}
        open_attempt = (Attempt.evaluation_id == row.id) & Attempt.outcome.is_(None)
        connection.execute(sa.update(Attempt).where(open_attempt).values(ended))
        queued = {"status": "queued", "claimed_by": None, "claim_token": None}
        connection.execute(sa.update(Evaluation).where(Evaluation.id == row.id).values(queued))
        log(connection, run_id, "requeued", row.id, row.function_id)
    return tuple(row.id for row in rows)


def _see(connection: sa.Connection, run_id: int) -> _Seen:
    row = connection.execute(_SEE, {"at_run": run_id}).one_or_none()
    if row is None:
        raise RunNotFound(f"no run has the number {run_id}; 'aquasurf status' lists all")
    owner = row.lease_owner
    return _Seen(
        name=row.name,
        task_id=row.task_id,
        code_version=row.code_version,
        token=row.lease_token,
        heartbeat=row.lease_heartbeat,
        owner=None if owner is None else to_owner(owner),
        nonce=None if owner is None else owner.get("nonce"),
        lease_seconds=row.lease_seconds or 0.0,
        renewed_at=row.lease_renewed_at,
    )


def _own_lease(connection: sa.Connection, run_id: int, nonce: str) -> Lease | None:
    """Return the lease if an earlier try of this call took it in a transaction whose COMMIT was not answered."""
    seen = _see(connection, run_id)
    return _lease(run_id, seen, seen.token) if seen.nonce == nonce else None


def _lease(run_id: int, seen: _Seen, token: int, requeued: tuple[int, ...] = ()) -> Lease:
    return Lease(run_id, seen.name, seen.task_id, seen.code_version, token, requeued)


def _released(connection: sa.Connection, lease: Lease) -> bool:
    row = connection.execute(sa.select(Run.lease_owner, Run.lease_token).where(Run.id == lease.run_id)).one_or_none()
    if row is None:
        raise LeaseLost(f"run '{lease.run_name}' is gone from the store")
    return row.lease_owner is None and bool(row.lease_token == lease.token + 1)


def _held(seen: _Seen) -> str:
    owner = seen.owner
    if owner is None:
        return f"run '{seen.name}' is free"
    return f"run '{seen.name}' is held by {owner.host} pid {owner.pid}; stop that driver or wait for it"


def _asked(name: str, trials: Sequence[OpenTrial]) -> str:
    owners = {f"{trial.owner.host} pid {trial.owner.pid}" for trial in trials}
    return f"run '{name}' is a study that {', '.join(sorted(owners))} asks; wait for its trials or stop the process"
