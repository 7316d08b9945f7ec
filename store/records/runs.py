"""Records of runs, with their events and notes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from aquasurf_ray.store.records.leases import LeaseOwner

RunKind = Literal["search", "evaluate", "import", "build", "confirm"]
RunStatusName = Literal["new", "running", "interrupted", "finished", "failed"]
LONGEST_NOTE = 2_000  # characters
LONGEST_NAME = 2_000  # characters in the name of a task, run or function: PostgreSQL cannot index much longer text
N_BASELINES = "n_baselines"
"""The key of a search's configuration that has the number of its baselines, for readers of the run; no setting."""


def evaluations_wanted(budget: int, *, begun: int, to_begin: int) -> int:
    """Return how many evaluations a run makes in total: its budget, which counts no baselines, and its baselines.

    Args:
        begun: the evaluations that the run has made of its baselines, in whatever state.
        to_begin: the baselines that it has yet to request.

    >>> evaluations_wanted(6, begun=1, to_begin=8), evaluations_wanted(6, begun=9, to_begin=0)
    (15, 15)
    """
    return budget + begun + to_begin


@dataclass(frozen=True)
class NewRun:
    """A run to create. `identity_keys` names the keys of `config` that `config_digest` covers; empty: all."""

    name: str
    kind: RunKind
    task_id: int
    config: dict[str, Any]
    config_digest: str
    seed: int
    budget: int | None
    storage: str | None
    code_version: str
    identity_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A run. `lease_owner` is the process that holds it, dead or alive, or None.

    `message` gives the reason for its status; a finished run has one only if it ended before its budget was met.
    """

    id: int
    name: str
    kind: RunKind
    task_id: int
    config: dict[str, Any]
    config_digest: str
    seed: int
    budget: int | None
    status: RunStatusName
    storage: str | None
    code_version: str
    created_at: datetime
    updated_at: datetime
    message: str | None
    lease_token: int
    lease_owner: LeaseOwner | None
    lease_seconds: float | None
    lease_renewed_at: datetime | None
    created: bool = False  # True if this call of create_run created it


@dataclass(frozen=True)
class EventRecord:
    """One line of a run's log."""

    seq: int
    at: datetime
    kind: str
    evaluation_id: int | None
    function_id: int | None
    data: dict[str, Any] | None


@dataclass(frozen=True)
class NoteRecord:
    """A note of a person on a run."""

    run_id: int
    at: datetime
    text: str
