"""The requests of a run for evaluations, in order and with their reason: baselines, proposals by hand, suggestions.

`propose` is the only write here that needs no lease: another process adds functions to a run's queue, and its driver
finds them when it next reads the run's log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import sqlalchemy as sa

from aquasurf_ray.store.database.engine import insert_or_skip
from aquasurf_ray.store.database.schema import Evaluation, Function, Run, RunEvaluation, table
from aquasurf_ray.store.errors import RecordNotFound
from aquasurf_ray.store.records.evaluations import EvaluationStatus, Neighbor, Origin, Proposal, SuggestionRecord
from aquasurf_ray.store.verbs.results import reopen
from aquasurf_ray.store.verbs.runs import read_run_by_id
from aquasurf_ray.store.verbs.store_core import StoreCore, chunks, log

_REQUESTS = table(RunEvaluation)
_IS_MINE = (_REQUESTS.c.run_id == sa.bindparam("at_run")) & (_REQUESTS.c.evaluation_id == sa.bindparam("at_evaluation"))
_REUSED = sa.update(_REQUESTS).where(_IS_MINE).values(reused=True)
_NEXT_POSITION = sa.select(sa.func.coalesce(sa.func.max(_REQUESTS.c.position) + 1, 0)).where(
    _REQUESTS.c.run_id == sa.bindparam("at_run")
)
_ADD = sa.insert(_REQUESTS).inline()


class RequestVerbs(StoreCore):
    """The queue of a run, to which any process may add functions."""

    def propose(
        self,
        run_id: int,
        function_ids: Sequence[int],
        seed: int,
        *,
        recipe_change: str = "",
        accept_stopped: bool = True,
        accept_refused: bool = True,
    ) -> list[Proposal]:
        """Add functions to the run's queue, in this order, from any process.

        A function that has a result, or is being trained, is linked to the run unchanged. A failed one is queued
        again, and so is one whose result is not accepted (see `claim`). `Proposal.added` is False if the run requested
        the function before.

        Raises:
            RunNotFound, RecordNotFound: no such run or function.
        """
        # A function twice in one proposal is one request.
        wanted = list(dict.fromkeys(function_ids))

        def body(connection: sa.Connection) -> list[Proposal]:
            # Without a lease the fence is not passed, so the run's row is locked here: first, as everywhere.
            connection.execute(sa.select(Run.id).where(Run.id == run_id).with_for_update())
            run = read_run_by_id(connection, run_id)
            rows = _rows_of(connection, run.task_id, wanted, {"seed": seed, "recipe_change": recipe_change})
            accept = {"done": accept_stopped, "diverged": accept_refused}
            known = links_of(connection, run_id, [row.id for row in rows.values()])
            return [_propose(connection, run_id, rows[number], accept, rows[number].id in known) for number in wanted]

        return self._write(body)


class Link(NamedTuple):
    """A run's request for an evaluation, and whether it already had a result."""

    evaluation_id: int
    origin: Origin
    suggestion: SuggestionRecord | None
    reused: bool


def link_all(
    connection: sa.Connection, run_id: int, links: Sequence[Link], known: Mapping[int, Any]
) -> dict[int, Origin]:
    """Store requests, each once, and return by evaluation the origin of its first request.

    A request that the run has keeps its reason; it only becomes a reused one if another run had the result meanwhile.
    The caller has locked the run's row.

    Args:
        known: the requests that the run has, as `links_of` returns them.
    """
    for link in links:
        if (row := known.get(link.evaluation_id)) is not None and link.reused and not row.reused:
            connection.execute(_REUSED, {"at_run": run_id, "at_evaluation": link.evaluation_id})
    new = [link for link in links if link.evaluation_id not in known]
    if new:
        first = connection.execute(_NEXT_POSITION, {"at_run": run_id}).scalar_one()
        rows = [_row(link) | {"run_id": run_id, "position": position} for position, link in enumerate(new, start=first)]
        connection.execute(_ADD, rows)
    return {link.evaluation_id: link.origin for link in new} | {number: row.origin for number, row in known.items()}


