"""The signs of life of one process of a study: that it has the study open, and that it still trains its trials."""

from __future__ import annotations

import uuid

from aquasurf_ray.store import AskedTrial, LeaseOwner, Store, this_process


class Presence:
    """A process that has a study open, from `enter` to `leave`.

    Args:
        held: the trials of this process that were not told yet, by evaluation.
    """

    def __init__(self, store: Store, held: dict[int, AskedTrial], lease_seconds: float) -> None:
        self._store, self._held, self._lease_seconds = store, held, lease_seconds
        self._nonce = uuid.uuid4().hex
        self._run_id: int | None = None
        self._asked_by: LeaseOwner | None = None

    def enter(self, run_id: int) -> None:
        """Record that this process has the study open, also again after a driver had the run."""
        self._run_id = run_id
        self._store.enter_study(run_id, this_process(), nonce=self._nonce, lease_seconds=self._lease_seconds)

    def renew(self) -> None:
        """Give a sign of life, and renew the leases of the trials."""
        numbers = [trial.attempt_id for trial in list(self._held.values()) if trial.attempt_id is not None]
        is_known = self._store.renew_process(self._nonce, numbers)
        if not is_known and self._run_id is not None:  # it was suspended, and another process took it for gone
            self.enter(self._run_id)

    def stop_asked_by(self) -> LeaseOwner | None:
        """Return the process that asked this one to stop, if one did."""
        self._asked_by = self._asked_by or self._store.stop_asked_by(self._nonce)
        return self._asked_by

    def leave(self) -> None:
        """Record that this process has closed the study."""
        self._store.leave_study(self._nonce)
