"""One process of a study: its view of the run, the trials that it has, and their heartbeat.

It is composed of the driver's parts. The queue comes first (requests of `aquasurf enqueue`, and trials of processes
that have died), then baselines, then suggestions of the surrogate. Other processes of the study write to the same run,
so its log is read before every decision.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

from aquasurf_ray.analysis.studies.reference import reference_name
from aquasurf_ray.driver.candidates import (
    add_functions,
    baseline_records,
    baseline_rows,
    known_here,
    load_space,
    search_rows,
)
from aquasurf_ray.driver.cluster.slot import Slot
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.events import Events
from aquasurf_ray.driver.run.claims import Budget
from aquasurf_ray.driver.run.other_runs import OtherRuns
from aquasurf_ray.driver.run.training_events import training_failed
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.driver.state.evaluations import over_budget, state_of
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.driver.study.claims import TrialClaims
from aquasurf_ray.driver.study.identity import StudyPlan
from aquasurf_ray.driver.study.spectra import StudySpectra
from aquasurf_ray.driver.suggestions.suggester import Suggester
from aquasurf_ray.driver.suggestions.surrogates import surrogate_of
from aquasurf_ray.driver.verbs.changed_budget import changed_budget
from aquasurf_ray.driver.verbs.create_run import known_run, new_run
from aquasurf_ray.store import (
    AskedTrial,
    FunctionRecord,
    Lease,
    NewRun,
    OpenTrial,
    Run,
    RunExists,
    Store,
    is_dead,
    this_process,
)
from aquasurf_ray.store.records.runs import N_BASELINES
from aquasurf_ray.store.verbs.attempts import is_abandoned

if TYPE_CHECKING:
    from aquasurf_ray.driver.cluster.pool import WorkerPool

SYNC_SECONDS = 1.0  # between looks at the leases of other processes


class NoWorkers:
    """The pool of a run that is trained by the user's own loop."""

    slots: tuple[Slot, ...] = ()

    def others(self, slot: Slot) -> set[int]:
        """Return no workers."""
        return set()


class BudgetChanged(Exception):
    """Another process has changed the study's budget, so this one has to read the run again."""


class StudySession:
    """A process's part in a study.

    Args:
        lease: the right to ask and tell, which all processes of the study share.
        held: the trials of this process that were not told yet, by evaluation.
        events: the callbacks of this process.
    """

    def __init__(
        self, store: Store, run: Run, lease: Lease, plan: StudyPlan, held: dict[int, AskedTrial], events: Events
    ) -> None:
        self.store, self.lease, self.held, self.run_id = store, lease, held, run.id
        self._most = None if run.budget is None else int(run.budget)
        config, snapshot = plan.config, store.snapshot(run.id)
        self.history = History.of(replace(snapshot, candidates=known_here(store, snapshot.candidates)), {})
        pool = cast("WorkerPool", NoWorkers())
        self._context = RunContext(run, config, store, lease, self.history, pool, events)
        self.suggester = Suggester(self._context, surrogate_of(self._context))
        source = plan.source
        # A process that does not name the reference of the study has it as a baseline, too.
        more = dict.fromkeys((*plan.baselines, *run.config.get("task_baselines", ())))
        baselines = baseline_records(store, tuple(more), config.baselines)
        budget = Budget(baselines, sys.maxsize if self._most is None else self._most)
        self._claims = TrialClaims(self._context, budget, self.suggester, self._most, held)
        self._other_runs = OtherRuns(self._context, self._claims)
        self.spectra = StudySpectra(self._context, source)
        self.spectra.read(len(self.history.candidates))
        self._last_event = 0
        self._seen: dict[tuple[int, int], float] = {}
        self._looked_at = -SYNC_SECONDS

    def next_trial(self) -> AskedTrial | None:
        """Return a trial for this process, or None if nothing can be asked for now.

        Raises:
            BudgetChanged: another process has changed the budget.
            LeaseLost: a driver has taken the run over.
        """
        self.sync()
        self.suggester.prepare()
        return self._claims.next_trial()

    def function(self, asked: AskedTrial) -> FunctionRecord:
        """Return the function of a trial."""
        return self._claims.function(asked.claim.function_id)

    def sync(self) -> None:
        """Read what other processes of the study, and other runs of its task, have done meanwhile."""
        now = time.monotonic()
        if now - self._looked_at >= SYNC_SECONDS:
            self._looked_at = now
            self._expire([trial for trial in self.others() if self._is_abandoned(trial, now)])
            self._other_runs.sync()
        self._read_log()

    def others(self) -> list[OpenTrial]:
        """Return the open trials of other processes."""
        mine = {trial.attempt_id for trial in self.held.values()}
        return [trial for trial in self.store.open_trials(self.run_id) if trial.attempt_id not in mine]

    def spectra_wanted(self) -> int:
        """Return among how many candidates spectra are missing for the next suggestion; 0 if none are."""
        if self._most is not None and self.history.counted() >= self._most:
            return 0
        n = self.suggester.prefix()
        return n if self.spectra.missing(n) else 0

    def finished(self) -> bool:
        """Return whether the budget is met, or all candidates are used up, and no trial is open."""
        if self.history.evaluations.n_open or self._claims.next_baseline() is not None:
            return False
        met = self._most is not None and self.history.n_finished(baselines=False) >= self._most
        return met or self.suggester.used_up()

    def end(self, asked: AskedTrial) -> None:
        """Drop a trial that this process no longer has, and read its state."""
        self.held.pop(asked.claim.evaluation_id, None)
        self._read_log()

    def _expire(self, gone: Sequence[OpenTrial]) -> None:
        """End the trials of processes that are gone, each as a failed attempt, and say so."""
        if not gone:
            return
        ended = self.store.expire_trials(self.lease, gone, most_attempts=self._context.config.max_attempts)
        self._read_log()
        for trial in (trial for trial in gone if trial.evaluation_id in ended):
            state, worker = self.history.evaluations[trial.evaluation_id], f"{trial.owner.host} pid {trial.owner.pid}"
            error = self.store.evaluation(trial.evaluation_id).error or ""
            self._context.events.emit(training_failed(state, error, worker))
            again = "given up" if state.status == "failed" else "asked again"
            self._context.events.note(f"{trial.function}: {error} ({worker}); {again}")

    def _is_abandoned(self, trial: OpenTrial, now: float) -> bool:
        """Return whether a trial's process is dead, or silent for a lease on this process's own clock."""
        since = self._seen.setdefault((trial.attempt_id, trial.heartbeat), now)
        return now - since > trial.lease_seconds or is_abandoned(trial, is_dead)

    def _read_log(self) -> None:
        """Put every evaluation that the run's log names since the last call into the history, as the store has it."""
        events = self.store.events(self.run_id, after=self._last_event)
        changed = any(event.kind == "budget" for event in events)
        if changed and self.store.run(self._context.run.name).budget != self._most:
            raise BudgetChanged
        self._last_event = events[-1].seq if events else self._last_event
        numbers = {event.evaluation_id for event in events if event.evaluation_id is not None}
        for request in self.store.requests(self.run_id, numbers):
            state = state_of(request)
            ours = state.status == "running" and state.evaluation_id in self.held
            self.history.evaluations.put(replace(state, ours=ours))


