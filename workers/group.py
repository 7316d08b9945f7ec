"""One evaluation on several GPUs or nodes: a group of processes, made by Ray Train, that the driver sees as one worker.

    driver --calls--> GroupWorker --orders--> rank 0, rank 1, ...      each a `workers.actor.Worker` with a device
                                  <-answers--

Ray Train (TorchTrainer) places the ranks, connects them by torch.distributed, and watches them. They live as long as
the group, so that data are loaded once: each runs `serve`, which asks the group for an order, carries it out, and
answers. All ranks train together; spectra are shared out; a cost is measured by rank 0 while the others rest. A rank
that raises or dies ends the group, which the driver replaces, and the training resumes from its last checkpoint.

The group itself computes nothing, so it can always answer. Ray Train writes its records to a folder under the run's
storage; they are deleted once the ranks have started.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import fsspec
import ray

from aquasurf_ray.workers.actor import Worker
from aquasurf_ray.workers.engine.ranks import Ranks
from aquasurf_ray.workers.messages import CostReply, Drained, SpectrumReply, TrainingJob, WorkerInfo, WorkerSettings
from aquasurf_ray.workers.result import Epoch, TrainingResult

STARTS = 10  # attempts of Ray Train to place the ranks before it gives up
NOT_NEEDED = ("PlacementGroupCleanerCallback", "DatasetsCallback", "WorkingDirectorySetupCallback")
SWITCHES = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a lost node is an infrastructure failure like any other
}
LONGEST_WAIT = 30 * 24 * 3600  # seconds: the ranks' process group is idle between trainings, as long as the run lasts

logger = logging.getLogger(__name__)


class GroupFailed(RuntimeError):
    """A rank raised or died, or Ray Train could not start the ranks; the message names the ranks and their errors."""


@dataclass(frozen=True)
class GroupSettings(WorkerSettings):
    """The settings of a group: those of its ranks' workers, and

    Args:
        n_ranks: processes, each with a GPU if `gpu`.
        cpus: CPU cores of each.
    """

    n_ranks: int = 2
    cpus: float = 1.0


@dataclass(frozen=True)
class Order:
    """A call for one rank: a method of `Rank`, its arguments, and the number of the call."""

    call: int
    method: str
    arguments: tuple[Any, ...]


class GroupWorker:
    """A worker of several processes: has the methods of `workers.actor.Worker`, and others that its ranks call.

    All methods are coroutines, so Ray makes it an asyncio actor with one event loop. It has no concurrency groups,
    because Ray would run an event loop for each.
    """

    def __init__(self, settings: GroupSettings) -> None:
        self.settings = settings
        self._orders: list[asyncio.Queue[Order]] = [asyncio.Queue() for _ in range(settings.n_ranks)]
        self._answers: dict[int, dict[int, asyncio.Future[Any]]] = {}
        self._n_calls = 0
        self._joined: set[int] = set()
        self._failure: GroupFailed | None = None
        self._last_epoch: Epoch | None = None
        self._asked_to_stop = False

    async def ready(self) -> WorkerInfo:
        """Start the ranks, which load the data and try the network; wait until Ray has room for them.

        Raises:
            GroupFailed: a rank failed; the message has the ranks' errors.
        """
        me, loop = ray.get_runtime_context().current_actor, asyncio.get_running_loop()
        folder = f"{self.settings.storage or tempfile.gettempdir()}/ray-train/{uuid.uuid4().hex}"

        def run_ranks() -> None:
            why = _fit(self.settings, me, folder)
            loop.call_soon_threadsafe(self._fail, GroupFailed(why))  # futures belong to the event loop's thread

        threading.Thread(target=run_ranks, name="ray-train", daemon=True).start()
        try:
            info: WorkerInfo = (await self._ask_all("ready"))[0]
        finally:
            _remove(folder)
        return info

    async def spectra(self, functions: Sequence[str]) -> list[SpectrumReply]:
        """Return the spectra of some functions, in order; each rank computes a share of them."""
        n = self.settings.n_ranks
        shares = [functions[rank::n] for rank in range(n)]
        replies = await self._ask({rank: ("spectra", (share,)) for rank, share in enumerate(shares) if share})
        found = {reply.function: reply for share in replies.values() for reply in share}
        return [found[function] for function in functions]

    async def costs(self, functions: Sequence[str]) -> list[CostReply]:
        """Return the costs of some functions on rank 0's device, in order."""
        replies: list[CostReply] = (await self._ask({0: ("costs", (functions,))}))[0]
        return replies

    async def train(self, job: TrainingJob) -> TrainingResult | Drained:
        """Train one function on all ranks, from its last checkpoint if there is one; return rank 0's result."""
        if self._asked_to_stop:
            return Drained(0)
        self._last_epoch = None
        result: TrainingResult | Drained = (await self._ask_all("train", job))[0]
        return result

    async def drain(self) -> None:
        """Stop trainings from now on at the end of their epoch, with a checkpoint."""
        self._asked_to_stop = True

    async def is_to_stop(self) -> bool:
        """Return whether the training is to stop; rank 0 calls this between two epochs."""
        return self._asked_to_stop

    async def forget(self, job: TrainingJob) -> None:
        """Have rank 0 delete the checkpoints of an evaluation whose result is stored, before its next order."""
        await self._ask({0: ("forget", (job,))})

    async def progress(self) -> Epoch | None:
        """Return the last epoch of the current training."""
        return self._last_epoch

    async def join(self, rank: int) -> None:
        """Register a rank that has started. A second time, Ray Train has restarted it and its order is lost: fail."""
        if rank in self._joined:
            self._fail(GroupFailed(f"rank {rank} was lost with its node and restarted"))
        self._joined.add(rank)

    async def next_order(self, rank: int) -> Order:
        """Wait for a rank's next order, and return it."""
        return await self._orders[rank].get()

    async def answer(self, rank: int, call: int, reply: Any) -> None:
        """Take the answer to a rank's order."""
        self._answers[call][rank].set_result(reply)

    async def note_epoch(self, epoch: Epoch) -> None:
        """Take the progress that rank 0 reports."""
        self._last_epoch = epoch

    async def _ask_all(self, method: str, *arguments: Any) -> dict[int, Any]:
        return await self._ask(dict.fromkeys(range(self.settings.n_ranks), (method, arguments)))

    async def _ask(self, orders: dict[int, tuple[str, tuple[Any, ...]]]) -> dict[int, Any]:
        """Give some ranks an order each, and return their answers."""
        if self._failure is not None:
            raise self._failure
        self._n_calls += 1
        call, loop = self._n_calls, asyncio.get_running_loop()
        self._answers[call] = {rank: loop.create_future() for rank in orders}
        for rank, (method, arguments) in orders.items():
            self._orders[rank].put_nowait(Order(call, method, arguments))
        try:
            return {rank: await future for rank, future in self._answers[call].items()}
        finally:
            del self._answers[call]

    def _fail(self, failure: GroupFailed) -> None:
        """Fail everything that still waits for the ranks."""
        # The first failure is the cause: the others follow from it.
        self._failure = self._failure or failure
        for futures in self._answers.values():
            for future in futures.values():
                if not future.done():
                    future.set_exception(self._failure)


