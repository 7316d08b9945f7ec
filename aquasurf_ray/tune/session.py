"""The run of a Tune search: a process with the run's lease claims the next evaluations and records the results.

It is a run of kind `search`, composed of the driver's parts: its queue comes first (interrupted evaluations, and
requests of `aquasurf enqueue`), then baselines, then suggestions of the surrogate. The workers of its pool compute only
spectra.
"""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from aquasurf_ray.analysis.studies.run_origin import DRAWS
from aquasurf_ray.driver.callbacks.notes_to_log import NotesToLog
from aquasurf_ray.driver.candidates import (
    add_functions,
    baseline_records,
    function_row,
    known_here,
    load_space,
    one_function_baselines,
    one_function_reference,
    search_rows,
)
from aquasurf_ray.driver.cluster.pool import Resources, WorkerPool
from aquasurf_ray.driver.cluster.slot import Slot
from aquasurf_ray.driver.events import Callback, Events
from aquasurf_ray.driver.run.claims import Budget, Claims
from aquasurf_ray.driver.run.lease_keeper import LeaseKeeper, acquire_lease
from aquasurf_ray.driver.run.other_runs import OtherRuns
from aquasurf_ray.driver.run.preparation import Preparation
from aquasurf_ray.driver.run.training_events import training_ended, training_failed, training_started
from aquasurf_ray.driver.run.worker_settings import worker_settings
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.settings.places import store_url
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.driver.suggestions.growth import growth_of
from aquasurf_ray.driver.suggestions.suggester import Suggester
from aquasurf_ray.driver.suggestions.surrogates import surrogate_of
from aquasurf_ray.driver.verbs.create_run import create_unnamed, known_run, new_run, task_facts
from aquasurf_ray.recipe_change import UNCHANGED
from aquasurf_ray.store import (
    Claim,
    EvaluationResult,
    FunctionRecord,
    Lease,
    LeaseLost,
    Run,
    Store,
    StoreError,
)
from aquasurf_ray.store.records.evaluations import Origin
from aquasurf_ray.store.records.runs import RunStatusName
from aquasurf_ray.tune.study import Study

WAIT_SECONDS = 0.25
TUNE = Slot(0, None, "idle", None, 0.0)
"""The stand-in for all of Tune's trials: claims are made for this one worker."""

logger = logging.getLogger(__name__)

_held: dict[tuple[str, str], Session] = {}
"""The sessions of this process, by store and run. A new session of the same run replaces the earlier one."""


@dataclass(frozen=True)
class Plan:
    """The plan of a session: the configuration, the study, and the number of draws of tuned settings per function.

    `points` are functions to train first, instead of the baselines; `callbacks` are the caller's.
    """

    config: SearchConfig
    study: Study
    draws: int = 1
    points: tuple[str, ...] | None = None
    spectrum_workers: int = 1
    callbacks: tuple[Callback, ...] = ()


class TuneClaims(Claims):
    """The claims of a run whose trainings, of any origin, Tune's scheduler may stop: such results are accepted."""

    def may_stop(self, origin: Origin) -> bool:
        """Return True: Tune's scheduler does not know origins."""
        return True


