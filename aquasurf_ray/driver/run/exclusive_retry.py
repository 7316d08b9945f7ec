"""Quiet for what ran out of memory: its next try has its machine to itself, or one that is out of memory takes the
others with it.

A worker that gets such an evaluation waits until no other worker of its machine is busy, and those get nothing more
until its training has ended. Where each worker has whole GPUs of its own, a GPU that is full is not shared with anyone,
and the next try needs no quiet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aquasurf_ray.driver.cluster.pool import Slot, WorkerPool
from aquasurf_ray.store import Claim

OUT_OF_MEMORY = re.compile(r"out of ?memory|MemoryError|allocate memory|low on memory", re.IGNORECASE)


def wants_quiet(fault: str, gpus_a_worker: float) -> bool:
    """Whether the next try is to have its machine to itself.

    >>> wants_quiet("MemoryError: no memory left", 1.0), wants_quiet("OutOfMemoryError: CUDA out of memory.", 0.5)
    (True, True)
    >>> wants_quiet("OutOfMemoryError: CUDA out of memory.", 1.0), wants_quiet("OSError: disk", 0.0)
    (False, False)
    """
    own_gpu = "CUDA" in fault and gpus_a_worker >= 1
    return OUT_OF_MEMORY.search(fault) is not None and not own_gpu


@dataclass
class _Kept:
    """A machine kept for one worker; the claim until its work has begun."""

    slot: int
    claim: Claim | None


class Quiet:
    """Which evaluations are to have a machine to themselves, and which machines are kept for one."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._wanted: set[int] = set()
        self._kept: dict[str, _Kept] = {}

    def want(self, evaluation_id: int) -> None:
        """The evaluation's next tries have a machine to themselves."""
        self._wanted.add(evaluation_id)

    def is_wanted(self, claim: Claim) -> bool:
        """Whether the claim is to have its machine to itself."""
        return claim.evaluation_id in self._wanted

    def keep(self, slot: Slot, claim: Claim) -> bool:
        """Whether the claim has to wait for quiet: then its machine is kept, and `ready` gives it back in time."""
        if not self.is_wanted(claim):
            return False
        waits = self._is_loud(slot)
        self._kept[_machine(slot)] = _Kept(slot.number, claim if waits else None)
        return waits

    def keeps_back(self, slot: Slot) -> bool:
        """Whether the worker gets nothing now, because its machine is kept."""
        return _machine(slot) in self._kept

    def ready(self) -> list[tuple[Slot, Claim]]:
        """Claims whose machine is quiet now, with the workers that they wait for."""
        found = []
        for kept in self._kept.values():
            slot = self._pool.slots[kept.slot - 1]
            if kept.claim is not None and slot.state == "idle" and not self._is_loud(slot):
                found.append((slot, kept.claim))
                kept.claim = None
        return found

    def ended(self, slot_number: int) -> None:
        """The worker's training is over: its machine is free again."""
        self._kept = {
            machine: kept for machine, kept in self._kept.items() if kept.slot != slot_number or kept.claim is not None
        }

    def _is_loud(self, slot: Slot) -> bool:
        others = [other for other in self._pool.busy() if other.number != slot.number]
        return any(_machine(other) == _machine(slot) for other in others)


def _machine(slot: Slot) -> str:
    return slot.info.node if slot.info is not None else ""
