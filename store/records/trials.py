"""Records of the processes that share a run: a trial is an attempt at an evaluation under a lease of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aquasurf_ray.store.records.evaluations import Claim
from aquasurf_ray.store.records.leases import LeaseOwner


@dataclass(frozen=True)
class AskedTrial:
    """The answer to a process that asked: the state of the claim and, if it was given the function, the trial.

    Attributes:
        attempt_id: the attempt that it may tell the result of; None unless the claim is `claimed`.
        number: the evaluation's place in the run's order, from 0; an evaluation that is asked again keeps it.
    """

    claim: Claim
    attempt_id: int | None = None
    number: int | None = None


@dataclass(frozen=True)
class OpenTrial:
    """A trial of a function whose result is not known yet. `age` is the time since its last heartbeat, by the
    database's clock."""

    attempt_id: int
    evaluation_id: int
    function: str
    owner: LeaseOwner
    heartbeat: int
    lease_seconds: float
    age: float


@dataclass(frozen=True)
class OpenProcess:
    """A process that has a study open, with or without a trial. `age` is the time since its last sign of life, by the
    database's clock, and `nonce` marks the opening."""

    nonce: str
    owner: LeaseOwner
    lease_seconds: float
    age: float


@dataclass(frozen=True)
class TellAnswer:
    """The store's answer to a result.

    `recorded`: it is stored. `taken`: the trial's lease had expired and the function was given to another process,
    `by`, whose result counts or will count; the value is in the run's log only. `ended`: the trial had ended before.
    """

    state: Literal["recorded", "taken", "ended"]
    by: str | None = None