class Rank(Worker):
    """One process of a group: a worker on the device that Ray Train gave it."""

    def __init__(self, settings: GroupSettings, ranks: Ranks, group: Any) -> None:
        super().__init__(settings)
        self.device, self.ranks = ranks.device, ranks
        self._group = group

    def _ready(self) -> WorkerInfo:
        held = ray.util.get_current_placement_group()
        return replace(super()._ready(), placement_group=held.id.hex() if held else None)

    def _is_to_stop(self) -> bool:
        return bool(ray.get(self._group.is_to_stop.remote()))

    def _remember(self, epoch: Epoch) -> None:
        super()._remember(epoch)
        if self.ranks is not None and self.ranks.rank == 0:
            self._group.note_epoch.remote(epoch)


def serve(config: dict[str, Any]) -> None:
    """Run a rank: carry out the group's orders until the group is gone. An exception here ends the group."""
    from ray import train
    from ray.train.torch import get_device

    context, group = train.get_context(), config["group"]
    rank: int = context.get_world_rank()
    ray.get(group.join.remote(rank))
    worker = Rank(config["settings"], Ranks(rank, context.get_world_size(), get_device()), group)
    while True:
        order: Order = ray.get(group.next_order.remote(rank))
        reply = getattr(worker, order.method)(*order.arguments)
        ray.get(group.answer.remote(rank, order.call, reply))


