"""Pools of many simulated workers on one machine, where one process per worker would not fit.

`LocalPool` runs its workers in the driver's own process: a job is answered once its simulated seconds have passed on
the pool's clock. `HostedPool` runs them on Ray, many in one process: jobs and answers take the same way as those of
real workers. The driver uses either like any other pool; a failure ends one worker, not its neighbours in the process.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError

from aquasurf_ray.driver.cluster.pool import WorkerPool
from aquasurf_ray.driver.cluster.slot import Slot
from aquasurf_ray.driver.simulated_worker import AttemptRecords, SimulatedFault
from aquasurf_ray.driver.simulated_worker.answers import Answers, Failures, Fault, Simulation
from aquasurf_ray.workers.messages import TrainingJob, WorkerInfo, WorkerSettings

SLOTS_A_HOST = 128  # workers in one process
NEVER = math.inf


class LostWorker(RayError):
    """The stand-in for the errors that Ray raises for a worker that died or raised."""


@dataclass(frozen=True)
class Answer:
    """A reply, or a fault in its place, and the seconds after which it arrives."""

    seconds: float
    reply: Any = None
    fault: Fault | None = None


class Responder:
    """Immediate answers to the questions that simulated workers get; the caller waits for their seconds to pass."""

    def __init__(self, simulation: Simulation, fisher: str) -> None:
        self._simulation = simulation
        self._fisher = fisher
        self._answers = Answers(simulation)
        self._attempts = AttemptRecords(None)

    def ready(self) -> Answer:
        """Answer where the worker is."""
        info = WorkerInfo(node=platform.node(), pid=0, device="cpu")
        return Answer(self._simulation.start_seconds(self._attempts.next_start()), info)

    def train(self, job: TrainingJob) -> Answer:
        """Answer a training with its result."""
        result = self._answers.training(job)
        fault = self._simulation.training_fault(job, self._attempts.begin(job)[0])
        if fault is None or not result.epochs:
            return Answer(result.seconds, result)
        kind, epoch = fault
        before = sum(each.seconds for each in result.epochs[: epoch - 1])
        return Answer(NEVER if kind == "hang" else before, fault=kind)

    def spectra(self, functions: list[str]) -> Answer:
        """Answer with spectra in order; a fault affects the whole batch."""
        seconds, replies = 0.0, []
        for function in functions:
            if self._simulation.spectra != Failures():
                fault = self._simulation.spectrum_fault(function, self._attempts.next_spectrum(function))
                if fault is not None:
                    return Answer(NEVER if fault == "hang" else seconds, fault=fault)
            replies.append(self._answers.spectrum(function, self._fisher))
            seconds += replies[-1].seconds
        return Answer(seconds, replies)

    def costs(self, functions: list[str]) -> Answer:
        """Answer with costs, in order."""
        replies = [self._answers.cost(function) for function in functions]
        return Answer(sum(reply.seconds for reply in replies), replies)

    def progress(self) -> Answer:
        """Answer with None: a simulated worker of a pool does not report its epoch."""
        return Answer(0.0)

    def forget(self, job: TrainingJob) -> Answer:
        """Do nothing: there is no checkpoint to delete."""
        return Answer(0.0)

    def drain(self) -> Answer:
        """Do nothing: a simulated worker of a pool trains to the end."""
        return Answer(0.0)

    def warnings(self) -> Answer:
        """Answer with no warnings."""
        return Answer(0.0, [])

    def gpu_use(self) -> Answer:
        """Answer with None: there is no GPU."""
        return Answer(0.0)


@dataclass(eq=False)
class _PendingAnswer:
    """The stand-in of a `LocalPool` for a future of Ray's."""

    due: float
    answer: Answer


@dataclass
class LocalPool(WorkerPool):
    """Simulated workers in the driver's own process. `worker` must be a class made by `simulated`.

    Args:
        sleep: waits for a number of seconds on `clock`.
    """

    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self._desk = Responder(self.worker.simulation, self.settings.fisher)  # type: ignore[attr-defined]
        self._due: list[tuple[float, int, _PendingAnswer]] = []
        self._number = itertools.count()
        super().__post_init__()

    def _new_actor(self, number: int) -> Any:
        return _Caller(self._begin)

    def _begin(self, method: str, *arguments: Any) -> _PendingAnswer:
        answer: Answer = getattr(self._desk, method)(*arguments)
        promise = _PendingAnswer(self.clock() + answer.seconds, answer)
        if answer.seconds < NEVER:
            heapq.heappush(self._due, (promise.due, next(self._number), promise))
        return promise

    def _wait(self, futures: list[_PendingAnswer], n: int, timeout: float) -> list[_PendingAnswer]:
        """Wait for the first future or for none, the only two cases that `WorkerPool` needs."""
        if timeout > 0 and n == 1:
            first = self._due[0][0] if self._due else NEVER
            self.sleep(max(0.0, min(first - self.clock(), timeout)))
        now = self.clock()
        while self._due and self._due[0][0] <= now:  # the heap only says when the next answer is due
            heapq.heappop(self._due)
        return [promise for promise in futures if promise.due <= now]

    def _get(self, future: _PendingAnswer) -> Any:
        return _reply_of(future.answer)

    def _kill(self, slot: Slot) -> None:
        """Do nothing: there is no process, and the answer to the worker's job is never read."""


class _Caller:
    """The methods of a Ray actor's handle, each with its `remote`."""

    def __init__(self, call: Callable[..., Any]) -> None:
        for name in ("ready", "train", "spectra", "costs", "progress", "forget", "drain", "warnings", "gpu_use"):
            setattr(self, name, _Method(partial(call, name)))


@dataclass(frozen=True)
class _Method:
    remote: Callable[..., Any]


@dataclass
class HostedPool(WorkerPool):
    """Simulated workers in a few Ray actors, `SLOTS_A_HOST` in each."""

    hosts: list[Any] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        simulation = self.worker.simulation  # type: ignore[attr-defined]
        host: Any = ray.remote(num_cpus=0, max_concurrency=10 * SLOTS_A_HOST)(Host)  # type: ignore[call-overload]
        n_hosts = math.ceil(self.n / SLOTS_A_HOST)
        self.hosts = [host.remote(simulation, self.settings) for _ in range(n_hosts)]
        super().__post_init__()

    def close(self) -> None:
        """Close as `WorkerPool.close` does, and end the processes."""
        super().close()
        for host in self.hosts:
            ray.kill(host)

    def _new_actor(self, number: int) -> Any:
        return _Caller(self.hosts[number % len(self.hosts)].call.remote)

    def _kill(self, slot: Slot) -> None:
        """Do nothing: the other workers of the process continue."""


class Host:
    """A process of many simulated workers, all asleep except when they answer."""

    def __init__(self, simulation: Simulation, settings: WorkerSettings) -> None:
        self._desk = Responder(simulation, settings.fisher)

    async def call(self, method: str, *arguments: Any) -> Any:
        """Return the answer of one of the workers when its seconds have passed."""
        answer: Answer = getattr(self._desk, method)(*arguments)
        await asyncio.sleep(min(answer.seconds, 1e9))  # a worker that hangs has infinite seconds
        return _reply_of(answer)


def _reply_of(answer: Answer) -> Any:
    if answer.fault == "crash":
        raise LostWorker("a simulated worker died")
    if answer.fault is not None:
        raise LostWorker(str(SimulatedFault("a simulated fault of the machine")))
    return answer.reply
