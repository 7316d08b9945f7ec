"""Synchronisation with people and other runs: people request functions, other runs train the same evaluations.

Only new requests, and evaluations that another run trains now, are polled. The run's own queue is not: if another run
has claimed or finished an evaluation in it, the claim reports this when the evaluation's turn comes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from aquasurf_ray.driver.run.claims import Claims
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.driver.state.evaluations import OPEN, EvaluationState, state_of
from aquasurf_ray.store import EvaluationRecord, EvaluationResult

SYNC_SECONDS = 1.0


class OtherRuns:
    """The evaluations of one run that people have requested or other runs train."""

    def __init__(self, context: RunContext, claims: Claims) -> None:
        self._context, self._claims = context, claims
        self._evaluations = context.history.evaluations
        self._synced_at = context.clock()
        self._last_event = 0
        self._requested: set[int] = set()
        self._retried_at: dict[int, float] = {}

    def sync(self, *, now: bool = False) -> bool:
        """Read new requests and the results of other runs, once a second or `now`; return whether it was time."""
        if not now and self._context.clock() - self._synced_at < SYNC_SECONDS:
            return False
        self._synced_at = self._context.clock()
        self._read_requests()
        self._read_results()
        return True

    def is_requested(self, evaluation_id: int) -> bool:
        """Return whether somebody requested the evaluation. Its origin does not tell: the store keeps the first one."""
        self._read_requests()
        return evaluation_id in self._requested

    def retry_failed(self, *, all_origins: bool) -> None:
        """Queue again what an earlier driver has given up: baselines and further seeds, or with `all_origins` all."""
        first = self._context.config.training_seed
        for evaluation in list(self._evaluations.values()):
            # A search has other suggestions, but nothing in place of a baseline, or of a seed that a mean lacks.
            needed = evaluation.origin == "baseline" or (evaluation.seed != first and self._claims.left() > 0)
            if evaluation.status == "failed" and (all_origins or needed):
                self._claims.retry(evaluation, retry_failed=True)

    def retry_stopped(self, evaluations: Collection[EvaluationState]) -> None:
        """Claim evaluations that another run stopped early or refused, if this run would have trained them in full."""
        for evaluation in evaluations:
            accepted = self._claims.accepted(evaluation.origin)
            enough = accepted["accept_stopped"] if evaluation.status == "done" else accepted["accept_refused"]
            if evaluation.stopped_early and not enough:
                self._claims.retry(evaluation)

    def read(self, evaluation: EvaluationState) -> None:
        """Update an evaluation from the store, after another run has taken it over or finished it first."""
        self.update(evaluation, self._context.store.evaluation(evaluation.evaluation_id))

    def update(self, evaluation: EvaluationState, result: EvaluationResult | EvaluationRecord) -> None:
        """Put the result of an evaluation into the history."""
        status, score, why = result.status, result.score, result.stopped_early
        self._evaluations.put(replace(evaluation, status=status, score=score, stopped_early=why, ours=False))

    def _read_requests(self) -> None:
        """Read new requests, including those for functions that are trained already or under way."""
        events = self._context.store.events(self._context.lease.run_id, after=self._last_event)
        self._last_event = events[-1].seq if events else self._last_event
        requested = {e.evaluation_id for e in events if e.kind == "proposed" and e.evaluation_id is not None}
        self._requested |= requested
        known = self._evaluations
        requests = self._context.store.requests(self._context.lease.run_id, requested - known.keys())
        new = [state_of(request) for request in requests]
        for evaluation in new:
            known.put(evaluation)
        self._requeue(requested & known.keys())
        self.retry_stopped([known[evaluation.evaluation_id] for evaluation in new])

    def _requeue(self, evaluation_ids: Collection[int]) -> None:
        """Queue the evaluations that the store has queued again, after a new request or released by another run."""
        for number, status in self._context.store.evaluation_statuses(evaluation_ids).items():
            evaluation = self._evaluations[number]
            if status == "queued" and (evaluation.elsewhere or evaluation.status not in OPEN):
                self._evaluations.put(replace(evaluation, status="queued", score=None, stopped_early=None))

    def _read_results(self) -> None:
        elsewhere = {evaluation.evaluation_id: evaluation for evaluation in self._evaluations.elsewhere}
        self._requeue(elsewhere)
        now, lease_seconds = self._context.clock(), self._context.config.lease_seconds
        for number, status in self._context.store.evaluation_statuses(elsewhere).items():
            if status not in OPEN:
                self._read_result(elsewhere[number])
            elif status == "running" and now - self._retried_at.get(number, 0.0) > lease_seconds:
                self._retried_at[number] = now  # the claim succeeds only if the other run has died
                self._claims.retry(elsewhere[number])

    def _read_result(self, evaluation: EvaluationState) -> None:
        accepted, lease = self._claims.accepted(evaluation.origin), self._context.lease
        record = self._context.store.observe(lease, evaluation.evaluation_id, **accepted)
        if record is None or not record.usable(**accepted):
            self._claims.retry(evaluation)
            return
        reused = evaluation.reused or record.claimed_by != lease.run_id  # as the store has just recorded
        self.update(replace(evaluation, reused=reused), record)
