"""The Ray actor around spectra and trainings: a worker that owns a GPU, a fraction of one, or some CPU cores.

A worker gets function names and a task, and returns numbers; it has no database. An exception that leaves it is an
infrastructure failure or an error of the set-up; a function's own fault is a reply with status `diverged`. `Worker` is
a plain class, which tests call directly; only `worker_actor` turns it into a Ray actor.
"""

from __future__ import annotations

import importlib
import logging
import os
import platform
import threading
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pynvml
import ray
import torch

from aquasurf_ray.activations import activation_of
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.measured_cost import MeasuredCost
from aquasurf_ray.recipe_change import applied
from aquasurf_ray.tasks import Splits, Task, TaskError, load_task
from aquasurf_ray.tasks.data_sets import DATA_FOLDER
from aquasurf_ray.tasks.errors import OtherTask, differing_parts, other_parts
from aquasurf_ray.workers.activation_use import refuse_unused_activation
from aquasurf_ray.workers.compact_spectrum import compact_spectrum, result_or_reason
from aquasurf_ray.workers.cost import timed_cost
from aquasurf_ray.workers.engine.batches import WHOLE, Share
from aquasurf_ray.workers.engine.checkpoints import CheckpointFolder, folder_of
from aquasurf_ray.workers.engine.fast_form import fast_form
from aquasurf_ray.workers.engine.feed import TrainingFeed
from aquasurf_ray.workers.engine.form import chosen_form
from aquasurf_ray.workers.engine.health import HealthLimits
from aquasurf_ray.workers.engine.ranks import Ranks
from aquasurf_ray.workers.messages import (
    CostReply,
    Drained,
    GpuUse,
    SpectrumReply,
    Status,
    TrainingJob,
    WorkerInfo,
    WorkerSettings,
    added_to_path,
)
from aquasurf_ray.workers.network import try_network
from aquasurf_ray.workers.own_activation import register_own_activation
from aquasurf_ray.workers.reading import reading_time
from aquasurf_ray.workers.result import Epoch, TrainingResult
from aquasurf_ray.workers.role_layers import role_of_weights
from aquasurf_ray.workers.spectrum import SkippedLayerWarning
from aquasurf_ray.workers.training import TrainingDrained, probe, train

WARNINGS_KEPT = 100
LONGEST_WARNING = 500


class WorkerError(RuntimeError):
    """The worker cannot work on the device or the node that it was given."""


def _loaded_task(settings: WorkerSettings) -> Task:
    """Import the user's modules and return the task."""
    try:
        for module in settings.modules:
            importlib.import_module(module)
        return settings.task if isinstance(settings.task, Task) else load_task(settings.task)
    except (ModuleNotFoundError, TaskError) as error:
        missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
        if not isinstance(missing, ModuleNotFoundError):
            raise
        raise WorkerError(
            f"{missing} on node {platform.node()}, in none of the driver's folders {', '.join(settings.import_from)}; "
            "start the command in a folder that all nodes can read, set PYTHONPATH or install the package on them, or "
            "ship the folder with 'aquasurf submit --working-dir'"
        ) from error


class Warnings(logging.Handler):
    """Collects the last warnings of this package's own loggers until `take` returns them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: deque[str] = deque(maxlen=WARNINGS_KEPT)
        logging.getLogger("aquasurf_ray").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Store one warning, and print it as usual."""
        self._texts.append(f"{record.name}: {record.getMessage()}"[:LONGEST_WARNING])
        if not logging.getLogger().handlers and logging.lastResort:
            logging.lastResort.handle(record)  # this handler would otherwise keep warnings out of the worker's log

    def take(self) -> list[str]:
        """Return the warnings since the last call."""
        texts = []
        while self._texts:
            texts.append(self._texts.popleft())
        return texts


