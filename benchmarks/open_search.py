"""The share of an open search's time that is not spent in trainings, spectra and costs. Prints one JSON document.

    python benchmarks/open_search.py [--evaluations 200] [--growth 24] [--workers 2] [--training-seconds 0.9] ...
    python benchmarks/open_search.py --real [--evaluations 200] ...

The driver, the store and the surrogate are real; the workers are simulated and answer with the durations given, by
default those of `digits` on one core. While all workers are busy, nothing is waited for: the clock is moved on to the
next answer. So the document says how long the search would have taken, and what of that the driver is to blame for:
growth, screening, suggestions, the database.

With `--real` the workers are real too, train `digits` on one core each, and keep the time of their own jobs; so what is
not theirs includes Ray's.

outside_share     the workers' seconds without work, relative to all of theirs: of the whole search, or with `--real`
                  from the beginning of the first job to the end of the last
growth_seconds    the time that generations took, and functions_per_second, those that they made and screened
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import ray
from simulated_pool import LocalPool

from aquasurf_ray.driver.candidates import candidate_rows, load_space
from aquasurf_ray.driver.cluster.capacity import Workers
from aquasurf_ray.driver.cluster.connection import connected
from aquasurf_ray.driver.cluster.pool import WorkerPool
from aquasurf_ray.driver.events import CandidatesGrown, Event, Events, FunctionSuggested
from aquasurf_ray.driver.run.session import execute
from aquasurf_ray.driver.run.signals import StopSignal
from aquasurf_ray.driver.run.spec import RunSpec
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.simulated_worker import Simulation, simulated
from aquasurf_ray.driver.verbs.create_run import create_run
from aquasurf_ray.store import Store
from aquasurf_ray.tasks import load_task
from aquasurf_ray.workers.actor import Worker
from aquasurf_ray.workers.messages import CostReply, Drained, SpectrumReply, TrainingJob
from aquasurf_ray.workers.result import TrainingResult


@dataclass
class Clock:
    """A clock that a wait moves on instead of waiting. `now` is the clock that the driver's own work is measured by."""

    now: Callable[[], float]
    skipped: float = 0.0

    def __call__(self) -> float:
        return self.now() + self.skipped

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self.skipped += seconds


@dataclass
class Work:
    """The seconds that workers were given work for."""

    seconds: float = 0.0


@dataclass
class MeasuredPool(LocalPool):
    """Simulated workers, and a record of the work that they get."""

    work: Work = field(default_factory=Work)

    def _begin(self, method: str, *arguments: Any) -> Any:
        promise = super()._begin(method, *arguments)
        self.work.seconds += promise.answer.seconds
        return promise


class TimedWorker(Worker):
    """A worker that writes the times of its jobs into a file of its own."""

    @ray.method(concurrency_group="work")
    def spectra(self, functions: Sequence[str]) -> list[SpectrumReply]:
        """See `Worker`."""
        with self._timed("spectra"):
            return super().spectra(functions)

    @ray.method(concurrency_group="work")
    def costs(self, functions: Sequence[str]) -> list[CostReply]:
        """See `Worker`."""
        with self._timed("costs"):
            return super().costs(functions)

    @ray.method(concurrency_group="work")
    def train(self, job: TrainingJob) -> TrainingResult | Drained:
        """See `Worker`."""
        with self._timed("train"):
            return super().train(job)

    @contextmanager
    def _timed(self, kind: str) -> Iterator[None]:
        began = time.time()
        yield
        with Path(str(self.settings.storage), f"{os.getpid()}.jobs").open("a", encoding="utf-8") as file:
            file.write(f"{kind} {began} {time.time()}\n")


def work_of(storage: Path) -> tuple[dict[str, float], float]:
    """Return the seconds of all jobs by kind, and the time from the beginning of the first to the end of the last."""
    lines = [line.split() for file in storage.glob("*.jobs") for line in file.read_text(encoding="utf-8").splitlines()]
    seconds: dict[str, float] = {}
    for kind, began, ended in lines:
        seconds[kind] = seconds.get(kind, 0.0) + float(ended) - float(began)
    return seconds, max(float(end) for *_, end in lines) - min(float(begin) for _, begin, _ in lines)


