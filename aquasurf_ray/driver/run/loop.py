"""The loop of a run: give every free worker something to do, record what comes back, until the budget is met.

It ends sooner where `ends` says so; then nothing new is given out, and what is under way comes to its end or to a
checkpoint.

A free worker gets an evaluation (`claims` says which), and, whenever none can be had, spectra (and costs) of further
candidates (`preparation`). Right before a function is trained its cost is measured, where the run wants that and it is
not known for the worker's device. Everything is written to the store before it counts, under the run's lease; what this
object holds in memory can be read again from the store at any moment, which is how a run resumes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from aquasurf_ray.driver.callbacks.live_status import LiveReport
from aquasurf_ray.driver.callbacks.progress import Reporter, RunView
from aquasurf_ray.driver.callbacks.prometheus import RunMetrics
from aquasurf_ray.driver.callbacks.trackers import TrackedResult
from aquasurf_ray.driver.cluster.fair_share import FairShare
from aquasurf_ray.driver.cluster.pool import CostsJob, Outcome, Slot, WorkerPool
from aquasurf_ray.driver.cluster.ray_errors import is_mended_elsewhere
from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.errors import WorkersFailed
from aquasurf_ray.driver.events import Observe, ignore
from aquasurf_ray.driver.run.claims import Budget, Claims
from aquasurf_ray.driver.run.converters import evaluation_result
from aquasurf_ray.driver.run.exclusive_retry import Quiet, wants_quiet
from aquasurf_ray.driver.run.median_rule import median_rule
from aquasurf_ray.driver.run.other_runs import Sharing
from aquasurf_ray.driver.run.preparation import Preparation, keep_costs
from aquasurf_ray.driver.run.stop_conditions import End
from aquasurf_ray.driver.state.evaluations import EvaluationState
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.driver.suggestions.suggester import Suggester
from aquasurf_ray.store import Claim, EvaluationResult, FunctionRecord, Lease, StartRecord, Store
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.engine.checkpoints import folder_of, newest_epoch
from aquasurf_ray.workers.engine.stopping import StopRule
from aquasurf_ray.workers.messages import CostReply, Drained, TrainingJob

GIVEN_UP_IN_A_ROW = 5
POLL_SECONDS = 0.25
SOON_SECONDS = 0.02
SHOW_SECONDS = 0.1
COST_SECONDS = 600.0
WORKERS_SHOWN = 8


class SearchLoop:
    """One run in the hands of one driver.

    Args:
        task: whose metric is shown, and whose epochs early stops are counted in.
        all_spectra: whether the run ends only when every candidate has its spectrum, or is known to have none.
        costs: whether a function's cost is measured before it is trained.
        check: called at each step; raises when the run is no longer ours.
        ends: asked at each step, with the best function so far and its score, whether the run ends now.
        time_limit: seconds that a training may take.
        observe: is told what happens (`occurrences`).
        metrics: is shown how the run stands, once a second.
        share: keeps the pool at the run's share of a cluster that others use too.
        tracker: is told of each result that this run has recorded.
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
        ends: Callable[[tuple[str, float] | None], End | None],
        time_limit: float,
        all_spectra: bool = False,
        costs: bool = True,
        share: FairShare | None = None,
        observe: Observe = ignore,
        metrics: RunMetrics | None = None,
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
        self.ends = ends
        self.time_limit = time_limit
        self.all_spectra = all_spectra
        self.costs = costs
        self._track = tracker
        self._jobs: dict[int, int] = {}
        self._measured_for: dict[int, Claim] = {}
        self._cost_sought: set[tuple[int, str]] = set()
        self._epochs: dict[int, int] = {}
        self._to_start: list[tuple[Slot, Claim, FunctionRecord]] = []
        self._recorded: dict[int, bool] = {}
        self._given_up_in_a_row = 0
        self._clock, self._shown = clock, -SHOW_SECONDS
        self._end: End | None = None
        self._share = share
        self._saved: dict[int, int] = {}
        self._quiet = Quiet(pool)
        self._observe, self._metrics = observe, metrics
        self._live = LiveReport(store, lease, pool, observe if config.log else None, clock)
        self._claims = Claims(config, budget, store, lease, history, pool, suggester, observe)
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
            observe=observe,
            clock=clock,
        )

    def run(self) -> End | None:
        """Goes on until the budget is met or the candidates are used up, or to an end before that, which it returns.

        Raises:
            RunFailed, WorkersFailed, LeaseLost, StoreError: what is finished is stored.
        """
        self._sharing.retry_failed(all_origins=self.suggester is None)
        self._sharing.retry_stopped(list(self.history.evaluations.values()))
        while not (self.finished() and self._still_finished()):
            self.check()
            self._look_around()
            self._end = self.ends(self.history.best())
            if self._end is not None:
                self._drain(self._end)
                break
            if self.suggester:
                self.suggester.prepare()
            self._assign()
            self._show()
            soon = self.suggester is not None and self.suggester.makes_some and self.pool.idle()
            outcomes = self.pool.poll(SOON_SECONDS if soon else POLL_SECONDS)
            self._store_together(outcomes)
            for outcome in outcomes:
                self._settle(outcome)
            self._start_trainings()
        self.reporter.update(self.view())
        self._measure()
        return None if self.finished() else self._end

    def _drain(self, end: End) -> None:
        """Takes in what is under way. What dies meanwhile is no fault: who stops a run may stop its machines too."""
        self._observe("ending", why=end.text)
        self.pool.drain()
        self._live.look_around(self.view, ending=end.text)
        busy = len(self.pool.busy())
        if busy:
            self.reporter.note(
                f"{end.text}: work on {busy} worker{'s' * (busy > 1)} comes to its end or to a checkpoint"
            )
        while self.pool.busy() and self._clock() < end.deadline:
            self.check()
            outcomes = [outcome for outcome in self.pool.poll(POLL_SECONDS) if outcome.fault is None]
            self._store_together(outcomes)
            for outcome in outcomes:
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
            reused=self.history.evaluations.n_reused,
        )

    def _show(self) -> None:
        """A view costs as much as a decision, and nobody looks at hundreds a second."""
        if self._clock() - self._shown >= SHOW_SECONDS:
            self._shown = self._clock()
            self.reporter.update(self.view())

    # -- giving out work

    def _assign(self) -> None:
        for slot, claim in self._quiet.ready():
            self._begin(slot, claim)
        self._start_trainings()
        idle, n_given = self.pool.idle(), 0
        for number, slot in enumerate(idle):
            if self._quiet.keeps_back(slot):
                continue
            if not self._give_something(slot, len(idle) - number):
                break
            n_given += 1
        self._start_trainings()
        if self.suggester:
            self.suggester.left_idle(len(idle) - n_given)

    def _give_something(self, slot: Slot, n_waiting: int) -> bool:
        return self._assign_evaluation(slot, n_waiting) or self._preparation.submit(slot)

    def _assign_evaluation(self, slot: Slot, n_waiting: int) -> bool:
        claim = self._claims.next_for(slot, n_waiting)
        if claim is None:
            return False
        if self._quiet.is_wanted(claim):
            self._start_trainings()  # the others are busy only then
        if not self._quiet.keep(slot, claim):
            self._begin(slot, claim)
        return True

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
        if device not in self.history.costs.get(function.id, {}) and (function.id, device) not in self._cost_sought:
            wanted = {function.id, *self._claims.held_functions()}
            self.history.learn_costs(self.store.costs(self.lease.task_id, wanted, device=device).values())
            self._cost_sought |= {(number, device) for number in wanted}
        known = device in self.history.costs.get(function.id, {})
        return not known and function.id not in self.history.costs_given_up

    def _train(self, slot: Slot, claim: Claim, function: FunctionRecord) -> None:
        """Has the training begun with the next ones that are begun together."""
        self._to_start.append((slot, claim, function))

    def _start_trainings(self) -> None:
        """Notes in one transaction that trainings begin, and gives them to their workers."""
        starts, jobs = [], []
        for slot, claim, function in self._to_start:
            rule = self._stop_rule(claim)
            thresholds = rule.thresholds if rule else ()
            starts.append(StartRecord(claim.evaluation_id, slot.name, _node(slot), thresholds))
            gate = self._claims.is_gated(claim.origin)
            jobs.append(TrainingJob(function.name, function.fingerprint, claim.record.seed, rule, gate))
        if starts:
            self.store.start_all(self.lease, starts)
        for (slot, claim, _), job in zip(self._to_start, jobs, strict=True):
            self.pool.submit(slot, job, self.time_limit)
            self._jobs[slot.number] = claim.evaluation_id
            said = {"origin": claim.origin, "worker": slot.name, "node": _node(slot)}
            self._observe("started", evaluation=claim.evaluation_id, function=job.function, seed=job.seed, **said)
        self._to_start.clear()

    def _stop_rule(self, claim: Claim) -> StopRule | None:
        """From the store as it is now, so that it is the same whoever drives the run."""
        if not self._claims.may_stop(claim.origin) or self._sharing.is_proposed(claim.evaluation_id):
            return None
        return median_rule(self.task.recipe.epochs, lambda epoch: self.store.epoch_scores(self.lease.task_id, epoch))

    # -- taking in what comes back

    def _store_together(self, outcomes: Sequence[Outcome]) -> None:
        """Stores what came in since the last look, each kind in one transaction: a commit costs as much as a result."""
        self._preparation.keep_spectra(outcomes)
        results: dict[int, EvaluationResult] = {}
        functions: list[FunctionRecord] = []
        costs: list[CostReply] = []
        workers: list[str] = []
        for outcome in outcomes:
            name = self.pool.slots[outcome.slot - 1].name
            if isinstance(outcome.reply, Drained):
                continue
            if outcome.fault is None and isinstance(outcome.job, TrainingJob):
                results[self._jobs[outcome.slot]] = evaluation_result(outcome.reply, name)
            elif outcome.fault is None and outcome.slot in self._measured_for:
                functions.append(self._claims.function(self._measured_for[outcome.slot].function_id))
                costs += outcome.reply
                workers.append(name)
        if results:
            self._recorded = self.store.record_results(self.lease, results)
        if functions:
            keep_costs(self.store, self.lease, self.history, functions, costs, workers)

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
            self._quiet.ended(outcome.slot)
            self._claims.hold(claim)
            return
        if self._end is None:
            self._train(self.pool.slots[outcome.slot - 1], claim, function)

    def _settle_training(self, outcome: Outcome, job: TrainingJob) -> None:
        evaluation = self.history.evaluations[self._jobs.pop(outcome.slot)]
        self._quiet.ended(outcome.slot)
        if outcome.fault is not None:
            self._settle_fault(evaluation, outcome, job)
            return
        said = {"evaluation": evaluation.evaluation_id, "function": evaluation.function, "worker": outcome.worker}
        if isinstance(outcome.reply, Drained):
            self._observe("drained", epochs=outcome.reply.epochs, **said)
            return  # it stays running, and is queued again when the lease is given back
        slot = self.pool.slots[outcome.slot - 1]
        result = evaluation_result(outcome.reply, slot.name)
        if self._recorded[evaluation.evaluation_id]:
            self._sharing.keep(evaluation, result)
            best, number = self.history.best(), self.history.n_finished(baselines=True)
            tracked = TrackedResult(number, evaluation.function, evaluation.seed, best[1] if best else None, result)
            self._track(tracked)
        else:
            self._sharing.adopt(evaluation)
        told = ("status", "score", "seconds", "reason", "stopped_early")
        self._observe("ended", **said, **{key: getattr(result, key) for key in told})
        self.pool.forget(slot, job)
        self._given_up_in_a_row = 0

    def _settle_fault(self, evaluation: EvaluationState, outcome: Outcome, job: TrainingJob) -> None:
        fault = outcome.fault or ""
        advanced = self._has_advanced(evaluation.evaluation_id, job)
        attempts = 1 if advanced else evaluation.attempts + 1
        give_up = attempts >= self.config.max_attempts or not is_mended_elsewhere(fault)
        if wants_quiet(fault, self.pool.resources.gpus):
            self._quiet.want(evaluation.evaluation_id)
        counted = {"final": give_up, "advanced": advanced}
        if not self.store.record_failure(self.lease, evaluation.evaluation_id, fault, **counted):
            self._sharing.adopt(evaluation)
            return
        said = {"evaluation": evaluation.evaluation_id, "function": evaluation.function, "worker": outcome.worker}
        self._observe("failed", error=fault, attempts=attempts, final=give_up, **said)
        status = "failed" if give_up else "queued"
        self.history.evaluations.put(replace(evaluation, status=status, attempts=attempts, ours=False))
        self._claims.failed_on(evaluation.evaluation_id, outcome.slot)
        self.reporter.note(f"{evaluation.function}: {fault}; {'given up' if give_up else 'tried again'}")
        if give_up:
            self._given_up(fault)

    def _has_advanced(self, evaluation_id: int, job: TrainingJob) -> bool:
        """Whether the training has a later checkpoint than when it last failed: then its tries count anew, or a long
        one would be given up on machines that come and go."""
        storage, before = self.pool.settings.storage, self._saved.get(evaluation_id, 0)
        if storage is None:
            return False
        now = newest_epoch(folder_of(storage, self.task.digest, job.fingerprint, job.seed))
        self._saved[evaluation_id] = now
        return now > before

    def _given_up(self, fault: str) -> None:
        """Stops a run whose workers only fail: the machines are to be mended before more is given up."""
        self._given_up_in_a_row += 1
        if self._given_up_in_a_row >= GIVEN_UP_IN_A_ROW:
            raise WorkersFailed(f"the last {GIVEN_UP_IN_A_ROW} functions failed on their workers; the last: {fault}")

    def _measure(self) -> None:
        if self._metrics:
            n_queued = self.history.evaluations.n(status={"queued"})
            self._metrics.look(self.view(), self.pool, len(self._jobs), n_queued)

    def _look_around(self, *, now: bool = False) -> None:
        """Once a second: what others do meanwhile, and how far the trainings here are."""
        if self._sharing.look_around(now=now):
            self._epochs = self.pool.epochs(WORKERS_SHOWN)
            self._preparation.look_around()
            self._live.look_around(self.view)
            self._measure()
            if self._share:
                self._share.look_around()


def _node(slot: Slot) -> str | None:
    return slot.info.node if slot.info else None


def _says(slot: Slot, epoch: int | None) -> str:
    if isinstance(slot.job, TrainingJob):
        return f"{slot.name} trains {slot.job.function}" + (f" (epoch {epoch} done)" if epoch else "")
    if isinstance(slot.job, CostsJob):
        return f"{slot.name} costs"
    return f"{slot.name} spectra" if slot.job else f"{slot.name} starts"
