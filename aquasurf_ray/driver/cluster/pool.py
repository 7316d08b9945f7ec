"""The workers of a run: started, given jobs, watched, and replaced when they die or hang.

A slot is a place for one worker. It is `starting` until its actor has loaded the data, then `idle`, or `busy` with its
`Work`. It is `retired` for good when its workers cannot start or fail on every job, and `left` when it was given back
to other runs, until the run takes it again. `poll` returns an outcome per ended job: a reply, or the text of an
infrastructure failure. The pool does not decide about retries and does not use the store; any class with the methods of
`workers.actor.Worker` can stand in for a worker.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import ray
from ray import PlacementGroupID
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, remove_placement_group

from aquasurf_ray.driver.cluster.ray_errors import CREATION_ERROR, cause_of, is_other_task
from aquasurf_ray.driver.cluster.slot import CostsJob, Job, Outcome, Slot, Work
from aquasurf_ray.driver.errors import TaskAtFault, WorkersFailed
from aquasurf_ray.driver.events import Events, WorkerGone, WorkerLost, WorkerReady
from aquasurf_ray.workers.actor import Worker, worker_actor
from aquasurf_ray.workers.messages import TrainingJob, WorkerSettings

if TYPE_CHECKING:
    from aquasurf_ray.store import Claim

START_ATTEMPTS = 3
FAILED_ON = 3  # different functions in a row: one or two may be to blame themselves, three point at the worker
FORGETTING_SECONDS = 3.0  # a leftover checkpoint costs disk space only, so nobody waits for long
ACTOR_PREFIX = "aquasurf/"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resources:
    """The resources that one worker asks of Ray."""

    cpus: float = 1.0
    gpus: float = 0.0


@dataclass
class WorkerPool:
    """`n` workers with the same settings and resources.

    Args:
        worker: the class of the actors.
        events: receives an event whenever a worker starts, is lost or leaves.
        clock: a monotonic clock, in seconds.
    """

    settings: WorkerSettings
    n: int
    resources: Resources = field(default_factory=Resources)
    worker: type = Worker
    events: Events = field(default_factory=Events)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._actor_class = worker_actor(self.worker)
        self._forgetting: list[Any] = []
        self._draining = False
        self.name = ACTOR_PREFIX + uuid.uuid4().hex
        self._n_actors = 0
        self.slots = [self._new_slot(number) for number in range(1, self.n + 1)]

    def idle(self) -> list[Slot]:
        """Return the slots that can take a job now."""
        return [slot for slot in self.slots if slot.state == "idle" and not slot.leaving]

    def busy(self) -> list[Slot]:
        """Return the slots that have a job."""
        return [slot for slot in self.slots if slot.state == "busy"]

    def live(self) -> list[Slot]:
        """Return the slots that have a worker or wait for one."""
        return [slot for slot in self.slots if slot.state not in ("retired", "left")]

    def others(self, slot: Slot) -> set[int]:
        """Return the numbers of the other live slots."""
        return {other.number for other in self.live()} - {slot.number}

    def submit(self, slot: Slot, job: Job, limit: float | None, claim: Claim | None = None) -> None:
        """Give an idle slot a job that may take `limit` seconds, for a claimed evaluation if there is one."""
        if isinstance(job, TrainingJob):
            slot.future = slot.actor.train.remote(job)
        elif isinstance(job, CostsJob):
            slot.future = slot.actor.costs.remote(list(job.functions))
        else:
            slot.future = slot.actor.spectra.remote(list(job.functions))
        slot.state, slot.work = "busy", Work(job, self.clock(), limit, claim)

    def forget(self, slot: Slot, job: TrainingJob) -> None:
        """Let the worker delete the checkpoints of a stored evaluation; only `close` waits for it."""
        if self._forgetting:
            done = set(self._wait(self._forgetting, len(self._forgetting), 0))
            self._forgetting = [future for future in self._forgetting if future not in done]
        self._forgetting.append(slot.actor.forget.remote(job))

    def poll(self, timeout: float) -> list[Outcome]:
        """Wait until a job ends or a worker starts, at most `timeout` seconds, and return the outcomes.

        Raises:
            WorkersFailed: the last worker cannot start, or fails on every job.
            TaskAtFault: the task is another one in a worker's process.
        """
        waiting = {slot.future: slot for slot in self.slots if slot.future is not None}
        outcomes = []
        if waiting:
            futures = list(waiting)
            # First everything that is ready: with many workers, one future at a time would leave most waiting.
            ready = self._wait(futures, len(futures), 0) or self._wait(futures, 1, timeout)
            for future in ready:
                outcome = self._settle(waiting[future])
                if outcome:
                    outcomes.append(outcome)
        else:
            time.sleep(timeout)  # nothing can end, and the caller's loop must not spin
        return outcomes + self._overdue()

    def update_epochs(self, most: int) -> None:
        """Ask at most `most` workers for the last epoch of their training, and record answers within 50 ms."""
        training = [slot for slot in self.busy() if isinstance(slot.job, TrainingJob)][:most]
        asked = {slot.actor.progress.remote(): slot.work for slot in training}
        if not asked:
            return
        for future in self._wait(list(asked), len(asked), 0.05):
            try:
                epoch = self._get(future)
            except RayError:
                continue  # the future of the training itself reports the worker's death
            work = asked[future]
            if epoch is not None and work is not None:
                work.epoch = epoch.epoch

    def answers(self, futures: Sequence[Any]) -> dict[Any, Any]:
        """Return the answers to those futures of actors that are ready, without waiting for the others."""
        found = {}
        for future in self._wait(list(futures), len(futures), 0) if futures else []:
            try:
                found[future] = self._get(future)
            except RayError:
                continue  # the future of the job itself reports the worker's death
        return found

    def n_retired(self) -> int:
        """Return how many slots are retired."""
        return sum(slot.state == "retired" for slot in self.slots)

    def waits_for_room(self) -> bool:
        """Return whether a worker has not started yet, perhaps because the cluster has no room for it."""
        return any(slot.state == "starting" for slot in self.slots)

    def grow(self) -> None:
        """Start one more worker."""
        left = next((slot for slot in self.slots if slot.state == "left"), None)
        if left is None:
            self.slots.append(self._new_slot(len(self.slots) + 1))
        else:
            self.slots[left.number - 1] = self._new_slot(left.number)
        self.n = len(self.live())

    def release_workers(self, n: int) -> int:
        """Let exactly `n` workers leave: workers without a job at once, the others after their current job. One worker
        always stays. Return how many workers are leaving that were not leaving before."""
        order = {"starting": 0, "idle": 1, "busy": 2}
        # Workers that are leaving already come first, so that a repeated call chooses the same ones.
        live = sorted(self.live(), key=lambda slot: (not slot.leaving, order[slot.state]))
        going = live[: min(n, len(live) - 1)]
        new = sum(not slot.leaving for slot in going)
        for slot in live:
            slot.leaving = slot in going
        for slot in going:
            if slot.state != "busy":
                self._leave(slot, "left")
                self.events.emit(WorkerGone(slot.name, "given back"))
        self.n = len(self.live())
        return new

    def drain(self) -> None:
        """Submit no more jobs: idle workers leave; trainings stop after their epoch, with a checkpoint, and reply
        `Drained`. Workers that die from now on are not replaced. A worker class without `drain` trains to the end."""
        self._draining = True
        for slot in self.live():
            if slot.state != "busy":
                self._leave(slot, "left")
            elif isinstance(slot.job, TrainingJob) and hasattr(self.worker, "drain"):
                slot.actor.drain.remote()

    def close(self) -> None:
        """Kill the workers and their jobs, after waiting a moment for the deletions under way."""
        if self._forgetting:
            self._wait(self._forgetting, len(self._forgetting), FORGETTING_SECONDS)
        for slot in self.live():
            self._kill(slot)
            slot.future, slot.work, slot.state = None, None, "starting"

    def _new_slot(self, number: int) -> Slot:
        actor = self._new_actor(number)
        return Slot(number, actor, "starting", actor.ready.remote(), self.clock())

    def _new_actor(self, number: int) -> Any:
        """Create a worker's actor. Ray registers its name at the head of the cluster, and gives up after a minute; the
        name may be taken then, so that each attempt has another.

        Raises:
            WorkersFailed: the head has not answered any of the attempts.
        """
        for _ in range(START_ATTEMPTS):
            self._n_actors += 1
            name = f"{self.name}/{number}-{self._n_actors}"  # other runs count the runs by these names (`fair_share`)
            options = self._actor_class.options(num_cpus=self.resources.cpus, num_gpus=self.resources.gpus, name=name)
            try:
                return options.remote(self.settings)
            except GetTimeoutError as error:
                logger.warning("worker %s is not started yet: %s", number, cause_of(error))
        raise WorkersFailed(f"the head of the Ray cluster has not answered {START_ATTEMPTS} requests to start a worker")

    def _wait(self, futures: list[Any], n: int, timeout: float) -> list[Any]:
        """Return the futures that are ready, as soon as there are `n` or after `timeout` seconds."""
        ready: list[Any] = ray.wait(futures, num_returns=n, timeout=timeout)[0]
        return ready

    def _get(self, future: Any) -> Any:
        return ray.get(future)

    def _kill(self, slot: Slot) -> None:
        """Kill the actor and, if it is a group, its processes by removing their placement group: Ray keeps the
        placement group of a killed actor's children until the driver ends."""
        ray.kill(slot.actor)
        if slot.info is None or slot.info.placement_group is None:
            return
        try:
            remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(slot.info.placement_group)))
        except GetTimeoutError as error:  # Ray has sent the request, and waits a minute for the answer
            logger.warning("the resources of %s may stay taken until the run ends: %s", slot.name, cause_of(error))

    def _settle(self, slot: Slot) -> Outcome | None:
        failure = None
        try:
            reply = self._get(slot.future)
        except RayError as error:
            failure = cause_of(error), isinstance(error, RayTaskError)
        if failure is not None:  # outside of the handler, or Ray's traceback comes before the sentence that this raises
            return self._fault(slot, failure[0], raised=failure[1])
        work = slot.work
        slot.state, slot.work, slot.future = "idle", None, None
        if work is None:
            slot.info, slot.start_attempts = reply, 1
            self.events.emit(WorkerReady(slot.name, reply.node, reply.pid, reply.device))
            return None
        slot.failed_on.clear()
        return Outcome(slot.number, work, reply=reply)

    def _fault(self, slot: Slot, text: str, *, raised: bool) -> Outcome | None:
        """Replace a worker that raised, died or hung: a new process has clean memory and a new GPU context."""
        work = slot.work
        if work is None:
            self._start_failed(slot, text, raised=raised)
            return None
        if self._draining or slot.leaving:
            self._leave(slot, "left")
            return Outcome(slot.number, work, fault=text)
        job = work.job
        slot.failed_on.add((job.function,) if isinstance(job, TrainingJob) else job.functions)
        if len(slot.failed_on) >= FAILED_ON and len(self.live()) > 1:
            self._retire(slot, f"failed on {FAILED_ON} different functions in a row; the last: {text}")
        else:
            self.events.emit(WorkerLost(slot.name, text))
            self._replace(slot)
        return Outcome(slot.number, work, fault=text)

    def _start_failed(self, slot: Slot, text: str, *, raised: bool) -> None:
        if is_other_task(text):  # at once: a worker that has the driver's by chance would train alone
            raise TaskAtFault(text.partition("OtherTask: ")[2])
        # A worker that was lost while it started may start now; an error that it raised would be raised again.
        if not raised and CREATION_ERROR not in text and slot.start_attempts < START_ATTEMPTS:
            attempts = slot.start_attempts + 1
            self._replace(slot)
            slot.start_attempts = attempts
            return
        self._retire(slot, f"cannot start: {text.removeprefix(CREATION_ERROR)}")

    def _retire(self, slot: Slot, why: str) -> None:
        """Take a slot out of use.

        Raises:
            WorkersFailed: no live slot is left.
        """
        self._leave(slot, "retired")
        self.events.emit(WorkerGone(slot.name, why))
        if not self.live():
            raise WorkersFailed(f"{slot.name} {why}")
        self.events.note(f"{slot.name} is retired, {len(self.live())} of {self.n} workers are left: it {why}")

    def _leave(self, slot: Slot, state: Literal["retired", "left"]) -> None:
        self._kill(slot)
        slot.state, slot.work, slot.future = state, None, None

    def _overdue(self) -> list[Outcome]:
        now, outcomes = self.clock(), []
        for slot in self.busy():
            work = slot.work
            if work is not None and work.limit is not None and now - work.started > work.limit:
                text = f"time limit of {work.limit:g} s passed, worker killed"
                outcome = self._fault(slot, text, raised=False)
                if outcome is not None:
                    outcomes.append(outcome)
        return outcomes

    def _replace(self, slot: Slot) -> None:
        logger.info("replacing %s", slot.name)
        self._kill(slot)
        slot.actor = self._new_actor(slot.number)
        slot.state, slot.work, slot.info = "starting", None, None
        slot.future, slot.started = slot.actor.ready.remote(), self.clock()
