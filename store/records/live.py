"""A driver's report on its run while it works, and requests from other processes to stop it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from aquasurf_ray.store.records.leases import LeaseOwner
from aquasurf_ray.store.records.trials import OpenProcess, OpenTrial


@dataclass(frozen=True)
class LiveWorker:
    """A worker as its driver sees it: its location, its state and job, and for how many seconds.

    Attributes:
        state: `starting` (also while it waits for room on the cluster), `idle` or `busy`.
        node, device: None until it has started; the device is the GPU's name, or `cpu`.
        job: its job in words; None if it is idle.
        epoch: the last complete epoch of its training.
        gpu_percent, gpu_used_mb, gpu_total_mb: the use of its GPU by all processes together, memory in units of 10^6
            bytes; None without a GPU, or if unknown.
    """

    name: str
    state: str
    seconds: float
    node: str | None = None
    device: str | None = None
    job: str | None = None
    epoch: int | None = None
    gpu_percent: float | None = None
    gpu_used_mb: float | None = None
    gpu_total_mb: float | None = None


@dataclass(frozen=True)
class LiveRun:
    """A driver's report on its run: its workers, the evaluations per hour that they train, and the seconds that the
    rest of the run takes, spectra included; None as long as they are not known. `ending` is the reason if it starts no
    further evaluations."""

    workers: tuple[LiveWorker, ...] = ()
    per_hour: float | None = None
    seconds_left: float | None = None
    ending: str | None = None


@dataclass(frozen=True)
class StopRequest:
    """A request by the process `asked_by` that the run stop."""

    asked_by: LeaseOwner
    asked_at: datetime


@dataclass(frozen=True)
class RunActivity:
    """The driver of a run, and its last report. Ages are in seconds by the database's clock.

    Attributes:
        owner: the process that holds the run; if there is none, all other fields but the last two are None too.
        since: the time at which it took the run.
        heartbeat_age: the time since it last renewed its lease of `lease_seconds`.
        live, live_age: its last report, and the report's age.
        stop_request: a request to stop that it has not yet followed.
        trials: if the run has no driver, the open trials of the processes that share it.
        processes: if the run has no driver, the processes that have it open as a study, unless they are known to be
            gone.
    """

    owner: LeaseOwner | None = None
    since: datetime | None = None
    heartbeat_age: float | None = None
    lease_seconds: float | None = None
    live: LiveRun | None = None
    live_age: float | None = None
    stop_request: StopRequest | None = None
    trials: tuple[OpenTrial, ...] = ()
    processes: tuple[OpenProcess, ...] = ()


@dataclass(frozen=True)
class FailureCause:
    """An error of failed attempts at a run's evaluations, and its count."""

    error: str
    n: int
