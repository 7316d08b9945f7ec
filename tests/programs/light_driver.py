"""The real command with the real driver, store, lease and surrogate, but workers inside its own process instead of
Ray's: they answer like `scripted_worker`, each job after a while. It starts in seconds, so that faults of drivers and
databases can be tried often.

python light_driver.py ARGUMENTS OF aquasurf ...

Environment: LIGHT_SECONDS, of a training (0.05); LIGHT_KILL, the number of the training at whose dispatch, after its
claim, the process kills itself; LIGHT_VERSION, the version of the code to be taken for.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from scripted_worker import ScriptedWorker

from aquasurf_ray.driver.cluster.capacity import Workers
from aquasurf_ray.driver.cluster.ray_errors import cause_of
from aquasurf_ray.driver.cluster.slot import Outcome, Slot, SpectraJob, Work
from aquasurf_ray.driver.run import lease_keeper, summary
from aquasurf_ray.driver.run import session as sessions
from aquasurf_ray.driver.verbs import command, create_run
from aquasurf_ray.workers.messages import TrainingJob

SPECTRUM_SECONDS = 0.002


class LightActor:
    """A scripted worker that is called directly; it leaves questions about itself unanswered."""

    def __init__(self, settings):
        self.work = ScriptedWorker(settings)
        self.progress = self.warnings = self.gpu_use = SimpleNamespace(remote=object)


class LightPool:
    """Stands in for `WorkerPool`; a slot's future is the moment at which its job is done."""

    def __init__(self, settings, n, resources, worker, events):
        self.settings, self.n, self.resources, self.worker = settings, n, resources, worker
        self.training_seconds = float(os.environ.get("LIGHT_SECONDS", "0.05"))
        self.kill_at, self.n_trainings = int(os.environ.get("LIGHT_KILL", "0")), 0
        self.slots = [Slot(i, LightActor(settings), "starting", 0.0, 0.0) for i in range(1, n + 1)]

    def idle(self):
        return [slot for slot in self.slots if slot.state == "idle"]

    def busy(self):
        return [slot for slot in self.slots if slot.state == "busy"]

    def live(self):
        return [slot for slot in self.slots if slot.state != "left"]

    def others(self, slot):
        return {other.number for other in self.slots} - {slot.number}

    def submit(self, slot, job, limit, claim=None):
        seconds = 0.0
        if isinstance(job, TrainingJob):
            self.n_trainings += 1
            if self.n_trainings == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            seconds = self.training_seconds
        elif isinstance(job, SpectraJob):
            seconds = SPECTRUM_SECONDS * len(job.functions)
        slot.state, slot.work, slot.future = "busy", Work(job, 0.0, limit, claim), time.monotonic() + seconds

    def forget(self, slot, job):
        return None

    def update_epochs(self, most):
        return None

    def answers(self, futures):
        return {}

    def drain(self):
        for slot in self.slots:
            if slot.state != "busy":
                slot.state, slot.future = "left", None

    def poll(self, timeout):
        waiting = [slot for slot in self.slots if slot.future is not None]
        if waiting:
            time.sleep(min(timeout, max(0.0, min(slot.future for slot in waiting) - time.monotonic())))
        ended = [slot for slot in waiting if slot.future <= time.monotonic()]
        return [outcome for slot in ended if (outcome := self._answer(slot))]

    def close(self):
        return None

    def _answer(self, slot):
        work, slot.work, slot.future, slot.state = slot.work, None, None, "idle"
        if work is None:
            slot.info = slot.actor.work.ready()
            return None
        job = work.job
        try:
            if isinstance(job, TrainingJob):
                return Outcome(slot.number, work, slot.actor.work.train(job))
            ask = slot.actor.work.spectra if isinstance(job, SpectraJob) else slot.actor.work.costs
            return Outcome(slot.number, work, ask(list(job.functions)))
        except Exception as error:
            return Outcome(slot.number, work, fault=cause_of(error))


class InstantPool(LightPool):
    """Workers whose trainings take no time."""

    def __init__(self, settings, *more):
        super().__init__(settings, *more)
        self.training_seconds = 0.0


def without_ray(pool=LightPool, put=setattr):
    """Puts a light pool in the place of the real one, for good or with `monkeypatch.setattr`."""

    def execute(store, spec, *session):
        return sessions.execute(store, replace(spec, make_pool=pool), *session)

    put(command, "execute", execute)
    put(command, "connected", lambda address: nullcontext())
    put(command, "workers_after_waiting", lambda config, stopped: Workers(config.workers or 2, 1.0, 0.0))
    if "LIGHT_VERSION" in os.environ:
        create_run.version = lease_keeper.version = summary.version = lambda name: os.environ["LIGHT_VERSION"]


if __name__ == "__main__":
    from aquasurf_ray.cli.main import main

    without_ray()
    sys.exit(main(sys.argv[1:]))