def _fit(settings: GroupSettings, group: Any, folder: str) -> str:
    """Run the ranks until one of them fails, which is all that ends them, and return the reason."""
    try:
        with _switches():
            _trainer(settings, group, folder).fit()
    except Exception as error:  # Ray Train raises what the ranks raised, and errors of its own
        return _why(error)
    return "Ray Train ended the ranks"


@contextmanager
def _switches() -> Iterator[None]:
    """Set Ray Train's settings in the environment, which is where it reads them, and restore it afterwards."""
    before = {name: os.environ.get(name) for name in SWITCHES}
    os.environ.update(SWITCHES)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({name: value} if value is not None else {})


def _trainer(settings: GroupSettings, group: Any, folder: str) -> Any:
    from pyarrow.fs import FSSpecHandler, PyFileSystem
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    usual, failures = cast(Any, TorchTrainer), cast(Any, FailureConfig)  # their type hints are those of Ray Train V1

    class Trainer(usual):  # type: ignore[misc, valid-type]
        """A trainer without Ray Train's helper processes, which a group does not need. The pool frees the resources
        that Ray reserved for a group; Ray Train's own cleaner, a detached actor, needs a cluster with a dashboard."""

        def _create_default_callbacks(self) -> list[Any]:
            return [c for c in super()._create_default_callbacks() if type(c).__name__ not in NOT_NEEDED]

    file_system, path = fsspec.core.url_to_fs(folder)
    parent, _, name = path.rpartition("/")
    resources = {"CPU": settings.cpus, **({"GPU": 1.0} if settings.gpu else {})}
    return Trainer(
        serve,
        train_loop_config={"settings": settings, "group": group},
        torch_config=TorchConfig(timeout_s=LONGEST_WAIT),
        scaling_config=ScalingConfig(
            num_workers=settings.n_ranks, use_gpu=settings.gpu, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=name,
            storage_path=parent,
            storage_filesystem=PyFileSystem(FSSpecHandler(file_system)),
            failure_config=failures(max_failures=0, controller_failure_limit=STARTS),
        ),
    )


def _why(error: Exception) -> str:
    """Return the ranks' errors, lowest rank first, or Ray Train's own, without their tracebacks."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    if not failures:
        return _message(error)
    return "; ".join(f"rank {rank}: {_message(failure)}" for rank, failure in sorted(failures.items()))


def _message(error: Exception) -> str:
    """Return an error's message: the last line of a traceback, or the first of what Ray reports on a lost process."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    if any(line.startswith("Traceback") for line in lines):
        return lines[-1]
    return f"{type(error).__name__}: {lines[0]}"


def _remove(folder: str) -> None:
    """Delete Ray Train's folder, and its parent if that is then empty; a leftover does no harm."""
    file_system, path = fsspec.core.url_to_fs(folder)
    try:
        file_system.rm(path, recursive=True)
        above = path.rpartition("/")[0]
        if not file_system.ls(above):
            file_system.rmdir(above)
    except OSError as error:
        logger.warning("records of Ray Train in %s not removed: %s", folder, error)
