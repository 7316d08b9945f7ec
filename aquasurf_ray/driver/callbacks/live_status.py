"""The live status of a run in the store: its workers and their jobs, its rate, the time left.

Only the driver can query its workers, and other processes only read the store. So the driver writes a report every few
seconds, and soon after a worker has begun or ended something, which readers see in the run's log at once. It has a time
by which they can tell whether it is still current. Workers are queried in turns, without waiting for them: an answer
appears in the next report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

from aquasurf_ray.counted import counted
from aquasurf_ray.driver.cluster.slot import CostsJob, Job, Slot, Work
from aquasurf_ray.driver.events import (
    CostsMeasured,
    EvaluationDrained,
    EvaluationEnded,
    EvaluationFailed,
    EvaluationStarted,
    Event,
    RunEnding,
    RunPace,
    RunProgress,
    RunView,
    SpectraComputed,
    WorkerGone,
    WorkerLost,
    WorkerReady,
    WorkerWarning,
)
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.recipe_change import with_change
from aquasurf_ray.store import LiveRun, LiveWorker
from aquasurf_ray.workers.messages import GpuUse, TrainingJob

REPORT_SECONDS = 5.0
SOON_SECONDS = 1.0  # after a change; each report is a write to the store
ASKED_AT_ONCE = 64  # workers per report, so that thousands of workers do not delay the loop
CHANGES = (
    *(WorkerReady, WorkerLost, WorkerGone, SpectraComputed, CostsMeasured),
    *(EvaluationStarted, EvaluationEnded, EvaluationFailed, EvaluationDrained),
)


class LiveStatus:
    """The reports of one driver: every few seconds, and at once when the run is ending."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._reported_at: float | None = None
        self._asked_at = context.clock() - REPORT_SECONDS
        self._has_changed = False
        self._ending: str | None = None
        self._questions = _Questions(context)

    def on_event(self, event: Event) -> None:
        """Report the state of the run, if the last report is old."""
        if isinstance(event, RunEnding):
            self._ending, self._reported_at = event.why, None
        elif isinstance(event, RunProgress) and self._is_old():
            self._report(event.view)
        elif isinstance(event, CHANGES):
            self._has_changed = True

    def _is_old(self) -> bool:
        # A report of a large pool is long, and something in it changes all the time.
        is_soon = self._has_changed and len(self._context.pool.slots) <= ASKED_AT_ONCE
        age = SOON_SECONDS if is_soon else REPORT_SECONDS
        return self._reported_at is None or self._context.clock() - self._reported_at >= age

    def _report(self, view: RunView) -> None:
        self._reported_at, self._has_changed = self._context.clock(), False
        self._questions.read_answers()
        # A run that ends now does not do the rest.
        pace = view.pace if self._ending is None else RunPace()
        workers = tuple(self._worker(slot, self._reported_at) for slot in self._context.pool.live())
        self._context.store.report(
            self._context.lease, LiveRun(workers, pace.per_hour, pace.seconds_left, self._ending)
        )
        if self._reported_at - self._asked_at >= REPORT_SECONDS:
            self._asked_at = self._reported_at
            self._questions.ask()

    def _worker(self, slot: Slot, now: float) -> LiveWorker:
        gpu = self._questions.gpu.get(slot.number)
        since = slot.started if slot.work is None else slot.work.started
        return LiveWorker(
            name=slot.name,
            state=slot.state,
            seconds=0.0 if slot.state == "idle" else now - since,
            node=slot.node,
            device=slot.info.device if slot.info else None,
            job=job_text(slot.job) if slot.job else None,
            epoch=slot.work.epoch if slot.work else None,
            gpu_percent=gpu.percent if gpu else None,
            gpu_used_mb=gpu.used_mb if gpu else None,
            gpu_total_mb=gpu.total_mb if gpu else None,
        )


class _Question(NamedTuple):
    """A question to a worker: its subject, the slot, and the work during which it was asked."""

    about: Literal["epoch", "gpu", "warnings"]
    slot: Slot
    work: Work | None


class _Questions:
    """The questions to workers about themselves: the epoch of their training, the use of their GPU, warnings."""

    def __init__(self, context: RunContext) -> None:
        self._pool, self._events = context.pool, context.events
        self._asked: dict[Any, _Question] = {}
        self._turn = 0
        self.gpu: dict[int, GpuUse] = {}

    def ask(self) -> None:
        """Ask the workers whose turn it is."""
        self._asked.clear()  # a worker that has not answered by now is busy or gone
        for slot in self._next():
            if isinstance(slot.job, TrainingJob):
                self._asked[slot.actor.progress.remote()] = _Question("epoch", slot, slot.work)
            if slot.info is not None and slot.info.device != "cpu" and hasattr(self._pool.worker, "gpu_use"):
                self._asked[slot.actor.gpu_use.remote()] = _Question("gpu", slot, slot.work)
            if hasattr(self._pool.worker, "warnings"):
                self._asked[slot.actor.warnings.remote()] = _Question("warnings", slot, slot.work)

    def read_answers(self) -> None:
        """Read the answers that have arrived."""
        for future, answer in self._pool.answers(list(self._asked)).items():
            self._read(self._asked.pop(future), answer)

    def _next(self) -> Sequence[Slot]:
        live = [slot for slot in self._pool.live() if slot.state != "starting"]
        turn = list(islice(_rotated(live, self._turn), ASKED_AT_ONCE))
        self._turn = (self._turn + len(turn)) % max(len(live), 1)
        return turn

    def _read(self, question: _Question, answer: Any) -> None:
        if question.about == "gpu" and answer is not None:
            self.gpu[question.slot.number] = answer
        elif question.about == "epoch" and answer is not None and question.work is not None:
            question.work.epoch = answer.epoch  # harmless if that work has ended: nothing reads it then
        elif question.about == "warnings":
            for text in answer:
                self._events.emit(WorkerWarning(question.slot.name, text))


def job_text(job: Job) -> str:
    """Return a description of a job for people."""
    if isinstance(job, TrainingJob):
        return f"trains {with_change(job.function, job.recipe_change)}"
    what = "costs" if isinstance(job, CostsJob) else "spectra"
    return f"{what} of {counted(len(job.functions), 'function')}"


def _rotated(slots: Sequence[Slot], start: int) -> Iterator[Slot]:
    yield from slots[start:]
    yield from slots[:start]