@dataclass
class Record:
    """Return the driver's work by the run's events."""

    generations: int = 0
    candidates: int = 0
    functions: int = 0
    growth_seconds: float = 0.0
    suggestion_seconds: float = 0.0

    def on_event(self, event: Event) -> None:
        """Add what an event says."""
        if isinstance(event, CandidatesGrown):
            self.generations, self.candidates = event.generation, self.candidates + event.candidates
            self.functions += event.functions
            self.growth_seconds += event.seconds
        elif isinstance(event, FunctionSuggested):
            self.suggestion_seconds += event.seconds


def main() -> None:
    """Measure one search."""
    arguments = _arguments()
    logging.getLogger("aquasurf_ray").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="open") as folder, connected(None):
        print(json.dumps(measured(arguments, Path(folder)), indent=2))


def measured(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return what a search in a new database took."""
    clock = Clock(time.process_time if arguments.processor_time else time.monotonic)
    record, work = Record(), Work()
    simulation = Simulation(
        training_seconds=arguments.training_seconds,
        spectrum_seconds=arguments.spectrum_seconds,
        cost_seconds=arguments.cost_seconds,
    )
    with Store.open(f"sqlite:///{folder}/runs.db") as store, StopSignal() as stop:
        if arguments.real:
            make_pool, worker = WorkerPool, TimedWorker
        else:
            make_pool, worker = partial(MeasuredPool, sleep=clock.sleep, clock=clock, work=work), simulated(simulation)
        spec = _spec(store, arguments, folder, make_pool, worker)
        began, worked = clock(), time.process_time()
        result = execute(store, spec, Workers(arguments.workers, 1.0, 0.0), Events([record]), stop)
        wall, worked = clock() - began, time.process_time() - worked
        status = store.status(spec.run.id)
        n_spectra = status.spectra_done + status.spectra_diverged
    jobs, seconds = dict[str, float](), work.seconds
    if arguments.real:
        jobs, wall = work_of(folder)
        seconds = sum(jobs.values())
    return {
        "arguments": {
            name: value
            for name, value in vars(arguments).items()
            if not (arguments.real and (name.endswith("_seconds") or name == "processor_time"))
        },
        "evaluations": result.evaluations,
        "candidates": n_spectra,
        "search_seconds": round(wall, 1),
        "outside_share": round(1 - seconds / (arguments.workers * wall), 4),
        "job_seconds": {kind: round(each, 1) for kind, each in jobs.items()},
        "driver_cpu_seconds": round(worked, 1),
        "generations": record.generations,
        "grown_candidates": record.candidates,
        "growth_seconds": round(record.growth_seconds, 1),
        "functions_per_second": round(record.functions / record.growth_seconds) if record.generations else None,
        "suggestion_seconds": round(record.suggestion_seconds, 1),
    }


def _spec(store: Store, arguments: argparse.Namespace, folder: Path, make_pool: Any, worker: type) -> RunSpec:
    config = make_config({
        "task": "digits", "name": "open", "space": "open", "candidates": arguments.candidates,
        "evaluations": arguments.evaluations, "growth": arguments.growth, "workers": arguments.workers,
        "storage": str(folder), "cpus_per_worker": 1.0,
    })  # fmt: skip
    task = load_task("digits")
    rows = candidate_rows(load_space("open"), config.candidates, config.seed)
    identity = {**config.identity(), "task_digest": task.digest}
    run = create_run(store, config, task, "search", "open", identity, rows)
    return RunSpec(run, config, task, True, config.evaluations, worker, make_pool)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--candidates", type=int, default=300, help="candidates at the beginning")
    parser.add_argument("--growth", type=int, default=24, help="new candidates for each suggestion")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--training-seconds", type=float, default=0.9)
    parser.add_argument("--spectrum-seconds", type=float, default=0.05)
    parser.add_argument("--cost-seconds", type=float, default=0.1)
    parser.add_argument("--real", action="store_true", help="real workers, which train digits")
    parser.add_argument(
        "--processor-time", action="store_true", help="measure the driver by its processor time, on a machine in use"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
