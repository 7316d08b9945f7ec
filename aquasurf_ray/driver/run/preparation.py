"""Spectra of the candidates, and costs if the run limits the cost, computed before the candidates are suggested.

Workers compute both from the first candidate on, always the kind that is further behind. Results are written to the
store before the history has them. Results that other runs of the task have stored are read from time to time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aquasurf_ray.driver.cluster.slot import CostsJob, Outcome, Slot, SpectraJob
from aquasurf_ray.driver.events import CostsMeasured, SpectraComputed
from aquasurf_ray.driver.run.preparation_queue import CandidateQueue
from aquasurf_ray.driver.run.store_records import cost_record, spectrum_record
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.store import FunctionRecord
from aquasurf_ray.workers.messages import CostReply, SpectrumReply

SHARED_SECONDS = 10.0  # between reads of other runs' spectra and costs, which query all missing candidates


class Preparation:
    """The spectra and costs of one run's candidates.

    Args:
        spectra, costs: whether the run needs spectra, and whether it needs costs.
        on_failure: called with the error for each function that is given up; may raise to end the run.
    """

    def __init__(
        self, context: RunContext, *, spectra: bool, costs: bool, on_failure: Callable[[str], None] = lambda error: None
    ) -> None:
        self._context, self._history, self._pool = context, context.history, context.pool
        self._on_failure = on_failure
        self._synced_at = context.clock()
        self._devices: set[str] = set()
        self._is_covered = False
        self._by_name: dict[str, FunctionRecord] = {}
        self.wants_spectra, self._wants_costs = spectra, costs
        most = context.config.max_attempts
        self._spectra = CandidateQueue(self._without_spectrum, self._history.spectra_failed, most)
        self._costs = CandidateQueue(self._without_cost, self._history.costs_failed, most)

    def n_spectra(self) -> tuple[int, int]:
        """Return how many candidates have a spectrum, and how many need one."""
        n = len(self._history.spectra)
        return n, len(self._history.candidates) if self.wants_spectra else n

    def n_costs(self) -> tuple[int, int]:
        """Return how many candidates have a cost, and how many need one; none in a run without a limit on the cost."""
        if not self._wants_costs:
            return 0, 0
        n = sum(1 for function in self._history.candidates if function.id in self._history.costs)
        return n, len(self._history.candidates)

    def n_left(self, n: int) -> tuple[int, int]:
        """Return how many of the first `n` candidates lack a spectrum, and a cost, of those that the run needs."""
        spectra = len(self._history.without_spectrum(n)) if self.wants_spectra else 0
        return spectra, len(self._history.without_cost(n)) if self._wants_costs else 0

    def spectra_missing(self) -> bool:
        """Return whether any spectrum is not known yet, including those under way."""
        return bool(self._without_spectrum())

    def submit(self, slot: Slot) -> bool:
        """Submit spectra or costs, whichever are further behind, to an idle worker; return False if none are left."""
        self._read_costs_of_new_devices()
        # The surrogate needs both of a candidate, so neither kind may run far ahead of the other.
        if self._is_behind(self._without_cost(), self._without_spectrum()):
            return self._submit_costs(slot) or self._submit_spectra(slot)
        return self._submit_spectra(slot) or self._submit_costs(slot)

    def has_retries(self) -> bool:
        """Return whether spectra or costs wait for another worker than the one that failed on them."""
        return self._spectra.has_retries() or self._costs.has_retries()

    def store(self, outcomes: Sequence[Outcome]) -> None:
        """Store the spectra that arrived together in one transaction; each outcome is settled afterwards."""
        replies = [reply for o in outcomes if isinstance(o.job, SpectraJob) and o.fault is None for reply in o.reply]
        config = self._context.config
        records = [spectrum_record(self._named(reply.function).id, reply, config) for reply in replies]
        if records:
            first = self._first_covered(replies)
            covered = (None, None) if first is None else (first.coverage, first.roles)
            self._context.store.record_spectra(self._context.lease, records, *covered)
            self._history.spectra.update({record.function_id: record for record in records})

    def _first_covered(self, replies: Sequence[SpectrumReply]) -> SpectrumReply | None:
        """Return the first reply that says which weights spectra cover, and report that; None for all later ones."""
        first = next((reply for reply in replies if reply.coverage is not None), None)
        # All spectra are of one network, so the first answer says it for all.
        if first is None or first.coverage is None or self._is_covered:
            return None
        self._is_covered = True
        self._context.events.note(first.coverage)
        return first

    def settle(self, outcome: Outcome) -> None:
        """Process the end of a batch; spectra were stored by `store` before."""
        match outcome.job:
            case SpectraJob(names):
                self._settle_spectra(outcome, names)
            case CostsJob(names):
                self._settle_costs(outcome, names)

    def sync(self) -> None:
        """Read the spectra and costs that other runs of the task have stored, every few seconds."""
        self._read_costs_of_new_devices()
        if self._context.clock() - self._synced_at <= SHARED_SECONDS:
            return
        self._synced_at = self._context.clock()
        # Another run may have measured on a device that no worker here has; those costs are of no use, so only ours are
        # read.
        self._read_costs(self._devices)
        missing = [function.id for function in self._without_spectrum()]
        if missing:
            config = self._context.config
            found = self._context.store.spectra(
                self._context.lease.task_id, missing, fisher=config.fisher, seed=config.training_seed
            )
            self._history.spectra.update(found)

    def _settle_spectra(self, outcome: Outcome, names: Sequence[str]) -> None:
        functions, seconds = self._batch(outcome, names)
        self._context.events.emit(SpectraComputed(len(names), seconds, outcome.worker, outcome.fault))
        if outcome.fault is not None:
            self._fail(self._spectra, functions, outcome, "a spectrum")
        else:
            self._spectra.done(functions, seconds)

    def _settle_costs(self, outcome: Outcome, names: Sequence[str]) -> None:
        functions, seconds = self._batch(outcome, names)
        self._context.events.emit(CostsMeasured(len(names), seconds, outcome.worker, outcome.fault))
        if outcome.fault is not None:
            self._fail(self._costs, functions, outcome, "a cost")
        else:
            store_costs(self._context, functions, outcome.reply, [outcome.worker] * len(functions))
            self._costs.done(functions, seconds)

    def _batch(self, outcome: Outcome, names: Sequence[str]) -> tuple[list[FunctionRecord], float]:
        """Return the functions of a batch and the seconds that they took in all."""
        return [self._named(name) for name in names], sum(reply.seconds for reply in outcome.reply or ())

    def _named(self, name: str) -> FunctionRecord:
        """Return a candidate by its name; an open space adds candidates from time to time."""
        if name not in self._by_name:
            self._by_name = {function.name: function for function in self._history.candidates}
        return self._by_name[name]

    def _fail(self, queue: CandidateQueue, functions: list[FunctionRecord], outcome: Outcome, lacks: str) -> None:
        error = outcome.fault or ""
        # Those that have attempts left are queued for another worker and not reported.
        for function in queue.failed(functions, outcome.slot):
            self._context.events.note(f"{function.name} stays without {lacks}: {error}")
            self._on_failure(error)

    def _without_spectrum(self) -> list[FunctionRecord]:
        n = len(self._history.candidates)
        return self._history.without_spectrum(n) if self.wants_spectra else []

    def _without_cost(self) -> list[FunctionRecord]:
        n = len(self._history.candidates)
        return self._history.without_cost(n) if self._wants_costs else []

    def _is_behind(self, these: Sequence[FunctionRecord], others: Sequence[FunctionRecord]) -> bool:
        """Return whether the first candidate of `these` comes before the first of `others`."""
        position = self._history.position
        return bool(these) and (not others or position[these[0].id] < position[others[0].id])

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

    def _read_costs_of_new_devices(self) -> None:
        """Read the stored costs of a device when the first worker with this device has started."""
        new = {slot.info.device for slot in self._pool.live() if slot.info} - self._devices
        self._devices |= new
        self._read_costs(new)

    def _read_costs(self, devices: set[str]) -> None:
        missing = [function.id for function in self._without_cost()]
        for device in devices if missing else ():
            costs = self._context.store.costs(self._context.lease.task_id, missing, device=device)
            self._history.add_costs(costs.values())


def store_costs(
    context: RunContext, functions: Sequence[FunctionRecord], replies: Sequence[CostReply], workers: Sequence[str]
) -> None:
    """Store costs, and read them back: if another run was first, its measurement counts.

    A function whose own error prevents the measurement is marked as one without a cost.
    """
    measured = list(zip(functions, replies, workers, strict=True))
    records = [cost_record(f.id, r.cost, worker) for f, r, worker in measured if r.cost is not None]
    context.store.record_costs(context.lease, records)
    # The store keeps the first measurement of a function and device, so that all runs decide by the same number.
    for device in {record.device for record in records}:
        ids = [record.function_id for record in records if record.device == device]
        context.history.add_costs(context.store.costs(context.lease.task_id, ids, device=device).values())
    context.history.costs_failed.update(f.id for f, r, _ in measured if r.cost is None)
