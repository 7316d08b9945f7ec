"""The Ray shell around the compute rooms: a worker that owns a GPU, a fraction of one, or some cores.

A worker gets function names and a task, and returns numbers; it has no database. What it raises is a fault of its
machine or of the set-up; what is the function's own fault comes back as a reply with status `diverged`. `Worker` is a
plain class: `worker_actor` alone makes a Ray actor of it, and tests call it directly.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ray
import torch

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Splits, Task, load_task
from surrogate.spectra import compress
from workers.checkpoints import CheckpointFolder
from workers.network import spectrum_batch, try_network, untrained_network
from workers.spectrum import NonFiniteSpectrum, fisher_spectrum
from workers.training import Epoch, FunctionFault, TrainingResult, is_functions_fault, probe, reason_of, train


class WorkerError(RuntimeError):
    """The worker cannot work where it was put."""


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker needs to know of a run.

    Args:
        task: the task itself, or its name for `load_task`.
        import_from: folder to import the user's own modules from.
        modules: modules to import first, which register the user's own operators.
        storage: folder or URI for epoch checkpoints; none are written without it.
        gpu: whether to work on the GPU that Ray has given the worker.
        threads: torch's CPU threads.
        fisher: which Fisher information the spectra are of.
        spectrum_seed: of the initial weights and the sampled labels of all spectra.
        checkpoint_interval: seconds between two epoch checkpoints.
    """

    task: str | Task
    import_from: str | None = None
    modules: tuple[str, ...] = ()
    storage: str | None = None
    gpu: bool = False
    threads: int = 1
    fisher: Literal["sampled", "empirical"] = "sampled"
    spectrum_seed: int = 0
    checkpoint_interval: float = 30.0


@dataclass(frozen=True)
class WorkerInfo:
    """Where a worker runs."""

    node: str
    pid: int
    device: str


@dataclass(frozen=True)
class SpectrumReply:
    """The compact spectrum of one function (`surrogate.spectra`), or the reason why it has none."""

    function: str
    status: Literal["done", "diverged"]
    reason: str | None
    feature: bytes | None
    seconds: float
    device: str


@dataclass(frozen=True)
class TrainingJob:
    """One evaluation: a function by name and fingerprint, and a seed."""

    function: str
    fingerprint: str
    seed: int


class Worker:
    """Computes spectra and trains networks for one task, one call at a time; `progress` may be asked meanwhile.

    Raises:
        WorkerError: it is to work on a GPU, and PyTorch sees none.
        TaskError: the task cannot be had.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        if settings.gpu and not torch.cuda.is_available():
            raise WorkerError(
                "Ray gave this worker a GPU but PyTorch sees none: "
                "install a CUDA build of torch or use --gpus-per-worker 0"
            )
        if settings.import_from and settings.import_from not in sys.path:
            sys.path.insert(0, settings.import_from)
        for module in settings.modules:
            importlib.import_module(module)
        self.task = settings.task if isinstance(settings.task, Task) else load_task(settings.task)
        self.device = torch.device("cuda" if settings.gpu else "cpu")
        self._splits: Splits | None = None
        self._last_epoch: Epoch | None = None

    @ray.method(concurrency_group="work")
    def ready(self) -> WorkerInfo:
        """Loads the data and tries the network, so that what is missing or wrong is said before any work is given out.

        Raises:
            TaskError: the data cannot be had, or the network does not take them.
        """
        try_network(self.task, self._begin(), device=self.device)
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        return WorkerInfo(node=platform.node(), pid=os.getpid(), device=device)

    @ray.method(concurrency_group="work")
    def spectra(self, functions: Sequence[str]) -> list[SpectrumReply]:
        """The spectra of some functions, in order.

        Raises:
            SpectrumInputError, NoLayers: the task's network is none that has a Fisher spectrum.
        """
        self._begin()
        return [self._spectrum(function) for function in functions]

    @ray.method(concurrency_group="work")
    def train(self, job: TrainingJob) -> TrainingResult:
        """Trains one function, from its last checkpoint if there is one."""
        splits = self._begin()
        return train(
            self.task,
            Activation(job.function),
            splits=splits,
            seed=job.seed,
            device=self.device,
            checkpoints=self._checkpoints(job),
            checkpoint_interval=self.settings.checkpoint_interval,
            on_epoch=self._remember,
        )

    @ray.method(concurrency_group="watch")
    def forget(self, job: TrainingJob) -> None:
        """Deletes the checkpoints of an evaluation whose result is stored."""
        folder = self._checkpoints(job)
        if folder:
            folder.remove()

    @ray.method(concurrency_group="watch")
    def progress(self) -> Epoch | None:
        """The last epoch of the training that runs now."""
        return self._last_epoch

    def _begin(self) -> Splits:
        torch.set_num_threads(self.settings.threads)
        self._last_epoch = None
        if self._splits is None:
            self._splits = self.task.splits()
        return self._splits

    def _remember(self, epoch: Epoch) -> None:
        self._last_epoch = epoch

    def _checkpoints(self, job: TrainingJob) -> CheckpointFolder | None:
        if self.settings.storage is None:
            return None
        url = f"{self.settings.storage}/{self.task.digest}/{job.fingerprint}-{job.seed}"
        identity: dict[str, str | int] = {"task": self.task.digest, "function": job.function, "seed": job.seed}
        return CheckpointFolder(url, identity)

    def _spectrum(self, function: str) -> SpectrumReply:
        started = time.monotonic()
        status: Literal["done", "diverged"] = "done"
        feature, reason = None, None
        try:
            feature = self._compact_spectrum(function)
        except Exception as error:  # sorted here into the function's faults, kept, and all others, raised
            if not is_functions_fault(error):
                raise
            status, reason = "diverged", reason_of(error)
        return SpectrumReply(function, status, reason, feature, time.monotonic() - started, self.device.type)

    def _compact_spectrum(self, function: str) -> bytes:
        settings, splits = self.settings, self._splits
        assert splits is not None  # noqa: S101 - `_begin` ran
        probe(Activation(function), self.device)
        seed = settings.spectrum_seed
        network = untrained_network(self.task, lambda: Activation(function), seed=seed, device=self.device)
        inputs, targets = spectrum_batch(self.task, splits, seed=seed, device=self.device)
        labels = targets if settings.fisher == "empirical" else None
        try:
            spectrum = fisher_spectrum(network, inputs, labels, fisher=settings.fisher, seed=seed)
        except NonFiniteSpectrum as error:
            raise FunctionFault(str(error)) from error
        return compress(spectrum).to_bytes()


def worker_actor(worker: type) -> Any:
    """The Ray actor class of a worker. A lost worker is replaced by the driver, not restarted by Ray, so that every
    retry is counted."""
    remote: Any = ray.remote  # its own type hints are for tasks
    return remote(max_restarts=0, concurrency_groups={"work": 1, "watch": 1})(worker)
