"""Evaluations: claimed by one run at a time, recorded once, shared by all runs of the task.

    queued --claim--> running --record_result--> done | diverged      (final; the first result stays)
       ^                 |----record_failure---> queued | failed      (failed: may be claimed again by another run)
       '--lease taken over, or given back

One kind of result is not final: of a training that was stopped early. A run that does not accept such results has the
function trained in full, and `store.results.reopen` moves the earlier result from the row into the run's log.

There is one row a (task, function, seed), locked while its state is decided, so of two runs that want the same
function one trains it and the other is told so.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, NamedTuple

import sqlalchemy as sa

from store.attempts import close_attempts, close_own_attempt, open_attempt
from store.columns import utc_now
from store.core import FencedRun, StoreCore, chunks, log
from store.engine import insert_or_skip
from store.errors import RecordNotFound
from store.leases import lease_is_live
from store.records import (
    AttemptRecord,
    Claim,
    EpochRecord,
    EvaluationRecord,
    EvaluationResult,
    EvaluationStatus,
    Lease,
    Origin,
    StartRecord,
    SuggestionRecord,
)
from store.results import CHANGE, FINISH, check_result, read_curve, reopen, same_result, write_result
from store.schema import Attempt, Epoch, Evaluation, RunEvaluation
from store.wishes import link, queued_for, wanted_by

EVALUATION_COLUMNS = tuple(getattr(Evaluation, field.name) for field in fields(EvaluationRecord))
_READ = sa.select(*EVALUATION_COLUMNS).where(Evaluation.id == sa.bindparam("at_evaluation"))
_LOCK = _READ.with_for_update()
_LOCK_BY_KEY = (
    sa.select(*EVALUATION_COLUMNS)
    .where(
        Evaluation.task_id == sa.bindparam("at_task"),
        Evaluation.function_id == sa.bindparam("at_function"),
        Evaluation.seed == sa.bindparam("at_seed"),
    )
    .with_for_update()
)
_START = CHANGE.values(started_at=utc_now())
_EPOCH_SCORES = (
    sa.select(Epoch.val_score)
    .join(Evaluation, Evaluation.id == Epoch.evaluation_id)
    .where(
        Evaluation.task_id == sa.bindparam("at_task"),
        Evaluation.status == "done",
        Epoch.epoch == sa.bindparam("at_epoch"),
        Epoch.val_score.is_not(None),
    )
    .order_by(Evaluation.id)
)


class Usable(NamedTuple):
    """Which results of trainings that are not whole a run takes, see `claim`."""

    stopped: bool
    refused: bool


class EvaluationVerbs(StoreCore):
    """Claiming, starting and recording evaluations."""

    def claim(
        self,
        lease: Lease,
        function_id: int,
        seed: int,
        origin: Origin,
        suggestion: SuggestionRecord | None = None,
        *,
        retry_failed: bool = False,
        accept_stopped: bool = True,
        accept_refused: bool = True,
    ) -> Claim:
        """Says that the run wants this function trained; `Claim.state` tells what became of it.

        An evaluation that this run gave up as failed stays parked unless `retry_failed`. The result of a training that
        was stopped early is reused like any other if `accept_stopped`, and else claimed to be trained in full. So is
        the refusal of one that the health gate did not let begin, with `accept_refused`.

        Raises:
            LeaseLost: another driver took the run over.
        """
        usable = Usable(accept_stopped, accept_refused)

        def body(connection: sa.Connection, run: FencedRun) -> Claim:
            record = _lock(connection, run.task_id, function_id, seed)
            return self._claimed(connection, lease, run, record, origin, suggestion, retry_failed, usable)

        return self._fenced(lease, body)

    def claim_suggestions(
        self,
        lease: Lease,
        suggestions: Mapping[int, SuggestionRecord],
        seed: int,
        *,
        accept_stopped: bool = True,
        accept_refused: bool = True,
    ) -> list[Claim]:
        """`claim` for several suggested functions, by number, in one transaction; the claims come in their order."""
        usable = Usable(accept_stopped, accept_refused)

        def body(connection: sa.Connection, run: FencedRun) -> list[Claim]:
            records = {number: _lock(connection, run.task_id, number, seed) for number in sorted(suggestions)}
            noted = wanted_by(connection, run.id, [record.id for record in records.values()])
            return [
                self._claimed(
                    connection, lease, run, records[n], "suggestion", why, False, usable, again=records[n].id in noted
                )
                for n, why in suggestions.items()
            ]

        return self._fenced(lease, body)

    def claim_queued(self, lease: Lease) -> Claim | None:
        """Claims what waits in the run's queue: what was interrupted first, then proposals in order."""

        def body(connection: sa.Connection, run: FencedRun) -> Claim | None:
            found = queued_for(connection, run.id, run.task_id)
            if found is None:
                return None
            record = _take(connection, lease, run, _read(connection, found.evaluation_id))
            log(connection, run.id, "claimed", record.id, record.function_id, {"origin": found.origin, "queued": True})
            return Claim(record.id, "claimed", record, found.origin)

        return self._fenced(lease, body)

    def start(
        self,
        lease: Lease,
        evaluation_id: int,
        worker: str | None = None,
        node: str | None = None,
        stop_rule: Sequence[tuple[int, float]] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> bool:
        """Notes that a worker begins, and under which rule; False if the evaluation is no longer ours to train.

        Args:
            stop_rule: pairs (epoch, lowest score), kept in the event log whether the rule will end the training or not.
            settings: what is particular to this training, kept in the event log.
        """

        start = StartRecord(evaluation_id, worker, node, tuple(stop_rule), dict(settings or {}))
        return self.start_all(lease, [start])[0]

    def start_all(self, lease: Lease, starts: Sequence[StartRecord]) -> list[bool]:
        """`start` for several at once, all of them noted or none."""

        def body(connection: sa.Connection, run: FencedRun) -> list[bool]:
            _lock_in_order(connection, [start.evaluation_id for start in starts])
            return [_start(connection, run, start) for start in starts]

        return self._fenced(lease, body)

    def record_result(self, lease: Lease, evaluation_id: int, result: EvaluationResult) -> bool:
        """Writes a result and its learning curve, wholly or not at all.

        The first result stays: False if another one is there. Recording the same result again is True and changes
        nothing. A late result of an evaluation that was requeued, parked or taken over is welcome, unless the training
        was stopped early and another run is at it, which may want it in full.

        Raises:
            BadRecord: `done` without a finite score, `diverged` with one, or an epoch twice.
            LeaseLost: another driver took the run over.
        """
        return self.record_results(lease, {evaluation_id: result})[evaluation_id]

    def record_results(self, lease: Lease, results: Mapping[int, EvaluationResult]) -> dict[int, bool]:
        """`record_result` for several evaluations in one transaction: all are written, or none. A commit costs as much
        as writing a result, so that a driver of many workers records together what came in together."""
        for result in results.values():
            check_result(result)

        def body(connection: sa.Connection, run: FencedRun) -> dict[int, bool]:
            _lock_in_order(connection, results)
            return {number: _record(connection, lease, run, number, result) for number, result in results.items()}

        return self._fenced(lease, body)

    def record_failure(
        self, lease: Lease, evaluation_id: int, error: str, *, final: bool, advanced: bool = False
    ) -> bool:
        """Counts a machine's fault: back into the queue, or parked as failed if `final`.

        A try that `advanced` left a later checkpoint than the one before; attempts count anew from it.

        False, and nothing is changed, if the evaluation is no longer ours or has a result.
        """

        def body(connection: sa.Connection, run: FencedRun) -> bool:
            record = _read(connection, evaluation_id, lock=True)
            if record.status != "running" or record.claimed_by != run.id:
                return False
            attempts = 1 if advanced else record.attempts + 1
            values: dict[str, Any] = {"attempts": attempts, "error": error}
            values |= {"status": "failed"} if final else {"status": "queued", "claimed_by": None, "claim_token": None}
            connection.execute(FINISH if final else CHANGE, values | {"at_evaluation": evaluation_id})
            close_own_attempt(connection, evaluation_id, run.id, "failed", error)
            data = {"error": error, "attempts": attempts}
            log(connection, run.id, "failed" if final else "retry", evaluation_id, record.function_id, data)
            return True

        return self._fenced(lease, body)

    def observe(
        self, lease: Lease, evaluation_id: int, *, accept_stopped: bool = True, accept_refused: bool = True
    ) -> EvaluationRecord | None:
        """The record of an evaluation that another run was training, once it is finished or given up; else None.

        A result is logged at its first observation, since from then on it informs this run's suggestions. One
        that the run does not accept (see `claim`) is not: it is given back for the caller to claim it.
        """

        def body(connection: sa.Connection, run: FencedRun) -> EvaluationRecord | None:
            record = _read(connection, evaluation_id)
            if record.status in ("queued", "running"):
                return None
            unseen = (RunEvaluation.run_id == run.id) & (RunEvaluation.evaluation_id == evaluation_id)
            unseen &= RunEvaluation.reused.is_(False)
            if record.usable(accept_stopped, accept_refused) and record.claimed_by != run.id:
                marked = connection.execute(sa.update(RunEvaluation).where(unseen).values(reused=True)).rowcount
                if marked:
                    data = {"status": record.status, "score": record.score}
                    log(connection, run.id, "observed", evaluation_id, record.function_id, data)
            return record

        if self.evaluation(evaluation_id).status in ("queued", "running"):
            return None  # the usual answer costs no write
        return self._fenced(lease, body)

    def evaluation_statuses(self, evaluation_ids: Collection[int]) -> dict[int, EvaluationStatus]:
        """How these evaluations stand, by number."""

        def body(connection: sa.Connection) -> dict[int, EvaluationStatus]:
            found: dict[int, EvaluationStatus] = {}
            for part in chunks(sorted(evaluation_ids)):
                query = sa.select(Evaluation.id, Evaluation.status).where(Evaluation.id.in_(part))
                found.update((row.id, row.status) for row in connection.execute(query))
            return found

        return self._read(body) if evaluation_ids else {}

    def epoch_scores(self, task_id: int, epoch: int) -> list[float]:
        """The validation scores that the finished trainings of a task had after an epoch, which counts from 1.

        Trainings that were stopped early count as long as they got there, or the scores would be those of the best
        only. Trainings that diverged are left out, and so are scores that are NaN.
        """
        at = {"at_task": task_id, "at_epoch": epoch}
        scores = self._read(lambda connection: connection.execute(_EPOCH_SCORES, at).scalars().all())
        return [score for score in scores if score is not None and not math.isnan(score)]

    def evaluation(self, evaluation_id: int) -> EvaluationRecord:
        """One evaluation.

        Raises:
            RecordNotFound: there is none of this number.
        """
        return self._read_body(evaluation_id)

    def curve(self, evaluation_id: int) -> tuple[EpochRecord, ...]:
        """The learning curve, by epoch."""
        return self._read(lambda connection: read_curve(connection, evaluation_id))

    def attempts(self, evaluation_id: int) -> tuple[AttemptRecord, ...]:
        """All tries, in order."""
        columns = [getattr(Attempt, field.name) for field in fields(AttemptRecord)]
        query = sa.select(*columns).where(Attempt.evaluation_id == evaluation_id).order_by(Attempt.number)
        return self._read(lambda connection: tuple(AttemptRecord(*row) for row in connection.execute(query)))

    def _read_body(self, evaluation_id: int) -> EvaluationRecord:
        return self._read(lambda connection: _read(connection, evaluation_id))

    def _claimed(
        self,
        connection: sa.Connection,
        lease: Lease,
        run: FencedRun,
        record: EvaluationRecord,
        origin: Origin,
        suggestion: SuggestionRecord | None,
        retry_failed: bool,
        usable: Usable,
        *,
        again: bool = False,
    ) -> Claim:
        """What becomes of a wish for a locked evaluation; `again` says that it was logged in a transaction whose COMMIT
        was not answered."""
        state = self._decide(connection, run, record, retry_failed, record.usable(*usable))
        if state == "claimed" and record.finished:
            reopen(connection, run.id, record.id)
            record = _read(connection, record.id)
        wanted = link(connection, run.id, record.id, origin, suggestion, reused=state == "reused")
        if state == "claimed":
            record = _take(connection, lease, run, record)
        if not again:
            log(connection, run.id, state, record.id, record.function_id, _claim_data(record, origin, suggestion))
        return Claim(record.id, state, record, wanted)  # type: ignore[arg-type]

    def _decide(
        self,
        connection: sa.Connection,
        run: FencedRun,
        record: EvaluationRecord,
        retry_failed: bool,
        usable: bool,
    ) -> str:
        """The state of a claim on a locked evaluation."""
        if record.finished:
            return "reused" if usable else "claimed"
        if record.status == "failed":
            parked = record.claimed_by == run.id and not retry_failed
            return "failed" if parked else "claimed"
        if record.status == "running" and record.claimed_by not in (None, run.id):
            assert record.claimed_by is not None  # noqa: S101 - a running evaluation has a claimer, says the schema
            return "taken" if lease_is_live(connection, record.claimed_by, self._is_dead) else "claimed"
        return "claimed"


def _lock(connection: sa.Connection, task_id: int, function_id: int, seed: int) -> EvaluationRecord:
    """The row of the evaluation, made if it is new, locked."""
    key = {"at_task": task_id, "at_function": function_id, "at_seed": seed}
    new = {"task_id": task_id, "function_id": function_id, "seed": seed, "status": "queued"}
    connection.execute(insert_or_skip(connection, Evaluation), new)
    return EvaluationRecord(*connection.execute(_LOCK_BY_KEY, key).one())


def _read(connection: sa.Connection, evaluation_id: int, lock: bool = False) -> EvaluationRecord:
    row = connection.execute(_LOCK if lock else _READ, {"at_evaluation": evaluation_id}).one_or_none()
    if row is None:
        raise RecordNotFound(f"no evaluation has the number {evaluation_id}")
    return EvaluationRecord(*row)


def _lock_in_order(connection: sa.Connection, evaluation_ids: Collection[int]) -> None:
    """Locks several rows in the order in which all runs lock them, so that two runs cannot deadlock."""
    if len(evaluation_ids) > 1 and connection.dialect.name != "sqlite":
        for part in chunks(sorted(evaluation_ids)):
            query = sa.select(Evaluation.id).where(Evaluation.id.in_(part)).order_by(Evaluation.function_id)
            connection.execute(query.with_for_update())


def _start(connection: sa.Connection, run: FencedRun, start: StartRecord) -> bool:
    number = start.evaluation_id
    record = _read(connection, number, lock=True)
    if record.status != "running" or record.claimed_by != run.id:
        return False
    if open_attempt(connection, number, run.id, start.worker, start.node):
        connection.execute(_START, {"at_evaluation": number, "worker": start.worker})
        rule = {"stop_rule": [list(pair) for pair in start.stop_rule]} if start.stop_rule else {}
        own = {"settings": start.settings} if start.settings else {}
        data = {"worker": start.worker, "node": start.node, **rule, **own}
        log(connection, run.id, "started", number, record.function_id, data)
    return True


def _record(
    connection: sa.Connection, lease: Lease, run: FencedRun, evaluation_id: int, result: EvaluationResult
) -> bool:
    record = _read(connection, evaluation_id, lock=True)
    if record.finished:
        close_own_attempt(connection, evaluation_id, run.id, "superseded")
        return record.claimed_by == run.id and same_result(record, result)
    if result.stopped_early and record.status == "running" and record.claimed_by != run.id:
        close_own_attempt(connection, evaluation_id, run.id, "superseded")
        return False
    write_result(connection, lease, run, evaluation_id, result)
    close_own_attempt(connection, evaluation_id, run.id, result.status)
    if record.claimed_by != run.id:
        close_attempts(connection, evaluation_id, "superseded")
    kind = "result" if result.status == "done" else "diverged"
    data = {"score": result.score, "reason": result.reason, "seconds": result.seconds}
    data |= {"stopped_early": result.stopped_early} if result.stopped_early else {}
    log(connection, run.id, kind, evaluation_id, record.function_id, data)
    return True


def _take(connection: sa.Connection, lease: Lease, run: FencedRun, record: EvaluationRecord) -> EvaluationRecord:
    """Makes a locked evaluation ours. Attempts count anew after another run gave it up or on an explicit retry."""
    if record.status == "running" and record.claimed_by == run.id:
        return record  # claimed in a transaction whose COMMIT was not answered
    if record.status == "running":
        close_attempts(connection, record.id, "superseded")
    values: dict[str, Any] = {"status": "running", "claimed_by": run.id}
    if record.status == "failed":
        values |= {"attempts": 0, "error": None, "finished_at": None}
    connection.execute(CHANGE, values | {"claim_token": lease.token, "at_evaluation": record.id})
    return replace(record, **values)


def _claim_data(record: EvaluationRecord, origin: Origin, suggestion: SuggestionRecord | None) -> dict[str, Any]:
    data: dict[str, Any] = {"origin": origin, "seed": record.seed}
    if suggestion is not None:
        data["suggestion"] = asdict(suggestion)
    if record.finished:
        data |= {"status": record.status, "score": record.score}
    return data
