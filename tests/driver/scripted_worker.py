"""A worker that answers at once, or misbehaves on command, in the place of one that trains.

What it does is told by the function's name: `die(x)`, `hang(x)`, `fail(x)`, `refuse(x)`, `exhaust(x)`, and with
marks in the storage folder `die_once(x)`, `crowded(x)`, which has memory only while no other worker trains, and
`creep(x)`, which dies five times with one more epoch saved each time. Everything else "trains" to a score that depends
on the name and the seed alone, and has a spectrum and a cost that depend on the name; one function in eight has no
spectrum, because it "overflows". The learning curve rises in a straight line over the eight epochs of `digits`, and
ends where the job's stop rule says so.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import ray

from aquasurf_ray.tasks.errors import TaskError
from surrogate.spectra import compress
from workers.messages import CostReply, Drained, FunctionCost, SpectrumReply, WorkerInfo, WorkerSettings
from workers.result import Epoch, TrainingResult

EPOCHS = 8


def score_of(function: str, seed: int = 0) -> float:
    """With other seeds than 0, half of it is the seed's luck."""
    score = int(hashlib.sha256(function.encode()).hexdigest()[:8], 16) / 2**32
    return score if seed == 0 else (score + score_of(f"{function} with seed {seed}")) / 2


def price_of(function: str) -> float:
    """Step time in units of relu's, between 0.5 and 1.5."""
    return 0.5 + score_of(f"price of {function}") if function != "relu(x)" else 1.0


def curve_of(function: str, seed: int = 0) -> list[float]:
    return [score_of(function, seed) * epoch / EPOCHS for epoch in range(1, EPOCHS + 1)]


@dataclass(frozen=True)
class ScriptedLayer:
    """Part of a spectrum; PyTorch, which the real one needs, takes seconds to start."""

    name: str
    logs: np.ndarray

    @property
    def n_weights(self):
        return len(self.logs)

    def log_eigenvalues(self):
        return self.logs


class ScriptedWorker:
    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings

    @ray.method(concurrency_group="work")
    def ready(self):
        if self.settings.task == "no-data":
            raise FileNotFoundError("no data in the folder")
        if self.settings.task == "dies-at-start":
            os._exit(1)
        return WorkerInfo(node="here", pid=os.getpid(), device="cpu")

    @ray.method(concurrency_group="work")
    def spectra(self, functions):
        return [self._spectrum(function) for function in functions]

    @ray.method(concurrency_group="work")
    def train(self, job):
        self._misbehave(job.function)
        if job.function.startswith("creep("):
            self._creep(job)
        if self.settings.storage is not None and self._marks("train-").parent.exists():
            with self._marked(job.function):
                return self._train(job)
        return self._train(job)

    def _train(self, job):
        epochs, why = [], None
        for number, score in enumerate(curve_of(job.function, job.seed), start=1):
            epochs.append(Epoch(number, 1.0, score, score, 1.0, score, score, 0.1, 0.01))
            why = job.stop_rule.verdict(number, score, EPOCHS) if job.stop_rule else None
            if why:
                break
        figures = (score, 1.0, score, score, 1.0, score, 1.0, score, score, why)
        return TrainingResult("done", None, *figures, tuple(epochs), 0.01, 100.0, 1.0, "cpu", 1, "float32")

    @ray.method(concurrency_group="work")
    def costs(self, functions):
        self._check_machine()
        return [
            CostReply(f, "done", None, FunctionCost(f, "cpu", price_of(f) / 100, 0.01, 200, 100), 0.01)
            for f in functions
        ]

    @ray.method(concurrency_group="watch")
    def forget(self, job):
        return None

    @ray.method(concurrency_group="watch")
    def progress(self):
        return None

    @ray.method(concurrency_group="watch")
    def drain(self):
        return None

    def _spectrum(self, function):
        self._misbehave(function)
        score = score_of(function)
        if score < 1 / 8:
            return SpectrumReply(function, "diverged", "overflow", None, 0.01, "cpu")
        rng = np.random.default_rng(int(score * 2**32))
        layers = [ScriptedLayer(name, np.sort(rng.normal(size=60))) for name in "ab"]
        return SpectrumReply(function, "done", None, compress(layers).to_bytes(), 0.01, "cpu")

    def _check_machine(self):
        if self.settings.task == "broken-machine":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def _misbehave(self, function):
        self._check_machine()
        if function.startswith("die(") or (function.startswith("die_once(") and self._first_time(function)):
            os._exit(1)
        if function.startswith("hang("):
            while True:
                time.sleep(0.01)
        if function.startswith("fail("):
            raise FileNotFoundError("the data are gone")
        if function.startswith("refuse("):
            raise TaskError("the images are of two sizes")
        if function.startswith("exhaust("):
            raise MemoryError("no memory left")

    def _creep(self, job):
        from aquasurf_ray.tasks import load_task  # PyTorch, which few need here, takes seconds to start
        from workers.checkpoints import folder_of

        folder = Path(folder_of(self.settings.storage, load_task("digits").digest, job.fingerprint, job.seed))
        folder.mkdir(parents=True, exist_ok=True)
        saved = len(list(folder.iterdir()))
        if saved < 5:
            (folder / f"epoch-{saved + 1:05d}.ckpt").touch()
            os._exit(1)

    @contextmanager
    def _marked(self, function):
        """Leaves a mark while it trains; `crowded` looks for those of others, the first time until there is one."""
        mark = self._marks(f"train-{os.getpid()}")
        mark.touch()
        try:
            time.sleep(0.3)
            if function.startswith("crowded("):
                waits = 600 if self._first_time(function) else 0  # a worker may be slow to start
                while not (beside := self._others(mark)) and waits:
                    waits -= 1
                    time.sleep(0.1)
                if beside:
                    raise MemoryError("no memory left beside others")
            yield
        finally:
            mark.unlink()

    def _others(self, mark):
        return len(list(mark.parent.glob("train-*"))) > 1

    def _marks(self, name):
        return Path(self.settings.storage) / name

    def _first_time(self, function):
        mark = Path(self.settings.storage) / f"{function[:8]}.mark"
        if mark.exists():
            return False
        mark.touch()
        return True


class WaitingWorker(ScriptedWorker):
    """Trains until it is drained: then relu has just come to its end, elu dies, and all others stop."""

    def __init__(self, settings):
        super().__init__(settings)
        self.drained = threading.Event()

    @ray.method(concurrency_group="work")
    def train(self, job):
        self.drained.wait()
        if job.function == "elu(x)":
            os._exit(1)
        return super().train(job) if job.function == "relu(x)" else Drained(3)

    @ray.method(concurrency_group="watch")
    def drain(self):
        self.drained.set()


class StubbornWorker(ScriptedWorker):
    """Trains for ever, whatever it is asked."""

    @ray.method(concurrency_group="work")
    def train(self, job):
        threading.Event().wait()


class ScriptedGroup(ScriptedWorker):
    """Stands in for a group of processes."""

    @ray.method(concurrency_group="work")
    def train(self, job):
        return replace(super().train(job), n_devices=self.settings.n_ranks)
