"""Carries one run out, from wherever it stands to the end of its budget: lease, Ray, workers, loop, and their undoing.

Whatever happens, the lease is given back on the way out if the database can be reached, and says how the run stands.
"""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from aquasurf_ray.driver.callbacks.json_log import Noting, run_log
from aquasurf_ray.driver.callbacks.progress import Reporter
from aquasurf_ray.driver.callbacks.prometheus import RunMetrics
from aquasurf_ray.driver.callbacks.trackers import Trackers, tracking
from aquasurf_ray.driver.candidates import baseline_rows
from aquasurf_ray.driver.cluster.capacity import Workers
from aquasurf_ray.driver.cluster.fair_share import FairShare
from aquasurf_ray.driver.cluster.pool import Resources
from aquasurf_ray.driver.cluster.watch import RayWatch
from aquasurf_ray.driver.config import data_folder
from aquasurf_ray.driver.errors import BadUse, Interrupted, RunFailed
from aquasurf_ray.driver.events import Observe, to_all
from aquasurf_ray.driver.run.claims import Budget
from aquasurf_ray.driver.run.lease_keeper import LeaseKeeper, installed_versions
from aquasurf_ray.driver.run.loop import SearchLoop
from aquasurf_ray.driver.run.signals import StopSignal
from aquasurf_ray.driver.run.spec import RunResult, RunSpec
from aquasurf_ray.driver.run.stop_conditions import End, Ends
from aquasurf_ray.driver.run_kinds import KINDS
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.driver.suggestions.ahead import MANY_WORKERS, AheadSuggester
from aquasurf_ray.driver.suggestions.embedder import Embedder
from aquasurf_ray.driver.suggestions.suggester import Suggester
from aquasurf_ray.driver.suggestions.surrogates import MapSurrogate, MetricSurrogate, Surrogate
from aquasurf_ray.driver.until import Until
from aquasurf_ray.store import FunctionRecord, Lease, LeaseLost, Run, Store, StoreError, this_process
from aquasurf_ray.store.records.runs import RunStatusName
from aquasurf_ray.workers.actor import Worker
from aquasurf_ray.workers.group import GroupSettings, GroupWorker
from aquasurf_ray.workers.messages import WorkerSettings

logger = logging.getLogger(__name__)

STOPS = (Interrupted, KeyboardInterrupt, BadUse)
"""What ends a run that did not fail."""


@dataclass(frozen=True)
class _Session:
    """From one start of a driver to its end: what is told to whom meanwhile; `started` is of the monotonic clock."""

    store: Store
    workers: Workers
    reporter: Reporter
    observe: Observe
    metrics: RunMetrics
    started: float


def execute(store: Store, order: RunSpec, workers: Workers, reporter: Reporter, stop: StopSignal) -> RunResult:
    """Trains what the run's budget still asks for.

    Raises:
        RunHeld: another driver has the run.
        Interrupted, RunFailed, LeaseLost, StoreError: it stopped early; what is finished is stored.
    """
    started, metrics = time.monotonic(), RunMetrics(order.run.name)
    with run_log(order.config.log, order.run.name) as log:
        observe = to_all(metrics, log) if log else metrics
        told = Noting(reporter, log) if log else reporter
        store.on_write = metrics.store_wrote
        observe("began", **_began(store, order, workers))
        try:
            result = _train_all(_Session(store, workers, told, observe, metrics, started), order, stop)
        except BaseException as error:
            status = "interrupted" if isinstance(error, STOPS) else "failed"
            observe("run-ended", status=status, message=_told(error), seconds=time.monotonic() - started)
            raise
        status = store.run(order.run.name).status
        observe("run-ended", status=status, message=result.ended, seconds=result.seconds)
        reporter.close()
        _note_the_end(result, order, told, _resume_command(store, order))
    return result