def open_run(store: Store, plan: StudyPlan, budget: int | None, events: Events) -> tuple[Run, Lease]:
    """Return the run of a study, created if there is none of this name, and the right to ask and tell.

    Args:
        budget: the budget that it gets; None to leave it as it is.

    Raises:
        BadUse: it has further seeds for its best functions, and no number of evaluations; or it is a search for a
            function per role; or it has another reference, or
            has finished more evaluations.
        RunExists: the run of this name is another one.
        RunHeld: a driver works on it.
    """
    config, name = plan.config, str(plan.config.name)
    run = known_run(store, name, plan.identity)
    if run is not None and run.config.get("roles"):
        raise BadUse(f"run '{name}' searches a function per role, a Study one function: aquasurf resume {name}")
    if config.leader_seeds > 1 and budget is None and (run is None or run.budget is None):
        needs = "needs evaluations=N, because the last fifth of them goes to further seeds"
        raise BadUse(f"leader_seeds: {config.leader_seeds} {needs}")
    if run is None:
        task_id = store.add_task(plan.name, plan.version, plan.digest, plan.spec)
        rows = search_rows(config, load_space(config.space), plan.baselines)
        facts = plan.facts() | {N_BASELINES: len(baseline_rows(plan.baselines, config.baselines))}
        new = new_run(config, "search", name, task_id, plan.identity, budget=budget, storage=None, facts=facts)
        run = _created(store, new, add_functions(store, rows))
    if plan.given_reference not in (None, reference_name(run)):
        raise BadUse(
            f"study '{name}' has the reference {reference_name(run)}, got {plan.given_reference}; leave it out, or "
            "start another study"
        )
    lease = store.share_run(
        run.id, this_process(), code_version=version("aquasurf-ray"), lease_seconds=config.lease_seconds
    )
    if budget is not None and budget != run.budget:
        _change_budget(store, run, lease, changed_budget(store, run, budget, events))
    return store.run(name), lease


def _created(store: Store, new: NewRun, candidates: list[int]) -> Run:
    """Create the run of a study; the error of changed arguments says how to read the one that exists without them."""
    try:
        return store.create_run(new, candidates)
    except RunExists as error:
        read = f"Store.open({store.safe_url!r}, create=False).evaluations(run={new.name!r})"
        raise RunExists(f"{error}; to read its table alone, with aquasurf_ray.store: {read}") from None


def _change_budget(store: Store, run: Run, lease: Lease, budget: int) -> None:
    """Set the budget, and take back the queued suggestions that it has no room for; open trials end as they do."""
    # Before the budget, which makes other processes read the run again: they must not find them in their queue.
    store.withdraw(lease, over_budget(store.snapshot(run.id), budget, {"queued"}))
    store.set_budget(lease, budget)
