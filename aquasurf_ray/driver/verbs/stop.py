"""request_stop(...): request that the driver of a run stops, through the store, which it polls once a second.

finish(...): end a run for good, with what it has done as its budget.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

from aquasurf_ray.counted import counted
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.settings.places import store_url
from aquasurf_ray.driver.state.evaluations import FINAL, OPEN
from aquasurf_ray.store import Run, RunActivity, Store, is_dead, this_process
from aquasurf_ray.store.verbs.attempts import is_abandoned

STATUS_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class StopAnswer:
    """The outcome of a stop request; `text` describes it for people.

    `asked`: the driver was asked, or the processes of a study were. `stopped`: it has stopped since. `finished`,
    `not-running`: no driver has the run. `dead`: the driver has died, and the run can be resumed. `silent`: the driver
    was asked, but gives no sign of life.
    """

    run: str
    state: Literal["asked", "stopped", "finished", "not-running", "dead", "silent"]
    text: str


def request_stop(name: str, *, store: str | None = None, wait: bool = False) -> StopAnswer:
    """Ask the driver of a run to stop, as on SIGTERM; nothing happens if no driver has the run.

    The processes of a study end as if its budget were met: each tells its trial, and `ask` returns None from then on.

    Args:
        wait: return only when the driver has stopped or died, or has given no sign of life for the time of its lease;
            for a study, when no live process has a trial.

    Raises:
        StoreError: there is no such run, or no store.
        BadUse: Ray Tune drives the run, and does not read requests.
    """
    with Store.open(store_url(store), create=False) as opened:
        run = opened.run(name)
        activity = opened.activity(run.id)
        if activity.owner is not None and is_dead(activity.owner):
            return _dead(name, activity)
        if activity.owner is not None and run.budget is None:  # Ray Tune decides how many trials there are
            owner = activity.owner
            raise BadUse(
                f"run '{name}' belongs to Ray Tune: stop the process of its Tuner, {owner.host} pid {owner.pid} "
                "(Ctrl-C); Tuner.restore continues it"
            )
        if (activity.owner is None and run.status == "finished") or not opened.request_stop(run.id, this_process()):
            return _not_running(opened.run(name))
        if activity.owner is None:
            return _stopping_study(opened, run, wait=wait)
        while wait and _overdue_heartbeat(activity) is None:
            time.sleep(STATUS_POLL_SECONDS)
            activity = opened.activity(run.id)
            if activity.stop_request is None:  # a request belongs to a lease, which has been released
                return _stopped(opened.run(name))
            if activity.owner is not None and is_dead(activity.owner):
                return _dead(name, activity)
        return _asked(name, activity)


def finish(name: str, *, store: str | None = None) -> StopAnswer:
    """End a run for good: stop its driver, drop its open evaluations, and make what it has done its budget.

    `resume` with more evaluations continues it in spite of that.

    Raises:
        StoreError: there is no such run, or no store.
        BadUse: the run is Ray Tune's, or was imported.
    """
    answer = request_stop(name, store=store, wait=True)
    if answer.state in ("finished", "silent"):
        return answer
    with Store.open(store_url(store), create=False) as opened:
        run = opened.run(name)
        if run.budget is None:
            raise BadUse(f"run '{name}' has no budget that could be met; it ends with the process that fills it")
        found = opened.snapshot(run.id).evaluations
        ended = [each for each in found if each.evaluation.status not in OPEN]
        dropped = [each.evaluation.id for each in found if each.evaluation.status in OPEN]
        budget = sum(each.origin != "baseline" and each.evaluation.status in FINAL for each in ended)
        lease = opened.acquire_lease(run.id, this_process(), code_version=version("aquasurf-ray"))
        opened.set_budget(lease, budget)
        opened.withdraw(lease, dropped)
        opened.release_lease(lease, "finished")
    n = sum(each.evaluation.status in FINAL for each in ended)
    lower = f", a budget of {budget} instead of {run.budget}" if budget != run.budget else ""
    n_dropped = counted(len(dropped), "open evaluation")
    drops = f"; {n_dropped} {'is' if len(dropped) == 1 else 'are'} dropped" if dropped else ""
    return StopAnswer(name, "finished", f"run '{name}' is finished: {counted(n, 'evaluation')}{lower}{drops}")


def _stopping_study(store: Store, run: Run, *, wait: bool) -> StopAnswer:
    processes = store.activity(run.id).processes
    names = ", ".join(sorted({f"{each.owner.host} pid {each.owner.pid}" for each in processes}))
    while wait and any(not is_abandoned(trial, is_dead) for trial in store.activity(run.id).trials):
        time.sleep(STATUS_POLL_SECONDS)
    if wait:
        return StopAnswer(run.name, "stopped", f"study '{run.name}' has stopped: {names} asked for no more trials")
    return StopAnswer(run.name, "asked", f"study '{run.name}' stops when its trials are told: {names} ask for no more")


def _asked(name: str, activity: RunActivity) -> StopAnswer:
    silent, driver = _overdue_heartbeat(activity), _driver(activity)
    if silent is None:
        return StopAnswer(name, "asked", f"run '{name}' stops within a minute: {driver} was asked to")
    silence = f"has given no sign of life for {silent:.0f} s"
    return StopAnswer(name, "silent", f"{driver} of run '{name}' was asked to stop, but {silence}")


def _stopped(run: Run) -> StopAnswer:
    return StopAnswer(run.name, "stopped", f"run '{run.name}' has stopped, {run.status}: {run.message or 'it is done'}")


def _dead(name: str, activity: RunActivity) -> StopAnswer:
    return StopAnswer(name, "dead", f"run '{name}' is not running: {_driver(activity)} has died")


def _not_running(run: Run) -> StopAnswer:
    if run.status == "finished":
        return StopAnswer(run.name, "finished", f"run '{run.name}' is finished already")
    status = "interrupted" if run.status == "running" else run.status  # of a study whose processes have died
    return StopAnswer(run.name, "not-running", f"run '{run.name}' is not running, it is {status}")


def _overdue_heartbeat(activity: RunActivity) -> float | None:
    """Return the seconds without a heartbeat, if they exceed the lease; None otherwise."""
    age, lease = activity.heartbeat_age, activity.lease_seconds
    return age if age is not None and lease is not None and age > lease else None


def _driver(activity: RunActivity) -> str:
    owner = activity.owner
    return "nobody" if owner is None else f"the driver {owner.host} pid {owner.pid}"