def _train_all(session: _Session, order: RunSpec, stop: StopSignal) -> RunResult:
    store, reporter, started = session.store, session.reporter, session.started
    with _held(store, order) as held:
        if not KINDS[order.run.kind].suggests:
            _queue(store, order.run)

        ends = Ends(order.config, store, held.lease, stop, started)
        missing: list[str] = []
        with tracking(order.config.log_to, order.run.name, reporter.note) as trackers:
            for number, part in enumerate(_parts(order)):
                history = _read_history(store, part)
                if number == 0:
                    _note_what_is_known(history, part, reporter)
                else:
                    reporter.note(f"now the spectra of the {part.config.fisher} Fisher information")
                exhausted, held.end = _search(session, part, held, history, ends, trackers)
                if held.end is not None:
                    break
                missing += _missing(history)
        if held.end is not None and held.end.is_stop:
            raise Interrupted(f"{held.end.text}; go on with: {_resume_command(store, order)}")
        if held.end is None and missing and not KINDS[order.run.kind].suggests:
            raise RunFailed(f"{missing[0]}; once mended: {_resume_command(store, order)}")
    exhausted = exhausted and held.end is None
    ended = None if held.end is None else held.end.text
    return _result(order, history, started, exhausted=exhausted, ended=ended)


def finished(store: Store, order: RunSpec, reporter: Reporter) -> RunResult | None:
    """The result of a run that has nothing left to do, or None."""
    if order.run.status != "finished" or order.budget != order.run.budget:
        return None
    history = History.of(store.snapshot(order.run.id), {})
    if not KINDS[order.run.kind].suggests and history.evaluations.n_open:
        return None
    if order.run.message is not None:  # it ended before its budget was met
        best, until = history.best(), Until.parse(order.config.until) if order.config.until else None
        if until is None or best is None or not until.is_met(best[1]):
            return None
        reporter.note(f"run '{order.run.name}' is finished: {until} is reached by {best[0]}")
        return _result(order, history, time.monotonic(), exhausted=False, ended=order.run.message)
    reporter.note(f"run '{order.run.name}' is finished: {history.n_finished(baselines=True)} evaluations")
    return _result(order, history, time.monotonic(), exhausted=False)


@dataclass
class _Held:
    """A run in this driver's hands. `end` is how it ends, if that is before its budget is met."""

    lease: Lease
    keeper: LeaseKeeper
    watch: RayWatch
    end: End | None = None

    def check(self) -> None:
        """Raises when the run is no longer ours, or Ray is gone."""
        self.keeper.check()
        self.watch.check()


@contextmanager
def _held(store: Store, order: RunSpec) -> Iterator[_Held]:
    """The run's lease, kept alive, and given back with the run's new status however this ends."""
    seconds = order.config.lease_seconds
    code, versions = version("aquasurf-ray"), installed_versions()
    lease = store.acquire_lease(
        order.run.id, this_process(), lease_seconds=seconds, code_version=code, versions=versions
    )
    try:
        with LeaseKeeper(store, lease, seconds) as keeper, RayWatch(_resume_command(store, order)) as watch:
            if order.budget != order.run.budget:
                store.set_budget(lease, order.budget)
            held = _Held(lease, keeper, watch)
            yield held
    except LeaseLost:
        raise
    except BaseException as error:
        _give_back(store, lease, "interrupted" if isinstance(error, STOPS) else "failed", _told(error))
        if isinstance(error, StoreError):
            raise RunFailed(
                f"{error}; what was finished is kept, go on with: {_resume_command(store, order)}"
            ) from error
        raise
    if held.end is None:
        store.release_lease(lease, "finished")
    else:
        store.release_lease(lease, held.end.status, held.end.text)


def _give_back(store: Store, lease: Lease, status: RunStatusName, message: str) -> None:
    """Gives the lease back if it can be; the error that ends the run matters more than one from here."""
    try:
        store.release_lease(lease, status, message)
    except StoreError as error:
        logger.warning("the lease of the run is not given back and has to run out: %s", error)


