"""The loop of a run: give every free worker something to do, record what comes back, until the budget is met.

A free worker gets, in this order: an evaluation that is queued (interrupted, to be retried, or proposed by the user),
a baseline, a suggestion of the surrogate, and, whenever none of these can be had, spectra (and costs) of further
candidates. Right before a function is trained its cost is measured, if that is not known for the worker's device.
Everything is written to the store before it counts, under the run's lease; what this object holds in memory can be
read again from the store at any moment, which is how a run resumes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.errors import WorkersFailed
from aquasurf_ray.driver.faults import is_mended_elsewhere
from aquasurf_ray.driver.history import History, RunEvaluation, wanted
from aquasurf_ray.driver.pool import CostsJob, Outcome, Slot, WorkerPool
from aquasurf_ray.driver.preparation import Preparation, keep_costs
from aquasurf_ray.driver.progress import Reporter, RunView
from aquasurf_ray.driver.records import evaluation_result, suggestion_record
from aquasurf_ray.driver.stopping import median_rule
from aquasurf_ray.driver.suggester import Suggester
from aquasurf_ray.tasks import Task
from store import Claim, FunctionRecord, Lease, Store, SuggestionRecord
from store.records import Origin
from workers.messages import TrainingJob
from workers.stopping import StopRule

GIVEN_UP_IN_A_ROW = 5
POLL_SECONDS = 0.25
LOOK_AROUND_SECONDS = 1.0
COST_SECONDS = 600.0
WORKERS_SHOWN = 8
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


class SearchLoop:
    """One run in the hands of one driver.

    Args:
        task: whose metric is shown, and whose epochs early stops are counted in.
        check: called at each step; raises when the run is no longer ours or is to stop.
        time_limit: seconds that a training may take.
    """

    def __init__(
        self,
        config: SearchConfig,
        task: Task,
        budget: Budget,
        store: Store,
        lease: Lease,
        history: History,
        pool: WorkerPool,
        suggester: Suggester | None,
        reporter: Reporter,
        *,
        check: Callable[[], None],
        time_limit: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.task = task
        self.budget = budget
        self.store = store
        self.lease = lease
        self.history = history
        self.pool = pool
        self.suggester = suggester
        self.reporter = reporter
        self.check = check
        self.time_limit = time_limit
        self.clock = clock
        self._jobs: dict[int, int] = {}
        self._measured_for: dict[int, Claim] = {}
        self._epochs: dict[int, int] = {}
        self._claimed: deque[Claim] = deque()
        self._failed_on: dict[int, set[int]] = {}
        self._given_up_in_a_row = 0
        self._preparation = Preparation(
            config,
            store,
            lease,
            history,
            pool,
            spectra=suggester is not None and suggester.needs_spectra,
            costs=suggester is not None and config.max_cost is not None,
            note=reporter.note,
            given_up=self._given_up,
            clock=clock,
        )
        self._looked_around = clock()
        self._last_event = 0
        self._proposed: set[int] = set()
        self._maybe_queued = True
        self._functions = {function.id: function for function in history.candidates}

    def run(self) -> None:
        """Goes on until the budget is met or the candidates are used up.

        Raises:
            RunFailed, WorkersFailed, LeaseLost, StoreError: what is finished is stored.
        """
        self._retry_failed()
        self._retry_stopped()
        while not (self.finished() and self._still_finished()):
            self.check()
            self._look_around()
            if self.suggester:
                self.suggester.prepare()
            self._assign()
            self.reporter.update(self.view())
            for outcome in self.pool.poll(POLL_SECONDS):
                self._settle(outcome)
        self.reporter.update(self.view())

    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self._nothing_open() and (not self.unmet() or self._used_up())

    def _nothing_open(self) -> bool:
        return not self.history.open_evaluations() and self._next_baseline() is None

    def _still_finished(self) -> bool:
        """Asks for proposals a last time, since the run may have been given some in its last second."""
        self._look_around(now=True)
        return self.finished()

    def _retry_failed(self) -> None:
        """Gives what an earlier driver gave up another chance where nothing else can take its place."""
        for evaluation in list(self.history.evaluations.values()):
            if evaluation.status == "failed" and (evaluation.origin == "baseline" or self.suggester is None):
                self._ask_again(evaluation, retry_failed=True)

    def _retry_stopped(self) -> None:
        """Has trained in full what another run stopped early or refused, where this run does neither."""
        for evaluation in list(self.history.evaluations.values()):
            accepted = self._accepted(evaluation.origin)
            enough = accepted["accept_stopped"] if evaluation.status == "done" else accepted["accept_refused"]
            if evaluation.stopped_early and not enough:
                self._ask_again(evaluation)

    def unmet(self) -> bool:
        """Whether fewer evaluations are finished than the budget asks for."""
        return self.history.n_finished(baselines=False) < self.budget.evaluations

    def _used_up(self) -> bool:
        """Whether no function is left that could be trained. A run without a surrogate trains only what is queued."""
        if self.suggester is None:
            return True
        settled = self.history.asked_for() | self.history.ruled_out(self.config.max_cost)
        return all(function.id in settled for function in self.history.candidates)

    def view(self) -> RunView:
        """The run as it is now."""
        (spectra, spectra_wanted), (costs, costs_wanted) = self._preparation.n_spectra(), self._preparation.n_costs()
        metric, best = self.task.objective.metric, self.history.best()
        return RunView(
            spectra=spectra,
            spectra_wanted=spectra_wanted,
            costs=costs,
            costs_wanted=costs_wanted,
            evaluations=self.history.n_finished(baselines=True),
            evaluations_wanted=len(self.budget.baselines) + self.budget.evaluations,
            best=(best[0], metric.score(best[1])) if best else None,  # back to the metric's own sign
            metric=metric.name,
            running=tuple(
                _says(slot, self._epochs.get(slot.number)) for slot in self.pool.live() if slot.state != "idle"
            ),
            failed=self.history.n_failed(),
            stopped_early=self.history.n_stopped_early(),
        )

    # -- giving out work

    def _assign(self) -> None:
        for slot in self.pool.idle():
            if not (self._assign_evaluation(slot) or self._preparation.submit(slot)):
                return

    def _assign_evaluation(self, slot: Slot) -> bool:
        """Claims evaluations until one has to be trained here; those already known or elsewhere under way need none."""
        while True:
            claim = self._claim_next(slot)
            if claim is None:
                return False
            self._take_note(claim)
            if claim.state == "claimed":
                self._begin(slot, claim)
                return True

    def _begin(self, slot: Slot, claim: Claim) -> None:
        function = self._function(claim.function_id)
        if self._lacks_cost(function, slot):
            self.pool.submit(slot, CostsJob((function.name,)), min(COST_SECONDS, self.time_limit))
            self._measured_for[slot.number] = claim
        else:
            self._train(slot, claim, function)

    def _lacks_cost(self, function: FunctionRecord, slot: Slot) -> bool:
        """Whether the function's cost on the worker's device is neither known nor given up."""
        device = slot.info.device if slot.info else ""
        if device not in self.history.costs.get(function.id, {}):
            stored = self.store.costs(self.lease.task_id, [function.id], device=device)
            self.history.learn_costs(stored.values())
        known = device in self.history.costs.get(function.id, {})
        return not known and function.id not in self.history.costs_given_up

    def _train(self, slot: Slot, claim: Claim, function: FunctionRecord) -> None:
        node = slot.info.node if slot.info else None
        rule = self._stop_rule() if self._may_stop(claim.origin) and not self._is_proposed(claim) else None
        self.store.start(self.lease, claim.evaluation_id, slot.name, node, rule.thresholds if rule else ())
        job = TrainingJob(
            function=function.name,
            fingerprint=function.fingerprint,
            seed=claim.record.seed,
            stop_rule=rule,
            gate=self._is_gated(claim.origin),
        )
        self.pool.submit(slot, job, self.time_limit)
        self._jobs[slot.number] = claim.evaluation_id

    def _is_proposed(self, claim: Claim) -> bool:
        """Whether people asked for what the surrogate had suggested before; the store keeps the first origin."""
        self._look_for_proposals()
        return claim.evaluation_id in self._proposed

    def _may_stop(self, origin: Origin) -> bool:
        """Whether trainings of this origin may end early; what people asked for, and baselines, are trained in full."""
        return self.config.early_stop == "median" and origin == "suggestion"

    def _is_gated(self, origin: Origin) -> bool:
        """Whether the health gate is asked before trainings of this origin; baselines are trained whatever it says."""
        return self.config.health_gate == "on" and origin != "baseline"

    def _accepted(self, origin: Origin) -> Accepted:
        """Which results of trainings that are not whole the run takes from others: those that it would give itself."""
        return Accepted(accept_stopped=self._may_stop(origin), accept_refused=self._is_gated(origin))

    def _stop_rule(self) -> StopRule | None:
        """From the store as it is now, so that it is the same whoever drives the run."""
        return median_rule(self.task.recipe.epochs, lambda epoch: self.store.epoch_scores(self.lease.task_id, epoch))

    def _claim_next(self, slot: Slot) -> Claim | None:
        return (
            self._held_for_another(slot)
            or self._claim_queued(slot)
            or self._claim_baseline()
            or self._claim_suggestion()
        )

    def _held_for_another(self, slot: Slot) -> Claim | None:
        """A claim that is ours already and waits for a worker that has not failed on it."""
        fitting = next((claim for claim in self._claimed if not self._avoids(claim, slot)), None)
        if fitting is not None:
            self._claimed.remove(fitting)
        return fitting

    def _claim_queued(self, slot: Slot) -> Claim | None:
        while self._maybe_queued:
            claim = self.store.claim_queued(self.lease)
            if claim is None:
                self._maybe_queued = False
            elif self._avoids(claim, slot):
                self._take_note(claim)
                self._claimed.append(claim)
            else:
                return claim
        return None

    def _avoids(self, claim: Claim, slot: Slot) -> bool:
        """Whether the worker failed on it before and another one has not."""
        failed_on = self._failed_on.get(claim.evaluation_id, set())
        return slot.number in failed_on and not self.pool.others(slot) <= failed_on

    def _claim_baseline(self) -> Claim | None:
        function = self._next_baseline()
        if function is None:
            return None
        return self._claim(function, "baseline")

    def _claim_suggestion(self) -> Claim | None:
        if self.suggester is None or self.history.counted() >= self.budget.evaluations:
            return None
        suggestion = self.suggester.suggest()
        if suggestion is None:
            return None
        function = self.history.candidates[suggestion.candidate]
        record = suggestion_record(suggestion, self.history.candidates)
        return self._claim(function, "suggestion", record)

    def _claim(self, function: FunctionRecord, origin: Origin, suggestion: SuggestionRecord | None = None) -> Claim:
        seed = self.config.training_seed
        return self.store.claim(self.lease, function.id, seed, origin, suggestion, **self._accepted(origin))

    def _next_baseline(self) -> FunctionRecord | None:
        taken = self.history.asked_for()
        return next((f for f in self.budget.baselines if f.id not in taken), None)

    def _take_note(self, claim: Claim) -> None:
        record = claim.record
        evaluation = RunEvaluation(
            evaluation_id=claim.evaluation_id,
            function_id=claim.function_id,
            function=self._function(claim.function_id).name,
            origin=claim.origin,
            status=STATUS_OF_CLAIM.get(claim.state, record.status),
            score=record.score,
            stopped_early=record.stopped_early if claim.state == "reused" else None,
            attempts=record.attempts,
            ours=claim.state == "claimed",
            reused=claim.state == "reused",
        )
        self.history.evaluations[claim.evaluation_id] = evaluation

    def _function(self, function_id: int) -> FunctionRecord:
        """A candidate, or a function that the user proposed from outside the candidates."""
        if function_id not in self._functions:
            self._functions.update(self.store.functions([function_id]))
        return self._functions[function_id]

    # -- taking in what comes back

    def _settle(self, outcome: Outcome) -> None:
        if isinstance(outcome.job, TrainingJob):
            self._settle_training(outcome, outcome.job)
        elif outcome.slot in self._measured_for:
            self._settle_cost(outcome, self._measured_for.pop(outcome.slot))
        else:
            self._preparation.settle(outcome)
            if outcome.fault is None:
                self._given_up_in_a_row = 0

    def _settle_cost(self, outcome: Outcome, claim: Claim) -> None:
        """The training begins; if the measurement has cost the worker its life, on another one and unmeasured."""
        function = self._function(claim.function_id)
        if outcome.fault is not None:
            self.reporter.note(f"{function.name} goes without a cost: {outcome.fault}")
            self.history.costs_given_up.add(function.id)
            self._claimed.append(claim)
            return
        slot = self.pool.slots[outcome.slot - 1]
        keep_costs(self.store, self.lease, self.history, [function], outcome.reply, slot.name)
        self._train(slot, claim, function)

    def _settle_training(self, outcome: Outcome, job: TrainingJob) -> None:
        evaluation = self.history.evaluations[self._jobs.pop(outcome.slot)]
        if outcome.fault is not None:
            self._settle_fault(evaluation, outcome)
            return
        slot = self.pool.slots[outcome.slot - 1]
        result = evaluation_result(outcome.reply, slot.name)
        if self.store.record_result(self.lease, evaluation.evaluation_id, result):
            evaluation.status, evaluation.score = result.status, result.score
            evaluation.stopped_early = result.stopped_early
        else:
            self._adopt(evaluation)
        self.pool.forget(slot, job)
        self._given_up_in_a_row = 0

    def _settle_fault(self, evaluation: RunEvaluation, outcome: Outcome) -> None:
        fault = outcome.fault or ""
        evaluation.attempts += 1
        give_up = evaluation.attempts >= self.config.max_attempts or not is_mended_elsewhere(fault)
        if not self.store.record_failure(self.lease, evaluation.evaluation_id, fault, final=give_up):
            self._adopt(evaluation)
            return
        evaluation.status, evaluation.ours = "failed" if give_up else "queued", False
        self._failed_on.setdefault(evaluation.evaluation_id, set()).add(outcome.slot)
        self._maybe_queued = True
        self.reporter.note(f"{evaluation.function}: {fault}; {'given up' if give_up else 'tried again'}")
        if give_up:
            self._given_up(fault)

    def _adopt(self, evaluation: RunEvaluation) -> None:
        """Another run has taken the evaluation over, or finished it first: what the store says holds."""
        record = self.store.evaluation(evaluation.evaluation_id)
        evaluation.status, evaluation.score, evaluation.ours = record.status, record.score, False
        evaluation.stopped_early = record.stopped_early

    def _given_up(self, fault: str) -> None:
        """Stops a run whose workers only fail: the machines are to be mended before more is given up."""
        self._given_up_in_a_row += 1
        if self._given_up_in_a_row >= GIVEN_UP_IN_A_ROW:
            raise WorkersFailed(f"the last {GIVEN_UP_IN_A_ROW} functions failed on their workers; the last: {fault}")

    # -- what others do meanwhile

    def _look_around(self, *, now: bool = False) -> None:
        """Once a second: how far trainings are, proposals from outside, and what other runs have finished."""
        if not now and self.clock() - self._looked_around < LOOK_AROUND_SECONDS:
            return
        self._looked_around = self.clock()
        self._epochs = self.pool.epochs(WORKERS_SHOWN)
        self._maybe_queued = True
        self._look_for_proposals()
        for evaluation in self.history.open_evaluations():
            if not evaluation.ours:
                self._look_at_shared(evaluation)
        self._preparation.look_around()

    def _look_for_proposals(self) -> None:
        """Takes note of what was proposed since, also of what needs no training because it is known or under way."""
        events = self.store.events(self.lease.run_id, after=self._last_event)
        self._last_event = events[-1].seq if events else self._last_event
        proposed = {event.evaluation_id for event in events if event.kind == "proposed"}
        self._proposed.update(number for number in proposed if number is not None)
        if proposed:
            for evaluation in wanted(self.store.snapshot(self.lease.run_id)):
                self.history.evaluations.setdefault(evaluation.evaluation_id, evaluation)
            self._retry_stopped()

    def _look_at_shared(self, evaluation: RunEvaluation) -> None:
        accepted = self._accepted(evaluation.origin)
        record = self.store.observe(self.lease, evaluation.evaluation_id, **accepted)
        if record is not None and record.usable(**accepted):
            evaluation.status, evaluation.score = record.status, record.score
            evaluation.stopped_early = record.stopped_early
        elif record is not None or self.clock() - evaluation.asked_at > self.config.lease_seconds:
            evaluation.asked_at = self.clock()
            self._ask_again(evaluation)

    def _ask_again(self, evaluation: RunEvaluation, *, retry_failed: bool = False) -> None:
        """Takes an evaluation over if the run that was to train it has died or given it up; `retry_failed` says that
        it may have been this very run."""
        record = self.store.evaluation(evaluation.evaluation_id)
        claim = self.store.claim(
            self.lease,
            record.function_id,
            record.seed,
            evaluation.origin,
            retry_failed=retry_failed,
            **self._accepted(evaluation.origin),
        )
        self._take_note(claim)
        if claim.state == "claimed":
            self._claimed.append(claim)


def _says(slot: Slot, epoch: int | None) -> str:
    if isinstance(slot.job, TrainingJob):
        return f"{slot.name} trains {slot.job.function}" + (f" (epoch {epoch} done)" if epoch else "")
    if isinstance(slot.job, CostsJob):
        return f"{slot.name} costs"
    return f"{slot.name} spectra" if slot.job else f"{slot.name} starts"
