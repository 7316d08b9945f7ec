"""Attempts at evaluations: worker, times and outcome. A run has at most one open attempt at each evaluation.

A trial is an attempt of a process that shares its run with others, and has a lease of its own, which the process
renews. Others judge it like the lease of a driver: the process is known to be dead, or the heartbeat counter stood
still for a whole lease on the observer's own clock. Where nobody watches, the database's clock decides, with the margin
that drivers have too (`store.verbs.leases`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sa

from aquasurf_ray.store.database.columns import utc_now
from aquasurf_ray.store.database.schema import Attempt, Evaluation, Function, TrialLease, table
from aquasurf_ray.store.records.evaluations import StartRecord
from aquasurf_ray.store.records.leases import LeaseOwner
from aquasurf_ray.store.records.trials import OpenTrial
from aquasurf_ray.store.verbs.runs import to_owner
from aquasurf_ray.store.verbs.store_core import chunks

_ATTEMPTS = table(Attempt)
_IS_OPEN = (_ATTEMPTS.c.evaluation_id == sa.bindparam("at_evaluation")) & _ATTEMPTS.c.outcome.is_(None)
_IS_OF_RUN = _ATTEMPTS.c.run_id == sa.bindparam("at_run")
# The number is computed in the INSERT itself: the evaluation's row is locked, so no other attempt can take it.
_OPEN = (
    sa.insert(_ATTEMPTS)
    .values(
        number=sa.select(sa.func.coalesce(sa.func.max(_ATTEMPTS.c.number), 0) + 1)
        .where(_ATTEMPTS.c.evaluation_id == sa.bindparam("at_evaluation"))
        .scalar_subquery()
    )
    .inline()
)
_CLOSE = sa.update(_ATTEMPTS).where(_IS_OPEN).values(ended_at=utc_now())
_CLOSE_OWN = _CLOSE.where(_IS_OF_RUN)

UNWATCHED_LEASES = 10
"""Lease periods after which a silent trial counts as abandoned for somebody who has not watched it."""


def open_attempts(connection: sa.Connection, run_id: int, starts: Sequence[StartRecord]) -> list[StartRecord]:
    """Open the next attempt of each evaluation without an open one of this run, and return these starts.

    The caller has locked the evaluations' rows.
    """
    ids = [start.evaluation_id for start in starts]
    is_open = (_ATTEMPTS.c.run_id == run_id) & _ATTEMPTS.c.outcome.is_(None)
    query = sa.select(_ATTEMPTS.c.evaluation_id).where(is_open)
    found = {n for part in chunks(ids) for n in connection.execute(query.where(_in(part))).scalars()}
    new = [start for start in starts if start.evaluation_id not in found]
    if new:
        connection.execute(_OPEN, [_row(start) | {"run_id": run_id} for start in new])
    return new


def close_own_attempts(
    connection: sa.Connection, run_id: int, outcomes: Mapping[int, str], error: str | None = None
) -> None:
    """Close this run's open attempts at these evaluations, if any."""
    if outcomes:
        ends = {"at_run": run_id, "error": error}
        connection.execute(_CLOSE_OWN, [ends | {"at_evaluation": n, "outcome": end} for n, end in outcomes.items()])


def close_attempts(connection: sa.Connection, evaluation_id: int, outcome: str) -> None:
    """Close the open attempts of all runs at these evaluations."""
    connection.execute(_CLOSE, {"at_evaluation": evaluation_id, "outcome": outcome})


def open_trials(connection: sa.Connection, run_id: int) -> list[OpenTrial]:
    """Return the trials of a run that have not ended, in the order in which they were asked for."""
    query = (
        sa.select(
            Attempt.id,
            Attempt.evaluation_id,
            Function.name,
            TrialLease.owner,
            TrialLease.heartbeat,
            TrialLease.seconds,
            TrialLease.renewed_at,
            utc_now().label("now"),
        )
        .join(TrialLease, TrialLease.attempt_id == Attempt.id)
        .join(Evaluation, Evaluation.id == Attempt.evaluation_id)
        .join(Function, Function.id == Evaluation.function_id)
        .where(Attempt.run_id == run_id, Attempt.outcome.is_(None))
        .order_by(Attempt.id)
    )
    # A heartbeat in the future counts as equally old, as for drivers: the clock may have been set back.
    return [
        OpenTrial(
            attempt_id=row.id,
            evaluation_id=row.evaluation_id,
            function=row.name,
            owner=to_owner(row.owner),
            heartbeat=row.heartbeat,
            lease_seconds=row.seconds,
            age=abs((row.now - row.renewed_at).total_seconds()),
        )
        for row in connection.execute(query)
    ]


def live_trials(connection: sa.Connection, run_id: int, is_dead: Callable[[LeaseOwner], bool]) -> list[OpenTrial]:
    """Return the trials of a run whose processes may still tell a result."""
    return [trial for trial in open_trials(connection, run_id) if not is_abandoned(trial, is_dead)]


def is_abandoned(trial: OpenTrial, is_dead: Callable[[LeaseOwner], bool]) -> bool:
    """Return whether nobody will tell the result of a trial, for somebody who has not watched its heartbeat."""
    return is_dead(trial.owner) or trial.age > UNWATCHED_LEASES * trial.lease_seconds


def holder_of(connection: sa.Connection, evaluation_id: int) -> tuple[str, LeaseOwner] | None:
    """Return the nonce and the owner of the open trial of an evaluation; None if no process has asked for it."""
    query = (
        sa.select(TrialLease.nonce, TrialLease.owner)
        .join(Attempt, Attempt.id == TrialLease.attempt_id)
        .where(Attempt.evaluation_id == evaluation_id, Attempt.outcome.is_(None))
    )
    row = connection.execute(query).first()
    return None if row is None else (row.nonce, to_owner(row.owner))


def _in(evaluation_ids: Sequence[int]) -> sa.ColumnElement[bool]:
    return _ATTEMPTS.c.evaluation_id.in_(evaluation_ids)


def _row(start: StartRecord) -> dict[str, int | str | None]:
    number = start.evaluation_id
    return {"evaluation_id": number, "at_evaluation": number, "worker": start.worker, "node": start.node}
