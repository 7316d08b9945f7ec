"""The notes at the beginning and at the end of a session, and its result."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from importlib.metadata import version

from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.counted import counted
from aquasurf_ray.driver.cluster.capacity import Workers
from aquasurf_ray.driver.events import Events, RunBegan
from aquasurf_ray.driver.run.spec import RunResult, RunSpec
from aquasurf_ray.driver.run_kinds import KINDS
from aquasurf_ray.driver.settings.until import Until
from aquasurf_ray.driver.state.evaluations import FINAL
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.store import Store, this_process

MANY_TIED = 3  # fewer may have the same score by chance


def finished(store: Store, spec: RunSpec, events: Events) -> RunResult | None:
    """Return the result of a run that has nothing left to do, and note that it is finished; None for any other run."""
    run = spec.run
    if run.status != "finished" or spec.budget != run.budget:
        return None
    history = History.of(store.snapshot(run.id), {})
    if not KINDS[run.kind].suggests and history.evaluations.n_open:
        return None  # somebody has queued functions since it finished
    if run.message is not None:  # it ended before its budget was met
        best, until = history.best(), Until.parse(spec.config.until) if spec.config.until else None
        if until is None or best is None or not history.reaches(until):
            return None
        events.note(f"run '{run.name}' is finished: {until} is reached by {best[0]}")
        return result_of(spec, history, time.monotonic(), exhausted=False, ended=run.message)
    events.note(f"run '{run.name}' is finished: {history.n_finished(baselines=True)} evaluations")
    return result_of(spec, history, time.monotonic(), exhausted=False)


def result_of(
    spec: RunSpec, history: History, started: float, *, exhausted: bool, ended: str | None = None
) -> RunResult:
    """Return the result of a session that began at `started` on the monotonic clock."""
    reference, diverged = spec.task.reference or REFERENCE, _diverged_baselines(history)
    return RunResult(
        name=spec.run.name,
        budget=spec.budget,
        evaluations=history.n_finished(baselines=True),
        best=history.best(),
        best_change=history.best_change(),
        seconds=time.monotonic() - started,
        exhausted=exhausted,
        reused=history.evaluations.n_reused,
        failed=history.n_failed(),
        stopped_early=history.evaluations.n_stopped_early,
        diverged=history.evaluations.n(status={"diverged"}),
        diverged_reference=reference if reference in diverged else None,
        diverged_baselines=len(diverged),
        tied=_n_tied(history),
        kind=spec.run.kind,
        ended=ended,
        store=spec.config.store,
        too_costly=len(history.ruled_out(spec.config.max_cost) - history.evaluations.asked_for),
    )


def beginning_of(store: Store, spec: RunSpec, workers: Workers) -> RunBegan:
    """Return the first event of a session."""
    # Host and process, so that somebody who finds the log knows where to look for the driver.
    me = this_process()
    return RunBegan(
        kind=spec.run.kind,
        task=spec.task.name,
        version=version("aquasurf-ray"),
        host=me.host,
        pid=me.pid,
        workers=workers.n,
        cpus=workers.cpus * workers.n_ranks,
        gpus=workers.gpus * workers.n_ranks,
        budget=spec.budget,
        store=store.safe_url,
        address=spec.config.address,
    )


def note_conditions(history: History, spec: RunSpec, events: Events) -> None:
    """Note the conditions of a session: the place of checkpoints, another version of the code, stored results."""
    run = spec.run
    if spec.config.address is not None and spec.config.storage is None:
        events.note(f"epoch checkpoints are written to {run.storage} on each node; --storage names one place for all")
    begun, now = run.code_version, version("aquasurf-ray")
    if begun != now:
        events.note(f"run '{run.name}' was begun by version {begun} and continues under {now}")
    n_spectra, n_evaluations = len(history.spectra), history.n_finished(baselines=True)
    known = [f"{counted(n_spectra, 'spectrum', 'spectra')} of its candidates"] * bool(n_spectra)
    known += [f"{counted(n_evaluations, 'evaluation')} of its own"] * bool(n_evaluations)
    if known:
        events.note(f"run '{run.name}': {' and '.join(known)} are in the store already and are used again")


def end_notes(result: RunResult, max_cost: float | None, resume: str) -> Iterator[str]:
    """Yield the notes on a run that has ended; `resume` is the command that continues it."""
    done = f"{counted(result.evaluations, 'evaluation')}, {result.seconds:.0f} s in this session"
    # A stop condition leaves budget over, so only then is there something to continue.
    if result.ended is None:
        yield f"run '{result.name}' is finished: {done}"
    else:
        yield f"run '{result.name}' ends, {result.ended}: {done}; to continue: {resume}"
    status = f"aquasurf status {shlex.quote(result.name)}"
    if result.reused:
        yield f"{result.reused} of them were taken from other runs of the task, without training"
    if result.diverged:
        yield f"{result.diverged} diverged{_without_reference(result)}; for the reasons: {status}"
    if result.tied:
        yield (
            f"all {result.tied} functions have the same score, so the network may give one answer for every example: "
            "train it longer or at another learning rate, or choose a finer metric"
        )
    if result.failed:
        where = "its worker" if result.failed == 1 else "their workers"
        yield f"{counted(result.failed, 'function')} failed on {where}; for the reasons: {status}"
    if result.stopped_early:
        yield f"{result.stopped_early} were stopped early, for low scores in their first epochs"
    if result.exhausted:
        yield _exhausted(result, max_cost)


def resume_command(store: Store, spec: RunSpec) -> str:
    """Return the command that continues the run, without the URL of the store if that contains a password."""
    command = f"aquasurf resume {shlex.quote(spec.run.name)}"
    if spec.config.address is not None:
        command += f" --address {shlex.quote(spec.config.address)}"
    if spec.config.store is None:
        return command
    shown = store.safe_url
    # A password must not reach a terminal's scroll-back or a log, so the URL is not repeated.
    return f"{command} --store {shlex.quote(shown) if '***' not in shown else '(the same URL)'}"


def missing(history: History) -> str | None:
    """Return a sentence on what failed in a run that must train all of its functions; None if nothing did."""
    failed = [e.function for e in history.evaluations.values() if e.status == "failed"]
    if failed:
        return f"{len(failed)} of {len(history.evaluations)} evaluations failed on their workers, the first {failed[0]}"
    lost = [function.name for function in history.candidates if function.id in history.spectra_failed]
    if lost:
        return f"{len(lost)} of {len(history.candidates)} spectra failed on their workers, the first {lost[0]}"
    return None


def text_of(error: BaseException) -> str:
    """Return an error as the message of a run."""
    return str(error) or type(error).__name__


def _diverged_baselines(history: History) -> set[str]:
    """Return the baselines that have diverged with every seed that they were trained with."""
    ended: dict[str, set[str]] = {}
    for each in history.evaluations.values():
        if each.origin == "baseline" and each.status in FINAL:
            ended.setdefault(each.function, set()).add(each.status)
    return {function for function, statuses in ended.items() if statuses == {"diverged"}}


def _n_tied(history: History) -> int:
    """Return how many functions have one and the same score, if all of a run have it; 0 for fewer than `MANY_TIED`."""
    scores = {(each.function, each.score) for each in history.evaluations.values() if each.score is not None}
    functions, values = ({part[i] for part in scores} for i in range(2))
    return len(functions) if len(values) == 1 and len(functions) >= MANY_TIED else 0


def _without_reference(result: RunResult) -> str:
    """Return what a reference that diverged says of the run: the recipe fits few functions, and no gain is known."""
    if result.diverged_reference is None:
        return ""
    others = result.diverged_baselines - 1
    among = f"the reference {result.diverged_reference}" + (
        f" and {counted(others, 'other baseline')}" if others else ""
    )
    return f", among them {among}, so no gain is known, and the recipe's learning rate may be too high for the task"


def _exhausted(result: RunResult, max_cost: float | None) -> str:
    trained = f"all candidates are trained before the budget of {result.budget} is met"
    if max_cost is None or not result.too_costly:
        return f"{trained}; a run of another name can have more candidates"
    return (
        f"{trained}, except {result.too_costly} that cost more than {max_cost:g} times ReLU's step; "
        "a run of another name can have more candidates, or a larger max-cost"
    )
