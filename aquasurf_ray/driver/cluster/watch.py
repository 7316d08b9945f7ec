"""Notices that Ray itself is gone, before it ends this process without a word or leaves it waiting for ever.

Measured with Ray 2.60: a driver whose cluster has lost its head (the GCS server) goes on for a minute, since its
workers answer it directly; then Ray's own code ends the process, with no chance to give the run's lease back or to say
how to go on. A driver whose own node has lost its raylet hears of no worker any more, and waits. So a thread asks both
for a sign of life every few seconds. One that comes back in time was never missed. Only silence that was listened to
counts: a driver that was suspended has not heard Ray either, and Ray is there when it wakes.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping

import ray

from aquasurf_ray.driver.errors import RunFailed

INTERVAL_SECONDS = 2.0
ANSWER_SECONDS = 5.0
PATIENCE_SECONDS = 25.0  # Ray's own is 60 s, and to end in order takes up to 15 s of them
LOOK_SECONDS = INTERVAL_SECONDS + 2 * ANSWER_SECONDS  # from one look to the next, where neither of the two answers


class RayWatch:
    """A context in which Ray's processes are watched.

    What never answered here is not watched, as a head that is reached through a Ray client.

    Args:
        how_to_go_on: ends the message of the error.
        watched: what it is, and its host and port; head and node of the connected cluster by default.
    """

    def __init__(
        self,
        how_to_go_on: str,
        *,
        watched: Mapping[str, str] | None = None,
        patience: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._how_to_go_on, self._patience, self._clock = how_to_go_on, patience, clock
        self._watched = _connected() if watched is None else watched
        self._silent: dict[str, float] = {}  # seconds, of what has answered once
        self._looked = self._clock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ray watch", daemon=True)

    def __enter__(self) -> RayWatch:
        if self._watched:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def check(self) -> None:
        """Raises RunFailed once one of them has not answered for too long."""
        for what, silent in list(self._silent.items()):
            if silent > self._patience:
                raise RunFailed(
                    f"{what} at {self._watched[what]} is gone: no answer for {silent:.0f} s; "
                    f"once Ray runs again: {self._how_to_go_on}"
                )

    def look(self) -> None:
        """Asks each once."""
        answered = {what: _answers(address) for what, address in self._watched.items()}
        now = self._clock()
        listened = min(now - self._looked, LOOK_SECONDS)  # more has passed where this process was suspended
        self._looked = now
        for what, answers in answered.items():
            if answers:
                self._silent[what] = 0.0
            elif what in self._silent:
                self._silent[what] += listened

    def _watch(self) -> None:
        self.look()
        while not self._stopped.wait(INTERVAL_SECONDS):
            self.look()


def _connected() -> dict[str, str]:
    if not ray.is_initialized():
        return {}
    context = ray.get_runtime_context()
    watched = {"the head of the Ray cluster": context.gcs_address}
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if node["NodeID"] == context.get_node_id():
            watched["this machine's Ray node"] = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
    return watched


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