class Worker:
    """Computes spectra and trains networks for one task, one call at a time; `progress` may be called meanwhile.

    Raises:
        WorkerError: a GPU is requested, and PyTorch sees none; or a module of the user's is not on this node.
        TaskError: the task cannot be loaded.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        if settings.gpu and not torch.cuda.is_available():
            raise WorkerError(
                "Ray gave this worker a GPU but PyTorch sees none: "
                "install a CUDA build of torch or use --gpus-per-worker 0"
            )
        added_to_path(settings.import_from)
        if settings.data_folder is not None:
            os.environ[DATA_FOLDER] = settings.data_folder
        self.task = _loaded_task(settings)
        self.device = torch.device("cuda" if settings.gpu else "cpu")
        self.ranks: Ranks | None = None
        self._splits: Splits | None = None
        self._last_epoch: Epoch | None = None
        self._asked_to_stop = threading.Event()
        self._warnings = Warnings()
        self._has_read = False  # so that the time of reading is measured once
        self._coverage: str | None = None
        self._roles: dict[str, str] | None = None
        self._role_of: dict[str, str] | None = None
        warnings.filterwarnings("ignore", category=SkippedLayerWarning)  # the replies say which parameters are skipped

    @ray.method(concurrency_group="work")
    def ready(self) -> WorkerInfo:
        """Load the data and try the network, so that missing data or a broken task is reported before any work starts.

        Raises:
            OtherTask: the task is not that of the driver.
            TaskError: the data cannot be loaded, or the network does not accept them.
        """
        return self._ready()

    @ray.method(concurrency_group="work")
    def spectra(self, functions: Sequence[str]) -> list[SpectrumReply]:
        """Return the spectra of some functions, in order.

        Raises:
            SpectrumInputError, NoLayers: the task's network has no Fisher spectrum.
        """
        splits = self._begin()
        return [self._spectrum(function, splits) for function in functions]

    @ray.method(concurrency_group="work")
    def costs(self, functions: Sequence[str]) -> list[CostReply]:
        """Return the costs of some functions on this device, in order."""
        share = Share(self.ranks.rank, self.ranks.world_size) if self.ranks else WHOLE
        splits, seed = self._begin(), self.settings.spectrum_seed
        feed = TrainingFeed(self.task, splits, self.device, seed=seed, share=share)
        first, *others = (self._cost(function, feed) for function in functions)
        if not self._has_read:
            workers = self.settings.loader_workers
            reading = reading_time(self.task, splits, self.device, loader_workers=workers, share=share)
            first, self._has_read = replace(first, reading=reading), True
        return [first, *others]

    @ray.method(concurrency_group="work")
    def train(self, job: TrainingJob) -> TrainingResult | Drained:
        """Train one function, from its last checkpoint if there is one; after `drain` only to the next checkpoint."""
        if self._asked_to_stop.is_set():
            return Drained(0)
        try:
            return self._train(job)
        except TrainingDrained as end:
            return Drained(end.epoch)

    @ray.method(concurrency_group="watch")
    def drain(self) -> None:
        """Stop trainings from now on at the end of their epoch, with a checkpoint. This cannot be undone."""
        self._asked_to_stop.set()

    def _train(self, job: TrainingJob) -> TrainingResult:
        splits = self._begin()
        return train(
            self.task.with_recipe(applied(job.recipe_change, self.task.recipe)),
            activation_of(job.function),
            splits=splits,
            seed=job.seed,
            device=self.device,
            checkpoints=self._checkpoints(job),
            checkpoint_interval=self.settings.checkpoint_interval,
            on_epoch=self._remember,
            stop_rule=job.stop_rule,
            gate=HealthLimits() if job.gate else None,
            ranks=self.ranks,
            loader_workers=self.settings.loader_workers,
            choose_form=fast_form if self.settings.fast_activations else None,
            stop_asked=self._is_to_stop,
        )

    @ray.method(concurrency_group="watch")
    def forget(self, job: TrainingJob) -> None:
        """Delete the checkpoints of an evaluation whose result is stored."""
        folder = self._checkpoints(job)
        if folder:
            folder.remove()

    @ray.method(concurrency_group="watch")
    def progress(self) -> Epoch | None:
        """Return the last epoch of the current training."""
        return self._last_epoch

    @ray.method(concurrency_group="watch")
    def warnings(self) -> list[str]:
        """Return the warnings of this package's own loggers in this process since the last call."""
        return self._warnings.take()

    @ray.method(concurrency_group="watch")
    def gpu_use(self) -> GpuUse | None:
        """Return the current use of the GPU by all processes together, memory and share of time; None on a CPU.

        Raises:
            RuntimeError: the GPU does not answer.
        """
        if self.device.type != "cuda":
            return None
        free, total = torch.cuda.mem_get_info(self.device)
        try:
            percent = float(torch.cuda.utilization(self.device))
        except (RuntimeError, pynvml.NVMLError):  # not reported by some drivers, as for MIG slices
            percent = None
        return GpuUse((total - free) / 1e6, total / 1e6, percent)

    def _ready(self) -> WorkerInfo:
        splits = self._begin()
        inputs = try_network(self.task, splits, device=self.device)
        refuse_unused_activation(self.task, splits, inputs, device=self.device)
        self._refuse_other_task()
        register_own_activation(self.task)
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return WorkerInfo(node=platform.node(), pid=os.getpid(), device=device)

    def _refuse_other_task(self) -> None:
        wanted = self.settings.task_digests
        if wanted is None:
            return
        if differing := differing_parts(wanted, self.task.digests):
            raise OtherTask(f"{other_parts(self.task.name, differing)} on node {platform.node()} than in the driver")

    def _begin(self) -> Splits:
        torch.set_num_threads(self.settings.threads)
        self._last_epoch = None
        if self._splits is None:
            self._splits = self.task.splits()
        return self._splits

    def _is_to_stop(self) -> bool:
        return self._asked_to_stop.is_set()

    def _remember(self, epoch: Epoch) -> None:
        self._last_epoch = epoch

    def _checkpoints(self, job: TrainingJob) -> CheckpointFolder | None:
        if self.settings.storage is None:
            return None
        which = (job.fingerprint, job.seed, job.recipe_change)
        url = folder_of(self.settings.storage, self.task.digest, *which)
        identity: dict[str, str | int] = {"task": self.task.digest, "function": job.function, "seed": job.seed}
        if job.recipe_change:
            identity["recipe_change"] = job.recipe_change
        return CheckpointFolder(url, identity)

    def _spectrum(self, function: str, splits: Splits) -> SpectrumReply:
        settings = self.settings
        if self._role_of is None:
            self._role_of = role_of_weights(self.task, splits, device=self.device)
        reply = compact_spectrum(
            self.task,
            splits,
            function,
            seed=settings.spectrum_seed,
            device=self.device,
            fisher=settings.fisher,
            role_of=self._role_of,
        )
        self._coverage, self._roles = reply.coverage or self._coverage, reply.roles or self._roles
        return replace(reply, coverage=self._coverage, roles=self._roles)

    def _cost(self, function: str, feed: TrainingFeed) -> CostReply:
        found, reason, seconds = result_or_reason(lambda: self._timed_cost(function, feed))
        cost, step_seconds = found or (None, None)
        status: Status = "done" if reason is None else "diverged"
        return CostReply(function, status, reason, cost, seconds, step_seconds=step_seconds)

    def _timed_cost(self, function: str, feed: TrainingFeed) -> tuple[MeasuredCost, float]:
        activation = activation_of(function)
        probe(activation, self.device)
        choose = fast_form if self.settings.fast_activations else None
        form = chosen_form(choose, feed, activation, kept=None)
        cost, step_seconds = timed_cost(feed, activation, factory=form.factory)
        if function == REFERENCE:  # the unit itself: its ratio is 1 by definition, not by two noisy measurements
            cost = replace(cost, step_seconds=cost.relu_step_seconds, activation_bytes=cost.relu_activation_bytes)
        return cost, step_seconds


def worker_actor(worker: type) -> Any:
    """Return the Ray actor class of a worker. The driver replaces a lost worker; Ray does not restart it, so that every
    retry is counted."""
    # A thread for each group: `progress`, `drain` and the like are answered while a training runs.
    remote: Any = ray.remote  # its own type hints are for tasks
    return remote(max_restarts=0, concurrency_groups={"work": 1, "watch": 1})(worker)
