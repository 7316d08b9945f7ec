"""Attempts: which worker tried an evaluation when, and how each try ended. At most one of a run is open at a time."""

from __future__ import annotations

import sqlalchemy as sa

from store.columns import utc_now
from store.schema import Attempt, table

_ATTEMPTS = table(Attempt)
_IS_OPEN = (_ATTEMPTS.c.evaluation_id == sa.bindparam("at_evaluation")) & _ATTEMPTS.c.outcome.is_(None)
_IS_OWN = _ATTEMPTS.c.run_id == sa.bindparam("at_run")
_FIND_OWN = sa.select(_ATTEMPTS.c.id).where(_IS_OPEN, _IS_OWN)
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
_CLOSE_OWN = _CLOSE.where(_IS_OWN)


def open_attempt(
    connection: sa.Connection, evaluation_id: int, run_id: int, worker: str | None, node: str | None
) -> bool:
    """Begins the next attempt; False if this run has an open one. The caller holds the evaluation's row."""
    if connection.execute(_FIND_OWN, {"at_evaluation": evaluation_id, "at_run": run_id}).first() is not None:
        return False
    row = {"evaluation_id": evaluation_id, "run_id": run_id, "worker": worker, "node": node}
    connection.execute(_OPEN, row | {"at_evaluation": evaluation_id})
    return True


def close_own_attempt(
    connection: sa.Connection, evaluation_id: int, run_id: int, outcome: str, error: str | None = None
) -> None:
    """Ends this run's open attempt, if there is one."""
    at = {"at_evaluation": evaluation_id, "at_run": run_id}
    connection.execute(_CLOSE_OWN, at | {"outcome": outcome, "error": error})


def close_attempts(connection: sa.Connection, evaluation_id: int, outcome: str) -> None:
    """Ends the open attempts of all runs."""
    connection.execute(_CLOSE, {"at_evaluation": evaluation_id, "outcome": outcome})
