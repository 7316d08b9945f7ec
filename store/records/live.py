"""A driver's report on its run while it works, and the requests that others make of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from aquasurf_ray.store.records.runs import LeaseOwner


@dataclass(frozen=True)
class LiveWorker:
    """A worker as its driver sees it: where it is, what it does, and for how many seconds it has done so.

    Attributes:
        state: `starting`, which includes waiting for room on the cluster, `idle` or `busy`.
        node, device: None until it has started; the device is the GPU's name, or `cpu`.
        job: what it does, in words; None of an idle one.
        epoch: the last whole epoch of its training.
        gpu_percent, gpu_used_mb, gpu_total_mb: of its GPU, all processes together; None where it has none, or where
            that is not known. Units of 10^6 bytes.
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
    """A driver's report on its run: its workers, recently finished evaluations per hour, and the seconds left at that
    rate; None where nothing has been finished yet. `ending` says why it gives out no more work, if that is so."""

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
    """The driver of a run and its last report; ages are in seconds by the database's clock.

    Attributes:
        owner: the process that holds the run; None if nobody does, and then all else is None too.
        since: when it took the run.
        heartbeat_age: since it last renewed its lease of `lease_seconds`.
        live, live_age: its last report of itself.
        stop_request: what it was asked for, and has not done yet.
    """

    owner: LeaseOwner | None = None
    since: datetime | None = None
    heartbeat_age: float | None = None
    lease_seconds: float | None = None
    live: LiveRun | None = None
    live_age: float | None = None
    stop_request: StopRequest | None = None


@dataclass(frozen=True)
class FailureCause:
    """An error that attempts at a run's evaluations failed with, and how often."""

    error: str
    n: int
