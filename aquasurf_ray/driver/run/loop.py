"""The loop of a run: give every idle worker a job and record the results, until the budget is met.

The loop ends earlier if a stop condition is met: workers get no more work, and each finishes what it does or stops at a
checkpoint.

An idle worker gets an evaluation, chosen in `claims`; if there is none, it computes spectra or measures costs of
further candidates (`preparation`). If the kind of run needs costs, a function's cost is measured right before its
training, unless it is known for the worker's device. Everything is written to the store before it counts, under the
run's lease. The state in memory can be read from the store again at any moment, which is how a run resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from aquasurf_ray.counted import counted
from aquasurf_ray.driver.cluster.fair_share import FairShare
from aquasurf_ray.driver.cluster.ray_errors import can_be_retried
from aquasurf_ray.driver.cluster.slot import CostsJob, Outcome, Slot
from aquasurf_ray.driver.errors import WorkersFailed
from aquasurf_ray.driver.events import (
    EvaluationDrained,
    EvaluationFailed,
    EvaluationStarted,
    RunEnding,
    RunPace,
    RunProgress,
    RunView,
)
from aquasurf_ray.driver.run.claims import Budget, Claims
from aquasurf_ray.driver.run.early_stopping import EarlyStopping
from aquasurf_ray.driver.run.exclusive_retry import ExclusiveRetry, needs_exclusive_retry
from aquasurf_ray.driver.run.forecast import RunForecast
from aquasurf_ray.driver.run.other_runs import OtherRuns
from aquasurf_ray.driver.run.preparation import Preparation, store_costs
from aquasurf_ray.driver.run.run_view import view_of
from aquasurf_ray.driver.run.stop_conditions import End, StopConditions
from aquasurf_ray.driver.run.store_records import evaluation_result
from aquasurf_ray.driver.run.task_fault import refuse_failing_baselines, refuse_task_without_baseline
from aquasurf_ray.driver.run.training_events import training_ended
from aquasurf_ray.driver.run_kinds import KINDS
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.driver.state.evaluations import EvaluationState
from aquasurf_ray.driver.state.pace import PaceOfWorkers
from aquasurf_ray.driver.suggestions.suggester import Suggester
from aquasurf_ray.store import Claim, EvaluationResult, FunctionRecord, StartRecord
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.engine.checkpoints import folder_of, newest_epoch
from aquasurf_ray.workers.engine.stopping import StopRule
from aquasurf_ray.workers.messages import CostReply, Drained, TrainingJob

FAILURES_IN_A_ROW = 5  # functions given up in a row: the cause is then most likely none of the functions
OUTCOME_POLL_SECONDS = 0.25  # the longest wait for an outcome, and so for a signal or a lost lease
SOON_SECONDS = 0.02  # while suggestions are being computed and a worker waits for one
SHOW_SECONDS = 0.1
COST_SECONDS = 600.0  # time limit of one measurement, which takes seconds, unless the function hangs
WORKERS_SHOWN = 8  # a terminal shows one line of workers, so the driver asks no more of them for their epochs


class Start(NamedTuple):
    """A training about to start; several are recorded in one transaction."""

    slot: Slot
    claim: Claim
    function: FunctionRecord


class SearchLoop:
    """The loop of one run in one driver.

    Args:
        task: the task, for its metric and, in early stopping, its number of epochs.
        suggester: the source of suggestions; None for a run that trains only its queue.
        check: called at each step; raises if this driver has lost the run.
        share: the control of the number of workers on a shared cluster, if there is one.
    """

    def __init__(
        self,
        context: RunContext,
        task: Task,
        budget: Budget,
        suggester: Suggester | None,
        stop_conditions: StopConditions,
        check: Callable[[], None],
        share: FairShare | None = None,
    ) -> None:
        self.context, self.task, self.budget, self.suggester = context, task, budget, suggester
        self.history, self.pool, self.store, self.events = context.history, context.pool, context.store, context.events
        self.check, self._stop_conditions, self._share = check, stop_conditions, share
        self._kind = KINDS[context.run.kind]
        self._time_limit = context.config.time_limit or task.time_limit
        self._claims = Claims(context, budget, suggester)
        self._other_runs = OtherRuns(context, self._claims)
        self._early_stopping = EarlyStopping(context, self._claims, task.recipe.epochs)
        self._exclusive_retry = ExclusiveRetry(context.pool)
        self._preparation = Preparation(
            context,
            spectra=self._kind.all_spectra or (suggester is not None and suggester.needs_spectra),
            costs=suggester is not None and context.config.max_cost is not None,
            on_failure=self._count_failure,
        )
        self._workers_pace = PaceOfWorkers(context)
        self._forecast = RunForecast(context, task, budget, spectra=self._preparation.wants_spectra)
        self._costs_read: set[tuple[int, str]] = set()
        self._to_start: list[Start] = []
        self._recorded: dict[int, bool] = {}  # by evaluation being settled: whether our result was the first
        self._saved_epochs: dict[int, int] = {}
        self._failures_in_a_row = 0
        self._shown_at = -SHOW_SECONDS  # the first view is shown at once
        self._end: End | None = None

    def run(self) -> End | None:
        """Work until the budget is met, the candidates are used up, or a stop condition is met, which is returned.

        Raises:
            RunFailed, WorkersFailed, LeaseLost, StoreError: the run stopped early; everything finished is stored.
            TaskAtFault: no baseline trains.
        """
        self._other_runs.retry_failed(all_origins=self.suggester is None)
        self._other_runs.retry_stopped(list(self.history.evaluations.values()))
        while not (self.finished() and self._still_finished()):
            self.check()
            self._sync()
            refuse_task_without_baseline(self.context, self.budget)
            self._end = self._stop_conditions.met()
            if self._end is not None:
                self._drain(self._end)
                break
            if self.suggester:
                self.suggester.prepare()
            self._assign()
            self._show()
            soon = self.suggester is not None and self.suggester.is_computing and self.pool.idle()
            self._settle_all(self.pool.poll(SOON_SECONDS if soon else OUTCOME_POLL_SECONDS))
            self._start_trainings()
        self.events.emit(RunProgress(self.view()))
        return None if self.finished() else self._end

    def _drain(self, end: End) -> None:
        """Wait for the work under way and record it. A worker that dies now does not count as a failure, because its
        machine may be shut down together with the run."""
        self.events.emit(RunEnding(end.text))
        self.pool.drain()
        self.events.emit(RunProgress(self.view()))
        busy = len(self.pool.busy())
        if busy:
            self.events.note(f"{end.text}: waiting for {counted(busy, 'worker')} to finish or to reach a checkpoint")
        while self.pool.busy() and self.context.clock() < end.deadline:
            self.check()
            self._settle_all([outcome for outcome in self.pool.poll(OUTCOME_POLL_SECONDS) if outcome.fault is None])
            self.events.emit(RunProgress(self.view()))

    def finished(self) -> bool:
        """Return whether nothing is left to do."""
        return self._nothing_open() and (not self.unmet() or self._used_up())

    def _nothing_open(self) -> bool:
        evaluated = not self.history.evaluations.n_open and self._claims.next_baseline() is None
        return evaluated and not (self._kind.all_spectra and self._preparation.spectra_missing())

    def _still_finished(self) -> bool:
        """Read requests a last time, since some may have arrived in the last second, and return whether none did."""
        self._sync(now=True)
        return self.finished()

    def unmet(self) -> bool:
        """Return whether fewer evaluations are finished than the budget asks for."""
        return self.history.n_finished(baselines=False) < self.budget.evaluations

    def _used_up(self) -> bool:
        """Return whether no function is left to train. A run without a surrogate trains only its queue."""
        return self.suggester is None or self.suggester.used_up()

    def view(self) -> RunView:
        """Return the state of the run now."""
        return view_of(self.context, self.task, self.budget, self._preparation, self._pace())

    def _pace(self) -> RunPace:
        """Return the pace, and how long the evaluations and what they need of the candidates take."""
        left, n_needed = self._n_trainings_left(), len(self.history.candidates)
        if self.suggester:  # the search ends without the spectra of the other candidates
            n_needed = self.suggester.last_prefix(self._claims.left())
        return self._workers_pace.now(left, *self._preparation.n_left(n_needed), self._forecast.of_a_training)

    def _n_trainings_left(self) -> int:
        """Return how many evaluations the workers of this run have yet to end, with those under way."""
        evaluations = self.history.evaluations
        left = self.budget.in_total(evaluations) - self.history.n_finished(baselines=True)
        # What has failed is replaced by another suggestion, where there are any.
        left -= evaluations.n(status={"failed"}) if self.suggester is None else 0
        return max(left, evaluations.n_open) - len(evaluations.elsewhere)

    def _show(self) -> None:
        """Emit a view at most ten times a second: computing one takes as long as a decision of the loop."""
        if self.context.clock() - self._shown_at >= SHOW_SECONDS:
            self._shown_at = self.context.clock()
            self.events.emit(RunProgress(self.view()))

    def _sync(self, *, now: bool = False) -> None:
        """Read the results of other runs and the progress of this run's trainings, once a second."""
        if self._other_runs.sync(now=now):
            self.pool.update_epochs(WORKERS_SHOWN)
            self._preparation.sync()
            if self._share:
                self._share.update()

    # -- work for idle workers

    def _assign(self) -> None:
        for slot, claim in self._exclusive_retry.ready():
            self._begin(slot, claim)
        self._start_trainings()
        idle, n_given = self.pool.idle(), 0
        if idle:
            self._early_stopping.resume()
        for number, slot in enumerate(idle):
            if self._exclusive_retry.is_reserved(slot):
                continue
            spectrum_first = self._forecast.take_first_spectrum() and self._preparation.submit(slot)
            if spectrum_first or self._assign_evaluation(slot, len(idle) - number) or self._preparation.submit(slot):
                n_given += 1
            elif not (self._claims.reserved_functions() or self._preparation.has_retries()):
                break  # the only work left, if any, is what this worker failed on
        self._start_trainings()
        if self.suggester:
            self.suggester.record_idle(len(idle) - n_given)

    def _assign_evaluation(self, slot: Slot, n_waiting: int) -> bool:
        claim = self._claims.next_for(slot, n_waiting)
        if claim is None:
            return False
        if self._exclusive_retry.is_required(claim):
            self._start_trainings()  # the reservation counts busy workers, and these are busy only once started
        if not self._exclusive_retry.reserve(slot, claim):
            self._begin(slot, claim)
        return True

    def _begin(self, slot: Slot, claim: Claim) -> None:
        """Begin an evaluation with the measurement of its cost, if that is needed, or with its training."""
        function = self._claims.function(claim.function_id)
        if self._kind.costs and self._lacks_cost(function, slot):
            self.pool.submit(slot, CostsJob((function.name,)), min(COST_SECONDS, self._time_limit), claim)
        else:
            self._to_start.append(Start(slot, claim, function))

    def _lacks_cost(self, function: FunctionRecord, slot: Slot) -> bool:
        """Return whether the function's cost on the worker's device is unknown and can still be measured."""
        device = slot.info.device if slot.info else ""
        known = self.history.costs
        if device not in known.get(function.id, {}) and (function.id, device) not in self._costs_read:
            wanted = {function.id, *self._claims.reserved_functions()}
            costs = self.store.costs(self.context.lease.task_id, wanted, device=device)
            self.history.add_costs(costs.values())
            self._costs_read |= {(number, device) for number in wanted}
        return device not in known.get(function.id, {}) and function.id not in self.history.costs_failed

    def _start_trainings(self) -> None:
        """Record in one transaction that trainings begin, and submit them to their workers."""
        starts, jobs = [], []
        for slot, claim, function in self._to_start:
            rule = self._stop_rule(claim)
            thresholds = rule.thresholds if rule else ()
            starts.append(StartRecord(claim.evaluation_id, slot.name, slot.node, thresholds))
            gate = self._claims.is_gated(claim.origin)
            record = claim.record
            job = TrainingJob(function.name, function.fingerprint, record.seed, rule, gate, record.recipe_change)
            jobs.append(job)
        if starts:
            self.store.start_all(self.context.lease, starts)
        for (slot, claim, _), job in zip(self._to_start, jobs, strict=True):
            self.pool.submit(slot, job, self._time_limit, claim)
            started = (claim.evaluation_id, job.function, job.seed, claim.origin, slot.name, slot.node)
            self.events.emit(EvaluationStarted(*started, recipe_change=job.recipe_change))
        self._to_start.clear()

    def _stop_rule(self, claim: Claim) -> StopRule | None:
        """Return the rule that may stop a training early, if there is one."""
        if not self._claims.may_stop(claim.origin) or self._other_runs.is_requested(claim.evaluation_id):
            return None
        return self._early_stopping.rule_of(claim.evaluation_id, claim.record.recipe_change)

    # -- recording results

    def _settle_all(self, outcomes: Sequence[Outcome]) -> None:
        self._store(outcomes)
        for outcome in outcomes:
            self._settle(outcome)
        self._forecast.settle(outcomes)
        self._workers_pace.settle(outcomes)

    def _store(self, outcomes: Sequence[Outcome]) -> None:
        """Store the results that arrived together, each kind in one transaction, since every commit takes time."""
        self._preparation.store(outcomes)
        results: dict[int, EvaluationResult] = {}
        functions: list[FunctionRecord] = []
        costs: list[CostReply] = []
        workers: list[str] = []
        for outcome in outcomes:
            claim = outcome.work.claim
            if claim is None or outcome.fault is not None or isinstance(outcome.reply, Drained):
                continue
            if isinstance(outcome.job, TrainingJob):
                results[claim.evaluation_id] = evaluation_result(outcome.reply, outcome.worker)
            else:
                functions.append(self._claims.function(claim.function_id))
                costs += outcome.reply
                workers.append(outcome.worker)
        if results:
            self._recorded = self.store.record_results(self.context.lease, results)
        if functions:
            store_costs(self.context, functions, costs, workers)

    def _settle(self, outcome: Outcome) -> None:
        claim = outcome.work.claim
        if claim is None:
            self._preparation.settle(outcome)
            if outcome.fault is None:
                self._failures_in_a_row = 0
        elif isinstance(outcome.job, TrainingJob):
            self._settle_training(outcome, claim, outcome.job)
        else:
            self._settle_cost(outcome, claim)

    def _settle_cost(self, outcome: Outcome, claim: Claim) -> None:
        """Begin the training; if the measurement failed, without a cost and on another worker."""
        function = self._claims.function(claim.function_id)
        if outcome.fault is not None:
            self.events.note(f"{function.name} stays without a cost: {outcome.fault}")
            self.history.costs_failed.add(function.id)
            self._exclusive_retry.release(outcome.slot)
            self._claims.reserve(claim)
        elif self._end is None:
            self._to_start.append(Start(self.pool.slots[outcome.slot - 1], claim, function))

    def _settle_training(self, outcome: Outcome, claim: Claim, job: TrainingJob) -> None:
        evaluation = self.history.evaluations[claim.evaluation_id]
        self._exclusive_retry.release(outcome.slot)
        if outcome.fault is not None:
            self._settle_failure(evaluation, outcome, job)
        elif isinstance(outcome.reply, Drained):  # still `running`; releasing the lease queues it again
            drained = (evaluation.evaluation_id, evaluation.function, outcome.worker)
            self.events.emit(EvaluationDrained(outcome.reply.epochs, *drained))
        else:
            self._settle_result(evaluation, outcome)
            if not (outcome.reply.stopped_early and job.stop_rule and job.stop_rule.pauses):
                self.pool.forget(self.pool.slots[outcome.slot - 1], job)
            self._failures_in_a_row = 0

    def _settle_result(self, evaluation: EvaluationState, outcome: Outcome) -> None:
        result = evaluation_result(outcome.reply, outcome.worker)
        recorded = self._recorded[evaluation.evaluation_id]
        if recorded:
            self._other_runs.update(evaluation, result)
        else:
            self._other_runs.read(evaluation)
        self.events.emit(training_ended(self.history, evaluation, result, recorded=recorded))

    def _settle_failure(self, evaluation: EvaluationState, outcome: Outcome, job: TrainingJob) -> None:
        """Queue an evaluation again after an infrastructure failure, or give it up after too many attempts."""
        error = outcome.fault or ""
        advanced = self._has_advanced(evaluation.evaluation_id, job)
        attempts = 1 if advanced else evaluation.attempts + 1
        final = attempts >= self.context.config.max_attempts or not can_be_retried(error)
        if needs_exclusive_retry(error, self.pool.resources.gpus):
            self._exclusive_retry.require(evaluation.evaluation_id)
        counted = {"final": final, "advanced": advanced}
        if not self.store.record_failure(self.context.lease, evaluation.evaluation_id, error, **counted):
            self._other_runs.read(evaluation)
            return
        failed = (evaluation.evaluation_id, evaluation.function, outcome.worker)
        self.events.emit(EvaluationFailed(error, attempts, final, *failed))
        status = "failed" if final else "queued"
        self.history.evaluations.put(replace(evaluation, status=status, attempts=attempts, ours=False))
        self._claims.failed_on(evaluation.evaluation_id, outcome.slot)
        self.events.note(f"{evaluation.function}: {error}; {'given up' if final else 'retrying'}")
        if final:
            self._count_failure(error)

    def _has_advanced(self, evaluation_id: int, job: TrainingJob) -> bool:
        """Return whether the training has a later checkpoint than at its last failure. If so, its attempts count from 1
        again, because a long training on machines that come and go would be given up otherwise."""
        storage, before = self.pool.settings.storage, self._saved_epochs.get(evaluation_id, 0)
        if storage is None:
            return False
        which = (job.fingerprint, job.seed, job.recipe_change)
        now = newest_epoch(folder_of(storage, self.task.digest, *which))
        self._saved_epochs[evaluation_id] = now
        return now > before

    def _count_failure(self, error: str) -> None:
        """End a run in which several functions in a row fail: the machines, or the task, need repair first."""
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= FAILURES_IN_A_ROW:
            refuse_failing_baselines(self.context, self.budget)
            raise WorkersFailed(f"the last {FAILURES_IN_A_ROW} functions failed on their workers; the last: {error}")
