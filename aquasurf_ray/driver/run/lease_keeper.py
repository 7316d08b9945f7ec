"""The leases of this process: acquiring one, and their heartbeat, in a thread of its own so that no computation can
delay it."""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Callable
from importlib.metadata import version

from aquasurf_ray.store import Lease, LeaseLost, Store, StoreError, this_process

BEATS_A_LEASE = 6  # so that several renewals in a row may fail before the lease expires
PACKAGES = ("aquasurf-ray", "torch", "ray", "numpy", "scikit-learn", "umap-learn")
"""The packages that results depend on; their versions are stored with each session, so that it can be repeated."""

logger = logging.getLogger(__name__)


class Heartbeat:
    """A thread that renews leases six times per lease period, from its start until it is closed.

    A renewal that fails because the database is unreachable is retried at the next beat. If a lease is lost, or the
    renewal has another error, the thread ends, and `check` raises from then on.

    Args:
        renew: renews the leases.
        lease_seconds: the lease period.
        name: the name of the leases, for the log.
    """

    def __init__(self, renew: Callable[[], None], lease_seconds: float, name: str = "lease") -> None:
        self._renew, self._interval, self._name = renew, lease_seconds / BEATS_A_LEASE, name
        self._stopped = threading.Event()
        self._lost: Exception | None = None
        self._thread = threading.Thread(target=self._beat, name=name, daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join(timeout=5)

    def check(self) -> None:
        """Raise the error that ended the thread: LeaseLost once another driver has taken over the run."""
        if self._lost is not None:
            raise self._lost

    def _beat(self) -> None:
        while not self._stopped.wait(self._interval):
            try:
                self._renew()
            except LeaseLost as lost:
                self._lost = lost
                return
            except StoreError as error:
                logger.warning("%s not renewed, trying again: %s", self._name, error)
            except Exception as error:  # a thread that died silently would let the lease expire unnoticed
                self._lost = error
                return


class LeaseKeeper(Heartbeat):
    """A context manager with the heartbeat of a run's lease."""

    def __init__(self, store: Store, lease: Lease, lease_seconds: float) -> None:
        super().__init__(lambda: store.renew_lease(lease), lease_seconds)

    def __enter__(self) -> LeaseKeeper:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def acquire_lease(store: Store, run_id: int, lease_seconds: float) -> Lease:
    """Acquire the lease of a run for this process; the run's log gets the versions that its results depend on.

    Raises:
        RunHeld: a live driver works on the run.
    """
    return store.acquire_lease(
        run_id,
        this_process(),
        lease_seconds=lease_seconds,
        code_version=version("aquasurf-ray"),
        versions=installed_versions(),
    )


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on, by name.

    >>> list(installed_versions())[:3]
    ['python', 'aquasurf-ray', 'torch']
    """
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