class Session:
    """A run whose lease this process has, from `open_session` to `close`.

    Args:
        stack: closes everything that the session has started.
    """

    def __init__(self, plan: Plan, context: RunContext, keeper: LeaseKeeper, stack: ExitStack) -> None:
        self.name = context.run.name
        self.closed = False
        self._plan, self._context, self._keeper, self._stack = plan, context, keeper, stack
        self._store, self._lease, self._history = context.store, context.lease, context.history
        growth = growth_of(context, sys.maxsize)
        self._suggester = Suggester(context, surrogate_of(context, growth.n_start if growth else None), growth)
        stack.callback(self._suggester.close)
        which = plan.config.baselines
        baselines = baseline_records(context.store, _baselines(plan), which) if plan.points is None else ()
        budget = Budget(baselines, sys.maxsize)  # Tune decides how many trials there are
        self._claims = TuneClaims(context, budget, self._suggester)
        self._other_runs = OtherRuns(context, self._claims)
        self._pool: WorkerPool | None = context.pool if context.pool.slots else None
        self._preparation = Preparation(context, spectra=self._pool is not None, costs=False)

    def next(self) -> Claim | None:
        """Claim the next evaluation, and return the claim; None if there is nothing to train now.

        Raises:
            LeaseLost, StoreError: another process has the run, or the store cannot be reached.
        """
        self._keeper.check()
        self._other_runs.sync()
        self._prepare(0.0)
        self._suggester.prepare()
        claim = self._further_draw() or self._claims.next_for(TUNE)
        if claim is None and self._pool is not None:
            self._prepare(WAIT_SECONDS)
        return claim

    def exhausted(self) -> bool:
        """Return whether nothing is left to try: all candidates have a result, and no trial is open."""
        if self._suggester.can_grow:
            return False
        asked_for = self._history.evaluations.asked_for
        return not self._history.evaluations.n_open and all(f.id in asked_for for f in self._history.candidates)

    def function(self, function_id: int) -> FunctionRecord:
        """Return a function by its number."""
        return self._claims.function(function_id)

    def begin(self, claim: Claim, trial: str, settings: dict[str, Any]) -> None:
        """Record that a trial trains an evaluation that was claimed."""
        worker = f"trial {trial}"
        self._store.start(self._lease, claim.evaluation_id, worker, settings=settings)
        function = self.function(claim.function_id).name
        self._context.events.emit(training_started(function, claim.record, claim.origin, worker))

    def reclaim(self, function: str, seed: int) -> None:
        """Claim the evaluation of a trial that Tune continues from an earlier session, unless it has a result."""
        (function_id,) = add_functions(self._store, [function_row(function)])
        claim = self._claim(function_id, seed, self._origin(function_id), retry_failed=True)
        if claim.state == "claimed":
            self._store.start(self._lease, claim.evaluation_id, "a trial that Tune continues")

    def record(self, function: str, seed: int, result: EvaluationResult) -> bool:
        """Record a result; return False if the evaluation had one already, which stays."""
        number = self._evaluation(function, seed)
        recorded = self._store.record_result(self._lease, number, result)
        if recorded:
            self._other_runs.update(self._history.evaluations[number], result)
        else:
            self._other_runs.read(self._history.evaluations[number])
        ended = training_ended(self._history, self._history.evaluations[number], result, recorded=recorded)
        self._context.events.emit(ended)
        return recorded

    def fail(self, function: str, seed: int, error: str, *, final: bool) -> None:
        """Record an infrastructure failure: the evaluation is given up if it is `final`, or queued again."""
        number = self._evaluation(function, seed)
        self._store.record_failure(self._lease, number, error, final=final)
        record = self._store.evaluation(number)
        before = self._history.evaluations[number]
        changed = replace(before, status=record.status, score=record.score, attempts=record.attempts, ours=False)
        self._history.evaluations.put(changed)
        self._context.events.emit(training_failed(changed, error, ""))

    def close(self, status: RunStatusName) -> None:
        """Release the run; a second call does nothing."""
        if self.closed:
            return
        self.closed = True
        _held.pop((self._store.safe_url, self.name), None)
        try:
            self._stack.close()
            self._store.release_lease(self._lease, status)
        except (LeaseLost, StoreError) as error:  # often at the end of the process, where nobody catches it
            logger.warning("run '%s' is not released: %s", self.name, error)
        finally:
            self._store.close()

    def _evaluation(self, function: str, seed: int) -> int:
        """Return the number of a trial's evaluation, claimed now if this run does not have it."""
        (function_id,) = add_functions(self._store, [function_row(function)])
        for number, known in self._history.evaluations.items():
            if (known.function_id, known.seed, known.recipe_change) == (function_id, seed, UNCHANGED):
                return number
        return self._claim(function_id, seed, "proposal").evaluation_id

    def _claim(self, function_id: int, seed: int, origin: Origin, *, retry_failed: bool = False) -> Claim:
        accepted = self._claims.accepted(origin)
        claim = self._store.claim(self._lease, function_id, seed, origin, retry_failed=retry_failed, **accepted)
        self._claims.update(claim)
        return claim

    def _origin(self, function_id: int) -> Origin:
        known = (e.origin for e in self._history.evaluations.values() if e.function_id == function_id)
        return next(known, "proposal")

    def _further_draw(self) -> Claim | None:
        """Claim the next draw of the tuned settings for a function with fewer than `draws`."""
        if self._plan.draws == 1:
            return None
        seeds: defaultdict[int, set[int]] = defaultdict(set)
        for evaluation in self._history.evaluations.values():
            seeds[evaluation.function_id].add(evaluation.seed)
        first = self._plan.config.training_seed
        for function_id, known in seeds.items():
            for seed in sorted({*range(first, first + self._plan.draws)} - known):
                claim = self._claim(function_id, seed, self._origin(function_id))
                if claim.state == "claimed":
                    return claim
        return None

    def _prepare(self, timeout: float) -> None:
        """Let the workers compute spectra, and close the pool when all spectra are known."""
        if self._pool is None:
            return
        for slot in self._pool.idle():
            self._preparation.submit(slot)
        outcomes = self._pool.poll(timeout)
        self._preparation.store(outcomes)
        for outcome in outcomes:
            self._preparation.settle(outcome)
        self._preparation.sync()
        if not self._preparation.spectra_missing():
            self._pool.close()
            self._pool = None


