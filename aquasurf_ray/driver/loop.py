"""The loop of a run: give every free worker something to do, record what comes back, until the budget is met.

A free worker gets, in this order: an evaluation that is queued (interrupted, to be retried, or proposed by the user),
a baseline, a suggestion of the surrogate, and, whenever none of these can be had, spectra of further candidates.
Everything is written to the store before it counts, under the run's lease; what this object holds in memory can be
read again from the store at any moment, which is how a run resumes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.errors import WorkersFailed
from aquasurf_ray.driver.history import History, RunEvaluation, wanted
from aquasurf_ray.driver.pool import Outcome, Slot, SpectraJob, WorkerPool
from aquasurf_ray.driver.progress import Reporter, RunView
from aquasurf_ray.driver.records import evaluation_result, spectrum_record, suggestion_record
from aquasurf_ray.driver.spectra_queue import SpectraQueue
from aquasurf_ray.driver.suggester import Suggester
from store import Claim, FunctionRecord, Lease, Store
from workers.actor import SpectrumReply, TrainingJob

GIVEN_UP_IN_A_ROW = 5
POLL_SECONDS = 0.25
LOOK_AROUND_SECONDS = 1.0
SHARED_SPECTRA_SECONDS = 10.0
WORKERS_SHOWN = 8
STATUS_OF_CLAIM = {"claimed": "running", "taken": "running"}


@dataclass(frozen=True)
class Budget:
    """What a run is to do: its baselines, and how many evaluations beside them."""

    baselines: tuple[FunctionRecord, ...]
    evaluations: int


class SearchLoop:
    """One run in the hands of one driver.

    Args:
        check: called at each step; raises when the run is no longer ours or is to stop.
        time_limit: seconds that a training may take.
    """

    def __init__(
        self,
        config: SearchConfig,
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
        self._epochs: dict[int, int] = {}
        self._claimed: deque[Claim] = deque()
        self._failed_on: dict[int, set[int]] = {}
        self._given_up_in_a_row = 0
        self._spectra = SpectraQueue(history, config.max_attempts)
        self._looked_around = clock()
        self._shared_spectra_at = clock()
        self._last_event = 0
        self._maybe_queued = True
        self._functions = {function.id: function for function in history.candidates}
        self._by_name = {function.name: function for function in history.candidates}

    def run(self) -> None:
        """Goes on until the budget is met or the candidates are used up.

        Raises:
            RunFailed, WorkersFailed, LeaseLost, StoreError: what is finished is stored.
        """
        self._retry_failed()
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

    def unmet(self) -> bool:
        """Whether fewer evaluations are finished than the budget asks for."""
        return self.history.n_finished(baselines=False) < self.budget.evaluations

    def _used_up(self) -> bool:
        """Whether no function is left that could be trained. A run without a surrogate trains only what is queued."""
        if self.suggester is None:
            return True
        taken = self.history.asked_for()
        return all(function.id in taken for function in self.history.candidates)

    def view(self) -> RunView:
        """The run as it is now."""
        n_spectra = sum(1 for f in self.history.candidates if f.id in self.history.spectra)
        return RunView(
            spectra=n_spectra,
            spectra_wanted=len(self.history.candidates) if self._wants_spectra() else n_spectra,
            evaluations=self.history.n_finished(baselines=True),
            evaluations_wanted=len(self.budget.baselines) + self.budget.evaluations,
            best=self.history.best(),
            running=tuple(
                _says(slot, self._epochs.get(slot.number)) for slot in self.pool.live() if slot.state != "idle"
            ),
            failed=self.history.n_failed(),
        )

    # -- giving out work

    def _assign(self) -> None:
        for slot in self.pool.idle():
            if not (self._assign_evaluation(slot) or self._assign_spectra(slot)):
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
        node = slot.info.node if slot.info else None
        self.store.start(self.lease, claim.evaluation_id, slot.name, node)
        job = TrainingJob(function=function.name, fingerprint=function.fingerprint, seed=claim.record.seed)
        self.pool.submit(slot, job, self.time_limit)
        self._jobs[slot.number] = claim.evaluation_id

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
        return self.store.claim(self.lease, function.id, self.config.training_seed, "baseline")

    def _claim_suggestion(self) -> Claim | None:
        if self.suggester is None or self.history.counted() >= self.budget.evaluations:
            return None
        suggestion = self.suggester.suggest()
        if suggestion is None:
            return None
        function = self.history.candidates[suggestion.candidate]
        record = suggestion_record(suggestion, self.history.candidates)
        return self.store.claim(self.lease, function.id, self.config.training_seed, "suggestion", record)

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

    def _assign_spectra(self, slot: Slot) -> bool:
        if not self._wants_spectra():
            return False
        batch = self._spectra.next_batch(slot.number, self.pool.others(slot), self.pool.n)
        if not batch:
            return False
        self.pool.submit(slot, SpectraJob(tuple(f.name for f in batch)), self._spectra.limit(len(batch)))
        return True

    def _wants_spectra(self) -> bool:
        return self.suggester is not None and self.suggester.needs_spectra

    # -- taking in what comes back

    def _settle(self, outcome: Outcome) -> None:
        if isinstance(outcome.job, SpectraJob):
            self._settle_spectra(outcome, outcome.job)
        else:
            self._settle_training(outcome, outcome.job)

    def _settle_training(self, outcome: Outcome, job: TrainingJob) -> None:
        evaluation = self.history.evaluations[self._jobs.pop(outcome.slot)]
        if outcome.fault is not None:
            self._settle_fault(evaluation, outcome)
            return
        slot = self.pool.slots[outcome.slot - 1]
        result = evaluation_result(outcome.reply, slot.name)
        if self.store.record_result(self.lease, evaluation.evaluation_id, result):
            evaluation.status, evaluation.score = result.status, result.score
        else:
            self._adopt(evaluation)
        self.pool.forget(slot, job)
        self._given_up_in_a_row = 0

    def _settle_fault(self, evaluation: RunEvaluation, outcome: Outcome) -> None:
        fault = outcome.fault or ""
        evaluation.attempts += 1
        give_up = evaluation.attempts >= self.config.max_attempts
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

    def _settle_spectra(self, outcome: Outcome, job: SpectraJob) -> None:
        functions = [self._by_name[name] for name in job.functions]
        if outcome.fault is not None:
            for function in self._spectra.failed(functions, outcome.slot):
                self.reporter.note(f"{function.name} goes without a spectrum: {outcome.fault}")
                self._given_up(outcome.fault)
            return
        replies: Sequence[SpectrumReply] = outcome.reply
        records = [spectrum_record(f.id, r, self.config) for f, r in zip(functions, replies, strict=True)]
        self.store.record_spectra(self.lease, records)
        self.history.spectra.update({record.function_id: record for record in records})
        self._spectra.done(functions, sum(reply.seconds for reply in replies))
        self._given_up_in_a_row = 0

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
        if self._wants_spectra() and self.clock() - self._shared_spectra_at > SHARED_SPECTRA_SECONDS:
            self._look_for_shared_spectra()

    def _look_for_proposals(self) -> None:
        """Takes note of what was proposed since, also of what needs no training because it is known or under way."""
        events = self.store.events(self.lease.run_id, after=self._last_event)
        self._last_event = events[-1].seq if events else self._last_event
        if any(event.kind == "proposed" for event in events):
            for evaluation in wanted(self.store.snapshot(self.lease.run_id)):
                self.history.evaluations.setdefault(evaluation.evaluation_id, evaluation)

    def _look_for_shared_spectra(self) -> None:
        """Spectra that another run of the task has computed meanwhile."""
        self._shared_spectra_at = self.clock()
        missing = [function.id for function in self.history.without_spectrum(len(self.history.candidates))]
        found = self.store.spectra(
            self.lease.task_id, missing, fisher=self.config.fisher, seed=self.config.training_seed
        )
        self.history.spectra.update(found)

    def _look_at_shared(self, evaluation: RunEvaluation) -> None:
        record = self.store.observe(self.lease, evaluation.evaluation_id)
        if record is not None and record.finished:
            evaluation.status, evaluation.score = record.status, record.score
        elif record is not None or self.clock() - evaluation.asked_at > self.config.lease_seconds:
            evaluation.asked_at = self.clock()
            self._ask_again(evaluation)

    def _ask_again(self, evaluation: RunEvaluation, *, retry_failed: bool = False) -> None:
        """Takes an evaluation over if the run that was to train it has died or given it up; `retry_failed` says that
        it may have been this very run."""
        record = self.store.evaluation(evaluation.evaluation_id)
        claim = self.store.claim(
            self.lease, record.function_id, record.seed, evaluation.origin, retry_failed=retry_failed
        )
        self._take_note(claim)
        if claim.state == "claimed":
            self._claimed.append(claim)


def _says(slot: Slot, epoch: int | None) -> str:
    if isinstance(slot.job, TrainingJob):
        return f"{slot.name} trains {slot.job.function}" + (f" (epoch {epoch} done)" if epoch else "")
    return f"{slot.name} spectra" if slot.job else f"{slot.name} starts"
