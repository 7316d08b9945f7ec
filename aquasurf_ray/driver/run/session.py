"""One session of a run: acquire the lease, start the workers, and run the loop to the end of the budget.

However the session ends, the lease is released with the new status of the run, if the database can be reached.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace

from ray.exceptions import RayError

from aquasurf_ray.analysis.studies.confirmed_run import judged_ids
from aquasurf_ray.analysis.studies.recipe_choice import Tuning
from aquasurf_ray.baselines import BASELINES
from aquasurf_ray.driver.callbacks.json_log import JsonLog
from aquasurf_ray.driver.callbacks.live_status import LiveStatus
from aquasurf_ray.driver.callbacks.prometheus import PrometheusMetrics
from aquasurf_ray.driver.callbacks.trackers import Trackers
from aquasurf_ray.driver.candidates import baseline_records, baseline_rows, known_here
from aquasurf_ray.driver.cluster.capacity import Workers
from aquasurf_ray.driver.cluster.fair_share import FairShare
from aquasurf_ray.driver.cluster.pool import Resources, WorkerPool
from aquasurf_ray.driver.cluster.ray_errors import cause_of
from aquasurf_ray.driver.cluster.watch import RayWatch
from aquasurf_ray.driver.errors import BadUse, Interrupted, RunFailed, TaskAtFault
from aquasurf_ray.driver.events import Events, RunEnded, StoreWritten
from aquasurf_ray.driver.run.claims import Budget
from aquasurf_ray.driver.run.lease_keeper import LeaseKeeper, acquire_lease
from aquasurf_ray.driver.run.loop import SearchLoop
from aquasurf_ray.driver.run.signals import StopSignal
from aquasurf_ray.driver.run.spec import RunResult, RunSpec
from aquasurf_ray.driver.run.stop_conditions import End, StopConditions
from aquasurf_ray.driver.run.summary import (
    beginning_of,
    end_notes,
    missing,
    note_conditions,
    result_of,
    resume_command,
    text_of,
)
from aquasurf_ray.driver.run.worker_settings import worker_settings
from aquasurf_ray.driver.run_kinds import KINDS
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.driver.state.evaluations import over_budget
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.driver.suggestions.ahead import MANY_WORKERS, AheadSuggester
from aquasurf_ray.driver.suggestions.growth import growth_of
from aquasurf_ray.driver.suggestions.suggester import Suggester
from aquasurf_ray.driver.suggestions.surrogates import surrogate_of
from aquasurf_ray.recipe_change import UNCHANGED, input_values
from aquasurf_ray.store import FunctionRecord, Lease, LeaseLost, Run, Store, StoreError
from aquasurf_ray.store.records.runs import RunStatusName
from aquasurf_ray.workers.actor import Worker
from aquasurf_ray.workers.group import GroupSettings, GroupWorker
from aquasurf_ray.workers.messages import WorkerSettings

logger = logging.getLogger(__name__)

STOPS = (Interrupted, KeyboardInterrupt, BadUse)
"""The errors that interrupt a run: after any other error, the run has failed."""


@dataclass(frozen=True)
class _Session:
    """One session of a driver, from start to end. `started` is on the monotonic clock."""

    store: Store
    workers: Workers
    events: Events
    stop: StopSignal
    started: float


def execute(store: Store, spec: RunSpec, workers: Workers, events: Events, stop: StopSignal) -> RunResult:
    """Train what is left of the run's budget.

    Raises:
        RunHeld: another driver has the run.
        Interrupted, RunFailed, LeaseLost, StoreError: the run stopped early; everything finished is stored.
    """
    session = _Session(store, workers, events, stop, time.monotonic())
    with _callbacks(store, spec, events):
        events.emit(beginning_of(store, spec, workers))
        try:
            # The end is an event, too, whatever ended the session: a log without one means that the process was killed.
            result = _execute(session, spec)
        except BaseException as error:
            events.emit(RunEnded(_status(error), text_of(error), time.monotonic() - session.started))
            raise
        events.emit(RunEnded(store.run(spec.run.name).status, result.ended, result.seconds))
        for text in end_notes(result, spec.config.max_cost, resume_command(store, spec)):
            events.note(text)
    return result


@contextmanager
def _callbacks(store: Store, spec: RunSpec, events: Events) -> Iterator[None]:
    """Subscribe the log and the metrics to the run's events, and make warnings and writes to the store events."""
    name, config = spec.run.name, spec.config
    with ExitStack() as stack:
        if config.log is not None:
            log = stack.enter_context(JsonLog(config.log, name))
            stack.enter_context(events.subscribed(log))
        stack.enter_context(events.subscribed(PrometheusMetrics(name)))
        stack.enter_context(events.with_warnings())
        # The store outlives the session: a confirmation may follow, with callbacks of its own.
        stack.enter_context(store.reporting_writes(lambda seconds: events.emit(StoreWritten(seconds))))
        yield


