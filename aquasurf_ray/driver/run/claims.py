"""Claims of evaluations: the next evaluation of a worker is chosen, and claimed in the store before it starts.

The order is: reserved claims, unless the worker failed on them before; the queue (interrupted evaluations, retries and
requests); a baseline; one of the best functions with another seed; a suggestion of the surrogate. The store's answer to
each claim is put into the run's history.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from aquasurf_ray.driver.cluster.slot import Slot
from aquasurf_ray.driver.events import FunctionSuggested
from aquasurf_ray.driver.run.store_records import suggestion_record
from aquasurf_ray.driver.settings.until import Until
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.driver.state.evaluations import EvaluationState, RunEvaluations
from aquasurf_ray.driver.suggestions.suggester import Suggester
from aquasurf_ray.store import Claim, EvaluationRequest, FunctionRecord
from aquasurf_ray.store.records.evaluations import Origin
from aquasurf_ray.store.records.runs import evaluations_wanted

MOST_AT_ONCE = 32  # claims in one transaction, so that other clients of the database wait only milliseconds
LAST_PART = 5
"""The last 1 / LAST_PART of the evaluations trains the best functions with further seeds; docs/evidence.md compares
other rules."""
# Taken: another run trains it. To this run it is running either way; `ours` tells which.
STATUS_OF_CLAIM = {"claimed": "running", "taken": "running"}


@dataclass(frozen=True)
class Budget:
    """The work of a run: its baselines, and the number of evaluations after them.

    A run that trains what it is given has all of it in its queue, and `baselines` only if they are all among that.
    """

    baselines: tuple[FunctionRecord, ...]
    evaluations: int

    def in_total(self, evaluations: RunEvaluations) -> int:
        """Return how many evaluations the run makes in total, with its baselines, given those that it has."""
        begun, to_begin = evaluations.n_of("baseline"), self.baselines_to_begin(evaluations)
        return evaluations_wanted(self.evaluations, begun=begun, to_begin=to_begin)

    def baselines_to_begin(self, evaluations: RunEvaluations) -> int:
        """Return how many baselines have no evaluation yet."""
        return sum(function.id not in evaluations.asked_for for function in self.baselines)


class Accepted(TypedDict):
    """The kinds of incomplete trainings whose results a run accepts, as arguments for the store."""

    accept_stopped: bool
    accept_refused: bool


class Claims:
    """The evaluations of one run that wait for a worker."""

    def __init__(self, context: RunContext, budget: Budget, suggester: Suggester | None) -> None:
        self._context, self._budget, self._suggester = context, budget, suggester
        self._history = context.history
        self._reserved: deque[Claim] = deque()
        self._failed_on: dict[int, set[int]] = {}
        self._others: dict[int, FunctionRecord] = {}  # functions from outside the candidates

    def next_for(self, slot: Slot, n_waiting: int = 1) -> Claim | None:
        """Return a claim for this worker, the first of `n_waiting` workers, or None.

        Evaluations that turn out to need no training, because another run has them, are put into the history.
        """
        while True:
            claim = self._next(slot, n_waiting)
            if claim is None:
                return None
            self.update(claim)
            if claim.state == "claimed":
                return claim

    def reserve(self, claim: Claim) -> None:
        """Reserve a claim of this run for the next worker that has not failed on it."""
        self._reserved.append(claim)

    def reserved_functions(self) -> list[int]:
        """Return the functions of the reserved claims, which are trained next."""
        return [claim.function_id for claim in self._reserved]

    def failed_on(self, evaluation_id: int, slot: int) -> None:
        """Record that the worker failed on the evaluation, so that another worker, if there is one, gets it next."""
        self._failed_on.setdefault(evaluation_id, set()).add(slot)

    def retry(self, evaluation: EvaluationState, *, retry_failed: bool = False) -> None:
        """Claim an evaluation of a run that has died or has not finished it.

        Args:
            retry_failed: True to claim also an evaluation that was given up, here or in another run.
        """
        self._reserve_all(self.claim_all([evaluation.request], retry_failed=retry_failed))

    def resume(self, evaluation: EvaluationState) -> None:
        """Claim an evaluation that was stopped early, although this run accepts such results."""
        accepted = Accepted(accept_stopped=False, accept_refused=self.is_gated(evaluation.origin))
        store, lease = self._context.store, self._context.lease
        self._reserve_all(store.claim_all(lease, [evaluation.request], **accepted))

    def left(self) -> int:
        """Return how many more evaluations the budget has room for."""
        return self._budget.evaluations - self._history.counted()

    def next_baseline(self) -> FunctionRecord | None:
        """Return the first baseline that has no evaluation yet."""
        known = self._history.evaluations.asked_for
        return next((f for f in self._budget.baselines if f.id not in known), None)

    def may_stop(self, origin: Origin) -> bool:
        """Return whether trainings of this origin may be stopped early: suggestions, but no requests or baselines."""
        return self._context.config.early_stop != "off" and origin == "suggestion"

    def is_gated(self, origin: Origin) -> bool:
        """Return whether trainings of this origin pass the health gate first; baselines are trained in any case."""
        return self._context.config.health_gate == "on" and origin != "baseline"

    def accepted(self, origin: Origin) -> Accepted:
        """Return which results of other runs are accepted: those that this run could have produced itself."""
        return Accepted(accept_stopped=self.may_stop(origin), accept_refused=self.is_gated(origin))

    def function(self, function_id: int) -> FunctionRecord:
        """Return a candidate, or a function from outside the candidates that a user requested."""
        position = self._history.position.get(function_id)
        if position is not None:
            return self._history.candidates[position]
        if function_id not in self._others:
            self._others.update(self._context.store.functions([function_id]))
        return self._others[function_id]

    def update(self, claim: Claim) -> None:
        """Put the store's answer to a claim into the run's history."""
        record, before = claim.record, self._history.evaluations.get(claim.evaluation_id)
        evaluation = EvaluationState(
            evaluation_id=claim.evaluation_id,
            function_id=claim.function_id,
            function=self.function(claim.function_id).name,
            seed=record.seed,
            origin=claim.origin,
            status=STATUS_OF_CLAIM.get(claim.state, record.status),
            score=record.score,
            stopped_early=record.stopped_early if claim.state in ("reused", "known") else None,
            attempts=record.attempts,
            begun=True,
            ours=claim.state == "claimed",
            reused=claim.state == "reused" or (claim.state == "known" and before is not None and before.reused),
            recipe_change=record.recipe_change,
        )
        self._history.evaluations.put(evaluation)

    def _next(self, slot: Slot, n_waiting: int) -> Claim | None:
        return (
            self._take_reserved(slot)
            or self._claim_queued(slot, n_waiting)
            or self._claim_baseline()
            or self._claim_next_seed()
            or self._claim_suggestion(n_waiting)
        )

    def _take_reserved(self, slot: Slot) -> Claim | None:
        fitting = next((claim for claim in self._reserved if not self._avoids(claim, slot)), None)
        if fitting is not None:
            self._reserved.remove(fitting)
        return fitting

    def _claim_queued(self, slot: Slot, n_waiting: int) -> Claim | None:
        """Claim a queued evaluation for each waiting worker, return one for this worker, and reserve the others."""
        while queued := self._history.evaluations.next_queued(min(n_waiting, MOST_AT_ONCE)):
            claims = self.claim_all([each.request for each in queued])
            mine = next((c for c in claims if c.state == "claimed" and not self._avoids(c, slot)), None)
            self._reserve_all([claim for claim in claims if claim is not mine])
            if mine is not None:
                return mine
        return None

    def _avoids(self, claim: Claim, slot: Slot) -> bool:
        """Return whether the worker failed on the claim before and another live worker has not."""
        failed_on = self._failed_on.get(claim.evaluation_id, set())
        return slot.number in failed_on and not self._context.pool.others(slot) <= failed_on

    def _claim_baseline(self) -> Claim | None:
        function = self.next_baseline()
        if function is None:
            return None
        return self.claim_all([EvaluationRequest(function.id, self._context.config.training_seed, "baseline")])[0]

    def _claim_next_seed(self) -> Claim | None:
        """Claim the best function that lacks seeds with its next one, in the last fifth of a search that has several.

        Before, this is done with a function that would end the run, because a single training is not to end it, and
        where nothing new is left. All of it depends on the budget and on results alone, so that a resumed run repeats
        it.
        """
        config, left = self._context.config, self.left()
        if self._suggester is None or self._history.evaluations.leader_seeds == 1 or left <= 0:
            return None
        leader = self._history.evaluations.best_lacking_seeds()
        is_last = left <= self._budget.evaluations // LAST_PART
        if leader is None or not (is_last or self._would_end(leader) or self._suggester.has_nothing_new()):
            return None
        asked, first = self._history.evaluations.seeds_of(leader), config.training_seed
        seed = next(seed for seed in itertools.count(first) if seed not in asked)
        self._context.events.emit(FunctionSuggested(leader.function, leader.score, 0.0, leader.recipe_change, seed))
        request = EvaluationRequest(leader.function_id, seed, "suggestion", recipe_change=leader.recipe_change)
        return self.claim_all([request])[0]

    def _would_end(self, leader: EvaluationState) -> bool:
        until = self._context.config.until
        return until is not None and leader.score is not None and Until.parse(until).is_met(leader.score)

    def _claim_suggestion(self, n_waiting: int) -> Claim | None:
        """Claim suggestions for the workers that wait, as many as are ready; return one, and reserve the others."""
        if self._suggester is None:
            return None
        left = self.left()
        if left <= 0:
            return None
        started = self._context.clock()
        # Never more than the budget has left, so that several waiting workers do not overdraw it.
        made = self._suggester.suggest_batch(min(left, n_waiting, MOST_AT_ONCE))
        took = self._context.clock() - started
        requests, seed = [], self._context.config.training_seed
        for suggestion in made:
            function, change = self._suggester.pairs.pair(suggestion.candidate)
            record = suggestion_record(suggestion, self._suggester.pairs)
            suggested = FunctionSuggested(function.name, record.predicted_score, took / len(made), change, seed)
            self._context.events.emit(suggested)
            requests.append(EvaluationRequest(function.id, seed, "suggestion", record, change))
        claims = self.claim_all(requests)
        self._reserve_all(claims[1:])
        return claims[0] if claims else None

    def claim_all(self, requests: Sequence[EvaluationRequest], *, retry_failed: bool = False) -> list[Claim]:
        """Claim evaluations of one origin in one transaction."""
        if not requests:
            return []
        accepted = self.accepted(requests[0].origin)
        return self._context.store.claim_all(self._context.lease, requests, retry_failed=retry_failed, **accepted)

    def _reserve_all(self, claims: Sequence[Claim]) -> None:
        """Put claims into the history, and reserve the successful ones for the workers that wait."""
        for claim in claims:
            self.update(claim)
            if claim.state == "claimed":
                self.reserve(claim)
