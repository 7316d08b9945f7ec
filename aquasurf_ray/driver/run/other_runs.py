"""What others do meanwhile with a run's evaluations: people propose functions, other runs of the task train them.

Only what is proposed since the last look, and what another run trains now, is asked about. What waits in the run's own
queue is not: if another run has taken or finished it, the store says so when its turn comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace

from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.run.claims import Claims
from aquasurf_ray.driver.state.evaluations import OPEN, EvaluationState, state_of
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.store import EvaluationRecord, EvaluationResult, Lease, Store

LOOK_AROUND_SECONDS = 1.0


class Sharing:
    """The evaluations of one run that others have a hand in."""

    def __init__(
        self,
        config: SearchConfig,
        store: Store,
        lease: Lease,
        history: History,
        claims: Claims,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._store, self._lease, self._history = config, store, lease, history
        self._claims, self._clock = claims, clock
        self._looked_around = clock()
        self._last_event = 0
        self._proposed: set[int] = set()
        self._asked_at: dict[int, float] = {}

    def look_around(self, *, now: bool = False) -> bool:
        """Once a second, or `now`: what was proposed, and what other runs have finished; whether it was time."""
        if not now and self._clock() - self._looked_around < LOOK_AROUND_SECONDS:
            return False
        self._looked_around = self._clock()
        self._look_for_proposals()
        self._look_elsewhere()
        return True

    def is_proposed(self, evaluation_id: int) -> bool:
        """Whether people asked for it, who may be later than the surrogate; the store keeps the first origin."""
        self._look_for_proposals()
        return evaluation_id in self._proposed

    def retry_failed(self, *, all_origins: bool) -> None:
        """Gives what an earlier driver gave up another chance: baselines, or whatever it was."""
        for evaluation in list(self._history.evaluations.values()):
            if evaluation.status == "failed" and (evaluation.origin == "baseline" or all_origins):
                self._claims.ask_again(evaluation, retry_failed=True)

    def retry_stopped(self, evaluations: Collection[EvaluationState]) -> None:
        """Has trained in full what another run stopped early or refused, where this run does neither."""
        for evaluation in evaluations:
            accepted = self._claims.accepted(evaluation.origin)
            enough = accepted["accept_stopped"] if evaluation.status == "done" else accepted["accept_refused"]
            if evaluation.stopped_early and not enough:
                self._claims.ask_again(evaluation)

    def adopt(self, evaluation: EvaluationState) -> None:
        """Another run has taken the evaluation over, or finished it first: what the store says holds."""
        record = self._store.evaluation(evaluation.evaluation_id)
        self.keep(evaluation, record)

    def keep(self, evaluation: EvaluationState, result: EvaluationResult | EvaluationRecord) -> None:
        """Takes note of what has become of an evaluation."""
        status, score, why = result.status, result.score, result.stopped_early
        self._history.evaluations.put(replace(evaluation, status=status, score=score, stopped_early=why, ours=False))

    def _look_for_proposals(self) -> None:
        """Takes note of what was proposed since, also of what needs no training because it is known or under way."""
        events = self._store.events(self._lease.run_id, after=self._last_event)
        self._last_event = events[-1].seq if events else self._last_event
        proposed = {e.evaluation_id for e in events if e.kind == "proposed" and e.evaluation_id is not None}
        self._proposed |= proposed
        known = self._history.evaluations
        new = [state_of(request) for request in self._store.requests(self._lease.run_id, proposed - known.keys())]
        for evaluation in new:
            known.put(evaluation)
        self._requeue(proposed & known.keys())
        self.retry_stopped([known[evaluation.evaluation_id] for evaluation in new])

    def _requeue(self, evaluation_ids: Collection[int]) -> None:
        """Queues what the store has queued anew: proposed again after it had failed, or given back by another run."""
        known = self._history.evaluations
        for number, status in self._store.evaluation_statuses(evaluation_ids).items():
            evaluation = known[number]
            if status == "queued" and (evaluation.elsewhere or evaluation.status not in OPEN):
                known.put(replace(evaluation, status="queued", score=None, stopped_early=None))

    def _look_elsewhere(self) -> None:
        elsewhere = {evaluation.evaluation_id: evaluation for evaluation in self._history.evaluations.elsewhere}
        self._requeue(elsewhere)
        for number, status in self._store.evaluation_statuses(elsewhere).items():
            if status not in OPEN:
                self._observe(elsewhere[number])
            elif status == "running" and self._clock() - self._asked_at.get(number, 0.0) > self._config.lease_seconds:
                self._asked_at[number] = self._clock()
                self._claims.ask_again(elsewhere[number])

    def _observe(self, evaluation: EvaluationState) -> None:
        accepted = self._claims.accepted(evaluation.origin)
        record = self._store.observe(self._lease, evaluation.evaluation_id, **accepted)
        if record is None or not record.usable(**accepted):
            self._claims.ask_again(evaluation)
            return
        reused = evaluation.reused or record.claimed_by != self._lease.run_id  # as the store has just noted it
        self.keep(replace(evaluation, reused=reused), record)
