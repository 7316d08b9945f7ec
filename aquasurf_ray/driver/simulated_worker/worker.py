"""The simulated worker: its methods are those of a real one, its answers come from a benchmark.

A driver cannot tell a simulated worker from a real one: it starts, computes spectra and costs, trains epoch by epoch in
scaled time, resumes an interrupted training from its last epoch, dies, raises, hangs. In place of a checkpoint, it
leaves a file in the storage folder for every training that is not stored yet, with the number of attempts and of
finished epochs. Without a storage folder, which a cluster may not share, it counts only the attempts of its process.
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


class SimulatedFault(RuntimeError):
    """An infrastructure failure that the simulation has drawn."""


class SimulatedWorker:
    """A worker with the methods and settings of `workers.actor.Worker`; `simulated` makes a class per simulation."""

    simulation = Simulation()

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._answers = Answers(self.simulation)
        self._attempts = AttemptRecords(settings.storage)
        self._last_epoch: Epoch | None = None
        self._asked_to_stop = threading.Event()

    @ray.method(concurrency_group="work")
    def ready(self) -> WorkerInfo:
        """Return where the worker runs, after a long time if the simulation draws a slow start."""
        if self.simulation.slow_starts:
            time.sleep(self.simulation.start_seconds(self._attempts.next_start()))
        return WorkerInfo(node=platform.node(), pid=os.getpid(), device="cpu")

    @ray.method(concurrency_group="work")
    def spectra(self, functions: Sequence[str]) -> list[SpectrumReply]:
        """Return the benchmark's spectra in order; an infrastructure failure affects the whole batch."""
        return [self._spectrum(function) for function in functions]

    @ray.method(concurrency_group="work")
    def costs(self, functions: Sequence[str]) -> list[CostReply]:
        """Return the benchmark's costs, in order."""
        replies = [self._answers.cost(function) for function in functions]
        time.sleep(sum(reply.seconds for reply in replies))
        return replies

    @ray.method(concurrency_group="work")
    def train(self, job: TrainingJob) -> TrainingResult | Drained:
        """Return the benchmark's result, after the time that the epochs since the last saved one take."""
        self._last_epoch = None
        if self._asked_to_stop.is_set():
            return Drained(0)
        attempt, kept = self._attempts.begin(job)
        fault = self.simulation.training_fault(job, attempt)
        result = self._answers.training(job)
        if not result.epochs:
            time.sleep(result.seconds)
        for epoch in result.epochs:
            if fault is not None and fault[1] == epoch.epoch:
                inject_fault(fault[0], job.function)
            if epoch.epoch > kept:
                time.sleep(epoch.seconds)
                self._attempts.keep(job, attempt, epoch.epoch)
            self._last_epoch = epoch
            if self._asked_to_stop.is_set() and epoch is not result.epochs[-1]:
                return Drained(epoch.epoch)
        return result

    @ray.method(concurrency_group="watch")
    def drain(self) -> None:
        """Let the training under way, and any later one, stop at the end of its epoch."""
        self._asked_to_stop.set()

    @ray.method(concurrency_group="watch")
    def forget(self, job: TrainingJob) -> None:
        """Delete the file of a training whose result is stored."""
        self._attempts.forget(job)

    @ray.method(concurrency_group="watch")
    def progress(self) -> Epoch | None:
        """Return the last epoch of the training under way."""
        return self._last_epoch

    @ray.method(concurrency_group="watch")
    def warnings(self) -> list[str]:
        """Return no warnings: nothing here warns."""
        return []

    @ray.method(concurrency_group="watch")
    def gpu_use(self) -> GpuUse | None:
        """Return None: a simulated worker has no GPU."""
        return None

    def _spectrum(self, function: str) -> SpectrumReply:
        if self.simulation.spectra != Failures():
            fault = self.simulation.spectrum_fault(function, self._attempts.next_spectrum(function))
            if fault is not None:
                inject_fault(fault, function)
        reply = self._answers.spectrum(function, self.settings.fisher)
        time.sleep(reply.seconds)
        return reply


def simulated(simulation: Simulation) -> type[SimulatedWorker]:
    """Return a class of simulated workers, for the argument `worker` of `search` and the other verbs."""
    return type("SimulatedWorker", (SimulatedWorker,), {"simulation": simulation, "__module__": __name__})


def inject_fault(fault: Fault, function: str) -> None:
    """Die, hang or raise, as drawn.

    Raises:
        SimulatedFault: an error was drawn.
    """
    if fault == "crash":
        os._exit(1)
    if fault == "hang":
        threading.Event().wait()
    raise SimulatedFault(f"a simulated fault of the machine, while it worked on {function}")


class AttemptRecords:
    """The attempts and finished epochs of trainings, for the workers to come: small files, or memory without a folder.

    One worker at a time trains a function, so its file has one writer.
    """

    def __init__(self, storage: str | None) -> None:
        self._folder = None if storage is None or "://" in storage else Path(storage) / "simulated"
        self._counted: Counter[str] = Counter()
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)

    def begin(self, job: TrainingJob) -> tuple[int, int]:
        """Return the number of this attempt, from 1, and how many epochs are done already."""
        if self._folder is None:
            return self._next(f"{job.function} {job.seed} {job.recipe_change}"), 0
        before, _, done = _read(self._file(job)).partition(" ")
        attempt, epochs = int(before or 0) + 1, int(done or 0)
        self.keep(job, attempt, epochs)
        return attempt, epochs

    def keep(self, job: TrainingJob, attempt: int, epochs: int) -> None:
        """Save how many epochs are done."""
        if self._folder is None:
            return
        # Written to a second file and moved: a worker killed in between must not leave half a file.
        written = self._file(job).with_suffix(f".{os.getpid()}")
        written.write_text(f"{attempt} {epochs}", encoding="utf-8")
        written.replace(self._file(job))

    def forget(self, job: TrainingJob) -> None:
        """Delete the training's file."""
        if self._folder is not None:
            self._file(job).unlink(missing_ok=True)

    def next_spectrum(self, function: str) -> int:
        """Return the number of this attempt at a function's spectrum, from 1."""
        return self._next(f"spectrum of {function}")

    def next_start(self) -> int:
        """Return the number of this start of a worker, from 1."""
        return self._next("start")

    def _next(self, what: str) -> int:
        """Return the next number, counted in files that only one process can create."""
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
        assert self._folder is not None  # noqa: S101 - callers check that there is a folder
        return self._folder / f"{job.fingerprint}-{_file_name(f'{job.seed} {job.recipe_change}')}.mark"


def _file_name(what: str) -> str:
    """Return a file name for a text; function names contain characters that file names may not."""
    return hashlib.blake2b(what.encode(), digest_size=12).hexdigest()


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
