"""Attempts at evaluations: worker, times and outcome. A run has at most one open attempt at each evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from aquasurf_ray.store.database.columns import utc_now
from aquasurf_ray.store.database.schema import Attempt, table
from aquasurf_ray.store.records.runs import StartRecord
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


def _in(evaluation_ids: Sequence[int]) -> sa.ColumnElement[bool]:
    return _ATTEMPTS.c.evaluation_id.in_(evaluation_ids)


def _row(start: StartRecord) -> dict[str, int | str | None]:
    number = start.evaluation_id
    return {"evaluation_id": number, "at_evaluation": number, "worker": start.worker, "node": start.node}
