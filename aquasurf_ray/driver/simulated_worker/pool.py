"""Pools of many simulated workers on one machine, where a process for each would not fit.

`LocalPool` has them in the driver's own process: a job is answered once its simulated seconds have passed on the pool's
clock. `HostedPool` has them on Ray, many in one process: jobs and answers go the way that those of real workers go. To
the driver either is the pool that it knows; a fault ends one worker, not its neighbours in the process.
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

from aquasurf_ray.driver.cluster.pool import Slot, WorkerPool
from aquasurf_ray.driver.simulated_worker import Marks, SimulatedFault
from aquasurf_ray.driver.simulated_worker.answers import Answers, Failures, Fault, Simulation
from aquasurf_ray.workers.messages import TrainingJob, WorkerInfo, WorkerSettings

SLOTS_A_HOST = 128
NEVER = math.inf


class LostWorker(RayError):
    """In the place of what Ray raises for a worker that died or raised."""


@dataclass(frozen=True)
class Answer:
    """A reply and the seconds after which it is there; or a fault in its place."""

    seconds: float
    reply: Any = None
    fault: Fault | None = None


class Desk:
    """Answers what a simulated worker is asked, at once; who asks waits."""

    def __init__(self, simulation: Simulation, fisher: str) -> None:
        self._simulation = simulation
        self._fisher = fisher
        self._answers = Answers(simulation)
        self._marks = Marks(None)

    def ready(self) -> Answer:
        """Where the worker is."""
        info = WorkerInfo(node=platform.node(), pid=0, device="cpu")
        return Answer(self._simulation.start_seconds(self._marks.next_start()), info)

    def train(self, job: TrainingJob) -> Answer:
        """A training's result."""
        result = self._answers.training(job)
        fault = self._simulation.training_fault(job, self._marks.begin(job)[0])
        if fault is None or not result.epochs:
            return Answer(result.seconds, result)
        kind, epoch = fault
        before = sum(each.seconds for each in result.epochs[: epoch - 1])
        return Answer(NEVER if kind == "hang" else before, fault=kind)

    def spectra(self, functions: list[str]) -> Answer:
        """Spectra in order; a fault takes the whole batch."""
        seconds, replies = 0.0, []
        for function in functions:
            if self._simulation.spectra != Failures():
                fault = self._simulation.spectrum_fault(function, self._marks.next_spectrum(function))
                if fault is not None:
                    return Answer(NEVER if fault == "hang" else seconds, fault=fault)
            replies.append(self._answers.spectrum(function, self._fisher))
            seconds += replies[-1].seconds
        return Answer(seconds, replies)

    def costs(self, functions: list[str]) -> Answer:
        """Costs in order."""
        replies = [self._answers.cost(function) for function in functions]
        return Answer(sum(reply.seconds for reply in replies), replies)

    def progress(self) -> Answer:
        """Nothing: a simulated worker of a pool does not tell its epoch."""
        return Answer(0.0)

    def forget(self, job: TrainingJob) -> Answer:
        """There is nothing to delete."""
        return Answer(0.0)

    def drain(self) -> Answer:
        """What was promised stays promised: a simulated worker of a pool trains to the end."""
        return Answer(0.0)

    def warnings(self) -> Answer:
        """None."""
        return Answer(0.0, [])

    def gpu_use(self) -> Answer:
        """None."""
        return Answer(0.0)


@dataclass(eq=False)
class _Promise:
    """What a `LocalPool` gives in the place of Ray's futures."""

    due: float
    answer: Answer


@dataclass
class LocalPool(WorkerPool):
    """Simulated workers in the driver's own process. `worker` must be a class made by `simulated`.

    Args:
        sleep: waits so many seconds of `clock`.
    """

    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self._desk = Desk(self.worker.simulation, self.settings.fisher)  # type: ignore[attr-defined]
        self._due: list[tuple[float, int, _Promise]] = []
        self._number = itertools.count()
        super().__post_init__()

    def _new_actor(self, number: int) -> Any:
        return _Caller(self._begin)

    def _begin(self, method: str, *arguments: Any) -> _Promise:
        answer: Answer = getattr(self._desk, method)(*arguments)
        promise = _Promise(self.clock() + answer.seconds, answer)
        if answer.seconds < NEVER:
            heapq.heappush(self._due, (promise.due, next(self._number), promise))
        return promise

    def _wait(self, futures: list[_Promise], n: int, timeout: float) -> list[_Promise]:
        """Waits for the first, or for none: that is what the pool asks."""
        if timeout > 0 and n == 1:
            first = self._due[0][0] if self._due else NEVER
            self.sleep(max(0.0, min(first - self.clock(), timeout)))
        now, due = self.clock(), set[int]()
        while self._due and self._due[0][0] <= now:
            due.add(id(heapq.heappop(self._due)[2]))
        return [promise for promise in futures if promise.due <= now]

    def _get(self, future: _Promise) -> Any:
        return _reply_of(future.answer)

    def _kill(self, slot: Slot) -> None:
        """Nobody is there; what it worked on is never asked for again."""


class _Caller:
    """Has the methods of a Ray actor's handle, each with its `remote`."""

    def __init__(self, call: Callable[..., Any]) -> None:
        for name in ("ready", "train", "spectra", "costs", "progress", "forget", "drain", "warnings", "gpu_use"):
            setattr(self, name, _Method(partial(call, name)))


@dataclass(frozen=True)
class _Method:
    remote: Callable[..., Any]


@dataclass
class HostedPool(WorkerPool):
    """Simulated workers in few processes of Ray's, `SLOTS_A_HOST` in each."""

    hosts: list[Any] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        simulation = self.worker.simulation  # type: ignore[attr-defined]
        host: Any = ray.remote(num_cpus=0, max_concurrency=10 * SLOTS_A_HOST)(Host)  # type: ignore[call-overload]
        n_hosts = math.ceil(self.n / SLOTS_A_HOST)
        self.hosts = [host.remote(simulation, self.settings) for _ in range(n_hosts)]
        super().__post_init__()

    def close(self) -> None:
        """See `WorkerPool.close`; ends the processes."""
        super().close()
        for host in self.hosts:
            ray.kill(host)

    def _new_actor(self, number: int) -> Any:
        return _Caller(self.hosts[number % len(self.hosts)].call.remote)

    def _kill(self, slot: Slot) -> None:
        """The others in its process go on."""


class Host:
    """A process of many simulated workers, all asleep but for the moments of their answers."""

    def __init__(self, simulation: Simulation, settings: WorkerSettings) -> None:
        self._desk = Desk(simulation, settings.fisher)

    async def call(self, method: str, *arguments: Any) -> Any:
        """What one of the workers answers, in its time."""
        answer: Answer = getattr(self._desk, method)(*arguments)
        await asyncio.sleep(min(answer.seconds, 1e9))
        return _reply_of(answer)


def _reply_of(answer: Answer) -> Any:
    if answer.fault == "crash":
        raise LostWorker("a simulated worker died")
    if answer.fault is not None:
        raise LostWorker(str(SimulatedFault("a simulated fault of the machine")))
    return answer.reply
