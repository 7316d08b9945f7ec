"""Workers that answer from a benchmark instead of training, and fail as often as they are told to.

A driver cannot tell one from a real worker: it starts, computes spectra and costs, trains epoch by epoch in scaled
time, resumes an interrupted training from its last epoch, dies, raises, hangs. In the storage folder it leaves a file
for every training that is not stored yet, in the place of a checkpoint, with the number of attempts and the epochs that
are done; without a storage folder, which a cluster may not share, it counts the attempts of its own process only.

>>> from aquasurf_ray.driver.simulated_worker import Failures, Simulation, simulated
>>> worker = simulated(Simulation(scale=60.0, trainings=Failures(crash=0.05, hang=0.01)))
>>> # search("digits", worker=worker, evaluations=40, workers=2)
"""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import ray

from aquasurf_ray.driver.simulated_worker.answers import Answers, Failures, Fault, Simulation
from aquasurf_ray.workers.messages import (
    CostReply,
    Drained,
    GpuUse,
    SpectrumReply,
    TrainingJob,
    WorkerInfo,
    WorkerSettings,
)
from aquasurf_ray.workers.result import Epoch, TrainingResult

__all__ = ["Failures", "Marks", "SimulatedFault", "SimulatedWorker", "Simulation", "simulated"]


class SimulatedFault(RuntimeError):
    """A machine's fault that was drawn."""


class SimulatedWorker:
    """Has the methods of `workers.actor.Worker`, and takes its settings; `simulation` is its class's."""

    simulation = Simulation()

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._answers = Answers(self.simulation)
        self._marks = Marks(settings.storage)
        self._last_epoch: Epoch | None = None
        self._asked_to_stop = threading.Event()

    @ray.method(concurrency_group="work")
    def ready(self) -> WorkerInfo:
        """Sometimes takes long."""
        if self.simulation.slow_starts:
            time.sleep(self.simulation.start_seconds(self._marks.next_start()))
        return WorkerInfo(node=platform.node(), pid=os.getpid(), device="cpu")

    @ray.method(concurrency_group="work")
    def spectra(self, functions: Sequence[str]) -> list[SpectrumReply]:
        """The benchmark's, in order; a fault takes the whole batch."""
        return [self._spectrum(function) for function in functions]

    @ray.method(concurrency_group="work")
    def costs(self, functions: Sequence[str]) -> list[CostReply]:
        """The benchmark's, in order."""
        replies = [self._answers.cost(function) for function in functions]
        time.sleep(sum(reply.seconds for reply in replies))
        return replies

    @ray.method(concurrency_group="work")
    def train(self, job: TrainingJob) -> TrainingResult | Drained:
        """The benchmark's result, after the time that it takes from the last epoch that was kept."""
        self._last_epoch = None
        if self._asked_to_stop.is_set():
            return Drained(0)
        attempt, kept = self._marks.begin(job)
        fault = self.simulation.training_fault(job, attempt)
        result = self._answers.training(job)
        if not result.epochs:
            time.sleep(result.seconds)
        for epoch in result.epochs:
            if fault is not None and fault[1] == epoch.epoch:
                misbehave(fault[0], job.function)
            if epoch.epoch > kept:
                time.sleep(epoch.seconds)
                self._marks.keep(job, attempt, epoch.epoch)
            self._last_epoch = epoch
            if self._asked_to_stop.is_set() and epoch is not result.epochs[-1]:
                return Drained(epoch.epoch)
        return result

    @ray.method(concurrency_group="watch")
    def drain(self) -> None:
        """From now on trainings stop at the end of their epoch."""
        self._asked_to_stop.set()

    @ray.method(concurrency_group="watch")
    def forget(self, job: TrainingJob) -> None:
        """Deletes what is kept of a training whose result is stored."""
        self._marks.forget(job)

    @ray.method(concurrency_group="watch")
    def progress(self) -> Epoch | None:
        """The last epoch of the training that runs now."""
        return self._last_epoch

    @ray.method(concurrency_group="watch")
    def warnings(self) -> list[str]:
        """None: nothing here warns."""
        return []

    @ray.method(concurrency_group="watch")
    def gpu_use(self) -> GpuUse | None:
        """None: a simulated worker has no GPU."""
        return None

    def _spectrum(self, function: str) -> SpectrumReply:
        if self.simulation.spectra != Failures():
            fault = self.simulation.spectrum_fault(function, self._marks.next_spectrum(function))
            if fault is not None:
                misbehave(fault, function)
        reply = self._answers.spectrum(function, self.settings.fisher)
        time.sleep(reply.seconds)
        return reply


def simulated(simulation: Simulation) -> type[SimulatedWorker]:
    """A class of simulated workers, for the argument `worker` of `search` and its like."""
    return type("SimulatedWorker", (SimulatedWorker,), {"simulation": simulation, "__module__": __name__})


def misbehave(fault: Fault, function: str) -> None:
    """Does what was drawn.

    Raises:
        SimulatedFault: the fault is an error.
    """
    if fault == "crash":
        os._exit(1)
    if fault == "hang":
        threading.Event().wait()
    raise SimulatedFault(f"a simulated fault of the machine, while it worked on {function}")


class Marks:
    """What workers of one run leave to the next: attempts and epochs done, as small files; in memory without a folder.

    One worker at a time trains a function, so its file has one writer.
    """

    def __init__(self, storage: str | None) -> None:
        self._folder = None if storage is None or "://" in storage else Path(storage) / "simulated"
        self._counted: Counter[str] = Counter()
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)

    def begin(self, job: TrainingJob) -> tuple[int, int]:
        """The number of this attempt, from 1, and how many epochs are done already."""
        if self._folder is None:
            return self._next(f"{job.function} {job.seed}"), 0
        before, _, done = _read(self._file(job)).partition(" ")
        attempt, epochs = int(before or 0) + 1, int(done or 0)
        self.keep(job, attempt, epochs)
        return attempt, epochs

    def keep(self, job: TrainingJob, attempt: int, epochs: int) -> None:
        """Notes that so many epochs are done."""
        if self._folder is None:
            return
        beside = self._file(job).with_suffix(f".{os.getpid()}")
        beside.write_text(f"{attempt} {epochs}", encoding="utf-8")
        beside.replace(self._file(job))

    def forget(self, job: TrainingJob) -> None:
        """Deletes the file."""
        if self._folder is not None:
            self._file(job).unlink(missing_ok=True)

    def next_spectrum(self, function: str) -> int:
        """The number of this attempt at a function's spectrum, from 1."""
        return self._next(f"spectrum of {function}")

    def next_start(self) -> int:
        """The number of this start of a worker, from 1."""
        return self._next("start")

    def _next(self, what: str) -> int:
        """Counts in files that only one process can make."""
        if self._folder is None:
            self._counted[what] += 1
            return self._counted[what]
        for number in itertools.count(1):
            try:
                (self._folder / f"{_file_name(what)}-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return number
        raise AssertionError

    def _file(self, job: TrainingJob) -> Path:
        assert self._folder is not None  # noqa: S101 - asked of those that have one
        return self._folder / f"{job.fingerprint}-{job.seed}.mark"


def _file_name(what: str) -> str:
    """Function names hold characters that file names may not."""
    return hashlib.blake2b(what.encode(), digest_size=12).hexdigest()


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
