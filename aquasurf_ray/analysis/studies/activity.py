"""The driver of a run and the current jobs of its workers, as documents for `status` and for the page of `watch`."""

from __future__ import annotations

from typing import Any

import aquasurf_ray.store as stored

WORKER_COLUMNS = ("worker", "node", "device", "state", "seconds", "job", "epoch", "gpu_percent", "gpu_gb")


def activity_document(activity: stored.RunActivity, causes: tuple[stored.FailureCause, ...]) -> dict[str, Any]:
    """Return who drives a run, or which processes have it open as a study; what its workers do (`live`, as of `age`
    seconds ago); and why attempts failed."""
    return {
        "driver": _driver_document(activity),
        "loops": _loop_documents(activity),
        "live": _live_document(activity),
        "failure_causes": [{"tries": cause.n, "cause": cause.error} for cause in causes],
    }


def standing(run: stored.Run, activity: stored.RunActivity) -> str:
    """Return the status of a run as it is and not as its driver left it: `dead` or `silent` instead of `running`."""
    driver = _driver_document(activity)
    if run.status == "running" and driver is None:  # a study: nobody writes its status when its processes die
        return "running" if any(loop["state"] == "alive" for loop in _loop_documents(activity)) else "interrupted"
    # A driver that was killed never wrote its end, so the stored status says `running` for ever.
    gone = run.status == "running" and driver is not None and driver["state"] != "alive"
    return str(driver["state"]) if gone and driver is not None else run.status


def as_it_is(document: dict[str, Any], run: stored.Run, activity: stored.RunActivity) -> dict[str, Any]:
    """Return the document of a run's state as it is, and not as processes that have died left it.

    The trials of a study's dead processes are not running: they wait for the next process that asks.
    """
    left = sum(stored.is_dead(trial.owner) for trial in activity.trials)
    now = {"status": standing(run, activity), "running": document["running"] - left}
    return document | now | {"queued": document["queued"] + left}


def _driver_document(activity: stored.RunActivity) -> dict[str, Any] | None:
    owner, asked = activity.owner, activity.stop_request
    if owner is None:
        return None
    age, lease = activity.heartbeat_age, activity.lease_seconds
    # A live driver renews its lease several times in this time; on another host, silence is all that can be seen.
    silent = age is not None and lease is not None and age > lease
    return {
        "host": owner.host,
        "pid": owner.pid,
        "since": activity.since,
        "heartbeat_age": age,
        # Dead is certain (same host, no such process), so it comes before the guess from the heartbeat's age.
        "state": "dead" if stored.is_dead(owner) else "silent" if silent else "alive",
        "stop_asked_by": asked.asked_by.host if asked else None,
    }


def _loop_documents(activity: stored.RunActivity) -> list[dict[str, Any]]:
    """Return the processes that have a study open or died with a trial of it, and the functions that they train."""
    processes: dict[stored.LeaseOwner, list[stored.OpenTrial]] = {each.owner: [] for each in activity.processes}
    signs = [(each.owner, each.age, each.lease_seconds) for each in activity.processes]
    signs += [(trial.owner, trial.age, trial.lease_seconds) for trial in activity.trials]
    for trial in activity.trials:
        processes.setdefault(trial.owner, []).append(trial)
    documents = []
    for owner, trials in processes.items():
        age, lease = min((age, lease) for of, age, lease in signs if of == owner)
        state = "dead" if stored.is_dead(owner) else "silent" if age > lease else "alive"
        found = {"host": owner.host, "pid": owner.pid, "trials": len(trials), "state": state, "heartbeat_age": age}
        documents.append(found | {"trains": ", ".join(trial.function for trial in trials)})
    return documents


def _live_document(activity: stored.RunActivity) -> dict[str, Any] | None:
    live = activity.live
    if live is None:
        return None
    return {
        "age": activity.live_age,
        "ending": live.ending,
        "per_hour": live.per_hour,
        "seconds_left": live.seconds_left,
        "workers": [_worker_document(worker) for worker in live.workers],
    }


def _worker_document(worker: stored.LiveWorker) -> dict[str, Any]:
    memory = worker.gpu_used_mb, worker.gpu_total_mb
    # CPU workers, and GPUs that NVML cannot read, have no numbers.
    gb = None if None in memory else " of ".join(f"{mb / 1000:.1f}" for mb in memory if mb is not None)
    document = {"worker": worker.name, **{key: getattr(worker, key) for key in WORKER_COLUMNS if hasattr(worker, key)}}
    return document | {"gpu_gb": gb}
