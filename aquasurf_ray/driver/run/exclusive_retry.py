"""Retries of evaluations that ran out of memory, each alone on a machine: otherwise it could make its neighbours fail.

A worker that gets such an evaluation waits until no other worker of its machine is busy, and the others get no work
until its training has ended. If each worker has whole GPUs of its own, running out of GPU memory affects no other
worker, and the retry needs no reservation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aquasurf_ray.driver.cluster.pool import WorkerPool
from aquasurf_ray.driver.cluster.slot import Slot
from aquasurf_ray.store import Claim

OUT_OF_MEMORY = re.compile(r"out of ?memory|MemoryError|allocate memory|low on memory", re.IGNORECASE)


def needs_exclusive_retry(error: str, gpus_per_worker: float) -> bool:
    """Return whether an evaluation that failed with this error needs a machine to itself for its retry.

    >>> needs_exclusive_retry("MemoryError: no memory left", 1.0)
    True
    >>> needs_exclusive_retry("OutOfMemoryError: CUDA out of memory.", 0.5)
    True
    >>> needs_exclusive_retry("OutOfMemoryError: CUDA out of memory.", 1.0)
    False
    >>> needs_exclusive_retry("OSError: disk", 0.0)
    False
    """
    own_gpu = "CUDA" in error and gpus_per_worker >= 1
    return OUT_OF_MEMORY.search(error) is not None and not own_gpu


@dataclass
class _Reservation:
    """The reservation of a machine for one worker; `claim` is None once its work has begun."""

    slot: int
    claim: Claim | None


class ExclusiveRetry:
    """The evaluations that need a machine to themselves, and the machines that are reserved for one."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._needed: set[int] = set()
        self._reservations: dict[str, _Reservation] = {}

    def require(self, evaluation_id: int) -> None:
        """Retry the evaluation with a machine to itself from now on."""
        self._needed.add(evaluation_id)

    def is_required(self, claim: Claim) -> bool:
        """Return whether the claim needs a machine to itself."""
        return claim.evaluation_id in self._needed

    def reserve(self, slot: Slot, claim: Claim) -> bool:
        """Reserve the worker's machine if the claim needs it to itself.

        Return whether the claim has to wait because other workers of the machine are busy; `ready` returns it later.
        """
        if not self.is_required(claim):
            return False
        waits = self._has_busy_neighbors(slot)
        self._reservations[_machine(slot)] = _Reservation(slot.number, claim if waits else None)
        return waits

    def is_reserved(self, slot: Slot) -> bool:
        """Return whether the worker's machine is reserved, so that it gets no work now."""
        return _machine(slot) in self._reservations

    def ready(self) -> list[tuple[Slot, Claim]]:
        """Return the claims whose machine no longer has another busy worker, with the workers that wait for them."""
        found = []
        for reservation in self._reservations.values():
            slot = self._pool.slots[reservation.slot - 1]
            if reservation.claim is not None and slot.state == "idle" and not self._has_busy_neighbors(slot):
                found.append((slot, reservation.claim))
                reservation.claim = None
        return found

    def release(self, slot_number: int) -> None:
        """Release the machine of a worker whose training has ended."""
        self._reservations = {
            machine: reservation
            for machine, reservation in self._reservations.items()
            if reservation.slot != slot_number or reservation.claim is not None
        }

    def _has_busy_neighbors(self, slot: Slot) -> bool:
        others = [other for other in self._pool.busy() if other.number != slot.number]
        return any(_machine(other) == _machine(slot) for other in others)


def _machine(slot: Slot) -> str:
    return slot.node or ""
