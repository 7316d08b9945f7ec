"""What is computed of candidates before any of them is suggested: spectra and, in a run that minds the price, costs.

Both are given out from the first candidate on, whichever is further behind, and written to the store before the
history knows them. What another run of the task has stored meanwhile is taken over from time to time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from aquasurf_ray.driver.cluster.pool import CostsJob, Outcome, Slot, SpectraJob, WorkerPool
from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.events import Observe, ignore
from aquasurf_ray.driver.run.candidate_queue import CandidateQueue
from aquasurf_ray.driver.run.converters import cost_record, spectrum_record
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.store import FunctionRecord, Lease, Store
from aquasurf_ray.workers.messages import CostReply

SHARED_SECONDS = 10.0


class Preparation:
    """The spectra and costs of one run's candidates.

    Args:
        spectra, costs: what the run wants of its candidates.
        note: is told of functions that go without.
        given_up: is told of the fault behind it; may raise to end the run.
        observe: is told of each batch.
    """

    def __init__(
        self,
        config: SearchConfig,
        store: Store,
        lease: Lease,
        history: History,
        pool: WorkerPool,
        *,
        spectra: bool,
        costs: bool,
        note: Callable[[str], None],
        given_up: Callable[[str], None],
        observe: Observe = ignore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._store, self._lease, self._history, self._pool = config, store, lease, history, pool
        self._note, self._given_up, self._clock = note, given_up, clock
        self._observe = observe
        self._looked_at = clock()
        self._devices: set[str] = set()
        self._by_name = {function.name: function for function in history.candidates}
        self._wants_spectra, self._wants_costs = spectra, costs
        self._spectra = CandidateQueue(self._without_spectrum, history.spectra_given_up, config.max_attempts)
        self._costs = CandidateQueue(self._without_cost, history.costs_given_up, config.max_attempts)

    def n_spectra(self) -> tuple[int, int]:
        """How many candidates have a spectrum, and how many are to."""
        n = len(self._history.spectra)
        return n, len(self._history.candidates) if self._wants_spectra else n

    def n_costs(self) -> tuple[int, int]:
        """How many candidates have a cost, and how many are to; none where the run does not mind the price."""
        if not self._wants_costs:
            return 0, 0
        n = sum(1 for function in self._history.candidates if function.id in self._history.costs)
        return n, len(self._history.candidates)

    def spectra_missing(self) -> bool:
        """Whether a spectrum is still to be computed, or computed now."""
        return bool(self._without_spectrum())

    def submit(self, slot: Slot) -> bool:
        """Gives an idle worker a batch of what is further behind, or of the other; False if there is none."""
        self._meet_devices()
        if self._is_behind(self._without_cost(), self._without_spectrum()):
            return self._submit_costs(slot) or self._submit_spectra(slot)
        return self._submit_spectra(slot) or self._submit_costs(slot)

    def keep_spectra(self, outcomes: Sequence[Outcome]) -> None:
        """Stores the spectra that came in together; each batch is then to be settled."""
        replies = [reply for o in outcomes if isinstance(o.job, SpectraJob) and o.fault is None for reply in o.reply]
        records = [spectrum_record(self._by_name[reply.function].id, reply, self._config) for reply in replies]
        if records:
            self._store.record_spectra(self._lease, records)
            self._history.spectra.update({record.function_id: record for record in records})

    def settle(self, outcome: Outcome) -> None:
        """Takes in what a worker has made of a batch; trainings are the loop's."""
        match outcome.job:
            case SpectraJob(names):
                self._settle(outcome, names, self._spectra, "spectrum", lambda *_: None)
            case CostsJob(names):
                self._settle(outcome, names, self._costs, "cost", self._keep_costs)

    def _settle(
        self, outcome: Outcome, names: Sequence[str], queue: CandidateQueue, what: str, keep: Callable[..., None]
    ) -> None:
        functions = [self._by_name[name] for name in names]
        event, seconds = ("spectra" if what == "spectrum" else "costs"), sum(r.seconds for r in outcome.reply or ())
        self._observe(event, functions=len(names), seconds=seconds, worker=outcome.worker, fault=outcome.fault)
        if outcome.fault is not None:
            for function in queue.failed(functions, outcome.slot):
                self._note(f"{function.name} goes without a {what}: {outcome.fault}")
                self._given_up(outcome.fault)
            return
        keep(functions, outcome.reply, self._pool.slots[outcome.slot - 1].name)
        queue.done(functions, sum(reply.seconds for reply in outcome.reply))

    def look_around(self) -> None:
        """Takes over what other runs of the task have stored meanwhile, now and then."""
        self._meet_devices()
        if self._clock() - self._looked_at <= SHARED_SECONDS:
            return
        self._looked_at = self._clock()
        self._take_over_costs(self._devices)
        missing = [function.id for function in self._without_spectrum()]
        if missing:
            fisher, seed = self._config.fisher, self._config.training_seed
            found = self._store.spectra(self._lease.task_id, missing, fisher=fisher, seed=seed)
            self._history.spectra.update(found)

    def _meet_devices(self) -> None:
        """Takes over the costs that are stored for a device once the first worker has it."""
        new = {slot.info.device for slot in self._pool.live() if slot.info} - self._devices
        self._devices |= new
        self._take_over_costs(new)

    def _without_spectrum(self) -> list[FunctionRecord]:
        n = len(self._history.candidates)
        return self._history.without_spectrum(n) if self._wants_spectra else []

    def _without_cost(self) -> list[FunctionRecord]:
        n = len(self._history.candidates)
        return self._history.without_cost(n) if self._wants_costs else []

    def _is_behind(self, some: Sequence[FunctionRecord], others: Sequence[FunctionRecord]) -> bool:
        """Whether the first candidate of the one list comes before that of the other."""
        position = self._history.position
        return bool(some) and (not others or position[some[0].id] < position[others[0].id])

    def _submit_spectra(self, slot: Slot) -> bool:
        batch = self._spectra.next_batch(slot.number, self._pool.others(slot), self._pool.n)
        if batch:
            self._pool.submit(slot, SpectraJob(tuple(f.name for f in batch)), self._spectra.limit(len(batch)))
        return bool(batch)

    def _submit_costs(self, slot: Slot) -> bool:
        batch = self._costs.next_batch(slot.number, self._pool.others(slot), self._pool.n)
        if batch:
            self._pool.submit(slot, CostsJob(tuple(f.name for f in batch)), self._costs.limit(len(batch)))
        return bool(batch)

    def _keep_costs(self, functions: Sequence[FunctionRecord], replies: Sequence[CostReply], worker: str) -> None:
        keep_costs(self._store, self._lease, self._history, functions, replies, [worker] * len(functions))

    def _take_over_costs(self, devices: set[str]) -> None:
        missing = [function.id for function in self._without_cost()]
        for device in devices if missing else ():
            self._history.learn_costs(self._store.costs(self._lease.task_id, missing, device=device).values())


def keep_costs(
    store: Store,
    lease: Lease,
    history: History,
    functions: Sequence[FunctionRecord],
    replies: Sequence[CostReply],
    workers: Sequence[str],
) -> None:
    """Stores what was measured, and learns what is stored then: another run may have been first.

    A function whose own fault it is that it has no cost goes without.
    """
    measured = list(zip(functions, replies, workers, strict=True))
    records = [cost_record(f.id, r.cost, worker) for f, r, worker in measured if r.cost is not None]
    store.record_costs(lease, records)
    for device in {record.device for record in records}:
        ids = [record.function_id for record in records if record.device == device]
        history.learn_costs(store.costs(lease.task_id, ids, device=device).values())
    history.costs_given_up.update(f.id for f, r, _ in measured if r.cost is None)
