"""The loop of a run: give every free worker something to do, record what comes back, until the budget is met.

A free worker gets an evaluation (`claims` says which), and, whenever none can be had, spectra (and costs) of further
candidates (`preparation`). Right before a function is trained its cost is measured, where the run wants that and it is
not known for the worker's device. Everything is written to the store before it counts, under the run's lease; what this
object holds in memory can be read again from the store at any moment, which is how a run resumes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from aquasurf_ray.driver.claims import Budget, Claims
from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.errors import WorkersFailed
from aquasurf_ray.driver.evaluations import RunEvaluation
from aquasurf_ray.driver.faults import is_mended_elsewhere
from aquasurf_ray.driver.history import History
from aquasurf_ray.driver.pool import CostsJob, Outcome, Slot, WorkerPool
from aquasurf_ray.driver.preparation import Preparation, keep_costs
from aquasurf_ray.driver.progress import Reporter, RunView
from aquasurf_ray.driver.records import evaluation_result
from aquasurf_ray.driver.sharing import Sharing
from aquasurf_ray.driver.stopping import median_rule
from aquasurf_ray.driver.suggester import Suggester
from aquasurf_ray.driver.trackers import TrackedResult
from aquasurf_ray.tasks import Task
from store import Claim, FunctionRecord, Lease, Store
from workers.messages import TrainingJob
from workers.stopping import StopRule

GIVEN_UP_IN_A_ROW = 5
POLL_SECONDS = 0.25
COST_SECONDS = 600.0
WORKERS_SHOWN = 8


class SearchLoop:
    """One run in the hands of one driver.

    Args:
        task: whose metric is shown, and whose epochs early stops are counted in.
        all_spectra: whether the run ends only when every candidate has its spectrum, or is known to have none.
        costs: whether a function's cost is measured before it is trained.
        tracker: is told of each result that this run has recorded.
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
        all_spectra: bool = False,
        costs: bool = True,
        tracker: Callable[[TrackedResult], None] = lambda tracked: None,
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
        self.all_spectra = all_spectra
        self.costs = costs
        self._track = tracker
        self._jobs: dict[int, int] = {}
        self._measured_for: dict[int, Claim] = {}
        self._epochs: dict[int, int] = {}
        self._given_up_in_a_row = 0
        self._claims = Claims(config, budget, store, lease, history, pool, suggester)
        self._sharing = Sharing(config, store, lease, history, self._claims, clock)
        self._preparation = Preparation(
            config,
            store,
            lease,
            history,
            pool,
            spectra=all_spectra or (suggester is not None and suggester.needs_spectra),
            costs=suggester is not None and config.max_cost is not None,
            note=reporter.note,
            given_up=self._given_up,
            clock=clock,
        )

    def run(self) -> None:
        """Goes on until the budget is met or the candidates are used up.

        Raises:
            RunFailed, WorkersFailed, LeaseLost, StoreError: what is finished is stored.
        """
        self._sharing.retry_failed(all_origins=self.suggester is None)
        self._sharing.retry_stopped(list(self.history.evaluations.values()))
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
        evaluated = not self.history.evaluations.n_open and self._claims.next_baseline() is None
        return evaluated and not (self.all_spectra and self._preparation.spectra_missing())

    def _still_finished(self) -> bool:
        """Asks for proposals a last time, since the run may have been given some in its last second."""
        self._look_around(now=True)
        return self.finished()

    def unmet(self) -> bool:
        """Whether fewer evaluations are finished than the budget asks for."""
        return self.history.n_finished(baselines=False) < self.budget.evaluations

    def _used_up(self) -> bool:
        """Whether no function is left that could be trained. A run without a surrogate trains only what is queued."""
        if self.suggester is None:
            return True
        settled = self.history.evaluations.asked_for | self.history.ruled_out(self.config.max_cost)
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
            stopped_early=self.history.evaluations.n_stopped_early,
        )

    # -- giving out work

    def _assign(self) -> None:
        for slot in self.pool.idle():
            if not (self._assign_evaluation(slot) or self._preparation.submit(slot)):
                return

    def _assign_evaluation(self, slot: Slot) -> bool:
        claim = self._claims.next_for(slot)
        if claim is not None:
            self._begin(slot, claim)
        return claim is not None

    def _begin(self, slot: Slot, claim: Claim) -> None:
        function = self._claims.function(claim.function_id)
        if self.costs and self._lacks_cost(function, slot):
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
        rule = self._stop_rule(claim)
        self.store.start(self.lease, claim.evaluation_id, slot.name, node, rule.thresholds if rule else ())
        job = TrainingJob(
            function=function.name,
            fingerprint=function.fingerprint,
            seed=claim.record.seed,
            stop_rule=rule,
            gate=self._claims.is_gated(claim.origin),
        )
        self.pool.submit(slot, job, self.time_limit)
        self._jobs[slot.number] = claim.evaluation_id

    def _stop_rule(self, claim: Claim) -> StopRule | None:
        """From the store as it is now, so that it is the same whoever drives the run."""
        if not self._claims.may_stop(claim.origin) or self._sharing.is_proposed(claim.evaluation_id):
            return None
        return median_rule(self.task.recipe.epochs, lambda epoch: self.store.epoch_scores(self.lease.task_id, epoch))

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
        function = self._claims.function(claim.function_id)
        if outcome.fault is not None:
            self.reporter.note(f"{function.name} goes without a cost: {outcome.fault}")
            self.history.costs_given_up.add(function.id)
            self._claims.hold(claim)
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
            self._sharing.keep(evaluation, result)
            best, number = self.history.best(), self.history.n_finished(baselines=True)
            tracked = TrackedResult(number, evaluation.function, evaluation.seed, best[1] if best else None, result)
            self._track(tracked)
        else:
            self._sharing.adopt(evaluation)
        self.pool.forget(slot, job)
        self._given_up_in_a_row = 0

    def _settle_fault(self, evaluation: RunEvaluation, outcome: Outcome) -> None:
        fault = outcome.fault or ""
        attempts = evaluation.attempts + 1
        give_up = attempts >= self.config.max_attempts or not is_mended_elsewhere(fault)
        if not self.store.record_failure(self.lease, evaluation.evaluation_id, fault, final=give_up):
            self._sharing.adopt(evaluation)
            return
        status = "failed" if give_up else "queued"
        self.history.evaluations.put(replace(evaluation, status=status, attempts=attempts, ours=False))
        self._claims.failed_on(evaluation.evaluation_id, outcome.slot)
        self.reporter.note(f"{evaluation.function}: {fault}; {'given up' if give_up else 'tried again'}")
        if give_up:
            self._given_up(fault)

    def _given_up(self, fault: str) -> None:
        """Stops a run whose workers only fail: the machines are to be mended before more is given up."""
        self._given_up_in_a_row += 1
        if self._given_up_in_a_row >= GIVEN_UP_IN_A_ROW:
            raise WorkersFailed(f"the last {GIVEN_UP_IN_A_ROW} functions failed on their workers; the last: {fault}")

    def _look_around(self, *, now: bool = False) -> None:
        """Once a second: what others do meanwhile, and how far the trainings here are."""
        if self._sharing.look_around(now=now):
            self._epochs = self.pool.epochs(WORKERS_SHOWN)
            self._preparation.look_around()


def _says(slot: Slot, epoch: int | None) -> str:
    if isinstance(slot.job, TrainingJob):
        return f"{slot.name} trains {slot.job.function}" + (f" (epoch {epoch} done)" if epoch else "")
    if isinstance(slot.job, CostsJob):
        return f"{slot.name} costs"
    return f"{slot.name} spectra" if slot.job else f"{slot.name} starts"
