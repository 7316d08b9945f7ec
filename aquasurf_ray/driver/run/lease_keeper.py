"""The heartbeat of a run's lease, in a thread of its own so that no computation of the driver can delay it."""

from __future__ import annotations

import logging
import platform
import threading
from importlib.metadata import version

from aquasurf_ray.store import Lease, LeaseLost, Store, StoreError

BEATS_A_LEASE = 6  # so that several renewals in a row may fail before the lease expires
PACKAGES = ("aquasurf-ray", "torch", "ray", "numpy", "scikit-learn", "umap-learn")
"""The packages that results depend on; their versions are stored with each session, so that it can be repeated."""

logger = logging.getLogger(__name__)


class LeaseKeeper:
    """A context manager that renews the lease six times per lease period.

    A renewal that fails because the database is unreachable is retried at the next beat. If another driver has taken
    over the lease, the thread ends, and `check` raises from then on.
    """

    def __init__(self, store: Store, lease: Lease, lease_seconds: float) -> None:
        self._store = store
        self._lease = lease
        self._interval = lease_seconds / BEATS_A_LEASE
        self._stopped = threading.Event()
        self._lost: Exception | None = None
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> LeaseKeeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(timeout=5)

    def check(self) -> None:
        """Raise LeaseLost once another driver has taken over the run."""
        if self._lost is not None:
            raise self._lost

    def _beat(self) -> None:
        while not self._stopped.wait(self._interval):
            try:
                self._store.renew_lease(self._lease)
            except LeaseLost as lost:
                self._lost = lost
                return
            except StoreError as error:
                logger.warning("lease not renewed, trying again: %s", error)
            except Exception as error:  # a thread that died silently would let the lease expire unnoticed
                self._lost = error
                return


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on, by name.

    >>> list(installed_versions())[:3]
    ['python', 'aquasurf-ray', 'torch']
    """
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