def _search(
    session: _Session, order: RunSpec, held: _Held, history: History, ends: Ends, trackers: Trackers
) -> tuple[bool, End | None]:
    """Runs the loop with its workers; returns whether the candidates were used up first, and the end before that."""
    config, kind, lease = order.config, KINDS[order.run.kind], held.lease
    store, workers, reporter = session.store, session.workers, session.reporter
    suggester = _suggester(order, workers, store, lease, history) if kind.suggests else None
    pool = order.make_pool(
        _worker_settings(order, workers),
        workers.n,
        Resources(workers.cpus, workers.gpus) if workers.n_ranks == 1 else Resources(0, 0),  # the ranks ask themselves
        _worker_class(order, workers),
        reporter.note,
        observe=session.observe,
    )
    try:
        search = SearchLoop(
            config,
            order.task,
            Budget(_baselines(store) if suggester else (), order.budget),
            store,
            lease,
            history,
            pool,
            suggester,
            reporter,
            check=held.check,
            ends=ends.reached,
            time_limit=config.time_limit or order.task.time_limit,
            all_spectra=kind.all_spectra,
            costs=kind.costs,
            observe=session.observe,
            metrics=session.metrics,
            share=FairShare(pool, workers, reporter.note) if workers.shared else None,
            tracker=trackers.result,
        )
        end = search.run()
        return search.unmet(), end
    finally:
        pool.close()
        if suggester:
            suggester.close()


def _suggester(order: RunSpec, workers: Workers, store: Store, lease: Lease, history: History) -> Suggester:
    """One that keeps suggestions ready where there are many workers."""
    surrogate = _surrogate(order, store, lease, history)
    if workers.n < MANY_WORKERS:
        return Suggester(order.config, history, surrogate)
    return AheadSuggester(order.config, history, surrogate, order.budget)


def _surrogate(order: RunSpec, store: Store, lease: Lease, history: History) -> Surrogate:
    if order.config.surrogate == "metric":
        return MetricSurrogate(order.config, history)
    return MapSurrogate(order.config, order.run.task_id, store, lease, history, Embedder())


def _queue(store: Store, run: Run) -> None:
    """Asks for every candidate with every seed; what was asked for and has not failed stays as it is."""
    ids = [function.id for function in store.candidates(run.id)]
    first, gated = int(run.config.get("first_seed", 0)), run.config.get("health_gate", "on") == "on"
    for seed in range(first, first + int(run.config["seeds"])):
        store.propose(run.id, ids, seed, accept_stopped=False, accept_refused=gated)


def _parts(order: RunSpec) -> list[RunSpec]:
    """A build that wants spectra of several kinds has a part for each: a worker computes those of one kind."""
    fishers = order.run.config.get("fishers") or [order.config.fisher]
    return [replace(order, config=order.config.model_copy(update={"fisher": fisher})) for fisher in fishers]


def _read_history(store: Store, order: RunSpec) -> History:
    snapshot, config = store.snapshot(order.run.id), order.config
    ids = [function.id for function in snapshot.candidates]
    kind = KINDS[order.run.kind]
    if not (kind.suggests or kind.all_spectra):
        return History.of(snapshot, {})
    return History.of(snapshot, store.spectra(order.run.task_id, ids, fisher=config.fisher, seed=config.training_seed))


def _note_what_is_known(history: History, order: RunSpec, reporter: Reporter) -> None:
    if order.config.address is not None and order.config.storage is None:
        reporter.note(f"epoch checkpoints go to {order.run.storage} on each node; --storage names one for all")
    begun, now = order.run.code_version, version("aquasurf-ray")
    if begun != now:
        reporter.note(f"run '{order.run.name}' was begun by version {begun} and goes on under {now}")
    n_spectra, n_evaluations = len(history.spectra), history.n_finished(baselines=True)
    known = [f"{n_spectra} spectra of its candidates"] * bool(n_spectra)
    known += [f"{n_evaluations} evaluations of its own"] * bool(n_evaluations)
    if known:
        reporter.note(f"run '{order.run.name}': {' and '.join(known)} are in the store already and are used again")


def _baselines(store: Store) -> tuple[FunctionRecord, ...]:
    rows = baseline_rows()
    ids = store.add_functions(rows)
    return tuple(
        FunctionRecord(number, row.fingerprint, row.name, row.n_operators)
        for number, row in zip(ids, rows, strict=True)
    )


def _worker_settings(order: RunSpec, workers: Workers) -> WorkerSettings:
    config = order.config
    settings = WorkerSettings(
        task=config.task if order.import_task else order.task,
        import_from=str(Path.cwd()),
        modules=config.modules,
        storage=config.storage or order.run.storage,
        gpu=workers.gpus > 0,
        threads=max(1, int(config.cpus_per_worker)),
        fisher=config.fisher,
        spectrum_seed=config.training_seed,
        checkpoint_interval=config.checkpoint_interval,
        data_folder=data_folder(config),
        fast_activations=config.fast_activations == "on",
        loader_workers=config.loader_workers,
    )
    if workers.n_ranks == 1:
        return settings
    return GroupSettings(**vars(settings), n_ranks=workers.n_ranks, cpus=workers.cpus)