def _execute(session: _Session, spec: RunSpec) -> RunResult:
    store, events, suggests = session.store, session.events, KINDS[spec.run.kind].suggests
    with _leased(store, spec) as leased:
        lacks: list[str] = []
        with (
            Trackers(spec.config.log_to, spec.run.name, store.task(spec.run.task_id).metric, events) as trackers,
            events.subscribed(trackers),
            closing(_Pool(session)) as pool,
        ):
            for number, (title, part) in enumerate(_parts(store, spec)):
                history = _read_history(store, part)
                if number == 0:
                    note_conditions(history, part, events)
                if title:
                    events.note(title)
                try:
                    exhausted, leased.end = _run_loop(session, part, leased, history, pool.of(part))
                except TaskAtFault as error:
                    raise TaskAtFault(
                        f"{error}; a changed task needs a run of another name, anything else "
                        f"{resume_command(store, spec)}"
                    ) from error
                if leased.end is not None:
                    break
                # A build with a gap is not a benchmark, but the other kind of Fisher information is still worth
                # computing first.
                lacks += [text] if (text := missing(history)) else []
        # Raised after the workers are gone, so that the message is the last thing that the user sees.
        if leased.end is not None and leased.end.is_stop:
            raise Interrupted(f"{leased.end.text}; to continue: {resume_command(store, spec)}")
        if leased.end is None and lacks and not suggests:
            raise RunFailed(f"{lacks[0]}; once that is repaired: {resume_command(store, spec)}")
    exhausted = exhausted and leased.end is None
    ended = None if leased.end is None else leased.end.text
    return result_of(spec, history, session.started, exhausted=exhausted, ended=ended)


@dataclass
class _LeasedRun:
    """A run whose lease this driver has. `end` is the stop condition that was met, if any."""

    lease: Lease
    keeper: LeaseKeeper
    watch: RayWatch
    end: End | None = None

    def check(self) -> None:
        """Raise if another driver has taken over the run, or if Ray is gone."""
        self.keeper.check()
        self.watch.check()


@contextmanager
def _leased(store: Store, spec: RunSpec) -> Iterator[_LeasedRun]:
    """Acquire the run's lease, renew it, and release it with the run's new status, however the block ends."""
    seconds, resume = spec.config.lease_seconds, resume_command(store, spec)
    lease = acquire_lease(store, spec.run.id, seconds)
    try:
        with LeaseKeeper(store, lease, seconds) as keeper, RayWatch(resume) as watch:
            if spec.budget != spec.run.budget:
                # Raised by `resume`; only the holder of the lease may write it.
                store.set_budget(lease, spec.budget)
                store.withdraw(lease, over_budget(store.snapshot(spec.run.id), spec.budget))
            leased = _LeasedRun(lease, keeper, watch)
            yield leased
    except LeaseLost:  # the lease is another driver's now, and must not be released here
        raise
    except BaseException as error:
        # Also after KeyboardInterrupt: a lease that is not released blocks `resume` until it expires.
        _release(store, lease, _status(error), text_of(error))
        if isinstance(error, StoreError | RayError):
            text = cause_of(error) if isinstance(error, RayError) else error
            raise RunFailed(f"{text}; everything finished is stored, to continue: {resume}") from error
        raise
    if leased.end is None:
        store.release_lease(lease, "finished")
    else:
        store.release_lease(lease, leased.end.status, leased.end.text)


