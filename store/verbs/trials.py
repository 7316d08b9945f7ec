"""Trials: processes that share a run ask for evaluations one at a time, and tell the results.

    share_run --> ask --claimed--> train --> tell
                   |                 |---> fail_trial: queued again, or failed
                   '--taken, reused  |---> give_back: queued again
                                     '---> dead or silent: expire_trials, as fail_trial, and somebody else is given it

While no driver has the run, its lease is nobody's, and every process of a study writes under the same token. A driver
that takes the run raises the token, so that it and a study never write at the same time; it is refused while a trial is
open. A trial is an attempt at an evaluation, with a lease in a table of its own: an expired one is closed, so its
process can tell no result once another process was given the function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import sqlalchemy as sa

from aquasurf_ray.store.database.columns import utc_now
from aquasurf_ray.store.database.schema import Attempt, Evaluation, Run, RunEvaluation, TrialLease
from aquasurf_ray.store.errors import RecordNotFound
from aquasurf_ray.store.records.evaluations import (
    Claim,
    EvaluationRecord,
    EvaluationRequest,
    EvaluationResult,
    StartRecord,
)
from aquasurf_ray.store.records.leases import Lease, LeaseOwner
from aquasurf_ray.store.records.runs import RunStatusName
from aquasurf_ray.store.records.trials import AskedTrial, OpenTrial, TellAnswer
from aquasurf_ray.store.verbs.attempts import holder_of, live_trials, open_attempts, open_trials
from aquasurf_ray.store.verbs.claims import ClaimVerbs, Usable
from aquasurf_ray.store.verbs.evaluations import fail, lock_by_number, resulted
from aquasurf_ray.store.verbs.leases import LeaseVerbs
from aquasurf_ray.store.verbs.processes import live_processes
from aquasurf_ray.store.verbs.results import CHANGE, check_result, same_result, write_results
from aquasurf_ray.store.verbs.runs import read_run_by_id
from aquasurf_ray.store.verbs.store_core import EventRow, FencedRun, chunks


class TrialVerbs(LeaseVerbs, ClaimVerbs):
    """Asking a shared run for evaluations, and telling their results."""

    def share_run(self, run_id: int, owner: LeaseOwner, *, code_version: str, lease_seconds: float = 30.0) -> Lease:
        """Return the right to ask and tell, which any number of processes have while no driver has the run.

        What a dead driver has left running is queued again.

        Raises:
            RunHeld: a live driver works on the run.
            RunNotFound: no run has this number.
        """
        run = self._read(lambda connection: read_run_by_id(connection, run_id))
        if run.lease_owner is not None:
            lease = self.acquire_lease(run_id, owner, lease_seconds=lease_seconds, code_version=code_version)
            self.release_lease(lease, "interrupted")
            run = self._read(lambda connection: read_run_by_id(connection, run_id))
        return Lease(run_id, run.name, run.task_id, code_version, run.lease_token)

    def ask(
        self,
        lease: Lease,
        request: EvaluationRequest,
        owner: LeaseOwner,
        *,
        nonce: str,
        lease_seconds: float,
        budget: int | None = None,
        accept_stopped: bool = True,
        accept_refused: bool = True,
    ) -> AskedTrial | None:
        """Claim an evaluation for one process and open its trial, wholly or not at all.

        Args:
            nonce: a text that no other call has, by which the same call recognises its trial when it runs again.
            budget: the number of evaluations of the run besides baselines; a suggestion beyond it is refused: None.

        Raises:
            LeaseLost: a driver took the run over.
        """
        usable = Usable(accept_stopped, accept_refused)

        def body(connection: sa.Connection, run: FencedRun) -> AskedTrial | None:
            full = budget is not None and request.origin == "suggestion" and _counted(connection, run.id) >= budget
            if full and not _is_requested(connection, run.id, request):
                return None
            (claim,) = self._claim(connection, lease, run, [request], usable, nonce=nonce)
            if claim.state != "claimed":
                return AskedTrial(claim)
            start = StartRecord(claim.evaluation_id, f"{owner.host} pid {owner.pid}", owner.host)
            if open_attempts(connection, run.id, [start]):
                connection.execute(CHANGE.values(started_at=utc_now()), {"at_evaluation": start.evaluation_id})
                run.events.append(EventRow("started", claim.evaluation_id, claim.function_id, {"worker": start.worker}))
                attempt = _open_attempt(connection, run.id, claim.evaluation_id)
                row = {"attempt_id": attempt, "owner": asdict(owner), "nonce": nonce, "seconds": lease_seconds}
                connection.execute(sa.insert(TrialLease), row)
            _set_status(connection, run.id, "running")
            return _asked(connection, run.id, claim)

        return self._fenced(lease, body)

    def tell(self, lease: Lease, trial: AskedTrial, result: EvaluationResult) -> TellAnswer:
        """Record the result of a trial, wholly or not at all; the answer says whether it counts.

        A result that comes after the trial has expired counts as long as no other process was given the function.

        Raises:
            BadRecord: see `record_result`.
            LeaseLost: a driver took the run over.
        """
        check_result(result)
        number = trial.claim.evaluation_id

        def body(connection: sa.Connection, run: FencedRun) -> TellAnswer:
            record = lock_by_number(connection, [number])[number]
            outcome = _outcome(connection, trial)
            if record.finished and record.claimed_by == run.id and same_result(record, result):
                return TellAnswer("recorded")  # by an earlier try of this call, whose COMMIT was not answered
            if outcome in ("done", "diverged"):
                return TellAnswer("ended")
            if record.finished or (outcome is not None and record.status == "running"):
                data = {"status": result.status, "score": result.score, "worker": result.worker}
                run.events.append(EventRow("late", number, record.function_id, data))
                return TellAnswer("taken", _holder_text(connection, record))
            write_results(connection, lease, run, {number: result})
            _close(connection, [trial.attempt_id], result.status)
            run.events.append(resulted(record, result))
            return TellAnswer("recorded")

        return self._fenced(lease, body)

    def fail_trial(self, lease: Lease, trial: AskedTrial, error: str, *, most_attempts: int) -> bool:
        """Record an infrastructure failure: the function is queued again, or given up after `most_attempts`.

        Return False and change nothing if the trial has ended, or another process was given the function.

        Raises:
            LeaseLost: a driver took the run over.
        """
        number = trial.claim.evaluation_id

        def body(connection: sa.Connection, run: FencedRun) -> bool:
            record = lock_by_number(connection, [number])[number]
            if _outcome(connection, trial) is not None:
                return False
            attempts = record.attempts + 1
            fail(connection, run, record, error, attempts, final=attempts >= most_attempts)
            return True

        return self._fenced(lease, body)

    def open_trials(self, run_id: int) -> list[OpenTrial]:
        """Return the trials of a run that have not ended, in the order in which they were asked for."""
        return self._read(lambda connection: open_trials(connection, run_id))

    def give_back(self, lease: Lease, trials: Sequence[OpenTrial]) -> int:
        """End trials that their process gives back, and queue their evaluations; return how many were ended.

        Raises:
            LeaseLost: a driver took the run over.
        """

        def body(connection: sa.Connection, run: FencedRun) -> int:
            ended = _unmoved(connection, run, trials)
            for record in (record for _, record in ended if record.is_held_by(run.id)):
                queued = {"status": "queued", "claimed_by": None, "claim_token": None}
                connection.execute(CHANGE, queued | {"at_evaluation": record.id})
                run.events.append(EventRow("requeued", record.id, record.function_id, {}))
            _close(connection, [trial.attempt_id for trial, _ in ended], "interrupted")
            return len(ended)

        return self._fenced(lease, body)

    def expire_trials(self, lease: Lease, trials: Sequence[OpenTrial], *, most_attempts: int) -> list[int]:
        """End trials whose process has died or is silent, each as a failed attempt; return their evaluations.

        Whether the function killed its process cannot be seen from outside, so each such end counts: otherwise, one
        that does would be given to one process after the other. A trial whose heartbeat has grown meanwhile is left
        alone.

        Raises:
            LeaseLost: a driver took the run over.
        """

        def body(connection: sa.Connection, run: FencedRun) -> list[int]:
            ended = [(trial, each) for trial, each in _unmoved(connection, run, trials) if each.is_held_by(run.id)]
            for trial, record in ended:
                silent = f"gave no sign of life for {trial.lease_seconds:g} s"
                error = f"the process that trained it {'died' if self._is_dead(trial.owner) else silent}"
                attempts = record.attempts + 1
                fail(connection, run, record, error, attempts, final=attempts >= most_attempts)
            return [record.id for _, record in ended]

        return self._fenced(lease, body)

    def end_sharing(self, lease: Lease, status: RunStatusName) -> bool:
        """Set the status of a shared run, and return whether it was set: not while a process has a trial, nor to
        `interrupted` while one has the study open.

        Raises:
            LeaseLost: a driver took the run over.
        """

        def body(connection: sa.Connection, run: FencedRun) -> bool:
            if live_trials(connection, run.id, self._is_dead):
                return False
            if status == "interrupted" and live_processes(connection, run.id, self._is_dead):
                return False
            if _set_status(connection, run.id, status):
                run.events.append(EventRow(status, data={"message": None}))
            return True

        return self._fenced(lease, body)


def _counted(connection: sa.Connection, run_id: int) -> int:
    """Return how many evaluations of a run use up its budget: all except baselines and infrastructure failures."""
    query = (
        sa.select(sa.func.count())
        .select_from(RunEvaluation)
        .join(Evaluation, Evaluation.id == RunEvaluation.evaluation_id)
        .where(RunEvaluation.run_id == run_id, RunEvaluation.origin != "baseline", Evaluation.status != "failed")
    )
    return int(connection.execute(query).scalar_one())


def _is_requested(connection: sa.Connection, run_id: int, request: EvaluationRequest) -> bool:
    """Return whether the run has the request already, so that it uses up no more of the budget."""
    query = (
        sa.select(RunEvaluation.id)
        .join(Evaluation, Evaluation.id == RunEvaluation.evaluation_id)
        .where(
            RunEvaluation.run_id == run_id,
            Evaluation.function_id == request.function_id,
            Evaluation.seed == request.seed,
            Evaluation.recipe_change == request.recipe_change,
        )
    )
    return connection.execute(query).first() is not None


def _open_attempt(connection: sa.Connection, run_id: int, evaluation_id: int) -> int:
    query = sa.select(Attempt.id).where(
        Attempt.run_id == run_id, Attempt.evaluation_id == evaluation_id, Attempt.outcome.is_(None)
    )
    return int(connection.execute(query).scalar_one())


def _asked(connection: sa.Connection, run_id: int, claim: Claim) -> AskedTrial:
    place = sa.select(RunEvaluation.position).where(
        RunEvaluation.run_id == run_id, RunEvaluation.evaluation_id == claim.evaluation_id
    )
    attempt = _open_attempt(connection, run_id, claim.evaluation_id)
    return AskedTrial(claim, attempt, int(connection.execute(place).scalar_one()))


def _set_status(connection: sa.Connection, run_id: int, status: RunStatusName) -> bool:
    changed = sa.update(Run).where(Run.id == run_id, Run.status != status).values(status=status, message=None)
    return bool(connection.execute(changed).rowcount)


def _outcome(connection: sa.Connection, trial: AskedTrial) -> str | None:
    """Return how the trial has ended; None if it is open."""
    row = connection.execute(sa.select(Attempt.outcome).where(Attempt.id == trial.attempt_id)).one_or_none()
    if row is None:
        raise RecordNotFound(f"no attempt has the number {trial.attempt_id}")
    return None if row.outcome is None else str(row.outcome)


def _unmoved(
    connection: sa.Connection, run: FencedRun, trials: Sequence[OpenTrial]
) -> list[tuple[OpenTrial, EvaluationRecord]]:
    """Return those of the trials that are open and had no heartbeat since they were read, each with its evaluation,
    which is locked."""
    records = lock_by_number(connection, [trial.evaluation_id for trial in trials])
    now = {trial.attempt_id: trial.heartbeat for trial in open_trials(connection, run.id)}
    return [(trial, records[trial.evaluation_id]) for trial in trials if now.get(trial.attempt_id) == trial.heartbeat]


def _close(connection: sa.Connection, attempt_ids: Sequence[int | None], outcome: str) -> None:
    ended = {"ended_at": utc_now(), "outcome": outcome}
    for part in chunks(attempt_ids):
        query = sa.update(Attempt).where(Attempt.id.in_(part), Attempt.outcome.is_(None))
        connection.execute(query.values(ended))


def _holder_text(connection: sa.Connection, record: EvaluationRecord) -> str | None:
    """Return the process that has the function now, or that reported its result."""
    holder = holder_of(connection, record.id)
    return record.worker if holder is None else f"{holder[1].host} pid {holder[1].pid}"