def links_of(connection: sa.Connection, run_id: int, evaluation_ids: Sequence[int]) -> dict[int, Any]:
    """Return the run's requests for these evaluations, rows with `origin` and `reused`, by evaluation."""
    columns = (_REQUESTS.c.evaluation_id, _REQUESTS.c.origin, _REQUESTS.c.reused)
    query = sa.select(*columns).where(_REQUESTS.c.run_id == run_id)
    parts = (query.where(_REQUESTS.c.evaluation_id.in_(part)) for part in chunks(evaluation_ids))
    return {row.evaluation_id: row for part in parts for row in connection.execute(part)}


def _row(link: Link) -> dict[str, Any]:
    row = {"evaluation_id": link.evaluation_id, "origin": link.origin, "reused": link.reused}
    return row | _reason(link.suggestion)


def to_suggestion(row: Any) -> SuggestionRecord | None:
    """Return the suggestion in a row with the columns of `run_evaluations`; None if a person or a rule requested it."""
    if row.predicted_score is None and row.rank is None and row.embedding_version is None and not row.neighbors:
        return None
    neighbors = tuple(
        Neighbor(int(item["function_id"]), float(item["distance"]), item["score"], item.get("recipe_change", ""))
        for item in row.neighbors or ()
    )
    return SuggestionRecord(row.predicted_score, row.rank, neighbors, row.embedding_version)


def _reason(suggestion: SuggestionRecord | None) -> dict[str, Any]:
    if suggestion is None:
        return dict.fromkeys(("predicted_score", "rank", "neighbors", "embedding_version"))
    return {
        "predicted_score": suggestion.predicted_score,
        "rank": suggestion.rank,
        # Without the change where there is none, which is how all searches of one recipe are stored.
        "neighbors": [
            {key: value for key, value in asdict(neighbor).items() if (key, value) != ("recipe_change", "")}
            for neighbor in suggestion.neighbors
        ],
        "embedding_version": suggestion.embedding_version,
    }


def _rows_of(
    connection: sa.Connection, task_id: int, function_ids: Sequence[int], rest: dict[str, Any]
) -> dict[int, Any]:
    """Return the evaluations of these functions, with the `rest` of the key, by function, created if new, and locked in
    the order of functions."""
    rows: dict[int, Any] = {}
    for part in chunks(sorted(function_ids)):
        known = set(connection.execute(sa.select(Function.id).where(Function.id.in_(part))).scalars())
        missing = [number for number in part if number not in known]
        if missing:
            raise RecordNotFound(f"no function has the number {missing[0]}")
        new = [{"task_id": task_id, "function_id": number, **rest, "status": "queued"} for number in part]
        connection.execute(insert_or_skip(connection, Evaluation), new)
        query = sa.select(Evaluation.id, Evaluation.function_id, Evaluation.status, Evaluation.stopped_early).where(
            Evaluation.task_id == task_id,
            Evaluation.function_id.in_(part),
            *(getattr(Evaluation, column) == value for column, value in rest.items()),
        )
        found = connection.execute(query.order_by(Evaluation.function_id).with_for_update())
        rows.update((row.function_id, row) for row in found)
    return rows


def _propose(connection: sa.Connection, run_id: int, row: Any, accept: dict[str, bool], known: bool) -> Proposal:
    again = row.status == "failed" or (row.stopped_early is not None and not accept[row.status])
    status: EvaluationStatus = "queued" if again else row.status
    # Attempts begin at zero again: somebody asks for it now, perhaps because the machines were repaired.
    if row.status == "failed":
        unparked = {"status": "queued", "attempts": 0, "claimed_by": None, "claim_token": None, "finished_at": None}
        connection.execute(sa.update(Evaluation).where(Evaluation.id == row.id).values(unparked))
    elif again:
        reopen(connection, run_id, row.id)
    if not known:
        link_all(connection, run_id, [Link(row.id, "proposal", None, status in ("done", "diverged"))], {})
    if not known or status != row.status:
        log(connection, run_id, "proposed", row.id, row.function_id, {"status": status})
    return Proposal(row.function_id, row.id, status, added=not known)