def _release(store: Store, lease: Lease, status: RunStatusName, message: str) -> None:
    """Release the lease if possible; an error here must not hide the error that ended the run."""
    try:
        store.release_lease(lease, status, message)
    except StoreError as error:
        logger.warning("the lease of the run is not released and has to expire: %s", error)


def _status(error: BaseException) -> RunStatusName:
    return "interrupted" if isinstance(error, STOPS) else "failed"


class _Pool:
    """The workers of a session. A further part of the run keeps them, unless it needs others: to start them takes
    seconds, for each the imports and the data."""

    def __init__(self, session: _Session) -> None:
        self._session = session
        self._pool: WorkerPool | None = None
        self._settings: WorkerSettings | None = None

    def close(self) -> None:
        """End the workers, if there are any."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def of(self, spec: RunSpec) -> WorkerPool:
        """Return the workers for a part of the run."""
        workers, settings = self._session.workers, _worker_settings(spec, self._session.workers)
        if self._pool is None or settings != self._settings:
            self.close()  # first, because the cluster may have no room for both
            self._settings = settings
            self._pool = spec.make_pool(
                settings,
                workers.n,
                Resources(workers.cpus, workers.gpus) if workers.n_ranks == 1 else Resources(0, 0),  # ranks have theirs
                _worker_class(spec, workers),
                self._session.events,
            )
        return self._pool


def _run_loop(
    session: _Session, spec: RunSpec, leased: _LeasedRun, history: History, pool: WorkerPool
) -> tuple[bool, End | None]:
    """Run the loop with its workers.

    Return whether the candidates were used up before the budget was met, and the stop condition that was met.
    """
    store, workers, suggests = session.store, session.workers, KINDS[spec.run.kind].suggests
    with ExitStack() as stack:
        context = RunContext(spec.run, spec.config, store, leased.lease, history, pool, session.events)
        suggester = _suggester(context, spec, workers) if suggests else None
        if suggester is not None:
            stack.callback(suggester.close)
        stack.enter_context(session.events.subscribed(LiveStatus(context)))
        loop = SearchLoop(
            context,
            spec.task,
            Budget(_baselines(store, spec, history), spec.budget),
            suggester,
            StopConditions(context, session.stop, session.started),
            leased.check,
            FairShare(pool, workers, session.events) if workers.shared else None,
        )
        end = loop.run()
        return loop.unmet(), end


def _suggester(context: RunContext, spec: RunSpec, workers: Workers) -> Suggester:
    """Return a suggester; for many workers, one that computes suggestions ahead."""
    growth, changes = growth_of(context, spec.budget), tuple(spec.run.config.get("recipe_changes") or (UNCHANGED,))
    n_start = None if growth is None else growth.n_start
    values = input_values(changes, spec.task.recipe) if len(changes) > 1 else ()
    # One suggestion at a time is the reproducible way: with one worker and one seed, a run can be repeated exactly.
    if workers.n < MANY_WORKERS:
        return Suggester(context, surrogate_of(context, n_start, values=values), growth, changes)
    surrogate = surrogate_of(context, n_start, in_process=False, values=values)
    return AheadSuggester(context, surrogate, spec.budget, growth, changes)


def _parts(store: Store, spec: RunSpec) -> Iterator[tuple[str | None, RunSpec]]:
    """Yield the parts of a run, each with a note on it; what a part trains is requested when it begins."""
    kind = KINDS[spec.run.kind]
    if kind.tunes:
        yield from _parts_of_confirmation(store, spec)
        return
    if not kind.suggests:
        # Here and not when the run was created: `resume` requests again what a killed driver had no time for.
        _request_all(store, spec.run)
    # A part per kind of Fisher information that a build needs, since a worker computes one kind only.
    for number, fisher in enumerate(spec.run.config.get("fishers") or [spec.config.fisher]):
        title = f"now the spectra of the {fisher} Fisher information" if number else None
        yield title, replace(spec, config=spec.config.model_copy(update={"fisher": fisher}))


def _parts_of_confirmation(store: Store, spec: RunSpec) -> Iterator[tuple[str | None, RunSpec]]:
    """Yield the choice of each function's own recipe, if there is one, and then the judgement.

    A resumed confirmation makes the same choices, because finished trainings do not change. If trainings of the choice
    failed, nothing is judged: `resume` retries them first.
    """
    run, ids = spec.run, [function.id for function in store.candidates(spec.run.id)]
    tuning, whole = Tuning.of(run), {"accept_stopped": False, "accept_refused": False}
    if not tuning.is_complete(store.snapshot(run.id).evaluations, ids):
        for seed in tuning.seeds:
            for change in tuning.changes:
                store.propose(run.id, ids, seed, recipe_change=change, **whole)
        yield None, spec
        if not tuning.is_complete(store.snapshot(run.id).evaluations, ids):
            return
    requests = store.snapshot(run.id).evaluations
    chosen, judged = tuning.chosen(requests, ids), judged_ids(store, run, requests)
    first = int(run.config.get("first_seed", 0))
    for seed in range(first, first + int(run.config["seeds"])):
        for change in tuning.changes:
            of_change = [number for number in judged if chosen[number] == change]
            store.propose(run.id, of_change, seed, recipe_change=change, **whole)
    yield ("now the judging seeds, with the recipe chosen for each function" if tuning.seeds else None), spec


def _request_all(store: Store, run: Run) -> None:
    """Request every candidate with every seed; existing requests that have not failed stay as they are."""
    ids, gated = [function.id for function in store.candidates(run.id)], run.config.get("health_gate", "on") == "on"
    for seed in range(int(run.config["seeds"])):
        store.propose(run.id, ids, seed, accept_stopped=False, accept_refused=gated)


def _read_history(store: Store, spec: RunSpec) -> History:
    snapshot, config, kind = store.snapshot(spec.run.id), spec.config, KINDS[spec.run.kind]
    snapshot = replace(snapshot, candidates=known_here(store, snapshot.candidates))
    if not (kind.suggests or kind.all_spectra):
        return History.of(snapshot, {})
    ids = [function.id for function in snapshot.candidates]
    return History.of(snapshot, store.spectra(spec.run.task_id, ids, fisher=config.fisher, seed=config.training_seed))


def _baselines(store: Store, spec: RunSpec, history: History) -> tuple[FunctionRecord, ...]:
    """Return the functions that a search trains first, or the baselines of an evaluation or a build that has all of
    them: fewer may diverge without a fault of the task."""
    kind = KINDS[spec.run.kind]
    if kind.tunes:  # the task works: winners have been trained on it
        return ()
    if kind.suggests:
        found = baseline_records(store, spec.task.baselines, spec.config.baselines)
        # A task may have got baselines that an older run has no candidates for.
        return tuple(each for each in found if each.name in BASELINES or each.id in history.position)
    known = {row.fingerprint for row in baseline_rows(spec.task.baselines, spec.config.baselines)}
    given = tuple(each for each in history.candidates if each.fingerprint in known)
    # A network with roles may have a baseline for each role, which a build does not train.
    usual = {row.fingerprint for row in baseline_rows(which=spec.config.baselines)}
    return given if usual <= {each.fingerprint for each in given} else ()


def _worker_settings(spec: RunSpec, workers: Workers) -> WorkerSettings:
    """Return the settings of a worker, or of a group of processes for evaluations on several devices."""
    task = spec.config.task if spec.import_task else spec.task
    storage = spec.config.storage or spec.run.storage
    digests = spec.task.digests
    settings = worker_settings(spec.config, task, storage=storage, gpu=workers.gpus > 0, task_digests=digests)
    if workers.n_ranks == 1:
        return settings
    return GroupSettings(**vars(settings), n_ranks=workers.n_ranks, cpus=workers.cpus)


def _worker_class(spec: RunSpec, workers: Workers) -> type:
    """Return the worker class of the run; for evaluations on several devices, a group of ordinary workers."""
    return GroupWorker if workers.n_ranks > 1 and spec.worker is Worker else spec.worker
