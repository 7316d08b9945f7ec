"""Claims: a run takes an evaluation to train it, finds its result, or finds that another run trains it.

There is one row per (task, function, seed, change of the recipe), locked while its state is decided, so of two runs
that request the same one trains it, and the claim of the other is `taken`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import sqlalchemy as sa

from aquasurf_ray.store.database.engine import insert_or_skip
from aquasurf_ray.store.database.schema import Evaluation
from aquasurf_ray.store.records.evaluations import (
    Claim,
    ClaimState,
    EvaluationRecord,
    EvaluationRequest,
    Origin,
    SuggestionRecord,
)
from aquasurf_ray.store.records.leases import Lease
from aquasurf_ray.store.verbs.attempts import close_attempts, holder_of
from aquasurf_ray.store.verbs.evaluations import EVALUATION_COLUMNS, KEY_COLUMNS, read_evaluation, to_record
from aquasurf_ray.store.verbs.leases import lease_is_live
from aquasurf_ray.store.verbs.requests import Link, link_all, links_of
from aquasurf_ray.store.verbs.results import CHANGE, reopen
from aquasurf_ray.store.verbs.store_core import EventRow, FencedRun, StoreCore, chunks


class Usable(NamedTuple):
    """The kinds of incomplete trainings whose results a run accepts; see `claim`."""

    stopped: bool
    refused: bool


class ClaimVerbs(StoreCore):
    """Claiming evaluations."""

    def claim(
        self,
        lease: Lease,
        function_id: int,
        seed: int,
        origin: Origin,
        suggestion: SuggestionRecord | None = None,
        *,
        recipe_change: str = "",
        retry_failed: bool = False,
        accept_stopped: bool = True,
        accept_refused: bool = True,
    ) -> Claim:
        """Claim the training of this function; `Claim.state` is the answer.

        An evaluation that this run gave up as failed stays parked unless `retry_failed`. The result of a training that
        was stopped early is reused like any other if `accept_stopped`; otherwise the training is claimed, to be done in
        full. The same holds for `accept_refused` and a training that the health gate refused.

        Raises:
            LeaseLost: another driver took the run over.
        """
        request = EvaluationRequest(function_id, seed, origin, suggestion, recipe_change)
        accepted = {"accept_stopped": accept_stopped, "accept_refused": accept_refused}
        return self.claim_all(lease, [request], retry_failed=retry_failed, **accepted)[0]

    def claim_all(
        self,
        lease: Lease,
        requests: Sequence[EvaluationRequest],
        *,
        retry_failed: bool = False,
        accept_stopped: bool = True,
        accept_refused: bool = True,
    ) -> list[Claim]:
        """Do `claim` for several functions and seeds in one transaction, and return the claims in the same order."""
        usable = Usable(accept_stopped, accept_refused)

        def body(connection: sa.Connection, run: FencedRun) -> list[Claim]:
            return self._claim(connection, lease, run, requests, usable, retry_failed=retry_failed)

        return self._fenced(lease, body)

    def _claim(
        self,
        connection: sa.Connection,
        lease: Lease,
        run: FencedRun,
        requests: Sequence[EvaluationRequest],
        usable: Usable,
        *,
        retry_failed: bool = False,
        nonce: str | None = None,
    ) -> list[Claim]:
        """Claim evaluations behind the fence; `nonce` marks the call of a process that shares the run with others."""
        locked = _lock_all(connection, run.task_id, requests)
        found = [locked[request.key] for request in requests]
        states = [self._decide(connection, run, record, retry_failed, usable, nonce) for record in found]
        records = [_unfinished(connection, run, r) if s == "claimed" else r for r, s in zip(found, states, strict=True)]
        ours = [record for record, state in zip(records, states, strict=True) if state == "claimed"]
        claims = list(zip(requests, records, states, strict=True))
        known = links_of(connection, run.id, [record.id for record in records])
        links = [Link(r.id, w.origin, w.suggestion, s == "reused") for w, r, s in claims]
        origins = link_all(connection, run.id, links, known)
        taken = _take_all(connection, lease, run, ours)
        news = [(w, r, s) for w, r, s in claims if _is_news(run, r, s, known)]
        run.events.extend(EventRow(s, r.id, r.function_id, _claim_data(r, w)) for w, r, s in news)
        return [Claim(r.id, s, taken.get(r.id, r), origins[r.id]) for _, r, s in claims]

    def _decide(
        self,
        connection: sa.Connection,
        run: FencedRun,
        record: EvaluationRecord,
        retry_failed: bool,
        usable: Usable,
        nonce: str | None,
    ) -> ClaimState:
        """Return the state of a claim on a locked evaluation."""
        if record.finished:
            found: ClaimState = "known" if record.claimed_by == run.id else "reused"
            return found if record.usable(*usable) else "claimed"
        # Another run may have more luck, or other machines, than the one that gave up.
        if record.status == "failed":
            parked = record.claimed_by == run.id and not retry_failed
            return "failed" if parked else "claimed"
        if record.status == "running" and record.claimed_by not in (None, run.id):
            assert record.claimed_by is not None  # noqa: S101 - the schema requires that a running evaluation has a claimer
            # The training of a dead driver is nobody's.
            return "taken" if lease_is_live(connection, record.claimed_by, self._is_dead) else "claimed"
        if record.status == "running":
            # Another process that shares the run may have it; a call that runs again finds its own trial.
            holder = holder_of(connection, record.id)
            return "claimed" if holder is None or holder[0] == nonce else "taken"
        return "claimed"


def _lock_all(
    connection: sa.Connection, task_id: int, requests: Sequence[EvaluationRequest]
) -> dict[tuple[int, int, str], EvaluationRecord]:
    """Return the rows of evaluations by their keys, created if new. All runs lock them in the order of functions, so
    that two runs cannot deadlock."""
    keys = sorted({request.key for request in requests})
    new = [
        {"task_id": task_id, "function_id": n, "seed": seed, "recipe_change": change, "status": "queued"}
        for n, seed, change in keys
    ]
    connection.execute(insert_or_skip(connection, Evaluation), new)
    records: list[EvaluationRecord] = []
    query = sa.select(*EVALUATION_COLUMNS).where(Evaluation.task_id == task_id).order_by(*KEY_COLUMNS)
    for part in chunks(keys):
        rows = connection.execute(query.where(sa.tuple_(*KEY_COLUMNS).in_(part)).with_for_update())
        records += [to_record(row) for row in rows]
    return {record.key: record for record in records}


def _unfinished(connection: sa.Connection, run: FencedRun, record: EvaluationRecord) -> EvaluationRecord:
    """Return the evaluation without its result, which is not accepted."""
    if not record.finished:
        return record
    reopen(connection, run.id, record.id)
    return read_evaluation(connection, record.id)


def _take_all(
    connection: sa.Connection, lease: Lease, run: FencedRun, records: Sequence[EvaluationRecord]
) -> dict[int, EvaluationRecord]:
    """Claim locked evaluations for the run. Attempts restart at 0 after another run gave up, or on a retry."""
    by: dict[str, Any] = {"status": "running", "claimed_by": run.id}
    new: dict[str, list[dict[str, Any]]] = {}
    taken = {}
    for record in records:
        taken[record.id] = record
        if record.is_held_by(run.id):
            continue  # claimed by an earlier try of this transaction, whose COMMIT was not answered
        if record.status == "running":
            close_attempts(connection, record.id, "superseded")
        values = by | ({"attempts": 0, "error": None, "finished_at": None} if record.status == "failed" else {})
        taken[record.id] = replace(record, **values)
        same = new.setdefault(record.status, [])
        same.append(values | {"claim_token": lease.token, "at_evaluation": record.id})
    for rows in new.values():  # the rows of one statement have the same columns
        connection.execute(CHANGE, rows)
    return taken


def _is_news(run: FencedRun, record: EvaluationRecord, state: ClaimState, known: Mapping[int, Any]) -> bool:
    """Return whether the log does not have the claim yet. A process that has not yet read what another one of its run
    does may ask for the same function."""
    if state == "reused":
        return record.id not in known or not known[record.id].reused
    return state != "known" and not (state == "taken" and record.claimed_by == run.id)


def _claim_data(record: EvaluationRecord, request: EvaluationRequest) -> dict[str, Any]:
    data: dict[str, Any] = {"origin": request.origin, "seed": record.seed}
    if record.recipe_change:
        data["recipe_change"] = record.recipe_change
    if request.suggestion is not None:
        data["suggestion"] = asdict(request.suggestion)
    if record.finished:
        data |= {"status": record.status, "score": record.score}
    return data
