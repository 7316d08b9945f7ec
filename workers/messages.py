"""The messages between a driver and its workers, except the results of trainings (`workers.result`).

Plain data, in a module that imports neither PyTorch nor Ray: a worker that answers from a table instead of training
needs nothing more, and starts in a fraction of a second.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from aquasurf_ray.cpu_threads import WORKER_THREADS
from aquasurf_ray.measured_cost import MeasuredCost, ReadingTime
from aquasurf_ray.workers.engine.stopping import StopRule

if TYPE_CHECKING:
    from aquasurf_ray.tasks import Task

Status = Literal["done", "diverged"]


class ImportPath(tuple[str, ...]):
    """Folders to import the user's own modules from, the first before the second. A process that receives them looks
    there before anywhere else, as the process that sent them does."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return added_to_path, (tuple(self),)


def added_to_path(folders: Iterable[str]) -> ImportPath:
    """Put folders at the beginning of this process's import path, unless they are on it, and return them."""
    found = ImportPath(folders)
    # First, as for a script in that folder: a module of the user's wins over an installed one of the same name.
    sys.path[:0] = [folder for folder in found if folder not in sys.path]
    return found


@dataclass(frozen=True)
class WorkerSettings:
    """A run's settings for its workers.

    Args:
        task: the task itself, or its name for `load_task`.
        import_from: the folders to import the user's own modules from.
        modules: modules to import first, which register the user's own operators.
        storage: folder or URI for epoch checkpoints; none are written without it.
        gpu: whether to work on the GPU that Ray has assigned to the worker.
        threads: torch's CPU threads.
        fisher: the kind of Fisher information of the spectra.
        spectrum_seed: the seed of the initial weights and the sampled labels of all spectra.
        checkpoint_interval: seconds between two epoch checkpoints.
        data_folder: the folder of the data sets; by default AQUASURF_DATA if it is set, else ./data.
        fast_activations: whether a training may use a form of the function that was measured to be faster here.
        loader_workers: data-loading processes, for data sets that do not fit in memory.
        task_digests: of the driver's task (`Task.digests`), which the worker's must have too; None to compare nothing.
    """

    task: str | Task
    import_from: ImportPath = field(default_factory=ImportPath)
    modules: tuple[str, ...] = ()
    storage: str | None = None
    gpu: bool = False
    threads: int = WORKER_THREADS
    fisher: Literal["sampled", "empirical"] = "sampled"
    spectrum_seed: int = 0
    checkpoint_interval: float = 30.0
    data_folder: str | None = None
    fast_activations: bool = True
    loader_workers: int = 0
    task_digests: dict[str, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields with the import path first, so that the classes of a task are found on it."""
        return {"import_from": self.import_from, **self.__dict__}


@dataclass(frozen=True)
class WorkerInfo:
    """A worker's location. `placement_group` is the hexadecimal id of the group that Ray reserves for a worker of
    several processes; the driver removes it when the worker is gone."""

    node: str
    pid: int
    device: str
    placement_group: str | None = None


@dataclass(frozen=True)
class SpectrumReply:
    """The compact spectrum of one function (`surrogate.spectra`), or the reason why it has none.

    `coverage` is the share of the network's weights that spectra cover, with the names of the layers left out; `roles`
    has the role of each layer, in a network with roles (`workers.role_layers`).
    """

    function: str
    status: Status
    reason: str | None
    feature: bytes | None
    seconds: float
    device: str
    coverage: str | None = None
    roles: dict[str, str] | None = None


@dataclass(frozen=True)
class CostReply:
    """A function's cost relative to ReLU on the worker's device, or the reason why it cannot be measured.

    `reading` is the time of reading the task's data, once from each worker. `step_seconds` is how long a training step
    takes by the wall clock, for forecasts; costs are compared by another clock (`forms.stopwatch`).
    """

    function: str
    status: Status
    reason: str | None
    cost: MeasuredCost | None
    seconds: float
    reading: ReadingTime | None = None
    step_seconds: float | None = None


@dataclass(frozen=True)
class GpuUse:
    """The use of a worker's GPU by all processes together: memory in units of 10^6 bytes, and utilisation in percent,
    if known."""

    used_mb: float
    total_mb: float
    percent: float | None = None


@dataclass(frozen=True)
class Drained:
    """The answer of a training that was asked to stop: it will resume from its checkpoint after `epochs` epochs; 0 if
    it had not begun."""

    epochs: int


@dataclass(frozen=True)
class TrainingJob:
    """One evaluation: a function by name and fingerprint, and a seed.

    `stop_rule` may end it before its last epoch; `gate` says whether its health is checked before it begins.
    `recipe_change` is the change of the task's recipe that it is trained with (`aquasurf_ray.recipe_change`).
    """

    function: str
    fingerprint: str
    seed: int
    stop_rule: StopRule | None = None
    gate: bool = False
    recipe_change: str = ""