def open_session(plan: Plan, name: str | None) -> Session:
    """Open the run of this name, or create it.

    Raises:
        BadUse, StoreError: the configuration is wrong, the store cannot be used, the run of this name is another one,
            or another process has it.
    """
    config = plan.config
    store = Store.open(store_url(config.store))
    with ExitStack() as undo:
        undo.callback(store.close)
        run = _run(store, plan, name)
        before = _held.get((store.safe_url, run.name))
        if before is not None:
            before.close("interrupted")
        lease = acquire_lease(store, run.id, config.lease_seconds)
        if run.created and plan.points is not None:
            ids = add_functions(store, [function_row(text) for text in plan.points])
            store.propose(run.id, ids, config.training_seed)
        stack = ExitStack()
        undo.callback(stack.close)
        keeper = stack.enter_context(LeaseKeeper(store, lease, config.lease_seconds))
        session = Session(plan, _context(plan, store, run, lease, stack), keeper, stack)
        # From here on the session closes all of these itself.
        undo.pop_all()
    _held[store.safe_url, run.name] = session
    return session


def _context(plan: Plan, store: Store, run: Run, lease: Lease, stack: ExitStack) -> RunContext:
    """Return the context of the session; its pool has workers only if spectra are missing."""
    config, snapshot, spectra = plan.config, store.snapshot(run.id), {}
    snapshot = replace(snapshot, candidates=known_here(store, snapshot.candidates))
    ids = [function.id for function in snapshot.candidates]
    if config.features != "outputs":
        spectra = store.spectra(run.task_id, ids, fisher=config.fisher, seed=config.training_seed)
    history = History.of(snapshot, spectra)
    missing = config.features != "outputs" and bool(history.without_spectrum(len(ids)))
    events = Events((NotesToLog(logger), *plan.callbacks))
    n_workers = plan.spectrum_workers if missing else 0
    settings = worker_settings(config, plan.study.loaded or config.task)
    pool = WorkerPool(settings, n_workers, Resources(config.cpus_per_worker), events=events)
    stack.callback(pool.close)
    return RunContext(run, config, store, lease, history, pool, events)


def _run(store: Store, plan: Plan, name: str | None) -> Run:
    config, study = plan.config, plan.study
    space = load_space(config.space)
    identity = {**config.identity(), "task_digest": study.digest, "space_digest": space.digest, DRAWS: plan.draws}
    run = known_run(store, name, identity)
    if run is not None:
        return run
    task_id = store.add_task(study.name, study.version, study.digest, study.spec)
    baselines = _baselines(plan)
    candidates = add_functions(store, search_rows(config, space, baselines))
    reference = one_function_reference(study.loaded) if study.loaded else None
    facts = task_facts(reference, baselines)

    def create(name: str) -> Run:  # Tune decides how many trials there are, and where they write
        new = new_run(config, "search", name, task_id, identity, budget=None, storage=None, facts=facts)
        return store.create_run(new, candidates)

    return create_unnamed(store, study.name, create) if name is None else create(name)


def _baselines(plan: Plan) -> tuple[str, ...]:
    """Return the functions that the task has tried first; an experiment with its own trainable has no task.

    Raises:
        BadUse: one of them is a function for each role.
    """
    return one_function_baselines(plan.study.loaded, "a Tune trial") if plan.study.loaded else ()