def _worker_class(order: RunSpec, workers: Workers) -> type:
    """The order's own, but for evaluations on several devices a group of the usual ones."""
    return GroupWorker if workers.n_ranks > 1 and order.worker is Worker else order.worker


def _result(
    order: RunSpec, history: History, started: float, *, exhausted: bool, ended: str | None = None
) -> RunResult:
    return RunResult(
        name=order.run.name,
        budget=order.budget,
        evaluations=history.n_finished(baselines=True),
        best=history.best(),
        seconds=time.monotonic() - started,
        exhausted=exhausted,
        reused=history.evaluations.n_reused,
        failed=history.n_failed(),
        stopped_early=history.evaluations.n_stopped_early,
        diverged=history.evaluations.n(status={"diverged"}),
        kind=order.run.kind,
        ended=ended,
        too_dear=len(history.ruled_out(order.config.max_cost) - history.evaluations.asked_for),
    )


def _began(store: Store, order: RunSpec, workers: Workers) -> dict[str, object]:
    """What the log says first."""
    me, config = this_process(), order.config
    return {
        "kind": order.run.kind,
        "task": order.task.name,
        "version": version("aquasurf-ray"),
        "host": me.host,
        "pid": me.pid,
        "workers": workers.n,
        "cpus": workers.cpus * workers.n_ranks,
        "gpus": workers.gpus * workers.n_ranks,
        "budget": order.budget,
        "store": store.safe_url,
        "address": config.address,
    }


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _missing(history: History) -> list[str]:
    """What a run that is to have everything lacks."""
    failed = [e.function for e in history.evaluations.values() if e.status == "failed"]
    if failed:
        return [
            f"{len(failed)} of {len(history.evaluations)} evaluations failed on their workers, the first {failed[0]}"
        ]
    lost = [function.name for function in history.candidates if function.id in history.spectra_given_up]
    if lost:
        return [f"{len(lost)} of {len(history.candidates)} spectra failed on their workers, the first {lost[0]}"]
    return []


def _resume_command(store: Store, order: RunSpec) -> str:
    """What to type to go on; a URL with a password is not repeated."""
    command = f"aquasurf resume {shlex.quote(order.run.name)}"
    if order.config.address is not None:
        command += f" --address {shlex.quote(order.config.address)}"
    if order.config.store is None:
        return command
    shown = store.safe_url
    return f"{command} --store {shlex.quote(shown) if '***' not in shown else '(the same URL)'}"


def _note_the_end(result: RunResult, order: RunSpec, reporter: Reporter, resume: str) -> None:
    done = f"{result.evaluations} evaluations, {result.seconds:.0f} s in this session"
    if result.ended is None:
        reporter.note(f"run '{result.name}' is finished: {done}")
    else:
        reporter.note(f"run '{result.name}' ends, {result.ended}: {done}; go on with: {resume}")
    if result.reused:
        reporter.note(f"{result.reused} of them were taken from other runs of the task, without training")
    if result.diverged:
        reporter.note(f"{result.diverged} of them diverged; why: aquasurf status {shlex.quote(result.name)}")
    if result.failed:
        reporter.note(f"{result.failed} functions were given up; why: aquasurf status {shlex.quote(result.name)}")
    if result.stopped_early:
        reporter.note(f"{result.stopped_early} were stopped early, below the median of others")
    if result.exhausted:
        reporter.note(_exhausted(result, order.config.max_cost))


def _exhausted(result: RunResult, max_cost: float | None) -> str:
    """Why a run ends before its budget is met, and what to do about it."""
    if max_cost is None or not result.too_dear:
        return (
            f"all candidates are trained before the budget of {result.budget} is met; "
            "a run of another name can have more candidates"
        )
    return (
        f"all candidates are trained before the budget of {result.budget} is met, but for {result.too_dear} that cost "
        f"more than {max_cost:g} times relu; a run of another name can have more candidates, or a larger max-cost"
    )
