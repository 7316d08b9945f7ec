"""Places for workers, the jobs that they get, and how jobs end. Ray is not needed to import this module."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from aquasurf_ray.workers.messages import TrainingJob, WorkerInfo

if TYPE_CHECKING:
    from aquasurf_ray.store import Claim


@dataclass(frozen=True)
class SpectraJob:
    """The spectra of some functions, by name."""

    functions: tuple[str, ...]


@dataclass(frozen=True)
class CostsJob:
    """The costs of some functions, by name."""

    functions: tuple[str, ...]


Job = TrainingJob | SpectraJob | CostsJob


@dataclass(eq=False)
class Work:
    """The job of a busy slot, begun at `started`.

    `limit` is the number of seconds that the job may take. `claim` is the evaluation that it trains, or whose cost it
    measures before the training; None for a batch of candidates. `epoch` is the last finished epoch that is known.
    """

    job: Job
    started: float
    limit: float | None = None
    claim: Claim | None = None
    epoch: int | None = None


@dataclass(frozen=True)
class Outcome:
    """The end of a slot's work: a reply, or the text of an infrastructure failure."""

    slot: int
    work: Work
    reply: Any = None
    fault: str | None = None

    @property
    def job(self) -> Job:
        """The job that ended."""
        return self.work.job

    @property
    def worker(self) -> str:
        """The slot's name."""
        return f"worker-{self.slot}"


@dataclass
class Slot:
    """A place for one worker, with its state and job. `started` is the time at which its worker was last started."""

    number: int
    actor: Any
    state: Literal["starting", "idle", "busy", "retired", "left"]
    future: Any
    started: float
    info: WorkerInfo | None = None
    work: Work | None = None
    start_attempts: int = field(default=1, init=False)
    failed_on: set[tuple[str, ...]] = field(default_factory=set, init=False)
    leaving: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        """The worker's name in notes, events and the store."""
        return f"worker-{self.number}"

    @property
    def job(self) -> Job | None:
        """The job under way."""
        return None if self.work is None else self.work.job

    @property
    def node(self) -> str | None:
        """The machine that the worker runs on, once it has started."""
        return None if self.info is None else self.info.node
