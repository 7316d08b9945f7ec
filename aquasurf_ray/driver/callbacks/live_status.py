"""What other processes are told of a run that goes on: its workers and what they do, its rate, the time left.

The driver is the only one who can ask its workers, and the store the only place where others look. So it reports every
few seconds; a report carries its age, by which people see whether it still holds. Workers are asked in turns, without
being waited for: an answer is in the next report.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from aquasurf_ray.driver.callbacks.progress import RunView
from aquasurf_ray.driver.cluster.pool import CostsJob, Job, Slot, WorkerPool
from aquasurf_ray.driver.events import Observe
from aquasurf_ray.store import Lease, LiveRun, LiveWorker, Store
from aquasurf_ray.workers.messages import GpuUse, TrainingJob

REPORT_SECONDS = 5.0
ASKED_AT_ONCE = 64
RATE_SECONDS = 3600.0
RATE_COUNT = 10


class LiveReport:
    """The reports of one driver.

    Args:
        observe: is told of the workers' own warnings, where somebody wants to know.
    """

    def __init__(
        self,
        store: Store,
        lease: Lease,
        pool: WorkerPool,
        observe: Observe | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._lease, self._pool, self._clock = store, lease, pool, clock
        self._reported: float | None = None
        self._rate = Rate(clock)
        self._asking = _Asking(pool, observe)

    def look_around(self, view: Callable[[], RunView], ending: str | None = None) -> None:
        """Reports if the last report is old, or at once when the run is `ending`."""
        now = self._clock()
        if ending is None and self._reported is not None and now - self._reported < REPORT_SECONDS:
            return
        self._reported = now
        self._asking.take_in()
        seen = view()
        per_hour = self._rate.per_hour(seen.evaluations - seen.reused)
        left = seconds_left(seen.evaluations, seen.evaluations_wanted, per_hour)
        workers = tuple(self._worker(slot, now) for slot in self._pool.live())
        self._store.report(self._lease, LiveRun(workers, per_hour, left, ending))
        self._asking.ask()

    def _worker(self, slot: Slot, now: float) -> LiveWorker:
        epoch, gpu = self._asking.epoch(slot), self._asking.gpu.get(slot.number)
        return LiveWorker(
            name=slot.name,
            state=slot.state,
            seconds=0.0 if slot.state == "idle" else now - slot.started,
            node=slot.info.node if slot.info else None,
            device=slot.info.device if slot.info else None,
            job=job_text(slot.job) if slot.job else None,
            epoch=epoch,
            gpu_percent=gpu.percent if gpu else None,
            gpu_used_mb=gpu.used_mb if gpu else None,
            gpu_total_mb=gpu.total_mb if gpu else None,
        )


class Rate:
    """Trainings finished an hour, over the last hour, over the last ten if they took longer, or as long as this has
    been asked. Over an hour alone, trainings of two hours would have no rate most of the time, and a wrong one else.

    >>> seconds = iter([0.0, 60.0, 120.0])
    >>> rate = Rate(lambda: next(seconds))
    >>> rate.per_hour(10), rate.per_hour(10), rate.per_hour(12)
    (None, None, 60.0)
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def per_hour(self, done: int) -> float | None:
        """With so many done by now; None while none has been finished since the first question."""
        now = self._clock()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= RATE_SECONDS and done - self._seen[1][1] >= RATE_COUNT:
            self._seen.popleft()
        then, before = self._seen[0]
        return (done - before) * 3600 / (now - then) if done > before and now > then else None


def seconds_left(done: int, wanted: int, per_hour: float | None) -> float | None:
    """What the rest takes at this rate; proposals may bring a run beyond what it wanted.

    >>> seconds_left(10, 20, 60.0), seconds_left(21, 20, 60.0), seconds_left(10, 20, None)
    (600.0, 0.0, None)
    """
    return max(wanted - done, 0) * 3600 / per_hour if per_hour else None


@dataclass(frozen=True)
class _Question:
    """Who was asked, and amid which work: an answer to another job is of no use."""

    slot: int
    started: float
    of: str


class _Asking:
    """What workers say of themselves: the epoch of those that train, the GPU use of those that have one, warnings."""

    def __init__(self, pool: WorkerPool, observe: Observe | None) -> None:
        self._pool, self._observe = pool, observe
        self._asked: dict[Any, _Question] = {}
        self._turn = 0
        self._epochs: dict[int, tuple[float, int]] = {}
        self.gpu: dict[int, GpuUse] = {}

    def epoch(self, slot: Slot) -> int | None:
        """The last whole epoch of the training that the worker is at."""
        started, epoch = self._epochs.get(slot.number, (None, None))
        return epoch if slot.state == "busy" and started == slot.started else None

    def ask(self) -> None:
        """Asks the next ones."""
        self._asked.clear()  # who has not answered by now is busy or gone
        for slot in self._next():
            if isinstance(slot.job, TrainingJob):
                self._put(slot, "epoch", slot.actor.progress.remote())
            if slot.info is not None and slot.info.device != "cpu" and hasattr(self._pool.worker, "gpu_use"):
                self._put(slot, "gpu", slot.actor.gpu_use.remote())
            if self._observe is not None and hasattr(self._pool.worker, "warnings"):
                self._put(slot, "warnings", slot.actor.warnings.remote())

    def take_in(self) -> None:
        """The answers that have come."""
        for future, answer in self._pool.answers(list(self._asked)).items():
            self._note(self._asked[future], answer)

    def _next(self) -> Sequence[Slot]:
        live = [slot for slot in self._pool.live() if slot.state != "starting"]
        turn = list(islice(_around(live, self._turn), ASKED_AT_ONCE))
        self._turn = (self._turn + len(turn)) % max(len(live), 1)
        return turn

    def _put(self, slot: Slot, of: str, future: Any) -> None:
        self._asked[future] = _Question(slot.number, slot.started, of)

    def _note(self, question: _Question, answer: Any) -> None:
        if question.of == "gpu" and answer is not None:
            self.gpu[question.slot] = answer
        elif question.of == "epoch" and answer is not None:
            self._epochs[question.slot] = question.started, answer.epoch
        elif question.of == "warnings" and self._observe is not None:
            for text in answer:
                self._observe("warning", worker=f"worker-{question.slot}", text=text)


def job_text(job: Job) -> str:
    """What a worker does, in words."""
    if isinstance(job, TrainingJob):
        return f"trains {job.function}"
    what = "costs" if isinstance(job, CostsJob) else "spectra"
    return f"{what} of {len(job.functions)} functions"


def _around(slots: Sequence[Slot], start: int) -> Iterator[Slot]:
    yield from slots[start:]
    yield from slots[:start]
