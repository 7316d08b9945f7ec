"""Evaluations: claimed by one run at a time (`claims.py`), recorded once, shared by all runs of the task.

    queued --claim--> running --record_result--> done | diverged      (final; the first result stays)
       ^                 |----record_failure---> queued | failed      (failed: may be claimed again by another run)
       '--lease taken over or released

One kind of result is not final: that of a training that was stopped early or refused by the health gate. A run that
does not accept such results has the function trained in full, and `store.verbs.results.reopen` moves the earlier result
from the row into the run's log.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from aquasurf_ray.store.database.columns import utc_now
from aquasurf_ray.store.database.schema import Attempt, Epoch, Evaluation, Function, RunEvaluation
from aquasurf_ray.store.errors import RecordNotFound
from aquasurf_ray.store.records.evaluations import (
    EpochRecord,
    EvaluationRecord,
    EvaluationResult,
    EvaluationStatus,
    StartRecord,
)
from aquasurf_ray.store.records.leases import Lease
from aquasurf_ray.store.verbs.attempts import close_attempts, close_own_attempts, open_attempts
from aquasurf_ray.store.verbs.results import (
    CHANGE,
    FINISH,
    check_result,
    read_curve,
    read_learned,
    reopen,
    same_result,
    write_results,
)
from aquasurf_ray.store.verbs.store_core import EventRow, FencedRun, StoreCore, chunks
from aquasurf_ray.training_metrics import LearnedValues

_NAMES = tuple(field.name for field in fields(EvaluationRecord))
EVALUATION_COLUMNS = tuple(getattr(Evaluation, name) for name in _NAMES)
KEY_COLUMNS = (Evaluation.function_id, Evaluation.seed, Evaluation.recipe_change)
_READ_ALL = sa.select(*EVALUATION_COLUMNS)
_READ = _READ_ALL.where(Evaluation.id == sa.bindparam("at_evaluation"))
_START = CHANGE.values(started_at=utc_now())
_EARLY_SCORES = (
    sa.select(Epoch.val_score, sa.case((Evaluation.stopped_early.is_(None), Evaluation.score)))
    .join(Evaluation, Evaluation.id == Epoch.evaluation_id)
    .where(
        Evaluation.task_id == sa.bindparam("at_task"),
        Evaluation.recipe_change == sa.bindparam("at_change"),
        Evaluation.status == "done",
        Epoch.epoch == sa.bindparam("at_epoch"),
        Epoch.val_score.is_not(None),
    )
    .order_by(Evaluation.id)
)


class EvaluationVerbs(StoreCore):
    """Starting, recording and reading evaluations."""

    def start(
        self,
        lease: Lease,
        evaluation_id: int,
        worker: str | None = None,
        node: str | None = None,
        stop_rule: Sequence[tuple[int, float]] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> bool:
        """Record that a worker starts; return False if the evaluation is no longer this run's to train.

        Args:
            stop_rule: pairs (epoch, lowest score), for the event log, whether or not the rule will end the training.
            settings: the settings of this training alone, for the event log.
        """

        start = StartRecord(evaluation_id, worker, node, tuple(stop_rule), dict(settings or {}))
        return self.start_all(lease, [start])[0]

    def start_all(self, lease: Lease, starts: Sequence[StartRecord]) -> list[bool]:
        """Do `start` for several evaluations in one transaction."""

        def body(connection: sa.Connection, run: FencedRun) -> list[bool]:
            records = lock_by_number(connection, [start.evaluation_id for start in starts])
            ours = [start for start in starts if records[start.evaluation_id].is_held_by(run.id)]
            opened = open_attempts(connection, run.id, ours)
            if opened:
                connection.execute(_START, [{"at_evaluation": s.evaluation_id, "worker": s.worker} for s in opened])
            run.events.extend(_started(start, records[start.evaluation_id]) for start in opened)
            return [start in ours for start in starts]

        return self._fenced(lease, body)

    def record_result(self, lease: Lease, evaluation_id: int, result: EvaluationResult) -> bool:
        """Write a result and its learning curve, wholly or not at all.

        The first result stays: return False if there is another one. Recording the same result again returns True and
        changes nothing. A late result of an evaluation that was requeued, parked or taken over is accepted, unless the
        training was stopped early and another run is training it, which may need it in full.

        Raises:
            BadRecord: a result is `done` without a finite score, or `diverged` with one, or has an epoch twice.
            LeaseLost: another driver took the run over.
        """
        return self.record_results(lease, {evaluation_id: result})[evaluation_id]

    def record_results(self, lease: Lease, results: Mapping[int, EvaluationResult]) -> dict[int, bool]:
        """Do `record_result` for several evaluations in one transaction. A commit costs as much as writing a result, so
        a driver of many workers records the results together that arrive together."""
        for result in results.values():
            check_result(result)

        def body(connection: sa.Connection, run: FencedRun) -> dict[int, bool]:
            records = lock_by_number(connection, results)
            free = {number for number, result in results.items() if _is_accepted(records[number], run, result)}
            written = {number: result for number, result in results.items() if number in free}
            write_results(connection, lease, run, written)
            # An attempt ends with its training, also when the result came too late to be stored.
            ends = {n: result.status if n in free else "superseded" for n, result in results.items()}
            close_own_attempts(connection, run.id, ends)
            for number in written:
                if records[number].claimed_by != run.id:
                    close_attempts(connection, number, "superseded")
            run.events.extend(resulted(records[number], result) for number, result in written.items())
            # A repeated call after an unanswered COMMIT must give the answer that the first one would have given.
            return {n: n in free or _is_repeated(records[n], run, result) for n, result in results.items()}

        return self._fenced(lease, body)

    def record_failure(
        self, lease: Lease, evaluation_id: int, error: str, *, final: bool, advanced: bool = False
    ) -> bool:
        """Record an infrastructure failure: queue the evaluation again, or park it as failed if `final`.

        An attempt that `advanced` left a later checkpoint than the one before; the count of attempts then restarts.

        Return False and change nothing if the evaluation is no longer this run's, or has a result.
        """

        def body(connection: sa.Connection, run: FencedRun) -> bool:
            record = lock_by_number(connection, [evaluation_id])[evaluation_id]
            if not record.is_held_by(run.id):
                return False
            # A training that gets further each time is not stuck, however often it is killed.
            attempts = 1 if advanced else record.attempts + 1
            fail(connection, run, record, error, attempts, final=final)
            return True

        return self._fenced(lease, body)

    def reopen_diverged(self, lease: Lease, evaluation_ids: Collection[int]) -> None:
        """Queue those of the evaluations that diverged as if they were new: the task and not the function was at fault.

        Their results are moved into the run's log.
        """

        def body(connection: sa.Connection, run: FencedRun) -> None:
            for number, record in lock_by_number(connection, evaluation_ids).items():
                if record.status == "diverged":
                    reopen(connection, run.id, number)

        self._fenced(lease, body)

    def withdraw(self, lease: Lease, evaluation_ids: Collection[int]) -> None:
        """Take back requests of the run for evaluations without a result, which other runs may still train."""

        def body(connection: sa.Connection, run: FencedRun) -> None:
            for number, record in lock_by_number(connection, evaluation_ids).items():
                if record.status in ("queued", "running"):
                    mine = (RunEvaluation.run_id == run.id) & (RunEvaluation.evaluation_id == number)
                    connection.execute(sa.delete(RunEvaluation).where(mine))
                    run.events.append(EventRow("withdrawn", number, record.function_id, {}))

        self._fenced(lease, body)

    def observe(
        self, lease: Lease, evaluation_id: int, *, accept_stopped: bool = True, accept_refused: bool = True
    ) -> EvaluationRecord | None:
        """Return the record of an evaluation that another run was training, once it is finished or given up; else None.

        A result is logged at its first observation, because it informs this run's suggestions from then on. A result
        that the run does not accept (see `ClaimVerbs.claim`) is not logged, but returned for the caller to claim.
        """

        def body(connection: sa.Connection, run: FencedRun) -> EvaluationRecord | None:
            record = read_evaluation(connection, evaluation_id)
            if record.status in ("queued", "running"):
                return None
            unseen = (RunEvaluation.run_id == run.id) & (RunEvaluation.evaluation_id == evaluation_id)
            unseen &= RunEvaluation.reused.is_(False)
            if record.usable(accept_stopped, accept_refused) and record.claimed_by != run.id:
                marked = connection.execute(sa.update(RunEvaluation).where(unseen).values(reused=True)).rowcount
                if marked:
                    data = {"status": record.status, "score": record.score}
                    run.events.append(EventRow("observed", evaluation_id, record.function_id, data))
            return record

        if self.evaluation(evaluation_id).status in ("queued", "running"):
            return None  # the most frequent answer, which costs no write
        return self._fenced(lease, body)

    def evaluation_statuses(self, evaluation_ids: Collection[int]) -> dict[int, EvaluationStatus]:
        """Return the status of these evaluations by number."""

        def body(connection: sa.Connection) -> dict[int, EvaluationStatus]:
            found: dict[int, EvaluationStatus] = {}
            for part in chunks(sorted(evaluation_ids)):
                query = sa.select(Evaluation.id, Evaluation.status).where(Evaluation.id.in_(part))
                found.update((row.id, row.status) for row in connection.execute(query))
            return found

        return self._read(body) if evaluation_ids else {}

    def early_scores(self, task_id: int, epoch: int, recipe_change: str = "") -> list[tuple[float, float | None]]:
        """Return the validation scores that the finished trainings of a task had after an epoch, which counts from 1,
        each with its final score, of those with this change of the recipe.

        Trainings that were stopped early are included if they reached the epoch, since otherwise only the best would
        count; their final score is None. Diverged trainings and NaN scores are left out.
        """
        at = {"at_task": task_id, "at_epoch": epoch, "at_change": recipe_change}
        rows = self._read(lambda connection: connection.execute(_EARLY_SCORES, at).all())
        return [(early, final) for early, final in rows if early is not None and not math.isnan(early)]

    def had_result(self, evaluation_id: int) -> bool:
        """Return whether a training of the evaluation has ended with a result, also if it was reopened since."""
        query = sa.select(Attempt.id).where(Attempt.evaluation_id == evaluation_id, Attempt.outcome == "done").limit(1)
        return self._read(lambda connection: connection.execute(query).first() is not None)

    def score_curves(self, evaluation_ids: Collection[int]) -> dict[int, dict[int, float]]:
        """Return the validation scores of evaluations by epoch, which counts from 1; NaN scores are left out."""

        def body(connection: sa.Connection) -> dict[int, dict[int, float]]:
            found: dict[int, dict[int, float]] = {}
            for part in chunks(sorted(set(evaluation_ids))):
                query = sa.select(Epoch.evaluation_id, Epoch.epoch, Epoch.val_score).where(
                    Epoch.evaluation_id.in_(part), Epoch.val_score.is_not(None)
                )
                for number, epoch, score in connection.execute(query):
                    if score is not None and not math.isnan(score):
                        found.setdefault(number, {})[epoch] = score
            return found

        return self._read(body)

    def evaluation(self, evaluation_id: int) -> EvaluationRecord:
        """Return one evaluation.

        Raises:
            RecordNotFound: no evaluation has this number.
        """
        return self._read(lambda connection: read_evaluation(connection, evaluation_id))

    def curve(self, evaluation_id: int) -> tuple[EpochRecord, ...]:
        """Return the learning curve, by epoch."""
        return self._read(lambda connection: read_curve(connection, evaluation_id))

    def learned(self, evaluation_id: int) -> tuple[LearnedValues, ...]:
        """Return what the function's learned parameters became, in the network's order; empty without any."""
        return self._read(lambda connection: read_learned(connection, evaluation_id))

    def learned_in(self, run_id: int, fingerprint: str) -> tuple[LearnedValues, ...]:
        """Return what one function's learned parameters became in a run: in its whole trainings with the recipe, or the
        change of it, that has the best score, in the order of their requests."""
        query = (
            sa.select(Evaluation.id, Evaluation.recipe_change, Evaluation.score)
            .join(Evaluation, Evaluation.id == RunEvaluation.evaluation_id)
            .join(Function, Function.id == Evaluation.function_id)
            .where(
                RunEvaluation.run_id == run_id,
                Function.fingerprint == fingerprint,
                Evaluation.status == "done",
                Evaluation.stopped_early.is_(None),
            )
            .order_by(RunEvaluation.position)
        )

        def read(connection: sa.Connection) -> tuple[LearnedValues, ...]:
            rows = connection.execute(query).all()
            best = max(rows, key=lambda row: row.score, default=None)
            numbers = [row.id for row in rows if best is not None and row.recipe_change == best.recipe_change]
            return tuple(values for number in numbers for values in read_learned(connection, number))

        return self._read(read)


def fail(
    connection: sa.Connection, run: FencedRun, record: EvaluationRecord, error: str, attempts: int, *, final: bool
) -> None:
    """Queue a locked evaluation again, or park it as failed if `final`, and end the run's attempt at it."""
    values: dict[str, Any] = {"attempts": attempts, "error": error}
    values |= {"status": "failed"} if final else {"status": "queued", "claimed_by": None, "claim_token": None}
    connection.execute(FINISH if final else CHANGE, values | {"at_evaluation": record.id})
    close_own_attempts(connection, run.id, {record.id: "failed"}, error)
    data = {"error": error, "attempts": attempts}
    run.events.append(EventRow("failed" if final else "retry", record.id, record.function_id, data))


