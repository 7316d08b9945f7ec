"""Which evaluation a worker gets next, claimed in the store before it is given out.

In this order: what is held for another worker than the one that failed on it, what is queued (interrupted, to be
retried, or proposed), a baseline, a suggestion of the surrogate. What the store says of a claim is taken note of in the
run's history, whatever it is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from aquasurf_ray.driver.cluster.pool import Slot, WorkerPool
from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.events import Observe, ignore
from aquasurf_ray.driver.run.converters import suggestion_record
from aquasurf_ray.driver.state.evaluations import EvaluationState
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.driver.suggestions.suggester import Suggester
from aquasurf_ray.store import Claim, EvaluationRequest, FunctionRecord, Lease, Store
from aquasurf_ray.store.records.runs import Origin

MOST_AT_ONCE = 32  # claims in one transaction: what waits for the database meanwhile waits for milliseconds
STATUS_OF_CLAIM = {"claimed": "running", "taken": "running"}


@dataclass(frozen=True)
class Budget:
    """What a run is to do: its baselines, and how many evaluations beside them."""

    baselines: tuple[FunctionRecord, ...]
    evaluations: int


class Accepted(TypedDict):
    """Results that are not of whole trainings and satisfy a run, as the store asks for it."""

    accept_stopped: bool
    accept_refused: bool


class Claims:
    """The evaluations of one run that wait for a worker."""

    def __init__(
        self,
        config: SearchConfig,
        budget: Budget,
        store: Store,
        lease: Lease,
        history: History,
        pool: WorkerPool,
        suggester: Suggester | None,
        observe: Observe = ignore,
    ) -> None:
        self._observe = observe
        self._config, self._budget, self._suggester = config, budget, suggester
        self._store, self._lease, self._history, self._pool = store, lease, history, pool
        self._held: deque[Claim] = deque()
        self._failed_on: dict[int, set[int]] = {}
        self._functions = {function.id: function for function in history.candidates}

    def next_for(self, slot: Slot, n_waiting: int = 1) -> Claim | None:
        """One to be trained by this worker, the first of `n_waiting`; those that need no training now are noted on the
        way."""
        while True:
            claim = self._next(slot, n_waiting)
            if claim is None:
                return None
            self.take_note(claim)
            if claim.state == "claimed":
                return claim

    def hold(self, claim: Claim) -> None:
        """Keeps a claim of ours for the next worker that has not failed on it."""
        self._held.append(claim)

    def held_functions(self) -> list[int]:
        """What will be trained next."""
        return [claim.function_id for claim in self._held]

    def failed_on(self, evaluation_id: int, slot: int) -> None:
        """The worker failed on it; another one gets it next, where there is one."""
        self._failed_on.setdefault(evaluation_id, set()).add(slot)

    def ask_again(self, evaluation: EvaluationState, *, retry_failed: bool = False) -> None:
        """Takes an evaluation over if the run that was to train it has died or given it up; `retry_failed` says that
        it may have been this very run."""
        request = EvaluationRequest(evaluation.function_id, evaluation.seed, evaluation.origin)
        self._keep(self._claim_all([request], retry_failed=retry_failed))

    def next_baseline(self) -> FunctionRecord | None:
        """The first that was not asked for yet."""
        taken = self._history.evaluations.asked_for
        return next((f for f in self._budget.baselines if f.id not in taken), None)

    def may_stop(self, origin: Origin) -> bool:
        """Whether trainings of this origin may end early; what people asked for, and baselines, are trained in full."""
        return self._config.early_stop == "median" and origin == "suggestion"

    def is_gated(self, origin: Origin) -> bool:
        """Whether the health gate is asked before trainings of this origin; baselines are trained whatever it says."""
        return self._config.health_gate == "on" and origin != "baseline"

    def accepted(self, origin: Origin) -> Accepted:
        """Which results of trainings that are not whole the run takes from others: those that it would give itself."""
        return Accepted(accept_stopped=self.may_stop(origin), accept_refused=self.is_gated(origin))

    def function(self, function_id: int) -> FunctionRecord:
        """A candidate, or a function that the user proposed from outside the candidates."""
        if function_id not in self._functions:
            self._functions.update(self._store.functions([function_id]))
        return self._functions[function_id]

    def take_note(self, claim: Claim) -> None:
        """Puts what the store said into the run's history."""
        record = claim.record
        evaluation = EvaluationState(
            evaluation_id=claim.evaluation_id,
            function_id=claim.function_id,
            function=self.function(claim.function_id).name,
            seed=record.seed,
            origin=claim.origin,
            status=STATUS_OF_CLAIM.get(claim.state, record.status),
            score=record.score,
            stopped_early=record.stopped_early if claim.state == "reused" else None,
            attempts=record.attempts,
            begun=True,
            ours=claim.state == "claimed",
            reused=claim.state == "reused",
        )
        self._history.evaluations.put(evaluation)

    def _next(self, slot: Slot, n_waiting: int) -> Claim | None:
        return (
            self._held_for_another(slot)
            or self._claim_queued(slot, n_waiting)
            or self._claim_baseline()
            or self._claim_suggestion(n_waiting)
        )

    def _held_for_another(self, slot: Slot) -> Claim | None:
        fitting = next((claim for claim in self._held if not self._avoids(claim, slot)), None)
        if fitting is not None:
            self._held.remove(fitting)
        return fitting

    def _claim_queued(self, slot: Slot, n_waiting: int) -> Claim | None:
        """One that this worker has not failed on; the others that were claimed with it are held."""
        while queued := self._history.evaluations.next_queued(min(n_waiting, MOST_AT_ONCE)):
            claims = self._claim_all([EvaluationRequest(each.function_id, each.seed, each.origin) for each in queued])
            mine = next((c for c in claims if c.state == "claimed" and not self._avoids(c, slot)), None)
            self._keep([claim for claim in claims if claim is not mine])
            if mine is not None:
                return mine
        return None

    def _avoids(self, claim: Claim, slot: Slot) -> bool:
        """Whether the worker failed on it before and another one has not."""
        failed_on = self._failed_on.get(claim.evaluation_id, set())
        return slot.number in failed_on and not self._pool.others(slot) <= failed_on

    def _claim_baseline(self) -> Claim | None:
        function = self.next_baseline()
        if function is None:
            return None
        return self._claim_all([EvaluationRequest(function.id, self._config.training_seed, "baseline")])[0]

    def _claim_suggestion(self, n_waiting: int) -> Claim | None:
        """One for a worker and, where suggestions are ready, one for each of those that wait too, held for them."""
        if self._suggester is None:
            return None
        left = self._budget.evaluations - self._history.counted()
        if left <= 0:
            return None
        candidates, started = self._history.candidates, time.monotonic()
        made = self._suggester.suggest_some(min(left, n_waiting, MOST_AT_ONCE))
        took = time.monotonic() - started
        requests = []
        for suggestion in made:
            function, record = candidates[suggestion.candidate], suggestion_record(suggestion, candidates)
            said = {"function": function.name, "predicted_score": record.predicted_score}
            self._observe("suggested", **said, seconds=took / len(made))
            requests.append(EvaluationRequest(function.id, self._config.training_seed, "suggestion", record))
        claims = self._claim_all(requests)
        self._keep(claims[1:])
        return claims[0] if claims else None

    def _claim_all(self, requests: Sequence[EvaluationRequest], *, retry_failed: bool = False) -> list[Claim]:
        """What becomes of requests of one origin."""
        if not requests:
            return []
        accepted = self.accepted(requests[0].origin)
        return self._store.claim_all(self._lease, requests, retry_failed=retry_failed, **accepted)

    def _keep(self, claims: Sequence[Claim]) -> None:
        """Takes note of claims, and holds those that are ours for the workers that wait."""
        for claim in claims:
            self.take_note(claim)
            if claim.state == "claimed":
                self.hold(claim)
