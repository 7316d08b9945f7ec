"""Records of leases: the right to write to a run, and the process that holds it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LeaseOwner:
    """A process that holds a run, described so that others can find out whether it lives (`store.database.liveness`).

    `started` is the process's start in clock ticks since boot; None if the system does not tell.
    """

    host: str
    boot_id: str
    pid: int
    started: int | None
    namespace: str = ""


@dataclass(frozen=True)
class Lease:
    """The right to write to a run until another driver takes the run over, with the run's constant data.

    `requeued` are the evaluations that the previous driver left running.
    """

    run_id: int
    run_name: str
    task_id: int
    code_version: str
    token: int
    requeued: tuple[int, ...] = ()