def lock_by_number(connection: sa.Connection, evaluation_ids: Collection[int]) -> dict[int, EvaluationRecord]:
    """Return existing rows, locked in the same order.

    Raises:
        RecordNotFound: a row does not exist.
    """
    records: dict[int, EvaluationRecord] = {}
    for part in chunks(sorted(evaluation_ids)):
        query = _READ_ALL.where(Evaluation.id.in_(part)).order_by(*KEY_COLUMNS)
        found = [to_record(row) for row in connection.execute(query.with_for_update())]
        records.update((record.id, record) for record in found)
    for number in evaluation_ids:
        if number not in records:
            raise RecordNotFound(f"no evaluation has the number {number}")
    return records


def to_record(row: Sequence[Any]) -> EvaluationRecord:
    """Return the record in a row that begins with `EVALUATION_COLUMNS`."""
    return EvaluationRecord(**dict(zip(_NAMES, row, strict=False)))


def read_evaluation(connection: sa.Connection, evaluation_id: int) -> EvaluationRecord:
    """Return an evaluation by number, or raise RecordNotFound."""
    row = connection.execute(_READ, {"at_evaluation": evaluation_id}).one_or_none()
    if row is None:
        raise RecordNotFound(f"no evaluation has the number {evaluation_id}")
    return to_record(row)


def _started(start: StartRecord, record: EvaluationRecord) -> EventRow:
    rule = {"stop_rule": [list(pair) for pair in start.stop_rule]} if start.stop_rule else {}
    details = {"settings": start.settings} if start.settings else {}
    return EventRow(
        "started", record.id, record.function_id, {"worker": start.worker, "node": start.node, **rule, **details}
    )


def _is_accepted(record: EvaluationRecord, run: FencedRun, result: EvaluationResult) -> bool:
    """Return whether a result is the first, and not of a stopped training that another run may need in full."""
    if record.finished:
        return False
    return not (result.stopped_early and record.status == "running" and record.claimed_by != run.id)


def _is_repeated(record: EvaluationRecord, run: FencedRun, result: EvaluationResult) -> bool:
    """Return whether this result was recorded in an earlier try, whose COMMIT was not answered."""
    return record.finished and record.claimed_by == run.id and same_result(record, result)


def resulted(record: EvaluationRecord, result: EvaluationResult) -> EventRow:
    kind = "result" if result.status == "done" else "diverged"
    data = {"score": result.score, "reason": result.reason, "seconds": result.seconds}
    data |= {"stopped_early": result.stopped_early} if result.stopped_early else {}
    return EventRow(kind, record.id, record.function_id, data)
